"""Texts in several writing systems through the whole pipeline: read, train, sample, export, sample in every runtime."""

import keras
import pytest

import keras_seq as ks
from keras_seq.generation.generation import sample
from keras_seq.generation.keras_step import KerasStep
from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export import LiteRTSampler, export_saved_model, export_tflite
from keras_seq_export.requests import GenerateRequest, generate_inputs
from keras_seq_export.saved_model.cpp_session import Request, run_in_cpp_session

CHINESE = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n"
ARABIC = "إِذَا غَامَرْتَ فِي شَرَفٍ مَرُومِ\nفَلا تَقنَعْ بما دونَ النّجومِ\nفطَعْمُ المَوْتِ في أمرٍ صَغِيرٍ\n"
EMOJI = "👩🏽‍🚀 🏳️‍🌈 to the 🌕!\n👨‍👩‍👧‍👦 🇫🇷🇯🇵 ❤️‍🔥 eat 🍕🍕🍕\n☕ → 💻 → 🛏️ 1️⃣2️⃣3️⃣\n"
CODE = 'def f(x: int) -> str:\n    """Twice."""\n    return f"{x * 2:>8}\\n"\n\n\nif __name__ == "__main__":\n\tprint(f(0x1F))\n'


@pytest.mark.parametrize(
    ("level", "by_line", "seed"),
    [
        pytest.param("word", False, 7, id="words", marks=pytest.mark.slow),
        pytest.param("char", True, 4, id="characters-by-line", marks=pytest.mark.slow),
    ],
)
def test_every_runtime_gives_the_same_text(level, by_line, seed, tmp_path):
    scripts = [CHINESE, ARABIC, EMOJI, CODE]
    (tmp_path / "text.txt").write_bytes("".join(script * 20 for script in scripts).encode("utf-8"))
    text = ks.load_corpus(tmp_path / "text.txt", 0, 0).text("train")
    vocabulary = ks.Vocabulary.from_text(text, level=level)
    keras.utils.set_random_seed(0)
    model = ks.language_model(len(vocabulary), units=[24], embedding_dim=12)
    model.compile(keras.optimizers.Adam(0.01, clipnorm=1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = ks.lines(text, vocabulary, 4) if by_line else ks.streams(text, vocabulary, batch_size=4, length=10)
    losses = model.fit(batches.repeat(), epochs=2, steps_per_epoch=60, verbose=0).history["loss"]
    assert losses[1] < 0.7 * losses[0]  # It has learned something.
    export_tflite(model, vocabulary, tmp_path / "text.tflite", by_line=by_line)
    sampler = LiteRTSampler(tmp_path / "text.tflite")
    assert sampler.vocabulary == vocabulary
    prompts = [script.partition("\n")[0][:5] for script in scripts]
    step, written = KerasStep(model), []
    for prompt in prompts:
        options = {"max_tokens": 40, "temperature": 0.8, "seed": seed}
        written.append(sample(step, vocabulary, prompt, **options))
        assert len(written[-1]) > 5
        assert sampler.sample(prompt, **options) == written[-1]
    export_saved_model(model, vocabulary, tmp_path / "server" / "1")
    wanted = [GenerateRequest(prompt, 40, seed, SamplingSettings(temperature=0.8)) for prompt in prompts]
    (answer,) = run_in_cpp_session(tmp_path / "server" / "1", [Request("serving_default", generate_inputs(wanted))])
    assert [text.decode("utf-8") for text in answer["text"]] == written
