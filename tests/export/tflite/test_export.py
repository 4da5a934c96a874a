"""`export_tflite`: the file on disk against the Keras model, what it refuses, and what it leaves behind."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hamlet import LINE, STABLE, TEXT, VOCABULARY, WIDE, report_of, small_model

import keras_seq as ks
from keras_seq_export import ExportError, LiteRTSampler, export_tflite
from keras_seq_export.tflite.bundle import read_bundle

FIELDS = ["format", "keras_seq", "by_line", "quantization", "state", "batch", "operators", "stored_bytes", "trained_in"]


def stack(*recurrent):
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(len(VOCABULARY), 8)(tokens)
    for layer in recurrent:
        values = layer(values)
    return keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(values))


def residual():
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(len(VOCABULARY), 8)(tokens)
    values = keras.layers.Add()([values, ks.GRU(8, return_sequences=True)(values)])
    values = keras.layers.LayerNormalization()(values)
    return keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(values))


def stacked_cells():
    cells = [keras.layers.StackedRNNCells([keras.layers.GRUCell(7), ks.GRUCell(6)]), keras.layers.LSTMCell(5)]
    return stack(keras.layers.RNN(cells, return_sequences=True), keras.layers.TimeDistributed(keras.layers.Dense(9)))


def nested():
    block = keras.Sequential([keras.Input((None, 8)), ks.GRU(8, return_sequences=True), keras.layers.Dense(8, "gelu")])
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(len(VOCABULARY), 8),
            block,
            keras.layers.RMSNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(len(VOCABULARY)),
        ]
    )


def tied():
    return ks.language_model(len(VOCABULARY), cell="lstm", units=[8], embedding_dim=6, tie_embeddings=True)


def stock():
    return stack(keras.layers.GRU(8, return_sequences=True), keras.layers.LSTM(6, return_sequences=True))


def logits_of(path, ids):
    sampler = LiteRTSampler(path)
    return np.stack([logits.copy() for logits, _ in sampler.read(ids, sampler.initial_states())])


SLOW = pytest.mark.slow  # of more models of a kind
BUILDS = [tied, *(pytest.param(build, marks=SLOW) for build in (stacked_cells, nested, stock, residual))]


@pytest.mark.parametrize("build", BUILDS)
def test_the_file_returns_the_logits_of_the_model(build, tmp_path):
    model = build()
    export_tflite(model, VOCABULARY, tmp_path / "model.tflite")
    ids = [VOCABULARY.start_id, *VOCABULARY.encode(LINE).tolist()]
    expected = model.predict(np.array([ids]), verbose=0)[0]
    np.testing.assert_allclose(logits_of(tmp_path / "model.tflite", ids), expected, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"sampling": {"temperature": 0.5}}, pytest.param({"cell": "simple_rnn", **STABLE}, marks=pytest.mark.slow)],
)
def test_the_file_returns_the_logits_of_a_language_model(options, small_tflite):
    path = small_tflite(**options)
    model, vocabulary = small_model(**{name: value for name, value in options.items() if name != "sampling"})
    ids = [vocabulary.start_id, *vocabulary.encode(TEXT[:43]).tolist()]
    np.testing.assert_allclose(logits_of(path, ids), model.predict(np.array([ids]), verbose=0)[0], atol=1e-5)


def test_the_report(exported):
    report = report_of(exported)
    compared = ["steps_compared", "largest_difference", "draws_compared", "near_ties"]
    assert list(report) == [*FIELDS, *compared, "quality", "vocabulary_sha256", "bytes"]
    assert list(report["operators"]) == ["decode", "prefill", "sample", "write"]
    assert report["steps_compared"] >= 200
    assert report["draws_compared"] >= 200
    assert report["bytes"] == exported.stat().st_size
    assert report["trained_in"] == ["float32"]
    assert sorted(file.name for file in exported.parent.iterdir()) == ["char.tflite", "char.tflite.report.json"]


def test_the_configuration_in_the_file(exported, vocabulary):
    config = read_bundle(exported).config
    hashes = {name: config.pop(name) for name in ("model_bytes", "model_sha256")}
    assert all(hashes.values())
    assert config == {
        "format": 2,
        "keras_seq": ks.__version__,
        "by_line": False,
        "quantization": "none",
        "state": "explicit",
        "batch": 1,
        "sampling": {"temperature": 0.5},
        "vocabulary_sha256": vocabulary.sha256,
    }


@pytest.mark.slow
# Stateful with another batch than that of the file; and not stateful.
@pytest.mark.parametrize("shape", [(3, 10), pytest.param((None, 7), marks=SLOW)])
def test_a_model_of_a_fixed_batch_and_time(shape, tmp_path):
    tokens = keras.Input(batch_shape=shape, dtype="int32")
    values = keras.layers.Embedding(len(VOCABULARY), 8)(tokens)
    values = keras.layers.GRU(8, return_sequences=True, stateful=shape[0] is not None)(values)
    model = keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(values))
    assert export_tflite(model, VOCABULARY, tmp_path / "model.tflite")["largest_difference"] < 1e-5
    text = LiteRTSampler(tmp_path / "model.tflite").sample(max_tokens=30, seed=1)
    assert text == ks.sample(model, VOCABULARY, max_tokens=30, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [False, True])
def test_unk_is_sampled_at_word_level_only_if_the_file_allows_it(allowed, tmp_path):
    vocabulary = ks.Vocabulary.from_text(LINE, level="word", max_size=10)
    model = ks.language_model(len(vocabulary), units=[8])
    bias = np.zeros(len(vocabulary), np.float32)
    bias[vocabulary.unk_id] = 20
    model.layers[-1].bias.assign(bias)
    export_tflite(model, vocabulary, tmp_path / "words.tflite", sampling={"allow_unk": allowed})
    run = Interpreter(model_path=str(tmp_path / "words.tflite")).get_signature_runner("sample")
    for number in np.linspace(0, 0.999, 20, dtype=np.float32):
        one = {"uniform": number, "temperature": np.float32(1), "top_p": np.float32(1), "min_p": np.float32(0)}
        sampled = run(
            token=np.array([vocabulary.start_id], np.int32),
            top_k=np.zeros(1, np.int32),
            state_0=np.zeros((1, 8), np.float32),
            **{name: np.array([value]) for name, value in one.items()},
        )["next_token"]
        assert (sampled[0] == vocabulary.unk_id) == allowed
        assert sampled[0] not in (vocabulary.pad_id, vocabulary.start_id)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = stack(ks.GRU(8, return_sequences=True))
    model.layers[-1].set_weights([np.full_like(weight, np.nan) for weight in model.layers[-1].get_weights()])
    with pytest.raises(ExportError, match="weights must be finite"):
        export_tflite(model, VOCABULARY, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_refused(model, vocabulary, tmp_path):
    (tmp_path / "a.tflite").write_text("mine")
    with pytest.raises(ExportError, match=r"a\.tflite exists"):
        export_tflite(model, vocabulary, tmp_path / "a.tflite")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.tflite", "mine")]


def test_the_report_of_a_file_that_was_removed_is_replaced(model, vocabulary, exported, take_converted, tmp_path):
    take_converted(exported)
    (tmp_path / "a.tflite.report.json").write_text("of the previous file")
    report = export_tflite(model, vocabulary, tmp_path / "a.tflite")
    assert json.loads((tmp_path / "a.tflite.report.json").read_text()) == report
    assert report["quality"]["text"] == "own"


def test_bad_arguments(model, vocabulary, tmp_path):
    with pytest.raises(ValueError, match="none, float16, int8, int4"):
        export_tflite(model, vocabulary, tmp_path / "a.tflite", quantization="int3")
    with pytest.raises(ValueError, match="`model` must give one logit per token"):
        export_tflite(model, ks.Vocabulary.from_text("ab"), tmp_path / "a.tflite")
    with pytest.raises(ValueError, match="top_p"):
        export_tflite(model, vocabulary, tmp_path / "a.tflite", sampling={"top_p": 2.0})
    with pytest.raises(
        ValueError, match=r"`sampling` must be settings among temperature, .* Received: sampling={'a': 1}"
    ):
        export_tflite(model, vocabulary, tmp_path / "a.tflite", sampling={"a": 1})
    with pytest.raises(ValueError, match="`bias` must be for tokens of the vocabulary"):
        export_tflite(model, vocabulary, tmp_path / "a.tflite", sampling={"bias": {"no": 1.0}})
    for name, value in (
        ("state", "hidden"),
        ("batch", 0),
        ("batch", 1.5),
        ("batch", 1025),
        ("max_loss", -1),
        ("max_loss", float("nan")),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            export_tflite(model, vocabulary, tmp_path / "a.tflite", **{name: value})
    with pytest.raises(ValueError, match=r"`held_out` must hold only characters of the vocabulary.*'x'"):
        export_tflite(model, vocabulary, tmp_path / "a.tflite", held_out="xyz")
    with pytest.raises(ValueError, match="`held_out` must be a text that is not empty"):
        export_tflite(model, vocabulary, tmp_path / "a.tflite", held_out="")
    assert list(tmp_path.iterdir()) == []


def test_a_name_too_long_is_one_sentence(model, vocabulary, exported, take_converted, tmp_path):
    take_converted(exported)
    with pytest.raises(ExportError, match="cannot be written: File name too long"):
        export_tflite(model, vocabulary, tmp_path / "new" / ("a" * 300))
    assert list(tmp_path.iterdir()) == []


def test_numpy_numbers_as_settings(model, vocabulary, exported, take_converted, tmp_path):
    take_converted(exported)
    export_tflite(model, vocabulary, tmp_path / "a.tflite", sampling={"temperature": np.float32(0.5)})
    assert read_bundle(tmp_path / "a.tflite").config["sampling"] == {"temperature": 0.5}


@pytest.mark.slow
def test_a_model_in_mixed_precision_is_copied_into_float32(tmp_path):
    """In bfloat16; the README exports a model in float16, and the copies are the subject of test_clone.py."""
    model = stack(ks.GRU(16, return_sequences=True, dtype="mixed_bfloat16"))
    report = export_tflite(model, VOCABULARY, tmp_path / "model.tflite")
    assert report["trained_in"] == ["bfloat16"]
    assert 1e-6 < report["largest_difference"] < 0.02  # from the model itself, which rounds more than its copy
    ids = [VOCABULARY.start_id, *VOCABULARY.encode(LINE).tolist()]
    expected = model.predict(np.array([ids]), verbose=0)[0]
    np.testing.assert_allclose(logits_of(tmp_path / "model.tflite", ids), expected, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("half", ["embedding", "head"])
def test_a_model_of_which_a_part_is_in_mixed_precision(half, tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    policy = "mixed_float16" if half == "embedding" else "float32"
    values = ks.GRU(8, return_sequences=True)(keras.layers.Embedding(len(VOCABULARY), 8, dtype=policy)(tokens))
    head = keras.layers.Dense(len(VOCABULARY), dtype="mixed_bfloat16" if half == "head" else "float32")
    report = export_tflite(keras.Model(tokens, head(values)), VOCABULARY, tmp_path / "a.tflite")
    assert report["trained_in"] == ["float16" if half == "embedding" else "bfloat16"]


@pytest.mark.slow
def test_quantization_that_costs_too_much_is_refused(small_tflite, take_converted, tmp_path):
    take_converted(small_tflite(quantization="int4", **WIDE))
    model, vocabulary = small_model(**WIDE)
    with pytest.raises(
        ExportError, match=r"int4 costs \d.* nats per token, more than the 1e-09 that `max_loss` allows"
    ):
        export_tflite(model, vocabulary, tmp_path / "a.tflite", quantization="int4", max_loss=1e-9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(model, vocabulary, exported, tmp_path):
    """The limit of a file's size ends a write as a full disk does."""
    keras.saving.save_model(model, tmp_path / "model.keras")
    vocabulary.save(tmp_path / "vocab.txt")
    (tmp_path / "converted").write_bytes(read_bundle(exported).model)
    (tmp_path / "out").mkdir()
    code = (
        "import pathlib, resource, signal, keras, keras_seq as ks\n"
        "from keras_seq_export.errors import ExportError\n"
        "from keras_seq_export.tflite import export\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "def then_full(*arguments):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "    return pathlib.Path('converted').read_bytes()\n"
        "export.convert = then_full\n"
        "model = keras.saving.load_model('model.keras')\n"
        "try: export.export_tflite(model, ks.Vocabulary.load('vocab.txt'), 'out/a.tflite')\n"
        "except ExportError as error: print(error)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "a.tflite cannot be written: File too large" in answer.stdout, answer.stderr[-1000:]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_regression_with_large_outputs(tmp_path):
    frames = keras.Input((None, 3))
    values = keras.layers.Rescaling(1e5)(keras.layers.GRU(32, return_sequences=True)(frames))
    report = export_tflite(keras.Model(frames, values), None, tmp_path / "a.tflite")
    assert report["relative_error"] < 1e-6
    assert list(report) == [*FIELDS, "steps_compared", "largest_difference", "relative_error", "bytes"]


def test_a_single_output_in_a_dictionary(tmp_path):
    frames = keras.Input((None, 3))
    named = keras.Model(frames, {"movement": keras.layers.GRU(32, return_sequences=True)(frames)})
    assert export_tflite(named, None, tmp_path / "b.tflite")["largest_difference"] < 1e-5
