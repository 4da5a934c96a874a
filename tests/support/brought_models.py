"""Models as people bring them from tutorials and papers: those that run step by step, and those that cannot."""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

import keras_seq as ks

TEXT = "to be, or not to be, that is the question:\nwhether 'tis nobler in the mind to suffer\n" * 2
VOCABULARY = ks.Vocabulary.from_text(TEXT)
SIZE, UNITS = len(VOCABULARY), 8


def gru(**options):
    return ks.GRU(UNITS, return_sequences=True, **options)


def tokens_and_embeddings(mask_zero=False, dtype="int32"):
    tokens = keras.Input((None,), dtype=dtype)
    return tokens, layers.Embedding(SIZE, UNITS, mask_zero=mask_zero)(tokens)


def through(*parts, **options):
    """A model of embeddings and `parts`."""
    tokens, x = tokens_and_embeddings(**options)
    for part in parts:
        x = part(x)
    return keras.Model(tokens, x)


def own_activation(x):
    return ops.tanh(x) * 0.9


class Delayed(layers.Layer):
    """Gives its input of `steps` steps before."""

    def __init__(self, steps, **options):
        super().__init__(**options)
        self.steps = steps

    def call(self, x):
        padded = ops.pad(x, [[0, 0], [self.steps, 0], [0, 0]])
        return padded[:, : ops.shape(x)[1]]


class InTrainingByDefault(layers.Layer):
    def call(self, x, training=True):
        return 3 * x if training else x


class LearnedState(layers.Layer):
    """A trained initial state, one for all rows."""

    def build(self, shape):
        self.state = self.add_weight(
            shape=(1, UNITS), initializer=keras.initializers.RandomNormal(seed=1), name="state"
        )

    def call(self, x):
        return ops.broadcast_to(self.state, (ops.shape(x)[0], UNITS))


class CellWithOwnState(layers.GRUCell):
    def get_initial_state(self, batch_size=None):
        return [ops.ones((batch_size, UNITS)) * 0.7]


class Subclassed(keras.Model):
    """The model of TensorFlow's own tutorial on text generation."""

    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(SIZE, UNITS)
        self.gru = layers.GRU(UNITS, return_sequences=True, return_state=True)
        self.dense = layers.Dense(SIZE)

    def call(self, inputs, states=None, return_state=False, training=False):
        x = self.embedding(inputs, training=training)
        x, states = self.gru(x, initial_state=states, training=training)
        x = self.dense(x, training=training)
        return (x, states) if return_state else x


def with_operations():
    tokens, e = tokens_and_embeddings()
    x = e + gru()(e)
    x = ops.concatenate([x[:, :, :4], ops.tanh(x[..., 4:]), ops.one_hot(tokens, SIZE)], axis=-1)
    return keras.Model(tokens, layers.Dense(SIZE)(x * 0.5))


def with_functions():
    return through(
        layers.Lambda(lambda x: x * 2),
        gru(),
        layers.Dense(UNITS, activation=own_activation),
        layers.Dense(UNITS, activation=functools.partial(keras.activations.leaky_relu, negative_slope=0.3)),
        layers.Dense(SIZE, kernel_initializer=lambda shape, dtype: ops.ones(shape, dtype) * 0.1),
        layers.Dense(SIZE),
    )


def with_explicit_mask():
    tokens, e = tokens_and_embeddings()
    return keras.Model(tokens, layers.Dense(SIZE)(gru()(e, mask=ops.not_equal(tokens, 5))))


def state_by_position():
    tokens, e = tokens_and_embeddings()
    return keras.Model(tokens, layers.Dense(SIZE)(gru()(e, LearnedState()(e))))


def state_by_keyword():
    tokens, e = tokens_and_embeddings()
    constant = ops.ones_like(e[:, 0]) * 0.4
    return keras.Model(
        tokens, layers.Dense(SIZE)(layers.LSTM(UNITS, return_sequences=True)(e, initial_state=[constant, constant]))
    )


def block_called_twice():
    block = keras.Sequential([keras.Input((None, UNITS)), gru()])
    return through(block, block, layers.Dense(SIZE))


def float_tokens():
    return through(gru(), layers.Dense(SIZE), dtype="float32")


def last_state_merged():
    tokens, e = tokens_and_embeddings()
    sequence, last = gru(return_state=True)(e)
    return keras.Model(tokens, layers.Dense(SIZE)(layers.Add(name="merged")([sequence, last])))


