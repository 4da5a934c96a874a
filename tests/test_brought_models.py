"""Models that people bring: each use gives what the whole model gives, or refuses the model with the reason."""

import keras
import numpy as np
import pytest
from brought_models import (
    OVER_FRAMES,
    REFUSED,
    RIGHT,
    TEXT,
    VOCABULARY,
    frames_for,
    own_activation,
    randomized,
    whole_log_probabilities,
)
from keras import layers

import keras_seq as ks
from keras_seq.models.step_model import stepped
from keras_seq_export import LiteRTSampler, export_saved_model, export_tflite
from keras_seq_export.tflite.decoder import LiteRTDecoder

SEVERAL_TOKENS = ("a strided convolution", "pooling")  # names of models that need several tokens for an output
WRONG_AS_LANGUAGE_MODELS = (
    "frames where ids are expected",
    "a sigmoid",
    "fewer embeddings than tokens",
    "fewer tokens of n-grams than tokens",
)
HALF = "bfloat16"  # in the names of models: these are compared within the rounding of their numbers


def tolerance(name):
    return 5e-2 if HALF in name else 1e-5


# In the fast suite these stand for the others.
ONE_OF_EACH = (
    "n-grams",
    "a softmax inside TimeDistributed",
    "operations in the graph",
    "functions of the user",
    "mask_zero",
    "a learned initial state by position",
    "a block called twice",
    "float tokens",
    "dropout that is on by its argument",
)
# A softmax in another place of the graph is the same in a file. One is in a layer, one outside of Keras, one in float64.
SAME_IN_A_FILE = (
    "a softmax as the last activation",
    "a Softmax layer",
    "ops.softmax",
    "a softmax in a nested Sequential",
    "a Dropout after the softmax",
)


@pytest.fixture(
    params=[name if name in ONE_OF_EACH else pytest.param(name, marks=pytest.mark.slow) for name in RIGHT],
    scope="module",
)
def right(request):
    """The name of a model, the model, and the log-probabilities of `TEXT`."""
    model = randomized(RIGHT[request.param]())
    return request.param, model, whole_log_probabilities(model, TEXT)


def test_text_is_sampled_scored_and_evaluated_as_by_the_whole_model(right):
    name, model, expected = right
    scored = ks.score(model, VOCABULARY, TEXT)
    np.testing.assert_allclose(scored.log_probabilities, expected, rtol=0, atol=tolerance(name))
    assert np.ptp(expected) > 0.5  # it is no uniform guess
    nats = ks.evaluate(model, VOCABULARY, TEXT).nats_per_token
    assert nats == pytest.approx(-expected.mean(), abs=tolerance(name))
    text = ks.sample(model, VOCABULARY, "to ", max_tokens=20, seed=3, logprobs=True, bias={"<eos>": -np.inf})
    expected = whole_log_probabilities(model, "to " + text)[3:]
    np.testing.assert_allclose(text.log_probabilities, expected, rtol=0, atol=tolerance(name))


def test_the_stateful_copy_continues_the_whole_model_or_is_refused(right):
    name, model, _ = right
    tokens = np.random.default_rng(0).integers(0, len(VOCABULARY), (2, 24)).astype(np.int32)
    if "initial state" in name or "twice" in name:
        with pytest.raises(ValueError, match=r"begins with a state that is not zero|is called 2 times"):
            ks.stateful_copy(model, 2)
        return
    copy = ks.stateful_copy(model, 2)
    parts = [np.asarray(copy(part, training=False), np.float64) for part in np.split(tokens, 3, axis=1)]
    np.testing.assert_allclose(
        np.concatenate(parts, axis=1), model(tokens, training=False), rtol=0, atol=tolerance(name)
    )


def walk(decoder, frames):
    states, outputs = decoder.initial_states(), []
    for step in range(frames.shape[1]):
        output, states = decoder(frames[:, step], states)
        outputs.append(np.array(output))
    return np.stack(outputs, axis=1)


