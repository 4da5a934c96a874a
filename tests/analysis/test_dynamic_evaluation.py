"""Dynamic evaluation against backpropagation written out in NumPy, and against tapes over calls of the whole model."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from random_weights import randomized

import keras_seq as ks
from keras_seq.analysis.dynamic_evaluation import training_parts
from keras_seq.data.encoded_text import EncodedText
from keras_seq.data.token_files import RECORD, token_type, verified
from keras_seq.models.stateful import stateful_copy

TEXT = "".join(np.random.default_rng(0).choice(list("abcd e.\n"), 60)) + "abc\n" * 10
CLOSE = 3e-6  # of sums of a hundred float32 losses, whose weights were changed some ten times


@pytest.fixture(scope="module")
def vocabulary():
    return ks.Vocabulary.from_text(TEXT)


def simple_model(size, units=5):
    tokens = keras.Input((None,), dtype="int32")
    x = layers.SimpleRNN(units, return_sequences=True)(layers.Embedding(size, 4)(tokens))
    return randomized(keras.Model(tokens, layers.Dense(size)(x)))


@pytest.fixture(scope="module")
def model(vocabulary):
    return simple_model(len(vocabulary))


class InNumPy:
    """The network of `simple_model` and both rules in float64, with its derivatives written out."""

    def __init__(self, model, settings):
        self.trained = [weight.astype(np.float64) for weight in model.get_weights()]
        self.weights = [weight.copy() for weight in self.trained]
        self.settings, self.squares, self.segments = settings, [np.zeros(weight.shape) for weight in self.weights], 0
        self.is_complete = False  # whether the statistics of the gradients stay as they are

    def gradients(self, inputs, targets, h):
        """Returns the gradients of the nats, the nats and the last state."""
        embeddings, kernel, recurrent, bias, out, out_bias = self.weights
        states, errors, nats = [h], [], 0.0
        for token, target in zip(inputs, targets, strict=True):
            states.append(np.tanh(embeddings[token] @ kernel + states[-1] @ recurrent + bias))
            logits = states[-1] @ out + out_bias
            shares = np.exp(logits - logits.max())
            shares /= shares.sum()
            nats -= math.log(shares[target])
            errors.append(shares - (np.arange(len(shares)) == target))
        gradients, back = [np.zeros_like(weight) for weight in self.weights], np.zeros_like(h)
        for step in reversed(range(len(inputs))):
            before, after, error = states[step], states[step + 1], errors[step]
            gradients[4] += np.outer(after, error)
            gradients[5] += error
            inside = (out @ error + back) * (1 - after**2)
            gradients[0][inputs[step]] += kernel @ inside
            gradients[1] += np.outer(embeddings[inputs[step]], inside)
            gradients[2] += np.outer(before, inside)
            gradients[3] += inside
            back = recurrent @ inside
        return gradients, nats, states[-1]

    def read(self, ids, learns=True):
        """Returns the nats of a row; see `update`."""
        h, total, length = np.zeros(len(self.weights[3])), 0.0, self.settings.segment
        for start in range(0, len(ids) - 1, length):
            part = ids[start : start + length + 1]
            gradients, nats, h = self.gradients(part[:-1], part[1:], h)
            total += nats
            self.update([gradient / length for gradient in gradients], learns)
        return total

    def update(self, gradients, learns):
        rate, decay = self.settings.learning_rate, self.settings.decay
        if not self.is_complete:
            self.segments += 1
            self.squares = [square + gradient**2 for square, gradient in zip(self.squares, gradients, strict=True)]
        roots = [np.sqrt(square / self.segments) for square in self.squares]
        every = np.concatenate([root.ravel() for root in roots])
        epsilon, mean = 0.3 * math.sqrt((every**2).mean()), every.mean()
        if not learns:
            return
        for weight, trained, gradient, root in zip(self.weights, self.trained, gradients, roots, strict=True):
            if self.settings.rule == "sgd":
                weight += -rate * gradient + decay * (trained - weight)
            else:
                weight += -rate * gradient / (root + epsilon) + np.minimum(1, decay * root / mean) * (trained - weight)


RULES = {
    "rms": ks.DynamicEvaluation("rms", learning_rate=0.02, decay=0.03, segment=7),
    "rms with decays cut off at 1": ks.DynamicEvaluation("rms", learning_rate=0.02, decay=0.9, segment=7),
    "sgd": ks.DynamicEvaluation("sgd", learning_rate=0.3, decay=0.02, segment=7),
}


def rows_of(text, vocabulary, by_line=False):
    if not by_line:
        return [[vocabulary.start_id, *vocabulary.encode(text)]]
    return [[vocabulary.start_id, *vocabulary.encode(line), vocabulary.eos_id] for line in text.split("\n") if line]


@pytest.mark.parametrize("by_line", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_both_rules_are_those_in_numpy(model, vocabulary, name, by_line):
    expected = InNumPy(model, RULES[name])
    nats = sum(expected.read(row) for row in rows_of(TEXT, vocabulary, by_line))
    result = ks.evaluate(model, vocabulary, TEXT, by_line, dynamic=RULES[name])
    assert result.nats == pytest.approx(nats, rel=CLOSE)
    static = ks.evaluate(model, vocabulary, TEXT, by_line)
    assert (result.tokens, result.characters) == (static.tokens, static.characters)
    assert abs(static.nats - result.nats) > 0.1


TRAINING = "abcd\nabc e\n" * 3


@pytest.mark.parametrize("by_line", [False, True])
def test_the_statistics_of_a_training_text(model, vocabulary, by_line):
    expected = InNumPy(model, RULES["rms"])
    for row in rows_of(TRAINING, vocabulary, by_line):
        expected.read(row, learns=False)
    expected.is_complete = True
    nats = sum(expected.read(row) for row in rows_of(TEXT, vocabulary, by_line))
    result = ks.evaluate(model, vocabulary, TEXT, by_line, dynamic=RULES["rms"], training_text=TRAINING)
    assert result.nats == pytest.approx(nats, rel=CLOSE)


@pytest.mark.parametrize("by_line", [False, True])
def test_only_the_beginning_of_a_training_text_is_read(vocabulary, by_line, tmp_path):
    text = TRAINING * 2000
    ids = vocabulary.encode_lines(text) if by_line else vocabulary.encode(text)
    with tf.io.TFRecordWriter(str(tmp_path / "text.tfrecord")) as records:
        for start in range(0, len(ids), RECORD):
            records.write(ids[start : start + RECORD].astype(token_type(vocabulary)).tobytes())
    encoded = EncodedText([verified(tmp_path / "text.tfrecord", vocabulary)], vocabulary, by_line)
    for given in (text, encoded):
        parts = training_parts(given, vocabulary, by_line)
        np.testing.assert_array_equal(np.concatenate(parts), ids[:10_000])
        assert [part[-1] == vocabulary.eos_id for part in parts[:2]] == ([True, True] if by_line else [False])
    with pytest.raises(ks.errors.CorpusError, match="by_line"):
        training_parts(encoded, vocabulary, not by_line)


MODELS = {
    "gru, lstm and dropout": lambda size: ks.language_model(size, "lstm", [6, 5], embedding_dim=4, dropout=0.5),
    "tied gru": lambda size: ks.language_model(size, "gru", [6], embedding_dim=6, tie_embeddings=True),
    "stock gru": lambda size: keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(size, 4),
            layers.GRU(6, return_sequences=True),
            layers.Dense(size, "softmax"),
        ]
    ),
}


def by_tape(model, vocabulary, text, settings):
    """Returns the nats of a text with SGD. The stateful model carries its states, and no tape reaches back to a segment before."""
    model = stateful_copy(model, batch_size=1)
    (ids,) = rows_of(text, vocabulary)
    trained, nats = [tf.identity(weight) for weight in model.trainable_variables], 0.0
    for start in range(0, len(ids) - 1, settings.segment):
        part = np.array([ids[start : start + settings.segment + 1]])
        with tf.GradientTape() as tape:
            outputs = model(part[:, :-1], training=False)
            logits = tf.math.log(outputs) if np.allclose(tf.reduce_sum(outputs, -1), 1) else outputs
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(part[:, 1:], logits))
        nats += float(loss)
        gradients = tape.gradient(loss, model.trainable_variables)
        for weight, first, gradient in zip(model.trainable_variables, trained, gradients, strict=True):
            step = settings.learning_rate / settings.segment * tf.convert_to_tensor(gradient)
            weight.assign_add(settings.decay * (first - weight.value) - step)
    return nats


FIRST, *OTHERS = MODELS


@pytest.mark.parametrize("name", [FIRST, *(pytest.param(one, marks=pytest.mark.slow) for one in OTHERS)])
def test_layers_of_each_kind_learn_as_with_a_tape_over_the_model(vocabulary, name):
    model = randomized(MODELS[name](len(vocabulary)))
    result = ks.evaluate(model, vocabulary, TEXT, dynamic=RULES["sgd"])
    assert result.nats == pytest.approx(by_tape(model, vocabulary, TEXT, RULES["sgd"]), rel=CLOSE)


def with_a_convolution(size):
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Conv1D(5, 3, padding="causal")(layers.Embedding(size, 4)(tokens))
    return keras.Model(tokens, layers.Dense(size)(layers.LSTM(5, return_sequences=True)(x)))


def of_a_fixed_length(size):
    tokens = keras.Input((8,), dtype="int32")
    x = ks.GRU(5, return_sequences=True)(layers.Embedding(size, 4)(tokens))
    return keras.Model(tokens, layers.Dense(size)(x))


@pytest.mark.parametrize("build", [with_a_convolution, of_a_fixed_length])
def test_models_that_are_read_step_by_step_learn_from_lines(vocabulary, build):
    """Each line is one segment, so that a tape over a call of the model gives the whole gradient."""
    text = "abc\nbcda\nb e.abc\na\nabc\n" * 2
    settings = ks.DynamicEvaluation("sgd", learning_rate=0.3, decay=0.02, segment=9)
    model = randomized(build(len(vocabulary)))
    result = ks.evaluate(model, vocabulary, text, by_line=True, dynamic=settings)
    trained, nats = [tf.identity(weight) for weight in model.trainable_variables], 0.0
    for row in rows_of(text, vocabulary, by_line=True):
        inputs = np.pad(row[:-1], (0, max(0, 8 - len(row[:-1]))))[None]
        with tf.GradientTape() as tape:
            logits = model(inputs)[0, : len(row) - 1]
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(row[1:], logits))
        nats += float(loss)
        gradients = tape.gradient(loss, model.trainable_variables)
        for weight, first, gradient in zip(model.trainable_variables, trained, gradients, strict=True):
            weight.assign_add(0.02 * (first - weight.value) - 0.3 / 9 * tf.convert_to_tensor(gradient))
    assert result.nats == pytest.approx(nats, rel=CLOSE)


@pytest.mark.parametrize("by_line", [False, True])
@pytest.mark.parametrize("rule", ["rms", "sgd"])
def test_without_a_learning_rate_the_figure_is_the_static_one(model, vocabulary, rule, by_line):
    settings = ks.DynamicEvaluation(rule, learning_rate=0)
    static = ks.evaluate(model, vocabulary, TEXT, by_line)
    result = ks.evaluate(model, vocabulary, TEXT, by_line, dynamic=settings)
    assert result.nats == pytest.approx(static.nats, rel=CLOSE)
    assert (result.tokens, result.characters, result.unknown) == (static.tokens, static.characters, static.unknown)


def test_the_model_is_unchanged(model, vocabulary):
    before, trainable = model.get_weights(), [weight.trainable for weight in model.weights]
    first = ks.evaluate(model, vocabulary, TEXT, dynamic=RULES["sgd"])
    assert ks.evaluate(model, vocabulary, TEXT, dynamic=RULES["sgd"]) == first
    for mine, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert [weight.trainable for weight in model.weights] == trainable


def test_a_repeated_rare_pattern_is_learned(model, vocabulary):
    """With only `dynamic=True`."""
    text = "d.ae\n" * 80
    static = ks.evaluate(model, vocabulary, text)
    assert ks.evaluate(model, vocabulary, text, dynamic=True).nats < static.nats - 5
    sgd = ks.DynamicEvaluation("sgd")
    assert ks.evaluate(model, vocabulary, text, dynamic=sgd).nats < static.nats - 5


def test_the_defaults_of_words():
    text = "the cats were full, the cat was full.\n" * 8
    vocabulary = ks.Vocabulary.from_text(text, level="word")
    model = simple_model(len(vocabulary))
    expected = InNumPy(model, ks.DynamicEvaluation("sgd", 0.05, 4e-3, 5))
    other = text + "the dogs were full"
    result = ks.evaluate(model, vocabulary, other, dynamic=True)
    assert result.nats == pytest.approx(sum(map(expected.read, rows_of(other, vocabulary))), rel=CLOSE)
    assert (result.unknown, result.characters) == (1, len(other))
    assert result.nats < ks.evaluate(model, vocabulary, other).nats
    assert ks.DynamicEvaluation("rms").for_level("word") == ks.DynamicEvaluation("rms", 2e-4, 4e-3, 5)
    with pytest.raises(ks.errors.ConfigError, match=r'needs `dynamic` with the rule "rms". Received: the rule \'sgd\''):
        ks.evaluate(model, vocabulary, other, dynamic=True, training_text=text)


@pytest.mark.parametrize(("rule", "rate", "nats"), [("rms", 1e4, r"\d+(\.\d+)?(e\+\d+)?"), ("sgd", 1e38, "(nan|inf)")])
def test_a_divergence_is_refused(model, vocabulary, rule, rate, nats):
    message = rf"diverged, to {nats} nats per token, because `learning_rate`=1?0*(e\+38)? is too large for this model"
    with pytest.raises(ks.errors.ModelError, match=message):
        ks.evaluate(model, vocabulary, TEXT, dynamic=ks.DynamicEvaluation(rule, rate))


def test_frozen_weights_do_not_learn(vocabulary):
    model = simple_model(len(vocabulary))
    model.layers[1].trainable = False
    frozen = InNumPy(model, RULES["sgd"])
    frozen.trained[0] = frozen.weights[0].copy()
    update = frozen.update
    frozen.update = lambda gradients, learns: update([np.zeros_like(gradients[0]), *gradients[1:]], learns)
    result = ks.evaluate(model, vocabulary, TEXT, dynamic=RULES["sgd"])
    assert result.nats == pytest.approx(sum(map(frozen.read, rows_of(TEXT, vocabulary))), rel=CLOSE)
    model.trainable = False
    with pytest.raises(ks.errors.ModelError, match="must have trainable weights"):
        ks.evaluate(model, vocabulary, TEXT, dynamic=True)


def test_a_model_in_half_precision_learns_in_float32(vocabulary):
    with_policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        half = simple_model(len(vocabulary))
    finally:
        keras.config.set_dtype_policy(with_policy)
    full = simple_model(len(vocabulary))
    results = [ks.evaluate(one, vocabulary, TEXT, dynamic=RULES["rms"]) for one in (half, full)]
    assert results[0].nats == pytest.approx(results[1].nats, rel=CLOSE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "adam"}, "`rule` must be one of rms, sgd"),
        ({"learning_rate": -1}, "`learning_rate` must be a finite number of at least 0"),
        ({"learning_rate": math.nan}, "`learning_rate` must be a finite number"),
        ({"learning_rate": math.inf}, "`learning_rate` must be a finite number"),
        ({"learning_rate": 10**400}, "`learning_rate` must be a finite number"),
        ({"learning_rate": True}, "`learning_rate` must be a finite number"),
        ({"decay": 1}, "`decay` must be a number of at least 0 and below 1"),
        ({"decay": "0.1"}, "`decay` must be a number"),
        ({"segment": 0}, "`segment` must be a positive integer"),
        ({"segment": 2.0}, "`segment` must be a positive integer"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ks.errors.ArgumentError, match=message):
        ks.DynamicEvaluation(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dynamic": 1}, "`dynamic` must be True, False or a DynamicEvaluation"),
        ({"dynamic": None}, "`dynamic` must be True, False or a DynamicEvaluation"),
        ({"dynamic": True, "window": 4}, "`dynamic` and `window` cannot be combined"),
        ({"training_text": "abc"}, '`training_text` needs `dynamic` with the rule "rms". Received: False'),
        ({"dynamic": True, "training_text": ""}, "`training_text` must not be empty"),
        ({"dynamic": True, "training_text": "\n", "by_line": True}, "`training_text` must not be empty"),
        ({"dynamic": True, "training_text": "xyz"}, "`training_text` must hold only characters"),
        ({"dynamic": True, "training_text": 5}, "`training_text` must be a str or an EncodedText"),
        ({"dynamic": True, "text": ""}, "the text to evaluate must not be empty"),
        ({"dynamic": True, "text": "\n", "by_line": True}, "the text to evaluate must not be empty"),
        ({"dynamic": True, "text": "xyz"}, "`text` must hold only characters"),
    ],
)
def test_bad_arguments_are_refused(model, vocabulary, options, message):
    with pytest.raises(ks.errors.KerasSeqError, match=message):
        ks.evaluate(model, vocabulary, **{"text": TEXT, **options})