def state_of_the_text():
    tokens, e = tokens_and_embeddings()
    last = ks.GRU(UNITS, name="encoder")(e)
    return keras.Model(tokens, layers.Dense(SIZE)(gru(name="decoder")(e, initial_state=last)))


class LengthState(layers.Layer):
    def call(self, x):
        return ops.ones((ops.shape(x)[0], UNITS)) * ops.cast(ops.shape(x)[1], "float32") / 64

    def compute_output_shape(self, shape):
        return shape[0], UNITS


def state_of_the_length():
    tokens, e = tokens_and_embeddings()
    return keras.Model(tokens, layers.Dense(SIZE)(gru(name="decoder")(e, initial_state=LengthState()(e))))


def attention():
    tokens, e = tokens_and_embeddings()
    x = gru()(e)
    return keras.Model(tokens, layers.Dense(SIZE)(layers.MultiHeadAttention(1, 4)(x, x)))


def flattened():
    tokens = keras.Input((10,), dtype="int32")
    x = layers.Flatten(name="flat")(gru()(layers.Embedding(SIZE, UNITS)(tokens)))
    return keras.Model(tokens, layers.Dense(SIZE)(x))


def with_nan(model):
    model.layers[-1].set_weights([weight * np.nan for weight in model.layers[-1].get_weights()])
    return model


def with_policy(policy, build):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return build()
    finally:
        keras.config.set_dtype_policy(before)