class KerasDecoder:
    """`step_model` of a model, used as a LiteRTDecoder is."""

    def __init__(self, model):
        self.stepped = stepped(model)

    def initial_states(self):
        return [np.tile(state, (2, 1)) for state in self.stepped.initial_states]

    def __call__(self, frame, states):
        output, *states = self.stepped.decode(frame, *states)
        return keras.ops.cast(output, "float32"), states


def some_fast(names, each, first):
    """The names, of which each second or third one, from the number `first` on, is in the fast suite."""
    return [
        name if index % each == first else pytest.param(name, marks=pytest.mark.slow)
        for index, name in enumerate(names)
    ]


@pytest.mark.parametrize("name", some_fast(OVER_FRAMES, 2, 1))
def test_frames_are_stepped_as_by_the_whole_model(name):
    model = randomized(OVER_FRAMES[name]())
    frames = frames_for(model)
    expected = np.asarray(keras.ops.cast(model(frames), "float32"))
    np.testing.assert_allclose(walk(KerasDecoder(model), frames), expected, rtol=0, atol=tolerance(name))
    assert np.ptp(expected, axis=1).min() > 1e-2


@pytest.mark.usefixtures("all_steps_are_compared")
@pytest.mark.parametrize("name", some_fast(REFUSED, 3, 0))
def test_other_models_are_refused_with_the_reason(name, tmp_path):
    build, sentence = REFUSED[name]
    model = build()
    for use in (
        lambda: ks.sample(model, VOCABULARY),
        lambda: ks.evaluate(model, VOCABULARY, "to be"),
        lambda: export_tflite(model, VOCABULARY, tmp_path / "a.tflite"),
        lambda: export_saved_model(model, VOCABULARY, tmp_path / "1"),
    ):
        with pytest.raises((ValueError, RuntimeError), match=sentence):
            use()
    if name not in (*WRONG_AS_LANGUAGE_MODELS, *SEVERAL_TOKENS):
        with pytest.raises(ValueError, match=sentence):
            ks.stateful_copy(model, 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("right", [name for name in RIGHT if name not in SAME_IN_A_FILE], indirect=True, scope="module")
def test_the_file_is_the_whole_model(right, tmp_path):
    name, model, expected = right
    export_tflite(model, VOCABULARY, tmp_path / "a.tflite")
    sampler = LiteRTSampler(tmp_path / "a.tflite")
    scored = sampler.score(TEXT)
    np.testing.assert_allclose(scored.log_probabilities, expected, rtol=0, atol=tolerance(name))
    if HALF not in name:
        arguments = {"max_tokens": 60, "seed": 3}
        assert sampler.sample("to ", **arguments) == ks.sample(model, VOCABULARY, "to ", **arguments)


@pytest.mark.slow
def test_a_saved_model_is_the_whole_model(tmp_path):
    """It is made from the same steps as the file, so that few models will do: float tokens, and one with much in it."""
    export_saved_model(randomized(RIGHT["float tokens"]()), VOCABULARY, tmp_path / "1")  # compares it with the model
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(len(VOCABULARY), 8)(tokens)
    x = ks.GRU(8, return_sequences=True)(layers.Lambda(lambda x: x * 2)(x), mask=keras.ops.not_equal(tokens, 5))
    x = layers.Dense(8, activation=own_activation)(x)
    x = layers.TimeDistributed(layers.Dense(len(VOCABULARY), activation="softmax"))(x)
    model = randomized(keras.Model(tokens, x))
    export_saved_model(model, VOCABULARY, tmp_path / "2")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(OVER_FRAMES)[::2])
def test_exported_frames_are_the_whole_model(name, tmp_path):
    model = randomized(OVER_FRAMES[name]())
    frames = frames_for(model)
    expected = np.asarray(keras.ops.cast(model(frames), "float32"))
    for state in ("explicit", "internal")[: 1 + (name == "Masking")]:
        path = tmp_path / f"{state}.tflite"
        export_tflite(model, None, path, state=state, batch=2)
        np.testing.assert_allclose(walk(LiteRTDecoder(path), frames), expected, rtol=0, atol=tolerance(name))
