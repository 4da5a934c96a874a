"""`step_model` against its sequence model, token by token, and the models that it refuses."""

import keras
import numpy as np
import pytest
from keras import layers
from random_weights import randomized

import keras_seq as ks
from keras_seq.errors import ModelError, SteppingError

SIZE, TOKENS = 13, 20
pytestmark = pytest.mark.usefixtures("all_steps_are_compared")


class Doubled(layers.Layer):
    """A custom layer that acts on each step independently."""

    def call(self, inputs):
        return 2 * inputs


def head():
    return layers.Dense(SIZE, name="logits")


def sequential():
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(SIZE, 6),
            ks.GRU(7, return_sequences=True),
            layers.LayerNormalization(),
            layers.Dropout(0.5),
            layers.LSTM(5, return_sequences=True),
            head(),
        ]
    )


def functional_with_residual():
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(SIZE, 8)(tokens)
    x = layers.Dropout(0.3)(x)
    x = layers.Add()([x, ks.GRU(8, return_sequences=True)(x)])
    x = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.LSTM(8, return_sequences=True, dropout=0.2)(x)])
    x = layers.Add()([x, layers.SimpleRNN(8, return_sequences=True)(x)])
    return keras.Model(tokens, head()(x))


def through(*parts, mask_zero=False):
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(SIZE, 6, mask_zero=mask_zero)(tokens)
    for part in parts:
        x = part(x)
    return keras.Model(tokens, head()(x))


def stock_gru():
    return through(
        layers.GRU(7, return_sequences=True, reset_after=True), layers.GRU(5, return_sequences=True, reset_after=False)
    )


def stacked_cells():
    cells = [ks.GRUCell(7), layers.LSTMCell(5), layers.SimpleRNNCell(4)]
    return through(layers.RNN(cells, return_sequences=True))


def time_distributed():
    return through(layers.TimeDistributed(layers.Dense(9, "relu")), ks.GRU(7, return_sequences=True), Doubled())


def nested():
    inner_input = keras.Input((None, 6))
    inner = keras.Model(inner_input, layers.GRU(7, return_sequences=True)(inner_input), name="inner")
    block = keras.Sequential([keras.Input((None, 7)), ks.GRU(5, return_sequences=True), layers.Dense(7)], name="block")
    return through(inner, block)


def masked():
    return through(ks.GRU(7, return_sequences=True), layers.LSTM(5, return_sequences=True), mask_zero=True)


def with_concatenation_and_ops():
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(SIZE, 6)(tokens)
    y = ks.GRU(7, return_sequences=True)(x)
    y = keras.ops.tanh(layers.Concatenate()([x, y])) * 0.5
    return keras.Model(tokens, head()(y))


def with_returned_state():
    tokens = keras.Input((None,), dtype="int32")
    output, _ = ks.GRU(7, return_sequences=True, return_state=True)(layers.Embedding(SIZE, 6)(tokens))
    return keras.Model(tokens, head()(output))


def layers_named_alike():
    """Two cells have the name `gru_cell`, layers inside and outside `shared`, and two layers those of the step's inputs."""
    inner = keras.Sequential([keras.Input((None, 7)), layers.Dense(7, name="shared")])
    return through(
        layers.Dense(6, name="token"),
        ks.GRU(7, return_sequences=True, name="state_0"),
        inner,
        layers.LayerNormalization(name="shared"),
        inner,
        ks.GRU(7, return_sequences=True),
        layers.TimeDistributed(layers.Dense(5, name="shared")),
    )


def layer_used_twice():
    tokens = keras.Input((None,), dtype="int32")
    shared = ks.GRU(6, return_sequences=True)
    return keras.Model(tokens, head()(shared(shared(layers.Embedding(SIZE, 6)(tokens)))))


# The slow ones are also in tests/test_brought_models.py, in other words.
BUILDERS = [
    sequential,
    functional_with_residual,
    stacked_cells,
    masked,
    layers_named_alike,
    layer_used_twice,
    *(
        pytest.param(build, marks=pytest.mark.slow)
        for build in (stock_gru, time_distributed, nested, with_concatenation_and_ops, with_returned_state)
    ),
]