class CellWithoutItsOutput(layers.Layer):
    """A cell whose output is not among its states, which begin at 0.5."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = units
        self.output_size = 2 * units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1] + self.units, self.units), name="kernel")
        self.output_kernel = self.add_weight(shape=(self.units, self.output_size), name="output_kernel")

    def call(self, inputs, states, training=False):
        memory = ops.tanh(ops.concatenate([inputs, states[0]], axis=-1) @ self.kernel)
        return memory @ self.output_kernel, [memory]

    def get_initial_state(self, batch_size=None):
        return [ops.ones((batch_size, self.units)) * 0.5]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def over_frames(*parts, shape=(None, 3)):
    """A model of `parts` over frames of 3 numbers."""
    frames = keras.Input(shape)
    x = frames
    for part in parts:
        x = part(x)
    return keras.Model(frames, x)


def normalized():
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3, 2, size=(50, 3)))
    return over_frames(normalization, gru(), layers.Dense(2))


RIGHT = {
    "n-grams": lambda: ks.language_model(SIZE, units=[UNITS], embedding_dim=UNITS, ngrams=4, ngram_rows=61),
    "n-grams and tied embeddings": lambda: ks.language_model(
        SIZE, units=[UNITS], embedding_dim=6, tie_embeddings=True, ngrams=3, ngram_rows=61
    ),
    "a softmax as the last activation": lambda: through(gru(), layers.Dense(SIZE, activation="softmax")),
    "a Softmax layer": lambda: through(gru(), layers.Dense(SIZE), layers.Softmax()),
    "a softmax inside TimeDistributed": lambda: through(
        gru(), layers.TimeDistributed(layers.Dense(SIZE, activation="softmax"))
    ),
    "ops.softmax": lambda: through(gru(), layers.Dense(SIZE), ops.softmax),
    "tf.nn.softmax in a Lambda": lambda: through(gru(), layers.Dense(SIZE), layers.Lambda(tf.nn.softmax)),
    "a softmax in a nested Sequential": lambda: through(
        gru(), keras.Sequential([keras.Input((None, UNITS)), layers.Dense(SIZE, activation="softmax")])
    ),
    "a Dropout after the softmax": lambda: through(
        gru(), layers.Dense(SIZE, activation="softmax"), layers.Dropout(0.5)
    ),
    "a cast after the softmax": lambda: through(
        gru(), layers.Dense(SIZE, activation="softmax"), lambda x: ops.cast(x, "float64")
    ),
    "operations in the graph": with_operations,
    "functions of the user": with_functions,
    "mask_zero": lambda: through(gru(), layers.LSTM(UNITS, return_sequences=True), layers.Dense(SIZE), mask_zero=True),
    "an explicit mask": with_explicit_mask,
    "a learned initial state by position": state_by_position,
    "a constant initial state by keyword": state_by_keyword,
    "a cell with its own initial state": lambda: through(
        layers.RNN(CellWithOwnState(UNITS), return_sequences=True), layers.Dense(SIZE)
    ),
    "a block called twice": block_called_twice,
    "float tokens": float_tokens,
    # As in `predict`, neither is in training.
    "dropout that is on by its argument": lambda: through(
        gru(), lambda x: layers.Dropout(0.5)(x, training=True), layers.Dense(SIZE)
    ),
    "a layer that is in training by default": lambda: through(gru(), InTrainingByDefault(), layers.Dense(SIZE)),
    "forbidden tokens": lambda: through(
        gru(), layers.Dense(SIZE), lambda x: x + ops.convert_to_tensor([[[-1e9, -1e9] + [0.0] * (SIZE - 2)]])
    ),
    "mixed bfloat16": lambda: with_policy(
        "mixed_bfloat16", lambda: through(gru(), layers.Lambda(lambda x: x + 1), layers.Dense(SIZE, dtype="float32"))
    ),
}

OVER_FRAMES = {
    "Masking": lambda: over_frames(layers.Masking(), gru(), layers.Dense(2)),
    "Masking of another value, and an LSTM": lambda: over_frames(
        layers.Masking(-1.0), layers.LSTM(UNITS, return_sequences=True), layers.Dropout(0.2), gru(), layers.Dense(2)
    ),
    "Masking with zero_output_for_mask": lambda: over_frames(
        layers.Masking(), layers.LSTM(UNITS, return_sequences=True, zero_output_for_mask=True), layers.Dense(2)
    ),
    "Masking and stacked cells": lambda: over_frames(
        layers.Masking(), layers.RNN([layers.LSTMCell(4), layers.GRUCell(5)], return_sequences=True), layers.Dense(2)
    ),
    "Masking and a cell whose output is no state": lambda: over_frames(
        layers.Masking(), layers.RNN(CellWithoutItsOutput(4), return_sequences=True), layers.Dense(2)
    ),
    "Masking and BatchNormalization": lambda: over_frames(
        layers.Masking(), layers.BatchNormalization(), gru(), layers.BatchNormalization(), gru(), layers.Dense(2)
    ),
    "an adapted Normalization": normalized,
    "an adapted Normalization in bfloat16": lambda: with_policy("mixed_bfloat16", normalized),
    "a float series": lambda: over_frames(layers.Reshape((-1, 1)), gru(), layers.Dense(1), shape=(None,)),
    # Token ids, which are not negative, would all be the same to it.
    "a series below zero": lambda: over_frames(
        lambda x: ops.clip(x, -1, 0), layers.Reshape((-1, 1)), gru(), layers.Dense(1), shape=(None,)
    ),
    "float16 frames": lambda: (
        lambda frames: keras.Model(frames, layers.Dense(2)(gru()(layers.Rescaling(1.0)(frames))))
    )(keras.Input((None, 3), dtype="float16")),
    "a one-hot encoding": lambda: (
        lambda tokens: keras.Model(
            tokens, layers.Dense(4)(gru()(layers.CategoryEncoding(4, output_mode="one_hot")(tokens)))
        )
    )(keras.Input((None,), dtype="int32")),
    "a fixed length and a Lambda": lambda: over_frames(
        layers.Lambda(lambda x: x * 2), gru(), layers.Dense(2), shape=(40, 3)
    ),
    "a softmax over classes": lambda: over_frames(gru(), layers.Dense(4, activation="softmax")),
}

REFUSED = {
    "a delay of 100 steps": (
        lambda: through(gru(), Delayed(100, name="delay"), layers.Dense(SIZE)),
        "'delay' .Delayed. cannot be stepped: it looks across time",
    ),
    "Bidirectional": (
        lambda: through(layers.Bidirectional(gru(), name="both"), layers.Dense(SIZE)),
        "'both' .Bidirectional. cannot be stepped",
    ),
    "attention": (attention, "MultiHeadAttention. cannot be stepped"),
    "a convolution that looks ahead": (
        lambda: through(gru(), layers.Conv1D(UNITS, 3, padding="same", name="conv"), layers.Dense(SIZE)),
        "'conv' .Conv1D. cannot be stepped",
    ),
    "a strided convolution": (
        lambda: through(gru(), layers.Conv1D(UNITS, 2, strides=2, name="conv"), layers.Dense(SIZE)),
        "must give logits after each token",
    ),
    "Flatten": (
        flattened,
        "'flat' .Flatten. cannot be stepped",
    ),
    "pooling": (
        lambda: through(gru(), layers.MaxPooling1D(2, name="pool"), layers.Dense(SIZE)),
        "must give logits after each token",
    ),
    "a mean over time": (
        lambda: through(gru(), lambda x: x + ops.mean(x, axis=1, keepdims=True), layers.Dense(SIZE)),
        "Mean. cannot be stepped",
    ),
    "the last state merged into the sequence": (
        last_state_merged,
        "'merged' .Add. cannot be stepped: it uses the last state of layer 'gru.*', which depends on the whole sequence",
    ),
    "an initial state that depends on the text": (
        state_of_the_text,
        "'decoder' .GRU. cannot be stepped: the initial_state",
    ),
    "two softmaxes": (
        lambda: through(gru(), layers.Dense(SIZE, activation="softmax", name="first"), layers.Softmax()),
        "must end in one softmax, or none.*'first' .Dense.",
    ),
    "strings": (
        lambda: keras.Model(
            texts := keras.Input((1,), dtype="string"), layers.TextVectorization(vocabulary=["to"])(texts)
        ),
        "must take token ids or frames. Received: .*, which takes strings",
    ),
    "a subclassed model": (
        Subclassed,
        r"a Functional model with the same weights, for .*: keras.Model\(i, m.dense\(m.gru\(m.embedding\(i\)\)\[0\]\)\)",
    ),
    "frames where ids are expected": (
        lambda: keras.Model(frames := keras.Input((None, 3)), layers.Dense(SIZE)(gru()(frames))),
        r"must take token ids alone at each step. Received: .*, which takes frame \(batch, time, 3\)",
    ),
    "an initial state that depends on the length": (
        state_of_the_length,
        "'decoder' .GRU. cannot be stepped: the initial_state that it is given depends on the sequence",
    ),
    "a sigmoid": (
        lambda: through(gru(), layers.Dense(SIZE, activation="sigmoid")),
        "must give logits, or probabilities that sum to one. Received: .* as a sigmoid gives them",
    ),
    "fewer embeddings than tokens": (
        lambda: keras.Model(
            tokens := keras.Input((None,), dtype="int32"),
            layers.Dense(SIZE)(gru()(layers.Embedding(SIZE - 3, UNITS)(tokens))),
        ),
        f"with embeddings of {SIZE - 3} tokens and logits of {SIZE}",
    ),
    "fewer tokens of n-grams than tokens": (
        lambda: keras.Model(
            tokens := keras.Input((None,), dtype="int32"),
            layers.Add()(
                [
                    layers.Dense(SIZE)(gru()(layers.Embedding(SIZE, UNITS)(tokens))),
                    ks.NgramEmbedding(SIZE - 3, SIZE, rows=61)(tokens),
                ]
            ),
        ),
        f"with embeddings of {SIZE - 3} tokens and logits of {SIZE}",
    ),
    "noise": (
        lambda: through(
            gru(), layers.Lambda(lambda x: x + keras.random.normal(ops.shape(x)), name="noise"), layers.Dense(SIZE)
        ),
        "'noise' .Lambda. cannot be stepped: its outputs are random",
    ),
    "NaN": (lambda: with_nan(through(gru(), layers.Dense(SIZE))), "are NaN|gives NaN"),
}


def randomized(model):
    """The model with other weights, none of them zero; adapted values stay as they are."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if not isinstance(layer, layers.Normalization):
            weights = [weight + random.normal(scale=0.3, size=weight.shape) for weight in layer.get_weights()]
            is_variance = [weight.name == "moving_variance" for weight in layer.weights]
            layer.set_weights(
                [np.abs(one) if no_sign else one for one, no_sign in zip(weights, is_variance, strict=True)]
            )
    return model


def frames_for(model):
    """Frames `(2, steps, ...)`, some of which are masked, also the first."""
    steps = model.inputs[0].shape[1] or 50
    if model.inputs[0].dtype == "int32":
        return np.random.default_rng(5).integers(0, 4, size=(2, steps)).astype(np.int32)
    frames = np.random.default_rng(5).normal(size=(2, steps, *model.inputs[0].shape[2:])).astype(np.float32)
    frames[:, 3:6], frames[:, 9], frames[0, 0], frames[1, 0] = 0, -1, 0, -1
    return frames


def whole_log_probabilities(model, text):
    """The log-probability of each token of a text, from the outputs of the model itself over the whole text."""
    ids = VOCABULARY.encode(text)
    inputs = np.array([[VOCABULARY.start_id, *ids[:-1]]])
    outputs = np.asarray(ops.cast(model(inputs, training=False), "float64"))[0]
    is_softmax = (outputs >= 0).all() and np.allclose(outputs.sum(-1), 1, atol=1e-3)
    logits = np.log(outputs) if is_softmax else outputs
    log_probabilities = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return np.take_along_axis(log_probabilities, ids[:, None], -1)[:, 0]
