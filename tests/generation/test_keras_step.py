"""Generation and scores with Keras models, against the model over whole sequences."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from random_weights import randomized

import keras_seq as ks
from keras_seq.generation import generation, keras_step
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.keras_step import KerasStep

TEXT = "the cat, which already ate, was full; the cats, which already ate, were full. "


@pytest.fixture(scope="module")
def vocabulary():
    return ks.Vocabulary.from_text(TEXT)


@pytest.fixture(scope="module")
def model(vocabulary):
    return randomized(ks.language_model(len(vocabulary), units=[12, 8], embedding_dim=6), scale=0.7, seed=5)


class WholeSequence(Step):
    """Runs the sequence model over all tokens so far, for each token; its states are these tokens."""

    def __init__(self, model):
        self.model = tf.function(model, input_signature=[tf.TensorSpec([1, None], tf.int32)])  # Traced once.
        self.vocabulary_size = model.output_shape[-1]

    def initial_states(self):
        return []

    def __call__(self, token, states):
        tokens = [*states, token]
        return self.model(np.array([tokens], np.int32)).numpy()[0, -1], tokens


@pytest.fixture(scope="module")
def whole_sequence(model):
    return WholeSequence(model)


def test_same_seed_same_text(model, vocabulary):
    texts = [ks.sample(model, vocabulary, prompt="the ", max_tokens=30, seed=7) for _ in range(2)]
    assert texts[0] == texts[1] != ""


def test_another_seed_another_text(model, vocabulary):
    assert len({ks.sample(model, vocabulary, max_tokens=30, seed=seed) for seed in range(5)}) == 5


def test_without_a_seed_texts_differ(model, vocabulary):
    texts = {str(ks.sample(model, vocabulary, max_tokens=40)) for _ in range(10)}  # Two may both end at once.
    assert len(texts) > 1


def test_the_stream_of_pieces_is_the_sample(model, vocabulary):
    settings = {"prompt": "the cat", "max_tokens": 30, "temperature": 0.8, "top_k": 9, "seed": 3}
    pieces = list(ks.generate(model, vocabulary, **settings))
    assert "".join(pieces) == ks.sample(model, vocabulary, **settings)
    assert len(pieces) <= 30
    assert all(pieces)


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.0}, {"seed": 5}, {"seed": 6, "top_p": 0.9, "repetition_penalty": 1.3}]
)
@pytest.mark.parametrize("prompt", ["", "the cats, "])
def test_carried_states_give_the_text_of_the_whole_sequence_model(model, whole_sequence, vocabulary, prompt, settings):
    slow = generation.sample(whole_sequence, vocabulary, prompt, max_tokens=15, **settings)
    assert ks.sample(model, vocabulary, prompt, max_tokens=15, **settings) == slow != ""


def test_greedy_takes_the_most_likely_token(model, vocabulary):
    ids = [vocabulary.start_id, *vocabulary.encode("the ")]
    expected = []
    for _ in range(12):
        logits = model(np.array([ids + expected])).numpy()[0, -1]
        logits[[vocabulary.pad_id, vocabulary.start_id]] = -np.inf
        if logits.argmax() == vocabulary.eos_id:
            break
        expected.append(int(logits.argmax()))
    assert expected
    assert ks.sample(model, vocabulary, "the ", max_tokens=12, temperature=0) == vocabulary.decode(expected)


def test_step_gives_the_models_logits(model, vocabulary):
    tokens = [vocabulary.start_id, *vocabulary.encode("the cats")]
    step = KerasStep(model)
    assert step.vocabulary_size == len(vocabulary)
    states, logits = step.initial_states(), []
    assert [state.shape for state in states] == [(1, 12), (1, 8)]
    for token in tokens:
        now, states = step(int(token), states)
        assert (now.shape, now.dtype) == ((len(vocabulary),), np.float32)
        logits.append(now)
    np.testing.assert_allclose(logits, model(np.array([tokens])).numpy()[0], rtol=0, atol=1e-5)


def test_half_precision_model_samples(vocabulary):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = ks.language_model(len(vocabulary), units=[6], embedding_dim=4)
        assert isinstance(ks.sample(model, vocabulary, max_tokens=5, seed=0), str)
    finally:
        keras.config.set_dtype_policy(before)


def test_the_vocabulary_must_have_a_token_for_each_logit(model, vocabulary):
    other = ks.Vocabulary.from_text("abc")
    with pytest.raises(
        ValueError, match=f"one logit per token of the vocabulary, {len(other)}. Received: {len(vocabulary)} logits"
    ):
        ks.sample(model, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"prompt": "THE"}, "T"),
    ],
)
def test_arguments_are_checked_at_the_call(model, vocabulary, arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.generate(model, vocabulary, **arguments)  # not at the first piece


@pytest.mark.parametrize("model", ["model.keras", None, ks.Vocabulary.from_text("abc")])
def test_the_model_must_be_a_keras_model(model, vocabulary):
    with pytest.raises(ValueError, match="`model` must be a Keras model"):
        ks.score(model, vocabulary, "a")


def continued(model, vocabulary):
    """A greedy text in two parts and as a whole, without `<eos>`."""
    options = {"max_tokens": 20, "temperature": 0, "bias": {"<eos>": -np.inf}}
    first = ks.sample(model, vocabulary, "the ", **options)
    second = ks.sample(model, vocabulary, states=first.states, **options)
    whole = ks.sample(model, vocabulary, "the ", **options | {"max_tokens": 40})
    return first + second, whole


def test_two_parts_are_one_text(model, vocabulary):
    parts, whole = continued(model, vocabulary)
    assert parts == whole
    assert len(whole) == 40


def test_a_prompt_after_an_earlier_text_is_read_after_it(model, vocabulary):
    first = ks.sample(model, vocabulary, "the ", max_tokens=9, seed=2, bias={"<eos>": -np.inf})
    tokens = [vocabulary.start_id, *vocabulary.encode("the " + first + ", were")]
    expected = model(np.array([tokens])).numpy()[0]
    logits = expected - np.log(np.exp(expected.astype(np.float64)).sum(-1, keepdims=True))
    greedy = {"max_tokens": 1, "temperature": 0, "logprobs": True, "bias": {"<eos>": -np.inf}}
    found = ks.sample(model, vocabulary, ", were", states=first.states, **greedy)
    allowed = np.arange(len(vocabulary)) > max(vocabulary.pad_id, vocabulary.start_id, vocabulary.eos_id)
    assert found.log_probabilities == [pytest.approx(logits[-1, allowed].max(), abs=1e-5)]
    scored = ks.score(model, vocabulary, ", were", states=first.states).log_probabilities
    length = len(vocabulary.encode(", were"))
    targets = tokens[-length:]
    np.testing.assert_allclose(scored, logits[np.arange(-length - 1, -1), targets], atol=1e-5)
    after = ks.generate(model, vocabulary, ", were", states=first.states).states
    assert after.token == tokens[-1]


def test_arrays_are_the_initial_states_of_the_layers(model, vocabulary):
    """Stock Keras gives each layer its `initial_state`."""
    states = [np.linspace(-1, 1, units, dtype=np.float32) for units in (12, 8)]
    tokens = np.array([[vocabulary.start_id, *vocabulary.encode("the cats")]])
    values, given = tokens, iter(states)
    for layer in model.layers[1:]:
        is_recurrent = isinstance(layer, keras.layers.RNN)
        values = layer(values, initial_state=next(given)[None]) if is_recurrent else layer(values)
    logits = np.asarray(values)[0].astype(np.float64)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = logits[np.arange(8), tokens[0, 1:]]
    for arrays in (states, [state[None] for state in states], [tf.constant(state) for state in states]):
        found = ks.score(model, vocabulary, "the cats", states=arrays).log_probabilities
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(ks.score(model, vocabulary, "the cats").log_probabilities - expected).max() > 0.1
    text = ks.sample(model, vocabulary, "the cats", states=states, max_tokens=1, temperature=0, logprobs=True)
    assert text.token_ids == [int(logits[-1].argmax())]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_the_states_of_a_half_precision_model_are_float32(policy, vocabulary):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        half = ks.language_model(len(vocabulary), units=[6], embedding_dim=4)
    finally:
        keras.config.set_dtype_policy(before)
    parts, whole = continued(half, vocabulary)
    assert parts == whole
    states = ks.generate(half, vocabulary, "the").states
    assert [(array.shape, array.dtype) for array in states.arrays] == [((1, 6), np.float32)]


def test_states_of_another_model_are_refused(model, vocabulary):
    states = ks.sample(model, vocabulary, max_tokens=3).states
    other = ks.language_model(len(vocabulary), units=[12], embedding_dim=6)
    message = (
        r"`states` must be a list of 1 arrays, of the shapes \[\(1, 12\)\]. Received: states=\[\(1, 12\), \(1, 8\)\]"
    )
    for call in (ks.sample, ks.generate):
        with pytest.raises(ValueError, match=message):
            call(other, vocabulary, states=states)
    with pytest.raises(ValueError, match=message):
        ks.score(other, vocabulary, "the", states=states)


def in_a_fork(call):
    """Returns the message of the error that `call` raises in a fork of this process, or what it returns."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            answer = str(call())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    return answer


