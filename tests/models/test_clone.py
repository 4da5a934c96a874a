"""Float32 copies of models in half and mixed precision."""

import keras
import numpy as np
import pytest

from keras_seq.keras_internals import all_layers
from keras_seq.models.clone import dtypes_other_than_float32, float32_copy

layers = keras.layers


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


def test_a_layer_that_cannot_be_copied_is_named():
    tokens = keras.Input((None,), dtype="int32")
    values = layers.Embedding(9, 8, dtype="mixed_float16")(tokens)
    model = keras.Model(tokens, layers.Lambda(lambda x: x * 2, name="twice", dtype="mixed_float16")(values))
    with pytest.raises(ValueError, match=r"layer 'twice' \(Lambda\) cannot be copied"):
        float32_copy(model)
