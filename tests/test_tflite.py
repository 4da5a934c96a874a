"""The file on disk: what LiteRT reads from it against the Keras model, in this process and in a fresh one."""

import json
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import keras_seq as ks
from keras_seq_export import ExportError, LiteRTSampler, export_tflite, tflite
from keras_seq_export.bundle import BundleError, read_bundle
from keras_seq_export.graph_step import GraphStep
from keras_seq_export.verify import compare, publishing

TEXT = "to be, or not to be: that is the question\n"
VOCABULARY = ks.Vocabulary.from_text(TEXT)


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


MODELS = {
    "gru": lambda: ks.language_model(len(VOCABULARY), units=[16]),
    "stock": lambda: stack(keras.layers.GRU(8, return_sequences=True), keras.layers.LSTM(6, return_sequences=True)),
    "simple_rnn": lambda: ks.language_model(len(VOCABULARY), cell="simple_rnn", units=[16, 8]),
    "residual": residual,
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return ks.language_model(len(VOCABULARY), units=[16, 12], embedding_dim=8)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "hamlet.tflite"
    return path, export_tflite(model, VOCABULARY, path, sampling={"temperature": 0.5})


@pytest.mark.parametrize("name", MODELS)
def test_the_file_gives_the_models_logits(name, tmp_path):
    model = MODELS[name]()
    export_tflite(model, VOCABULARY, tmp_path / "model.tflite")
    sampler = LiteRTSampler(tmp_path / "model.tflite")
    ids = [VOCABULARY.start_id, *VOCABULARY.encode(TEXT).tolist()]
    states, rows = sampler.initial_states(), []
    for token in ids:
        logits, states = sampler(token, states)
        rows.append(logits.copy())
    np.testing.assert_allclose(np.stack(rows), model.predict(np.array([ids]), verbose=0)[0], atol=1e-5)


def test_the_report(model, exported):
    path, report = exported
    assert json.loads(path.with_name("hamlet.tflite.report.json").read_text()) == report
    assert list(report["operators"]) == ["decode", "sample"]
    assert report["tokens_compared"] >= 200
    kernels = [weight for weight in model.weights if "bias" not in weight.path]
    assert report["stored_bytes"]["float32"] >= sum(4 * weight.value.numpy().size for weight in kernels)
    assert report["bytes"] == path.stat().st_size
    assert sorted(file.name for file in path.parent.iterdir()) == ["hamlet.tflite", "hamlet.tflite.report.json"]


def test_any_zip_reader_gets_the_vocabulary(exported):
    with zipfile.ZipFile(exported[0]) as archive:
        assert archive.read("vocab.txt") == VOCABULARY.to_bytes()


@pytest.mark.parametrize("prompt", ["", "to be"])
def test_one_seed_one_text(model, exported, prompt):
    sampler = LiteRTSampler(exported[0])
    for seed in range(5):
        settings = {
            "max_tokens": 40,
            "seed": seed,
            "temperature": 0.9,
            "top_k": 9,
            "top_p": 0.9,
            "repetition_penalty": 1.2,
        }
        assert sampler.sample(prompt, **settings) == ks.sample(model, VOCABULARY, prompt, **settings)


def test_settings_in_the_file_are_the_default(model, exported):
    text = LiteRTSampler(exported[0]).sample(max_tokens=30, seed=2)
    assert text == ks.sample(model, VOCABULARY, max_tokens=30, seed=2, temperature=0.5)


def test_beams_take_the_bias_in_the_file_and_leave_its_temperature(model, tmp_path):
    path = tmp_path / "model.tflite"
    export_tflite(model, VOCABULARY, path, sampling={"temperature": 0.5, "bias": {"t": 9.0}})
    text = LiteRTSampler(path).sample(num_beams=2, max_tokens=10)
    assert text == ks.sample(model, VOCABULARY, num_beams=2, max_tokens=10, bias={"t": 9.0})
    assert text != ks.sample(model, VOCABULARY, num_beams=2, max_tokens=10)


def test_score_is_the_models_cross_entropy(model, exported):
    ids = VOCABULARY.encode(TEXT)
    logits = model.predict(np.concatenate([[VOCABULARY.start_id], ids[:-1]])[None], verbose=0)[0].astype(np.float64)
    expected = (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(ids)), ids]).sum()
    found = LiteRTSampler(exported[0]).score(TEXT)
    assert found.token_ids.tolist() == ids.tolist()
    assert -found.log_probability == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(found.log_probabilities, ks.score(model, VOCABULARY, TEXT).log_probabilities, atol=1e-5)