def walk(decoder, inputs):
    """Runs a decoder over `(batch, time, ...)` and returns the logits `(batch, time, vocabulary)`."""
    states = [keras.ops.zeros((len(inputs), state.shape[1]), state.dtype) for state in decoder.inputs[1:]]
    logits = []
    for step in range(inputs.shape[1]):
        now, *states = decoder([keras.ops.convert_to_tensor(inputs[:, step]), *states])
        logits.append(now.numpy())
    return np.stack(logits, axis=1)


@pytest.fixture(scope="module", params=BUILDERS)
def both(request):
    """A model and its one-step form."""
    model = request.param()
    randomized(model, scale=0.4)
    return model, ks.step_model(model)


def test_steps_give_the_logits_of_the_sequence_model(both):
    model, decoder = both
    tokens = np.random.default_rng(0).integers(0, SIZE, (2, TOKENS)).astype("int32")  # mask_zero skips token 0
    expected = model(tokens).numpy()
    np.testing.assert_allclose(walk(decoder, tokens), expected, rtol=0, atol=1e-5)
    assert np.ptp(expected, axis=1).min() > 1e-2  # the logits change over time


def test_weights_are_shared(both):
    model, decoder = both
    assert {id(weight) for weight in decoder.weights} == {id(weight) for weight in model.weights}
    tokens = np.ones((1, 3), "int32")
    before = walk(decoder, tokens)
    randomized(model, scale=0.4, seed=4)
    np.testing.assert_allclose(walk(decoder, tokens), model(tokens), rtol=0, atol=1e-5)
    assert not np.allclose(walk(decoder, tokens), before, atol=1e-3)


def test_step_model_does_not_change_the_model():
    model = functional_with_residual()
    tokens = np.random.default_rng(0).integers(1, SIZE, (2, 9))
    before, layers_before = model(tokens).numpy(), list(model.layers)
    ks.step_model(model)
    np.testing.assert_array_equal(model(tokens), before)
    assert model.layers == layers_before
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(tokens, tokens, verbose=0)


def test_inputs_and_outputs_are_named_and_shaped_as_documented():
    decoder = ks.step_model(functional_with_residual())
    assert [tensor.name for tensor in decoder.inputs] == [
        "token",
        *[f"state_{index}" for index in range(4)],
    ]  # LSTM has two
    assert [tuple(tensor.shape) for tensor in decoder.inputs] == [(None,), *[(None, 8)] * 4]
    assert decoder.inputs[0].dtype == "int32"
    assert [tuple(tensor.shape) for tensor in decoder.outputs] == [(None, SIZE), *[(None, 8)] * 4]


def test_real_valued_frames():
    frames = keras.Input((None, 4), name="frames")
    x = ks.GRU(6, return_sequences=True)(layers.Dense(5, "relu")(frames))
    model = keras.Model(frames, layers.Dense(3)(x))
    randomized(model, scale=0.4)
    values = np.random.default_rng(1).normal(size=(2, TOKENS, 4)).astype("float32")
    decoder = ks.step_model(model)
    assert decoder.inputs[0].dtype == "float32"
    np.testing.assert_allclose(walk(decoder, values), model(values), rtol=0, atol=1e-5)


def test_stateful_and_fixed_length_models_can_be_stepped():
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(2, TOKENS), dtype="int32"),
            layers.Embedding(SIZE, 6),
            ks.GRU(7, return_sequences=True, stateful=True),
            head(),
        ]
    )
    tokens = np.random.default_rng(0).integers(1, SIZE, (2, TOKENS))
    np.testing.assert_allclose(walk(ks.step_model(model), tokens), model(tokens), rtol=0, atol=1e-5)


