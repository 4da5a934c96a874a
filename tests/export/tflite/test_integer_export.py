"""`export_tflite(..., quantization="integer")`: what is in the file, what it is proved by, and what is refused."""

import keras
import numpy as np
import pytest
from hamlet import TEXT, VOCABULARY, report_of, small_model

import keras_seq as ks
from keras_seq_export import ExportError, LiteRTDecoder, LiteRTSampler, export_tflite
from keras_seq_export.tflite import export, flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.contents import contents_of
from keras_seq_export.tflite.conversion import checked_contents
from keras_seq_export.tflite.integer import proof, steps
from keras_seq_export.tflite.integer.proof import prove

LITERT = ["LiteRT with XNNPACK", "LiteRT without XNNPACK", "LiteRT with reference kernels"]
OPTIONS = {"quantization": "integer", "weight_scale": 2}


@pytest.fixture(scope="module")
def exported(small_tflite):
    return small_tflite(cell="gru", **OPTIONS)


def test_the_file_has_decode_and_integers_only(exported):
    contents = contents_of(read_bundle(exported).model)
    assert list(contents.signatures) == ["decode"]
    assert set(contents.dtypes) <= {"int8", "int16", "int32"}
    assert contents.stored_bytes["int8"] > 0.8 * sum(contents.stored_bytes.values())
    decode = contents.signatures["decode"]
    assert {name: tensor.dtype for name, tensor in decode.inputs.items()} == {
        "state_0": "int16",
        "state_1": "int16",
        "token": "int32",
    }
    assert decode.outputs["logits"].dtype == "int16"
    assert all(decode.outputs[name].scale == 2**-13 for name in ("state_0", "state_1"))


def test_the_report_and_the_card_say_what_was_proved(exported):
    report, card = report_of(exported), read_bundle(exported).card
    assert report["quantization"] == card["quantization"] == "integer"
    assert report["proved_in"][:3] == LITERT
    assert report["proved_steps"] == report["steps_compared"] + 300
    assert "draws_compared" not in report
    assert abs(report["quality"]["nats_lost"]) < 0.005
    assert card["inputs"] == {"token": "int32 [1]"}
    if steps.has_micro():
        assert report["proved_in"][3] == "TensorFlow Lite for Microcontrollers"
        assert 2_000 < report["arena_bytes"] < 20_000
        assert card["arena_bytes"] == report["arena_bytes"]


def test_the_card_of_a_file_that_is_not_of_text_says_what_its_inputs_are(tmp_path):
    frames = keras.Input((None, 2))
    model = keras.Model(frames, keras.layers.GRU(3, return_sequences=True)(frames))
    export_tflite(model, None, tmp_path / "a.tflite")
    card = read_bundle(tmp_path / "a.tflite").card
    assert card["inputs"] == {"frame": "float32 [1, 2]"}
    assert "arena_bytes" not in card


def test_without_tflite_micro_the_proof_is_that_of_litert(exported, monkeypatch):
    monkeypatch.setattr(proof, "has_micro", lambda: False)
    tokens = np.array([[3, 4, 5, 6, 7]], np.int32)
    assert prove(LiteRTDecoder(exported), [tokens]) == proof.IntegerProof(LITERT, 305, None)