def test_every_option_means_the_same_in_keras_and_litert(model, exported):
    sampler = LiteRTSampler(exported[0])
    for options in (
        {"stop": ["e", "th"], "seed": 3, "num_samples": 3, "temperature": 1.0},
        {"bias": {"t": 2.0, "<eos>": -float("inf")}, "seed": 4, "temperature": 1.0, "repetition_penalty": 1.3},
        {"num_beams": 3, "num_samples": 2, "length_penalty": 0.5},
        {"num_beams": 2, "stop": " ", "bias": {"e": -1.0}},
    ):
        options["max_tokens"] = 20
        texts, expected = sampler.sample("to", **options), ks.sample(model, VOCABULARY, "to", **options)
        assert texts == expected
        for one, other in zip(
            *((found if isinstance(found, list) else [found]) for found in (texts, expected)), strict=True
        ):
            assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)


def test_a_fresh_process_writes_the_same_without_tensorflow(model, exported):
    code = (
        "import sys; from keras_seq_export import LiteRTSampler\n"
        f"print(''.join(LiteRTSampler({str(exported[0])!r}).generate('to be', max_tokens=30, seed=7, temperature=1.0)), end='')\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-X", "utf8", "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == ks.sample(model, VOCABULARY, "to be", max_tokens=30, seed=7)


def test_int8_is_smaller_and_close(tmp_path):
    model = ks.language_model(len(VOCABULARY), units=[128])
    whole = export_tflite(model, VOCABULARY, tmp_path / "float.tflite")
    small = export_tflite(model, VOCABULARY, tmp_path / "int8.tflite", quantization="int8")
    assert small["bytes"] < 0.4 * whole["bytes"]
    assert 0 <= small["nats_lost"] < 0.01


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
    monkeypatch.setattr(tflite.graph_sampling, name, wrong)
    with pytest.raises(ExportError, match=words):
        export_tflite(model, VOCABULARY, tmp_path / "wrong.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_sample_loses_the_state_is_refused(model, tmp_path, monkeypatch):
    endpoint = tflite._sample_endpoint

    def forgetful(*arguments):
        function, signature = endpoint(*arguments)

        def sample(*inputs):
            outputs = function(*inputs)
            return {**outputs, "state_1": 0.5 * outputs["state_1"]}

        return sample, signature

    monkeypatch.setattr(tflite, "_sample_endpoint", forgetful)
    with pytest.raises(ExportError, match="sample, state_1"):
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


def test_int8_that_costs_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "LARGEST_LOSS", 1e-12)
    model = ks.language_model(len(VOCABULARY), units=[64])
    with pytest.raises(ExportError, match=r"8-bit weights cost \d"):
        export_tflite(model, VOCABULARY, tmp_path / "wrong.tflite", quantization="int8")
    assert list(tmp_path.iterdir()) == []


def test_int8_weights_have_one_scale_a_tensor(tmp_path):
    export_tflite(
        ks.language_model(len(VOCABULARY), units=[64]), VOCABULARY, tmp_path / "a.tflite", quantization="int8"
    )
    interpreter = Interpreter(model_path=str(tmp_path / "a.tflite"))
    scales = [
        tensor["quantization_parameters"]["scales"].size
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.int8
    ]
    assert len(scales) >= 3
    assert set(scales) == {1}


@pytest.mark.parametrize("allowed", [False, True])
def test_unk_is_drawn_at_word_level_only_where_the_file_allows_it(allowed, tmp_path):
    vocabulary = ks.Vocabulary.from_text(TEXT, level="word", max_size=10)
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


def test_two_threads_share_a_sampler(exported):
    sampler = LiteRTSampler(exported[0])

    def write(seed):
        return sampler.sample(max_tokens=200, seed=seed)

    alone = [write(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, range(12))) == alone


def test_a_model_in_half_precision_is_refused(tmp_path):
    model = stack(ks.GRU(8, return_sequences=True, dtype="mixed_float16"))
    with pytest.raises(ValueError, match=r"must compute in float32.* in float16; build it again"):
        export_tflite(model, VOCABULARY, tmp_path / "model.tflite")


def test_int8_that_changes_nothing_is_refused(model, tmp_path):
    tiny = stack(keras.layers.SimpleRNN(4, return_sequences=True))
    with pytest.raises(ExportError, match="int8 changes nothing"):
        export_tflite(tiny, VOCABULARY, tmp_path / "model.tflite", quantization="int8")
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(ValueError, match="none, int8"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", quantization="int3")
    with pytest.raises(ValueError, match="one logit a token"):
        export_tflite(model, ks.Vocabulary.from_text("ab"), tmp_path / "a.tflite")
    with pytest.raises(ValueError, match="top_p"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", sampling={"top_p": 2.0})
    with pytest.raises(ValueError, match="`bias` must be for tokens of the vocabulary"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", sampling={"bias": {"no": 1.0}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99, -1])
def test_a_file_cut_off_is_refused(exported, tmp_path, kept):
    data = exported[0].read_bytes()
    end = int(kept * len(data)) if isinstance(kept, float) else kept
    (tmp_path / "cut.tflite").write_bytes(data[:end])
    with pytest.raises(BundleError, match=r"cut\.tflite"):
        LiteRTSampler(tmp_path / "cut.tflite")


def test_a_changed_vocabulary_is_refused(exported, tmp_path):
    data = exported[0].read_bytes()
    path = tmp_path / "changed.tflite"
    path.write_bytes(data[: data.index(b"PK\x03\x04")])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("vocab.txt", ks.Vocabulary.from_text("ab").to_bytes())
        archive.writestr("config.json", json.dumps({"format": 1, "vocabulary_sha256": VOCABULARY.sha256}))
    with pytest.raises(BundleError, match="SHA-256"):
        read_bundle(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"format": 2}, "bundle format 1"), ({"model_bytes": "9"}, "model_bytes"), ({"sampling": [1]}, "sampling")],
)
def test_a_configuration_of_another_kind_is_refused(change, words, exported, tmp_path):
    data = exported[0].read_bytes()
    path = tmp_path / "changed.tflite"
    path.write_bytes(data[: data.index(b"PK\x03\x04")])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("vocab.txt", VOCABULARY.to_bytes())
        archive.writestr("config.json", json.dumps(read_bundle(exported[0])[1] | change))
    with pytest.raises(BundleError, match=words):
        read_bundle(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_the_model_is_refused(exported, tmp_path, share):
    data = bytearray(exported[0].read_bytes())
    data[8 + int(share * (data.index(b"PK\x03\x04") - 8))] ^= 16
    (tmp_path / "flipped.tflite").write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256"):
        LiteRTSampler(tmp_path / "flipped.tflite")


def test_an_entry_that_asks_for_a_password_is_refused(exported, tmp_path):
    data = bytearray(exported[0].read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # The flag of encryption, in the central directory.
    data[data.index(b"PK\x03\x04") + 6] |= 1
    (tmp_path / "locked.tflite").write_bytes(data)
    with pytest.raises(BundleError, match=r"locked\.tflite"):
        LiteRTSampler(tmp_path / "locked.tflite")


def test_a_huge_entry_is_refused(exported, tmp_path):
    path = tmp_path / "bomb.tflite"
    data = exported[0].read_bytes()
    path.write_bytes(data[: data.index(b"PK\x03\x04")])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vocab.txt", VOCABULARY.to_bytes())
        archive.writestr("config.json", b" " * (2 << 20))
    with pytest.raises(BundleError, match=r"config\.json is 2097152 bytes"):
        read_bundle(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BundleError, match="No such file"):
        LiteRTSampler(tmp_path / "none.tflite")


def test_compare_refuses_what_is_not_finite_or_not_alike():
    with pytest.raises(ExportError, match="finite"):
        compare("decode", np.zeros(2), np.array([0, np.nan]))
    with pytest.raises(ExportError, match="shape"):
        compare("decode", np.zeros(2), np.zeros(3))
    assert compare("decode", np.zeros(2), np.full(2, 5e-5)) == pytest.approx(5e-5)


def test_publishing_leaves_nothing_after_an_error(tmp_path):
    def write_half():
        with publishing(tmp_path / "deep" / "down" / "file") as (partial,):
            partial.write_text("half")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_publishing_gives_way_to_who_came_first(tmp_path):
    def write_late():
        with publishing(tmp_path / "file") as (partial,):
            partial.write_text("late")
            (tmp_path / "file").write_text("first")

    with pytest.raises(ExportError, match="exists"):
        write_late()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "first")]


def test_a_name_too_long_is_one_sentence(model, tmp_path):
    with pytest.raises(ExportError, match="cannot be written: File name too long"):
        export_tflite(model, VOCABULARY, tmp_path / "new" / ("a" * 300))
    assert list(tmp_path.iterdir()) == []


def test_numpy_numbers_as_settings(model, tmp_path):
    export_tflite(model, VOCABULARY, tmp_path / "a.tflite", sampling={"temperature": np.float32(0.5)})
    assert read_bundle(tmp_path / "a.tflite")[1]["sampling"] == {"temperature": 0.5}
