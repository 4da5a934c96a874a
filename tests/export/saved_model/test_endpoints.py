"""SavedModels without a vocabulary: whole sequences, single steps and encoders, in TensorFlow's C++ session."""

import copy
import json

import keras
import numpy as np
import pytest
from brought_models import VOCABULARY
from hamlet import CATS
from keras import layers
from open_session import OpenSession
from sequence_models import (
    CONVOLUTIONS,
    FRAMES,
    TEXTS,
    chain,
    gru,
    randomized,
    speaker_as_initial_state,
    translation,
)

import keras_seq as ks
from keras_seq.models.difference import scales
from keras_seq.models.probe import random_rows
from keras_seq.models.step_model import stepped
from keras_seq_export import ExportError, export_saved_model
from keras_seq_export.errors import SessionError
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.saved_model import export, series_parity
from keras_seq_export.saved_model.cpp_session import Request, run_in_cpp_session
from keras_seq_export.saved_model.endpoints import write_series_signatures


def frames_of(rows, steps, size, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, steps, size)).astype(np.float32)


def assert_near(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def gains_and_voice_activity():
    """A noise suppressor of one GRU."""
    features = keras.Input((None, 5), name="features")
    x = gru(6)(features)
    gains = layers.Dense(4, activation="sigmoid", name="gains")(x)
    return keras.Model(features, [gains, layers.Dense(1, activation="sigmoid", name="voice_activity")(x)])


@pytest.mark.slow
def test_two_outputs_over_whole_sequences_and_step_by_step(tmp_path):
    model = randomized(gains_and_voice_activity())
    report = export_saved_model(model, None, tmp_path / "suppressor")
    assert report["path"] == str(tmp_path / "suppressor" / "1")
    assert set(report["signatures"]) == {"serving_default", "decode", "prefill", "start"}
    assert (report["vocabulary"], report["frames"]) == (None, 1)
    assert report["delays"] == {"gains": 0, "voice_activity": 0}
    assert (tmp_path / "suppressor" / "model.config").is_file()
    written = json.loads((tmp_path / "suppressor" / "1" / "assets.extra" / "report.json").read_text())
    assert written["signatures"] == report["signatures"]

    x = frames_of(2, 70, 5)
    whole = dict(zip(["gains", "voice_activity"], (np.asarray(one) for one in model(x)), strict=True))
    (started,) = run_in_cpp_session(report["path"], [("start", {"row": np.array([0, 9], np.int32)})])
    assert not any(state.any() for state in started.values())
    second, many = frames_of(1, 16_000, 5), frames_of(300, 1, 5)  # 16 kHz, and more rows than a text may have
    served, stepwise, read, from_defaults, of_second, of_many = run_in_cpp_session(
        report["path"],
        [
            ("serving_default", {"frames": x}),
            Request("decode", {"frame": x.swapaxes(0, 1), **started}, scan=("frame",)),
            ("prefill", {"frames": x[:, :64], "length": np.array([64, 3], np.int32)}),
            ("decode", {"frame": x[:, 0]}),
            ("serving_default", {"frames": second}),
            ("decode", {"frame": many[:, 0]}),
        ],
    )
    assert_near(of_second["gains"], np.asarray(model(second)[0]))
    assert_near(of_many["gains"], np.asarray(model(many)[0])[:, 0])
    for name, expected in whole.items():
        assert_near(served[name], expected)
        assert_near(stepwise[name].swapaxes(0, 1), expected)
        assert_near(read[name], expected[[0, 1], [63, 2]])
        assert_near(from_defaults[name], expected[:, 0])


@pytest.mark.slow
def test_strides_and_a_delay_give_the_models_own_number_of_frames(tmp_path):
    model = randomized(CONVOLUTIONS["Conv1D, valid, then causal and strided"]())
    report = export_saved_model(model, None, tmp_path / "1")
    frames, delay = report["frames"], report["delays"]["output"]
    assert (frames, delay > 0) == (4, True)
    x = frames_of(2, 64, 3)
    *served, wrong = [Request("serving_default", {"frames": x[:, :count]}) for count in (64, 16, 20, 30)]
    by_step = x.reshape(2, 16, frames, 3).swapaxes(0, 1)
    states = {
        f"state_{index}": np.zeros((2, units), np.float32) for index, units in enumerate(GraphStep(model, None).units)
    }
    *answers, stepwise = run_in_cpp_session(
        tmp_path / "1", [*served, Request("decode", {"frame": by_step, **states}, scan=("frame",))]
    )
    for count, answer in zip((64, 16, 20), answers, strict=True):
        assert_near(answer["output"], np.asarray(model(x[:, :count])))
    known = stepwise["output"].swapaxes(0, 1)[:, delay:]
    assert_near(known, np.asarray(model(x))[:, : known.shape[1]])
    with pytest.raises(SessionError, match=r"`frames` must have a multiple of 4 frames, at least 4\. Received:.*30"):
        run_in_cpp_session(tmp_path / "1", [wrong])


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """A model with a bidirectional encoder, tokens in, and a session with its file."""
    model = randomized(translation(layers.Bidirectional(layers.LSTM(5, return_state=True))))
    path = tmp_path_factory.mktemp("serving") / "1"
    report = export_saved_model(model, None, path)
    session = OpenSession(path)
    yield model, report, session
    session.close()


def test_rows_have_sources_of_their_own_lengths(encoded):
    model, report, run = encoded
    assert set(report["signatures"]) == {"serving_default", "decode", "prefill", "encode"}
    random = np.random.default_rng(1)
    source, lengths = random.integers(0, 11, (3, 9)).astype(np.int32), np.array([9, 1, 4], np.int32)
    padded = np.where(np.arange(9) < lengths[:, None], source, 10**6).astype(np.int32)
    tokens = random.integers(0, 25, (3, 12)).astype(np.int32)
    whole, given = run(
        [
            ("serving_default", {"tokens": tokens, "source": padded, "length": lengths}),
            ("encode", {"source": padded, "length": lengths}),
        ]
    )
    (stepwise,) = run([Request("decode", {"token": tokens.T, **given}, scan=("token",))])
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone = source[one, :length]
        for index, state in enumerate(ks.encode(model, alone)):
            assert_near(given[f"state_{index}"][one], state)
        expected = np.asarray(model([alone, tokens[one]]))
        assert_near(whole["output"][one], expected)
        assert_near(stepwise["output"][:, one].swapaxes(0, 1), expected)


def test_requests_that_the_model_cannot_read_are_refused(encoded):
    _, _, run = encoded
    states = {f"state_{index}": np.zeros((1, 10), np.float32) for index in range(2)}
    source, one = np.zeros((1, 5), np.int32), np.ones(1, np.int32)
    for signature, inputs, words in (
        (
            "encode",
            {"source": source, "length": 0 * one},
            "`length` must be from 1 to the number of frames of `source`",
        ),
        (
            "encode",
            {"source": source, "length": 6 * one},
            "`length` must be from 1 to the number of frames of `source`",
        ),
        ("encode", {"source": source + 11, "length": one}, "`source` must be from 0 to 10"),
        ("encode", {"source": source[0], "length": one}, r"`source` must have the shape \[rows any\]"),
        ("decode", {"token": 25 * one, **states}, "`token` must be from 0 to 24"),
        ("decode", {"token": one}, "must feed a value for placeholder"),  # The states have no default.
        ("prefill", {"tokens": np.full((1, 64), 25, np.int32), "length": one, **states}, "`tokens` must be from 0 to"),
        # Too large: none of these is read.
        (
            "encode",
            {"source": np.zeros((1, 10**7), np.int32), "length": one},
            r"`source` must be at most 10000 long: send a shorter sequence\. Received:\] \[10000000\]",
        ),
        (
            "encode",
            {"source": np.zeros((33, 10_000), np.int32), "length": np.ones(33, np.int32)},
            r"rows times steps of `source` must be at most 320000: send fewer rows in a request\. "
            r"Received rows and steps of `source`:\] \[33 10000\]",
        ),
        (
            "serving_default",
            {"tokens": np.zeros((1, 10_001), np.int32), "source": source, "length": one},
            "`tokens` must be at most 10000 long",
        ),
        (
            "serving_default",
            {"tokens": np.zeros((33, 9_700), np.int32), "source": np.tile(source, (33, 1)), "length": np.tile(one, 33)},
            "rows times steps of `tokens` must be at most 320000",
        ),
        ("serving_default", {"tokens": source + 25, "source": source, "length": one}, "`tokens` must be from 0 to 24"),
    ):
        with pytest.raises(SessionError, match=words):
            run([(signature, inputs)])


@pytest.mark.slow
def test_inputs_of_several_lengths_are_refused(tmp_path):
    tokens, frames = keras.Input((None,), dtype="int32"), keras.Input((None, 3))
    x = layers.Concatenate()([layers.Embedding(7, 4)(tokens), frames])
    model = keras.Model([tokens, frames], layers.Dense(2)(gru(5)(x)))
    write_series_signatures(model, GraphStep(model, None), tmp_path / "1")
    inputs = {"tokens": np.zeros((2, 6), np.int32), "frames": np.zeros((2, 5, 3), np.float32)}
    with pytest.raises(SessionError, match=r"`frames` must have as many frames as `tokens`\. Received:.*5"):
        run_in_cpp_session(tmp_path / "1", [("serving_default", inputs)])


@pytest.mark.slow
def test_a_model_in_half_precision_is_exported_in_float32(tmp_path):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = randomized(chain((30, 3), layers.GRU(8, return_sequences=True), layers.GRU(6), layers.Dense(2)))
    finally:
        keras.config.set_dtype_policy(policy)
    report = export_saved_model(model, None, tmp_path / "1")
    assert 0 < report["signatures"]["decode"]["largest_difference"] < 1e-2
    assert report["signatures"]["serving_default"]["largest_difference"] < 1e-5  # from the copy in float32
    x = frames_of(2, 30, 3)
    (served,) = run_in_cpp_session(tmp_path / "1", [("serving_default", {"frames": x})])
    np.testing.assert_allclose(served["output"], np.asarray(model(x), np.float32), atol=1e-2)
    with pytest.raises(SessionError, match=r"`frames` must have the shape \[rows 30 3\]"):
        run_in_cpp_session(tmp_path / "1", [("serving_default", {"frames": x[:, :29]})])


def sensor(seed=0):
    return randomized(chain((None, 3), gru(4), layers.Dense(2)), seed)


def test_a_file_with_other_weights_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    other = sensor(seed=1)
    write = lambda model, step, directory, _: write_series_signatures(other, GraphStep(other, None), directory)  # noqa: E731
    monkeypatch.setattr(export, "write_series_signatures", write)
    with pytest.raises(ExportError, match="decode: the file differs from the model"):
        export_saved_model(sensor(), None, tmp_path / "1")
    assert not list(tmp_path.iterdir())


WITH_ENCODER = pytest.param(lambda: randomized(speaker_as_initial_state()), marks=pytest.mark.slow)


@pytest.mark.parametrize("make", [sensor, WITH_ENCODER], ids=["start", "encode"])
def test_one_wrong_number_is_refused(make, tmp_path, monkeypatch):
    model, recorded = make(), []
    step, run = GraphStep(model, None), series_parity.run_all
    write_series_signatures(model, step, tmp_path / "1")

    def recording(directory, requests, warm_up):
        answers = run(directory, requests, warm_up)
        recorded.extend(zip((request.signature for request in requests), answers, strict=True))
        return answers

    monkeypatch.setattr(series_parity, "run_all", recording)
    series_parity.verify_series(model, model, step, tmp_path / "1")
    names = [(position, name) for position, (_, answer) in enumerate(recorded[:3]) for name in answer]
    names += [(len(recorded) - 1, "state_0")]
    for position, name in names:
        signature, _ = recorded[position]
        if (signature, name) == ("decode", "state_0"):
            continue  # The states of `decode` show in the steps after it.
        answers = copy.deepcopy([answer for _, answer in recorded])
        answers[position][name] = answers[position][name] + np.float32(0.01)
        monkeypatch.setattr(series_parity, "run_all", lambda *_, answers=answers: answers)
        with pytest.raises(ExportError, match=f"^{signature}.*differs from the model by up to 0.0"):
            series_parity.verify_series(model, model, step, tmp_path / "1")
    assert len(names) == 6


@pytest.mark.slow
def test_two_sources_have_lengths_of_their_own(tmp_path):
    first, second = keras.Input((None,), dtype="int32", name="first"), keras.Input((None, 3), name="second")
    target = keras.Input((None, 2))
    _, one = layers.GRU(6, return_state=True)(layers.Embedding(9, 4)(first))
    _, other = layers.GRU(6, return_state=True)(layers.Conv1D(5, 3, padding="same")(second))
    x = layers.GRU(12, return_sequences=True)(target, initial_state=layers.Concatenate()([one, other]))
    model = randomized(keras.Model([first, second, target], layers.Dense(4)(x)))
    export_saved_model(model, None, tmp_path / "1")
    sources = [np.array([[3, 1, 4, 1, 5, 9, 2]]) % 9, frames_of(1, 4, 3)]
    padded = {"first": np.pad(sources[0], [(0, 0), (0, 2)]).astype(np.int32), "second": np.ones((1, 9, 3), np.float32)}
    padded["second"][:, :4] = sources[1]
    lengths = {"first_length": np.array([7], np.int32), "second_length": np.array([4], np.int32)}
    (states,) = run_in_cpp_session(tmp_path / "1", [("encode", {**padded, **lengths})])
    assert_near(states["state_0"], ks.encode(model, sources)[0])


def test_an_input_with_the_name_of_another_is_refused(tmp_path):
    speaker, seed = keras.Input((2,), name="speaker"), keras.Input((2,), name="seed")
    tokens = keras.Input((None,), dtype="int32")
    state = layers.Dense(5)(layers.Concatenate()([speaker, seed]))
    x = layers.GRU(5, return_sequences=True)(layers.Embedding(len(CATS), 4)(tokens), initial_state=state)
    model = keras.Model([speaker, seed, tokens], layers.Dense(len(CATS))(x))
    with pytest.raises(ExportError, match=r"must have an input of another name than seed.*keras.Input\(name=...\)"):
        export_saved_model(model, CATS, tmp_path / "1")
    assert not list(tmp_path.iterdir())


def test_unsuitable_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`max_length` must be an integer from 1 to"):
        export_saved_model(sensor(), None, tmp_path / "1", max_length=0)
    with pytest.raises(ValueError, match="`vocabulary` must be a Vocabulary, or None for a model that is not of text"):
        export_saved_model(sensor(), "vocab.txt", tmp_path / "1")
    with pytest.raises(ValueError, match="Bidirectional"):
        export_saved_model(chain((None, 3), layers.Bidirectional(gru(4))), None, tmp_path / "1")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("make", list(TEXTS.values())[::4], ids=list(TEXTS)[::4])
def test_every_architecture_of_text_gives_the_models_texts(make, tmp_path):
    model = randomized(make())
    signatures = export_saved_model(model, VOCABULARY, tmp_path / "1")["signatures"]  # compared with the model
    assert ("encode" in signatures) == (len(model.inputs) > 1)
    assert signatures["decode"]["largest_difference"] <= 1e-5


# Several outputs, a mask, an input at once, and convolutions; the encoder is that of `encoded`.
EXPORTED = (
    "three outputs of music",
    "video frames and a mask",
    "a speaker's vector in each step",
    "keywords",
)


@pytest.mark.slow
@pytest.mark.parametrize("make", [FRAMES[name] for name in EXPORTED], ids=EXPORTED)
def test_every_architecture_gives_the_models_outputs(make, tmp_path):
    model = randomized(make())
    report = export_saved_model(model, None, tmp_path / "1")
    known = stepped(model)
    rows = random_rows(model, known.graph.inputs, 3, known.step_inputs[0].tensor.shape[1] or 16 * report["frames"])
    outputs = keras.tree.flatten(model(rows if len(rows) > 1 else rows[0]))
    plural = {"frame": "frames", "token": "tokens"}
    inputs = {}
    for given, one in zip(known.graph.inputs, rows, strict=True):
        dtype = np.float32 if "float" in given.tensor.dtype else np.int32
        inputs[plural.get(given.name, given.name) if given.is_stepped else given.name] = one.astype(dtype)
        if given.has_length:
            inputs["length"] = np.full(3, one.shape[1], np.int32)
    (served,) = run_in_cpp_session(tmp_path / "1", [("serving_default", inputs)])
    assert set(served) == set(report["delays"])
    for output, name in zip(known.graph.outputs, report["delays"], strict=True):
        expected = np.asarray(outputs[output.position], np.float32)
        size = scales(expected[:, None] if output.so_far else expected)
        assert np.abs((served[name] - expected) / size).max() <= 1e-5
    # The export compared `decode` over 256 steps with the whole model; the outputs of these models are of the order of one.
    assert report["signatures"]["decode"]["largest_difference"] <= 1e-5