def test_mixed_precision_keeps_float16_states_and_float32_logits():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = ks.language_model(SIZE, units=[6])
        decoder = ks.step_model(model)
        assert [tensor.dtype for tensor in decoder.inputs] == ["int32", "float16"]
        assert [tensor.dtype for tensor in decoder.outputs] == ["float32", "float16"]
        tokens = np.random.default_rng(0).integers(1, SIZE, (1, TOKENS))
        # float16 states: 2**-11 a rounding.
        np.testing.assert_allclose(walk(decoder, tokens), model(tokens), rtol=0, atol=1e-2)
    finally:
        keras.config.set_dtype_policy(before)


def test_dropout_is_off_in_a_step():
    model = sequential()
    decoder = ks.step_model(model)
    tokens = np.ones((1, 4), "int32")
    np.testing.assert_array_equal(walk(decoder, tokens), walk(decoder, tokens))


def sequences(*parts, length=None):
    """A model over frames of 5 numbers: a GRU named `memory`, then `parts`."""
    frames = keras.Input((length, 5))
    x = ks.GRU(5, return_sequences=True, name="memory")(frames)
    for part in parts:
        x = part(x)
    return keras.Model(frames, x)


def attention():
    frames = keras.Input((None, 5))
    x = ks.GRU(5, return_sequences=True)(frames)
    return keras.Model(frames, layers.MultiHeadAttention(1, 4, name="looks_around")(x, x))


def initial_state_from_a_layer():
    frames = keras.Input((None, 5))
    _, state = ks.GRU(5, return_state=True, name="encoder")(frames)
    return keras.Model(frames, ks.GRU(5, return_sequences=True, name="looks_around")(frames, initial_state=state))


NORMALIZES_TIME = {"axis": 1, "name": "looks_around"}
LOOKS_AROUND = {
    "Bidirectional": lambda: sequences(layers.Bidirectional(ks.GRU(4, return_sequences=True), name="looks_around")),
    "GlobalAveragePooling1D": lambda: sequences(layers.GlobalAveragePooling1D(name="looks_around"), head()),
    "Conv1D": lambda: sequences(layers.Conv1D(5, 3, padding="same", name="looks_around")),
    "MultiHeadAttention": attention,
    "LayerNormalization": lambda: sequences(layers.LayerNormalization(**NORMALIZES_TIME), length=5),
    "LayerNormalization of another length": lambda: sequences(layers.LayerNormalization(**NORMALIZES_TIME), length=4),
    "LayerNormalization without weights": lambda: sequences(
        layers.LayerNormalization(**NORMALIZES_TIME, center=False, scale=False), length=4
    ),
    "Softmax along the last axis but one": lambda: sequences(layers.Softmax(axis=-2, name="looks_around")),
    "UnitNormalization": lambda: sequences(layers.UnitNormalization(axis=-2, name="looks_around")),
    "a running sum": lambda: sequences(layers.Lambda(lambda x: keras.ops.cumsum(x, axis=-2), name="looks_around")),
    "time reversed": lambda: sequences(layers.Lambda(lambda x: keras.ops.flip(x, axis=-2), name="looks_around")),
    "less the mean": lambda: sequences(
        layers.Lambda(lambda x: x - keras.ops.mean(x, axis=-2, keepdims=True), name="looks_around")
    ),
    "Flatten": lambda: sequences(layers.Flatten(name="looks_around"), head(), length=4),
    "MaxPooling1D": lambda: sequences(layers.MaxPooling1D(2, padding="same", name="looks_around")),
    "Permute": lambda: sequences(layers.Permute((2, 1), name="looks_around"), length=5),
    "inside a nested model": lambda: sequences(sequences(layers.Conv1D(5, 3, padding="same", name="looks_around"))),
}


@pytest.mark.parametrize("name", LOOKS_AROUND)
def test_a_layer_that_looks_across_time_is_rejected_by_name(name):
    with pytest.raises(SteppingError, match=r"layer 'looks_around' \(\w+\) cannot be stepped: it looks across time"):
        ks.step_model(LOOKS_AROUND[name]())