def test_a_fork_of_a_process_that_has_used_tensorflow_is_reported(tiny_model, monkeypatch):
    """It would wait forever for threads that it lacks."""
    vocabulary = ks.Vocabulary.from_text("to be or not")
    model = tiny_model(vocabulary)
    pieces = ks.generate(model, vocabulary, "to", seed=1)
    next(pieces)
    monkeypatch.setattr(keras_step, "_SECONDS_TO_ANSWER", 0.5)
    for call in (lambda: ks.sample(model, vocabulary, "to"), lambda: next(pieces)):
        answer = in_a_fork(call)
        assert answer.startswith("ModelError: ")
        assert "TensorFlow does not run in this process, because it was forked from one that had used" in answer
    assert len(ks.sample(model, vocabulary, "to", seed=1, max_tokens=3).token_ids) <= 3


@pytest.mark.slow
def test_a_fork_of_a_process_that_only_imported_tensorflow_samples():
    code = (
        "import os, tensorflow, keras_seq as ks\n"
        "if (child := os.fork()):\n"
        "    raise SystemExit(os.waitpid(child, 0)[1])\n"
        "vocabulary = ks.Vocabulary.from_text('to be')\n"
        "ks.sample(ks.language_model(len(vocabulary), units=[8]), vocabulary, 'to', seed=1, max_tokens=5)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
