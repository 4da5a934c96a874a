"""Float32 copies of models in half and mixed precision."""

import functools

import keras
import numpy as np
import pytest

from keras_seq.keras_internals import all_layers
from keras_seq.models.clone import dtypes_other_than_float32, float32_copy

layers = keras.layers
pytestmark = pytest.mark.usefixtures("all_steps_are_compared")


def mixed(policy):
    tokens = keras.Input((None,), dtype="int32")
    values = layers.Embedding(9, 8, dtype=policy)(tokens)
    cells = [layers.GRUCell(6, dtype=policy), layers.LSTMCell(5, dtype=policy)]
    values = layers.RNN(cells, return_sequences=True, dtype=policy)(values)
    values = layers.TimeDistributed(layers.Dense(7, dtype=policy), dtype=policy)(values)
    inner = keras.Sequential([keras.Input((None, 7), dtype=values.dtype), layers.Dense(4, dtype=policy)])
    return keras.Model(tokens, layers.Dense(9, dtype="float32")(inner(values)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_everything_in_the_copy_computes_in_float32(policy):
    model = mixed(policy)
    copy = float32_copy(model)
    assert {layer.compute_dtype for layer in all_layers(copy) if not isinstance(layer, keras.Model)} == {"float32"}
    tokens = np.arange(9)[None] % 9
    difference = np.abs(np.asarray(model(tokens)) - np.asarray(copy(tokens))).max()
    assert 0 < difference < 0.05


def test_a_model_in_float32_stays_the_same():
    model = mixed("float32")
    tokens = np.arange(9)[None]
    np.testing.assert_array_equal(model(tokens), float32_copy(model)(tokens))


def test_whole_numbers_stay_whole():
    tokens = keras.Input((None,), dtype="int32")
    model = keras.Model(tokens, layers.Embedding(9, 4, dtype="mixed_float16")(layers.Identity(dtype="int32")(tokens)))
    assert float32_copy(model).layers[1].compute_dtype == "int32"


class OwnCell(layers.Layer):
    """A cell that is not registered with Keras, and whose configuration holds its dtype as a string."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, inputs, states, training=False):
        state = keras.ops.tanh(inputs @ self.kernel + states[0])
        return state, [state]

    def get_config(self):
        return {"units": self.units, "name": self.name, "dtype": self.dtype_policy.name}


def test_a_cell_of_the_users_own():
    tokens = keras.Input((None,), dtype="int32")
    values = layers.Embedding(9, 8)(tokens)
    values = layers.RNN(OwnCell(4, dtype="mixed_float16"), return_sequences=True)(values)
    model = keras.Model(tokens, values)
    assert dtypes_other_than_float32(model) == ["float16"]
    copy = float32_copy(model)
    assert dtypes_other_than_float32(copy) == []
    assert copy.layers[-1].cell.compute_dtype == "float32"


def own_activation(x):
    return keras.ops.tanh(x) * 0.9


def test_functions_and_initializers_of_the_user_are_shared():
    """None of them could be part of a configuration that Keras reads."""
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(
        9, 8, dtype="mixed_float16", embeddings_initializer=lambda shape, dtype: keras.ops.ones(shape)
    )(tokens)
    x = x + layers.Lambda(lambda x: x * 2, dtype="mixed_float16")(x)
    x = layers.TimeDistributed(layers.Dense(4, own_activation, dtype="mixed_float16"))(x)
    x = layers.SimpleRNN(4, activation=functools.partial(keras.activations.leaky_relu, negative_slope=0.3))(x)
    model = keras.Model(tokens, x)
    copy = float32_copy(model)
    assert dtypes_other_than_float32(copy) == []
    assert copy.layers[-1].activation is model.layers[-1].activation
    assert model.layers[-2].layer.activation is own_activation  # the model itself is as it was
    ids = np.array([[1, 2, 3]])
    np.testing.assert_allclose(copy(ids), model(ids), atol=2e-3)


def test_values_that_are_no_weights_are_copied():
    frames = keras.Input((None, 3))
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3, 2, size=(50, 3)))
    model = keras.Model(frames, layers.Dense(2, dtype="mixed_float16")(normalization(frames)))
    values = np.random.default_rng(1).normal(size=(2, 5, 3))
    np.testing.assert_allclose(float32_copy(model)(values), model(values), atol=1e-2)


class Offset(layers.Layer):
    """A layer with a value that is neither a weight nor an argument."""

    def __init__(self, **options):
        super().__init__(**options)
        self.offset = 0.0

    def build(self, shape):
        self.scale = self.add_weight(initializer="ones", name="scale")

    def call(self, inputs):
        return inputs * self.scale + self.offset


def test_a_layer_whose_copy_gives_something_else_is_named():
    tokens = keras.Input((None,), dtype="int32")
    offset = Offset(name="shift")
    model = keras.Model(tokens, offset(layers.Embedding(9, 8, dtype="mixed_float16")(tokens)))
    offset.offset = 0.5
    with pytest.raises(
        ValueError, match=r"layer 'shift' \(Offset\) cannot be copied: it holds values that are neither"
    ):
        float32_copy(model)


def test_a_layer_that_cannot_be_copied_is_named():
    class WithArgument(layers.Layer):
        def __init__(self, size, **options):
            super().__init__(**options)
            self.size = np.array(size)  # Keras needs `get_config` for it

        def call(self, inputs):
            return inputs * 2

    tokens = keras.Input((None,), dtype="int32")
    model = keras.Model(
        tokens, WithArgument(size=np.ones(2), name="own", dtype="mixed_float16")(layers.Embedding(9, 8)(tokens))
    )
    with pytest.raises(ValueError, match=r"layer 'own' \(WithArgument\) cannot be copied"):
        float32_copy(model)
