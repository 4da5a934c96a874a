"""`evaluate` against an independent scorer: a call of the model over the whole text, summed in float64."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from random_weights import randomized

import keras_seq as ks
from keras_seq.analysis.evaluate import Evaluation, evaluate, evaluate_step
from keras_seq.generation.keras_step import KerasStep

ALPHABET = "abcdefgh ,.\n"
# Longer than two pieces of 1,024 tokens, which `evaluate` reads at a time, and not a multiple of a piece.
TEXT = "".join(np.random.default_rng(0).choice(list(ALPHABET), 2500))
SHORT = TEXT[:150]
# Sums of hundreds of float32 losses, each with a relative error of 1e-6.
CLOSE = 2e-6


@pytest.fixture(scope="module")
def vocabulary():
    return ks.Vocabulary.from_text(TEXT)


@pytest.fixture(scope="module")
def model(vocabulary):
    return randomized(ks.language_model(len(vocabulary), units=[8, 6], embedding_dim=5))


def compiled(model):
    """Returns the call of a model, compiled once for all lengths."""
    call = tf.function(lambda ids: model(ids, training=False))
    return call.get_concrete_function(tf.TensorSpec((1, None), tf.int32))


def brute_force(model, vocabulary, parts):
    """Returns the sum of -log p(token | all tokens before it) over the parts, each read from `<s>` in one call."""
    nats, read = 0.0, compiled(model)
    for ids in parts:
        inputs = np.array([[vocabulary.start_id, *ids[:-1]]], np.int32)
        logits = np.asarray(read(inputs)[0], "float64")
        for row, token in zip(logits, ids, strict=True):
            nats -= row[token] - math.log(sum(math.exp(value) for value in row))
    return nats


def lines_of(text, vocabulary):
    return [[*vocabulary.encode(line), vocabulary.eos_id] for line in text.split("\n") if line]


def test_a_stream_is_scored_as_by_brute_force(model, vocabulary):
    result = evaluate(model, vocabulary, TEXT)
    assert result.nats == pytest.approx(brute_force(model, vocabulary, [vocabulary.encode(TEXT)]), rel=CLOSE)
    assert result.tokens == result.characters == len(TEXT)


@pytest.fixture(scope="module")
def uniform(vocabulary):
    """A model with all-zero weights: every token costs log(vocabulary), so that the sum counts the tokens."""
    model = ks.language_model(len(vocabulary), cell="simple_rnn", units=[3], embedding_dim=2)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("length", [1, 2, 1023, 1024, 1025, 2048])
def test_no_token_is_lost_between_pieces(uniform, vocabulary, length):
    result = evaluate(uniform, vocabulary, TEXT[:length])
    assert result.nats == pytest.approx(length * math.log(len(vocabulary)), rel=CLOSE)
    assert result.tokens == length


def test_lines_are_scored_as_by_brute_force(model, vocabulary):
    text = TEXT[:300]
    parts = lines_of(text, vocabulary)
    result = evaluate(model, vocabulary, text, by_line=True)
    assert len(parts) > 10
    assert result.nats == pytest.approx(brute_force(model, vocabulary, parts), rel=CLOSE)
    assert result.tokens == sum(map(len, parts))
    assert result.characters == len(text)


@pytest.mark.parametrize("by_line", [False, True])
def test_the_one_step_decoder_gives_the_same_result(model, vocabulary, by_line):
    whole = evaluate(model, vocabulary, SHORT, by_line=by_line)
    stepped = evaluate_step(KerasStep(model), vocabulary, SHORT, by_line=by_line)
    assert stepped.nats == pytest.approx(whole.nats, rel=CLOSE)
    assert (stepped.tokens, stepped.characters) == (whole.tokens, whole.characters)


def test_recurrent_layers_in_a_nested_model_carry_their_state(vocabulary):
    tokens = keras.Input((None,), dtype="int32")
    block = keras.Sequential([keras.Input((None, 5)), layers.LSTM(6, return_sequences=True)])
    x = block(layers.Embedding(len(vocabulary), 5)(tokens))
    model = randomized(keras.Model(tokens, layers.Dense(len(vocabulary))(x)))
    ids = vocabulary.encode(TEXT[:1100])
    assert evaluate(model, vocabulary, TEXT[:1100]).nats == pytest.approx(
        brute_force(model, vocabulary, [ids]), rel=CLOSE
    )


def test_evaluating_does_not_change_the_model_and_is_repeatable(model, vocabulary):
    before = model.get_weights()
    assert evaluate(model, vocabulary, SHORT) == evaluate(model, vocabulary, SHORT)
    for mine, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_word_level_counts_both_words_and_characters():
    text = "the cats were full\nthe cat was full\n"
    vocabulary = ks.Vocabulary.from_text(text, level="word")
    model = randomized(ks.language_model(len(vocabulary), cell="simple_rnn", units=[4], embedding_dim=3))
    result = evaluate(model, vocabulary, text)
    assert (result.tokens, result.characters) == (len(vocabulary.encode(text)), len(text))
    assert result.tokens < result.characters
    assert result.nats == pytest.approx(brute_force(model, vocabulary, [vocabulary.encode(text)]), rel=CLOSE)


def test_windows_do_not_count_the_first_word():
    vocabulary = ks.Vocabulary.from_text("international cats", level="word")
    model = ks.language_model(len(vocabulary), cell="simple_rnn", units=[4], embedding_dim=3)
    for scored in (
        evaluate(model, vocabulary, "international cats", window=4),
        evaluate_step(KerasStep(model), vocabulary, "international cats", window=4),
    ):
        assert (scored.tokens, scored.characters) == (1, len(" cats"))


def test_unknown_words_are_counted():
    vocabulary = ks.Vocabulary.from_text("the cats were full", level="word")
    model = ks.language_model(len(vocabulary), cell="simple_rnn", units=[4], embedding_dim=3)
    text = "the dogs were, the cats were"  # dogs, the comma and the second the, which has a space before it
    assert evaluate(model, vocabulary, text).unknown == 3
    assert evaluate(model, vocabulary, text, window=2).unknown == 3
    assert evaluate_step(KerasStep(model), vocabulary, text).unknown == 3
    assert evaluate(model, vocabulary, "the cats\nthe dogs\n", by_line=True).unknown == 1
    assert str(evaluate(model, vocabulary, text)).endswith("over 7 tokens, 42.9% of them <unk>")


def test_nats_bits_and_perplexity():
    result = Evaluation(nats=8 * math.log(2), tokens=4, characters=16)
    assert result.nats_per_token == pytest.approx(2 * math.log(2))
    assert result.bits_per_character == pytest.approx(0.5)
    assert result.perplexity == pytest.approx(4)
    assert "0.5000 bits per character, perplexity 4.000 over 4 tokens" in str(result)


@pytest.mark.parametrize(("text", "by_line"), [("", False), ("", True), ("\n\n", True)])
def test_an_empty_text_is_rejected(model, vocabulary, text, by_line):
    with pytest.raises(ValueError, match="the text to evaluate must not be empty"):
        evaluate(model, vocabulary, text, by_line=by_line)
    with pytest.raises(ValueError, match="the text to evaluate must not be empty"):
        evaluate_step(KerasStep(model), vocabulary, text, by_line=by_line)


@pytest.mark.parametrize("window", [1, 7, 64, 149, 150, 400])
def test_each_window_is_read_from_the_zero_state(model, vocabulary, window):
    """Each token is predicted from the tokens of its own window only, and from the one before the window."""
    ids = vocabulary.encode(SHORT)
    nats, read = 0.0, compiled(model)
    for start in range(0, len(ids) - 1, window):
        piece = ids[start : start + window + 1]
        logits = np.asarray(read(piece[None, :-1].astype(np.int32))[0], "float64")
        for row, token in zip(logits, piece[1:], strict=True):
            nats -= row[token] - math.log(sum(math.exp(value) for value in row))
    result = evaluate(model, vocabulary, SHORT, window=window)
    assert result.nats == pytest.approx(nats, rel=CLOSE)
    assert result.tokens == result.characters == len(SHORT) - 1
    assert evaluate_step(KerasStep(model), vocabulary, SHORT, window=window).nats == pytest.approx(nats, rel=CLOSE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "`window` must be a positive integer"),
        ({"window": 2.5}, "`window` must be a positive integer"),
        ({"window": 4, "by_line": True}, "`window` and `by_line` cannot be combined"),
    ],
)
def test_bad_windows_are_rejected(model, vocabulary, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, vocabulary, SHORT, **options)