def test_a_model_in_half_precision(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        keras.utils.set_random_seed(1)
        model = ks.language_model(len(VOCABULARY), units=[16], embedding_dim=8)
    finally:
        keras.config.set_dtype_policy(before)
    report = export_tflite(model, VOCABULARY, tmp_path / "a.tflite", quantization="integer")
    assert report["proved_in"][:3] == LITERT
    assert "bfloat16" in report["trained_in"]


# ---- what is not published ----


def changed(exported, change):
    """Returns the model of a file after `change(model, graph)`."""
    model = flatbuffer.parse(read_bundle(exported).model)
    change(model, model.subgraphs[0])
    return flatbuffer.pack(model)


def products(model, graph):
    return [one for one in graph.operators if flatbuffer.operator_name(model, one) == "FULLY_CONNECTED"]


def with_weights_of_zero(model, graph):
    buffer = model.buffers[graph.tensors[products(model, graph)[-1].inputs[1]].buffer]
    buffer.data = np.zeros(len(buffer.data), np.uint8)


def with_another_ratio(model, graph):
    """The scale of the logits is not a power of two times that of the weights: each runtime rounds in its own way."""
    tensor = graph.tensors[products(model, graph)[-1].outputs[0]]
    tensor.quantization.scale = np.array([tensor.quantization.scale[0] * 0.7], np.float32)


def export_of(content, monkeypatch, path, **options):
    model, vocabulary = small_model(cell="gru", weight_scale=2)
    monkeypatch.setattr(export, "convert", lambda *_: content)
    return export_tflite(model, vocabulary, path, quantization="integer", **options)


def test_a_file_that_predicts_worse_is_refused(exported, monkeypatch, tmp_path):
    content = changed(exported, with_weights_of_zero)
    with pytest.raises(
        ExportError, match=r"^integer costs .* nats per token, more than the 0\.01 that `max_loss` allows"
    ):
        export_of(content, monkeypatch, tmp_path / "a.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not steps.has_micro(), reason="needs pip install tflite-micro (Linux, x86-64, Python 3.11)")
def test_a_file_whose_bits_depend_on_the_runtime_is_refused(exported, monkeypatch, tmp_path):
    content = changed(exported, with_another_ratio)
    with pytest.raises(
        ExportError, match=r"gives other integers than LiteRT with XNNPACK: `logits` differs in \d+ of 556"
    ):
        export_of(content, monkeypatch, tmp_path / "a.tflite", max_loss=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not steps.has_micro(), reason="needs pip install tflite-micro (Linux, x86-64, Python 3.11)")
def test_what_tflite_micro_cannot_run_is_refused_with_its_reason(small_tflite):
    """In a float32 file it lacks an operator of `sample`."""
    content = read_bundle(small_tflite()).model
    nothing = steps.Steps({"token": np.zeros((1, 1), np.int32)}, {}, {"token": np.zeros((1, 1), np.int32)})
    with pytest.raises(
        ExportError, match=r"(?s)TensorFlow Lite for Microcontrollers cannot run the file .*RuntimeError"
    ):
        steps.run_in_micro(content, {"token": 0}, {"logits": 0}, nothing)


def test_a_floating_point_number_in_the_file_is_refused(exported):
    def with_float(model, graph):
        flatbuffer.add_tensor(graph, b"float", 0, [1])

    with pytest.raises(ExportError, match="an integer file must have integers only; it has tensors of float32"):
        checked_contents(changed(exported, with_float), "integer")
    assert checked_contents(read_bundle(exported).model, "integer").signatures


def encoder_model():
    source, tokens = keras.Input((None, 3)), keras.Input((None,), dtype="int32")
    state = keras.layers.GRU(4)(source)
    values = keras.layers.Embedding(len(VOCABULARY), 4)(tokens)
    values = keras.layers.GRU(4, return_sequences=True)(values, initial_state=state)
    return keras.Model([source, tokens], keras.layers.Dense(len(VOCABULARY))(values))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "internal"}, r'`state` must be "explicit" with `quantization`="integer"'),
        ({"batch": 2}, r'`batch` must be 1 with `quantization`="integer"'),
        ({"gates": True}, r'`gates` must be left out with `quantization`="integer"'),
        (
            {"sampling": {"repetition_penalty": 1.1}},
            r'`repetition_penalty` must be 1 \(off\) with `quantization`="integer"',
        ),
        ({"frame_range": 2.0}, r"`frame_range` must be left out: it is for"),
        ({"frame_range": -1}, r"`frame_range` must be a positive, finite number"),
    ],
    ids=str,
)
def test_settings_without_an_integer_form_are_refused(options, words, model, vocabulary, tmp_path):
    with pytest.raises(ValueError, match=words):
        export_tflite(model, vocabulary, tmp_path / "a.tflite", quantization="integer", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'`quantization` must not be "integer" for a model with an encoder'):
        export_tflite(encoder_model(), VOCABULARY, tmp_path / "a.tflite", quantization="integer")


def test_the_range_of_frames_is_needed(tmp_path):
    frames = keras.Input((None, 2))
    model = keras.Model(frames, keras.layers.GRU(3, return_sequences=True)(frames))
    with pytest.raises(
        ValueError, match=r"`frame_range` must be given with `quantization`=\"integer\" for a model that reads frames"
    ):
        export_tflite(model, None, tmp_path / "a.tflite", quantization="integer")
    with pytest.raises(ValueError, match=r"`frame_range` must be left out"):
        export_tflite(model, None, tmp_path / "a.tflite", frame_range=1.0)


# ---- the command line ----


def test_the_commands_take_a_file_of_integers(exported, run_cli, tmp_path):
    texts = [
        run_cli("sample", f"--model={exported}", "--prompt=To", "--seed=3", "--max_tokens=20", cwd=tmp_path).stdout
        for _ in range(2)
    ]
    expected = LiteRTSampler(exported).sample("To", seed=3, max_tokens=20)
    assert texts[0] == texts[1]
    assert expected in texts[0]
    (tmp_path / "prompts.txt").write_text("To\nbe\n")
    batch = (
        "batch",
        f"--model={exported}",
        "--input=prompts.txt",
        "--output=out.jsonl",
        "--workers=1",
        "--max_tokens=9",
    )
    assert run_cli(*batch, cwd=tmp_path).returncode == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    refused = run_cli("sample", f"--model={exported}", "--prompt=To", "--repetition_penalty=1.2", cwd=tmp_path)
    assert refused.returncode != 0
    assert "--repetition_penalty must be 1 (off)" in refused.stderr
    (tmp_path / "text.txt").write_text(TEXT)
    shown = run_cli("evaluate", f"--model={exported}", "--corpus=text.txt", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
