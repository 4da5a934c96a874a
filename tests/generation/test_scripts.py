"""Texts in several scripts, from the file to every runtime: trained, sampled, exported, sampled again."""

import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq_export import LiteRTSampler, export_saved_model, export_tflite
from keras_seq_export.saved_model.cpp_session import Request, run_in_cpp_session

TEXTS = {
    "chinese": "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n",
    "arabic": "إِذَا غَامَرْتَ فِي شَرَفٍ مَرُومِ\nفَلا تَقنَعْ بما دونَ النّجومِ\nفطَعْمُ المَوْتِ في أمرٍ صَغِيرٍ\n",
    "emoji": "👩🏽‍🚀 🏳️‍🌈 to the 🌕!\n👨‍👩‍👧‍👦 🇫🇷🇯🇵 ❤️‍🔥 eat 🍕🍕🍕\n☕ → 💻 → 🛏️ 1️⃣2️⃣3️⃣\n",
    "code": 'def f(x: int) -> str:\n    """Twice."""\n    return f"{x * 2:>8}\\n"\n\n\nif __name__ == "__main__":\n\tprint(f(0x1F))\n',
}


@pytest.mark.parametrize(
    ("script", "level", "by_line"),
    [("chinese", "word", False), ("arabic", "char", False), ("emoji", "char", True), ("code", "word", False)],
)
def test_a_text_is_written_alike_at_the_end_of_the_road(script, level, by_line, tmp_path):
    (tmp_path / "text.txt").write_bytes(TEXTS[script].encode("utf-8") * 20)
    text = ks.load_corpus(tmp_path / "text.txt", 0, 0).text("train")
    vocabulary = ks.Vocabulary.from_text(text, level=level)
    keras.utils.set_random_seed(0)
    model = ks.language_model(len(vocabulary), units=[24], embedding_dim=12)
    model.compile(keras.optimizers.Adam(0.01, clipnorm=1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = ks.lines(text, vocabulary, 4) if by_line else ks.streams(text, vocabulary, batch_size=4, length=10)
    losses = model.fit(batches.repeat(), epochs=2, steps_per_epoch=60, verbose=0).history["loss"]
    assert losses[1] < 0.7 * losses[0]  # It has learned something.
    prompt = text.partition("\n")[0][:5]
    options = {"max_tokens": 40, "temperature": 0.8, "seed": 7}
    written = ks.sample(model, vocabulary, prompt, **options)
    assert len(written) > 5
    export_tflite(model, vocabulary, tmp_path / "text.tflite", by_line=by_line)
    sampler = LiteRTSampler(tmp_path / "text.tflite")
    assert sampler.vocabulary == vocabulary
    assert sampler.sample(prompt, **options) == written
    export_saved_model(model, vocabulary, tmp_path / "server" / "1")
    inputs = {
        "prompt": np.array([prompt], object),
        "max_tokens": np.array([40], np.int32),
        "temperature": np.array([0.8], np.float32),
        "top_k": np.array([0], np.int32),
        "top_p": np.array([1], np.float32),
        "min_p": np.array([0], np.float32),
        "seed": np.array([7], np.int64),
    }
    (answer,) = run_in_cpp_session(tmp_path / "server" / "1", [Request("serving_default", inputs)])
    assert answer["text"][0].decode("utf-8") == written
