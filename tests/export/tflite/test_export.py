"""The file on disk: what LiteRT reads from it against the Keras model, in this process and in a fresh one."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from hamlet import LINE, VOCABULARY, two_layers

import keras_seq as ks
from keras_seq_export import ExportError, LiteRTSampler, export_tflite
from keras_seq_export.graph import step as graph_step
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.tflite import export as tflite
from keras_seq_export.tflite.bundle import read_bundle


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


MODELS = {
    "stacked cells": stacked_cells,
    "nested": nested,
    "tied": tied,
    "gru": lambda: ks.language_model(len(VOCABULARY), units=[16]),
    "stock": lambda: stack(keras.layers.GRU(8, return_sequences=True), keras.layers.LSTM(6, return_sequences=True)),
    "simple_rnn": lambda: ks.language_model(len(VOCABULARY), cell="simple_rnn", units=[16, 8]),
    "residual": residual,
}


@pytest.fixture(scope="module")
def model():
    return two_layers()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "hamlet.tflite"
    return path, export_tflite(model, VOCABULARY, path, sampling={"temperature": 0.5})


@pytest.mark.parametrize("name", MODELS)
def test_the_file_gives_the_models_logits(name, tmp_path):
    model = MODELS[name]()
    export_tflite(model, VOCABULARY, tmp_path / "model.tflite")
    sampler = LiteRTSampler(tmp_path / "model.tflite")
    ids = [VOCABULARY.start_id, *VOCABULARY.encode(LINE).tolist()]
    states, rows = sampler.initial_states(), []
    for token in ids:
        logits, states = sampler(token, states)
        rows.append(logits.copy())
    np.testing.assert_allclose(np.stack(rows), model.predict(np.array([ids]), verbose=0)[0], atol=1e-5)


def test_the_report(model, exported):
    path, report = exported
    assert json.loads(path.with_name("hamlet.tflite.report.json").read_text()) == report
    assert list(report["operators"]) == ["decode", "prefill", "sample"]
    assert report["steps_compared"] >= 200
    assert report["draws_compared"] >= 200
    assert report["bytes"] == path.stat().st_size
    assert sorted(file.name for file in path.parent.iterdir()) == ["hamlet.tflite", "hamlet.tflite.report.json"]


def test_a_mismatch_publishes_nothing(model, tmp_path, monkeypatch):
    other = keras.models.clone_model(model)
    other.set_weights([weight + 0.05 for weight in model.get_weights()])
    monkeypatch.setattr(tflite, "GraphStep", lambda _, vocabulary: GraphStep(other, vocabulary))
    with pytest.raises(ExportError, match=r"differs from the model by up to \d"):
        export_tflite(model, VOCABULARY, tmp_path / "wrong.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(3, None), (1, 10), (None, 7)])
def test_a_model_of_a_fixed_batch_and_time(shape, tmp_path):
    tokens = keras.Input(batch_shape=shape, dtype="int32")
    values = keras.layers.Embedding(len(VOCABULARY), 8)(tokens)
    values = keras.layers.GRU(8, return_sequences=True, stateful=shape[0] is not None)(values)
    model = keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(values))
    assert export_tflite(model, VOCABULARY, tmp_path / "model.tflite")["largest_difference"] < 1e-5
    text = LiteRTSampler(tmp_path / "model.tflite").sample(max_tokens=30, seed=1)
    assert text == ks.sample(model, VOCABULARY, max_tokens=30, seed=1)


def test_a_layer_that_tflite_lacks_is_named(tmp_path):
    model = stack(ks.GRU(8, return_sequences=True), keras.layers.Lambda(tf.math.special.bessel_j0))
    with pytest.raises(ExportError, match=r"does not convert to TFLite's builtin operators: it needs BesselJ0$"):
        export_tflite(model, VOCABULARY, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("next_token", lambda *arguments: tf.constant([5]), "sample: token"),
        ("log_probability", lambda *arguments: tf.constant([-1.0]), "sample, log_probability"),
    ],
)
def test_a_file_that_draws_wrongly_is_refused(name, wrong, words, model, tmp_path, monkeypatch):
    monkeypatch.setattr(graph_step.graph_sampling, name, wrong)
    with pytest.raises(ExportError, match=words):
        export_tflite(model, VOCABULARY, tmp_path / "wrong.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_sample_loses_the_state_is_refused(model, tmp_path, monkeypatch):
    endpoint = tflite.sample_endpoint

    def forgetful(*arguments):
        function, signature = endpoint(*arguments)

        def sample(*inputs):
            outputs = function(*inputs)
            return {**outputs, "state_1": 0.5 * outputs["state_1"]}

        return sample, signature

    monkeypatch.setattr(tflite, "sample_endpoint", forgetful)
    with pytest.raises(ExportError, match="sample"):
        export_tflite(model, VOCABULARY, tmp_path / "wrong.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_loop_in_the_file_is_refused(tmp_path):
    def loops(x):
        return tf.while_loop(
            lambda i, y: i < 3 + tf.cast(y[0, 0] * 0, tf.int32), lambda i, y: (i + 1, y * 0.9), (0, x)
        )[1]

    model = stack(ks.GRU(8, return_sequences=True), keras.layers.TimeDistributed(keras.layers.Lambda(loops)))
    with pytest.raises(ExportError, match="without loops; it has WHILE"):
        export_tflite(model, VOCABULARY, tmp_path / "wrong.tflite")


@pytest.mark.parametrize("allowed", [False, True])
def test_unk_is_drawn_at_word_level_only_where_the_file_allows_it(allowed, tmp_path):
    vocabulary = ks.Vocabulary.from_text(LINE, level="word", max_size=10)
    model = ks.language_model(len(vocabulary), units=[8])
    bias = np.zeros(len(vocabulary), np.float32)
    bias[vocabulary.unk_id] = 20
    model.layers[-1].bias.assign(bias)
    export_tflite(model, vocabulary, tmp_path / "words.tflite", sampling={"allow_unk": allowed})
    run = Interpreter(model_path=str(tmp_path / "words.tflite")).get_signature_runner("sample")
    for number in np.linspace(0, 0.999, 20, dtype=np.float32):
        one = {"uniform": number, "temperature": np.float32(1), "top_p": np.float32(1), "min_p": np.float32(0)}
        drawn = run(
            token=np.array([vocabulary.start_id], np.int32),
            top_k=np.zeros(1, np.int32),
            state_0=np.zeros((1, 8), np.float32),
            **{name: np.array([value]) for name, value in one.items()},
        )["next_token"]
        assert (drawn[0] == vocabulary.unk_id) == allowed
        assert drawn[0] not in (vocabulary.pad_id, vocabulary.start_id)


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    model = stack(ks.GRU(8, return_sequences=True))
    model.layers[-1].set_weights([np.full_like(weight, np.nan) for weight in model.layers[-1].get_weights()])
    with pytest.raises(ExportError, match="weights must be finite"):
        export_tflite(model, VOCABULARY, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_refused(model, tmp_path):
    (tmp_path / "a.tflite").write_text("mine")
    with pytest.raises(ExportError, match=r"a\.tflite exists"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.tflite", "mine")]


def test_the_report_of_a_file_that_was_removed_is_replaced(model, tmp_path):
    (tmp_path / "a.tflite.report.json").write_text("of the one before")
    report = export_tflite(model, VOCABULARY, tmp_path / "a.tflite")
    assert json.loads((tmp_path / "a.tflite.report.json").read_text()) == report


def test_bad_arguments(model, tmp_path):
    with pytest.raises(ValueError, match="none, float16, int8, int4"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", quantization="int3")
    with pytest.raises(ValueError, match="one logit a token"):
        export_tflite(model, ks.Vocabulary.from_text("ab"), tmp_path / "a.tflite")
    with pytest.raises(ValueError, match="top_p"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", sampling={"top_p": 2.0})
    with pytest.raises(ValueError, match="`bias` must be for tokens of the vocabulary"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", sampling={"bias": {"no": 1.0}})
    for name, value in (
        ("state", "hidden"),
        ("batch", 0),
        ("batch", 1.5),
        ("max_loss", -1),
        ("max_loss", float("nan")),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            export_tflite(model, VOCABULARY, tmp_path / "a.tflite", **{name: value})
    with pytest.raises(ValueError, match=r"`held_out` must hold only characters of the vocabulary.*'x'"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", held_out="xyz")
    with pytest.raises(ValueError, match="`held_out` must be a text that is not empty"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", held_out="")
    assert list(tmp_path.iterdir()) == []


def test_a_name_too_long_is_one_sentence(model, tmp_path):
    with pytest.raises(ExportError, match="cannot be written: File name too long"):
        export_tflite(model, VOCABULARY, tmp_path / "new" / ("a" * 300))
    assert list(tmp_path.iterdir()) == []


def test_numpy_numbers_as_settings(model, tmp_path):
    export_tflite(model, VOCABULARY, tmp_path / "a.tflite", sampling={"temperature": np.float32(0.5)})
    assert read_bundle(tmp_path / "a.tflite").config["sampling"] == {"temperature": 0.5}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_in_mixed_precision_is_copied_into_float32(policy, tmp_path):
    model = stack(ks.GRU(16, return_sequences=True, dtype=policy))
    report = export_tflite(model, VOCABULARY, tmp_path / "model.tflite")
    assert report["trained_in"] == [policy.removeprefix("mixed_")]
    assert report["largest_difference"] < 1e-5
    sampler = LiteRTSampler(tmp_path / "model.tflite")
    ids = [VOCABULARY.start_id, *VOCABULARY.encode(LINE).tolist()]
    logits = np.stack([row for row, _ in sampler.read(ids, sampler.initial_states())])
    np.testing.assert_allclose(logits, model.predict(np.array([ids]), verbose=0)[0], atol=0.02)


def test_quantization_that_costs_too_much_is_refused(tmp_path):
    model = ks.language_model(len(VOCABULARY), units=[64])
    with pytest.raises(ExportError, match=r"int4 costs \d.* nats a token, more than the 1e-09 allowed"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", quantization="int4", max_loss=1e-9)
    assert list(tmp_path.iterdir()) == []


def test_quantization_that_changes_little_is_refused(tmp_path):
    with pytest.raises(ExportError, match="int8 changes little in this model"):
        export_tflite(stack(ks.GRU(4, return_sequences=True)), VOCABULARY, tmp_path / "a.tflite", quantization="int8")
    assert list(tmp_path.iterdir()) == []


def test_the_card(model, tmp_path):
    card = {"corpus": "Hamlet", "license": "CC0-1.0", "layers": 2}
    export_tflite(model, VOCABULARY, tmp_path / "a.tflite", held_out=LINE, card=card)
    found = LiteRTSampler(tmp_path / "a.tflite").card
    assert card.items() <= found.items()
    assert found["nats_per_token"] == pytest.approx(ks.evaluate(model, VOCABULARY, LINE).nats_per_token, abs=1e-3)
    assert found["parameters"] == model.count_params()
    assert found["versions"]["keras"] == keras.__version__
    for wrong in ({"corpus": tmp_path}, {"nats": float("nan")}, {"notes": "x" * (2 << 20)}, "x"):
        with pytest.raises(ValueError, match=r"`card` must be|card\.json must be at most"):
            export_tflite(model, VOCABULARY, tmp_path / "b.tflite", card=wrong)
    assert not (tmp_path / "b.tflite").exists()


def test_a_full_disk_leaves_nothing(model, tmp_path):
    """The limit of a file's size ends a write as a full disk does."""
    keras.saving.save_model(model, tmp_path / "model.keras")
    VOCABULARY.save(tmp_path / "vocab.txt")
    (tmp_path / "out").mkdir()
    code = (
        "import resource, signal, tempfile, keras, keras_seq as ks\n"
        "from keras_seq_export import ExportError, export_tflite, tflite\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "convert = tflite._convert\n"
        "def then_full(*arguments):\n"
        "    content = convert(*arguments)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "    return content\n"
        "tflite._convert = then_full\n"
        "try: export_tflite(keras.saving.load_model('model.keras'), ks.Vocabulary.load('vocab.txt'), 'out/a.tflite')\n"
        "except ExportError as error: print(error)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "a.tflite cannot be written: File too large" in answer.stdout, answer.stderr[-1000:]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("half", ["embedding", "head"])
def test_a_model_of_which_a_part_is_in_mixed_precision(half, tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(len(VOCABULARY), 8, dtype="mixed_float16" if half == "embedding" else "float32")(
        tokens
    )
    values = ks.GRU(8, return_sequences=True)(values)
    head = keras.layers.Dense(len(VOCABULARY), dtype="mixed_bfloat16" if half == "head" else "float32")
    report = export_tflite(keras.Model(tokens, head(values)), VOCABULARY, tmp_path / "a.tflite")
    assert report["trained_in"] == ["float16" if half == "embedding" else "bfloat16"]


def test_a_regression_with_large_outputs(tmp_path):
    frames = keras.Input((None, 3))
    values = keras.layers.Rescaling(1e5)(keras.layers.GRU(32, return_sequences=True)(frames))
    report = export_tflite(keras.Model(frames, values), None, tmp_path / "a.tflite")
    assert report["relative_error"] < 1e-6


def test_models_that_give_no_output_a_step_are_refused(tmp_path):
    frames = keras.Input((None, 3))
    last = keras.Model(frames, keras.layers.Dense(2)(keras.layers.GRU(8, name="last_only")(frames)))
    with pytest.raises(ValueError, match="layer 'last_only' must have return_sequences=True"):
        export_tflite(last, None, tmp_path / "a.tflite")
    named = keras.Model(frames, {"movement": keras.layers.GRU(32, return_sequences=True)(frames)})
    assert export_tflite(named, None, tmp_path / "b.tflite")["largest_difference"] < 1e-5