@pytest.mark.parametrize(
    "layer",
    [
        layers.BatchNormalization(),
        layers.Normalization(mean=0.1, variance=2.0),
        layers.Conv1D(4, 1),
        layers.SpatialDropout1D(0.5),
        layers.EinsumDense("btd,de->bte", (None, 6)),
        layers.PReLU(shared_axes=[1]),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_that_needs_a_time_axis(layer):
    frames = keras.Input((None, 3))
    values = layer.__class__.from_config(layer.get_config())(frames)
    model = keras.Model(frames, layers.GRU(5, return_sequences=True)(values))
    numbers = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    decoder, state, outputs = ks.step_model(model), np.zeros((2, 5), np.float32), []
    for step in range(6):
        output, state = decoder.predict_on_batch([numbers[:, step], state])
        outputs.append(output)
    np.testing.assert_allclose(np.stack(outputs, axis=1), model(numbers), atol=1e-6)


def test_the_error_of_a_users_layer_is_kept_as_the_cause():
    class Faulty(layers.Layer):
        def call(self, inputs):
            if len(inputs.shape) == 2 or inputs.shape[1] == 1:  # the steps that are tried one by one
                raise RuntimeError("mine")
            return inputs

    with pytest.raises(SteppingError, match=r"layer 'own' \(Faulty\).*fails on a single step") as caught:
        ks.step_model(sequences(Faulty(name="own")))
    assert "mine" in str(caught.value.__cause__)


def test_nan_weights_do_not_count_as_looking_across_time():
    model = sequences(head())
    model.layers[-1].set_weights([np.full_like(weight, np.nan) for weight in model.layers[-1].get_weights()])
    with pytest.raises(ModelError, match="`model` gives NaN"):
        ks.step_model(model)


def test_an_error_of_keras_becomes_one_sentence():
    with keras.RematScope(mode="full"):  # Its layers cannot be called outside of the scope in every way.
        model = sequences(head())
    with pytest.raises(SteppingError, match=r"^`model` cannot be stepped: [^\n]+$"):
        ks.step_model(model)


def test_go_backwards_is_rejected():
    frames = keras.Input((None, 5))
    model = keras.Model(frames, ks.GRU(4, return_sequences=True, go_backwards=True, name="looks_around")(frames))
    with pytest.raises(SteppingError, match=r"layer 'looks_around' \(GRU\) cannot be stepped: go_backwards=True"):
        ks.step_model(model)


def test_an_initial_state_from_another_layer_is_rejected():
    with pytest.raises(
        SteppingError,
        match=r"layer 'looks_around' \(GRU\) cannot be stepped: the initial_state that it is given depends on",
    ):
        ks.step_model(initial_state_from_a_layer())


def test_a_state_that_is_not_a_vector_is_flat():
    frames = keras.Input((None, 4, 4, 1))
    model = keras.Model(frames, layers.ConvLSTM2D(2, 3, return_sequences=True, padding="same", name="images")(frames))
    assert [tuple(state.shape) for state in ks.step_model(model).inputs[1:]] == [(None, 32), (None, 32)]


def test_a_last_output_that_is_repeated_over_time_is_rejected():
    frames = keras.Input((4, 5))
    x = layers.RepeatVector(4, name="spread")(ks.GRU(5, name="summary")(frames))
    model = keras.Model(frames, ks.GRU(3, return_sequences=True)(x))
    with pytest.raises(SteppingError, match=r"layer 'spread' .* repeats the last output of layer 'summary' over time"):
        ks.step_model(model)


def test_a_model_without_a_recurrent_layer_is_rejected():
    tokens = keras.Input((None,), dtype="int32")
    model = keras.Model(tokens, head()(layers.Embedding(SIZE, 6)(tokens)), name="bag")
    with pytest.raises(SteppingError, match=r"`model` must have a recurrent layer.*Received: bag with none"):
        ks.step_model(model)


def test_a_model_that_is_not_built_is_rejected():
    with pytest.raises(SteppingError, match=r"built Sequential or Functional model. Received: Sequential"):
        ks.step_model(keras.Sequential([layers.Embedding(SIZE, 6), ks.GRU(4, return_sequences=True), head()]))


def test_a_subclassed_model_is_rejected():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(SteppingError, match=r"built Sequential or Functional model. Received: Own"):
        ks.step_model(Own())
