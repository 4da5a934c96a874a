"""Files of Keras 2: of its own writing where `tf_keras` is installed, and in the layout that it documents."""

import importlib.util
import json
import os
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from numpy_gru import BATCH, FEATURES, TIME, UNITS, notes_gru, numbers

import keras_seq as ks

layers = keras.layers
ModelError = ks.errors.ModelError


def write(path, parts, weights, version="2.4.0", backend="tensorflow", graph=None):
    """Writes what `model.save(path)` of Keras 2 writes: a Sequential model of `parts`, or a graph.

    Args:
        path: of the file.
        parts: the configuration of each layer by its name: its class and its arguments.
        weights: the weights of each layer by its name.
        version: of Keras.
        backend: of Keras.
        graph: the class and the configuration of a model in place of a Sequential one.
    """
    listed = [{"class_name": kind, "config": {"name": name, **config}} for name, (kind, config) in parts.items()]
    class_name, config = graph or ("Sequential", {"name": "sequential", "layers": listed})
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = version.encode(), backend.encode()
        file.attrs["model_config"] = json.dumps({"class_name": class_name, "config": config}).encode()
        write_weights(file.create_group("model_weights"), weights)


def write_weights(group, weights):
    group.attrs["layer_names"] = np.array([name.encode() for name in weights], "S")
    for layer, arrays in weights.items():
        names = [f"{layer}/weight_{index}:0".encode() for index in range(len(arrays))]
        group.create_group(layer).attrs["weight_names"] = np.array(names, "S")
        for name, array in zip(names, arrays, strict=True):
            group[layer][name.decode()] = array


def gru_weights(reset_after):
    biases = (2, 3 * UNITS) if reset_after else (3 * UNITS,)
    shapes = (FEATURES, 3 * UNITS), (UNITS, 3 * UNITS), biases
    return [numbers(*shape, seed=index) / 2 for index, shape in enumerate(shapes)]


def gru(**arguments):
    return "GRU", {"units": UNITS, "return_sequences": True, **arguments}


FRAMES = {"batch_input_shape": [None, None, FEATURES], "dtype": "float32"}


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_file_of_tensorflow_2(reset_after, tmp_path):
    weights = gru_weights(reset_after)
    parts = {
        "frames": ("InputLayer", FRAMES),
        "memory": gru(time_major=False, reset_after=reset_after, implementation=2),
    }
    write(tmp_path / "old.h5", parts, {"memory": weights})
    with pytest.raises(ValueError, match="time_major"):  # If Keras reads these files one day, the docs must change.
        keras.models.load_model(tmp_path / "old.h5")
    model = ks.load_keras2(tmp_path / "old.h5")
    assert type(model.layers[0]) is layers.GRU
    sequences = numbers(BATCH, TIME, FEATURES)
    *_, expected = notes_gru(sequences, np.zeros((BATCH, UNITS)), weights, reset_after)
    np.testing.assert_allclose(model(sequences), expected, atol=2e-6)
    np.testing.assert_allclose(ks.replace_layers(model)(sequences), expected, atol=2e-6)


@pytest.mark.slow
def test_the_first_keras_2_without_an_input_layer_and_reset_after_and_with_its_hard_sigmoid(tmp_path):
    weights = [2 * weight for weight in gru_weights(reset_after=False)]
    memory = gru(**FRAMES, recurrent_activation="hard_sigmoid", implementation=0)
    write(tmp_path / "old.h5", {"memory": memory}, {"memory": weights}, version="2.0.8")
    model = ks.load_keras2(tmp_path / "old.h5")
    sequences = numbers(BATCH, TIME, FEATURES)
    expected = hard_gru(sequences, *map(np.float64, weights))
    np.testing.assert_allclose(model(sequences), expected, atol=2e-6)
    replaced = ks.replace_layers(model)
    np.testing.assert_allclose(replaced(sequences), expected, atol=2e-6)
    replaced.save(tmp_path / "new.keras")
    # A new process finds our layer and the activation because it imports the package, and for no other reason.
    program = (
        "import keras, keras_seq; layer = keras.models.load_model('new.keras').layers[0]; "
        "print(type(layer).__module__.split('.')[0], layer.recurrent_activation.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["keras_seq", "keras2_hard_sigmoid"]


def hard_gru(sequences, kernel, recurrent, bias):
    """The GRU of Keras 2.0: `reset_after=False`, and gates `clip(0.2 x + 0.5, 0, 1)`."""
    memory, steps = np.zeros((len(sequences), UNITS)), []
    for x in np.swapaxes(sequences, 0, 1):
        z, r, h = np.split(x @ kernel + bias, 3, axis=-1)
        of_z, of_r, of_h = np.split(recurrent, 3, axis=-1)
        keep = np.clip(0.2 * (z + memory @ of_z) + 0.5, 0, 1)
        reset = np.clip(0.2 * (r + memory @ of_r) + 0.5, 0, 1)
        memory = keep * memory + (1 - keep) * np.tanh(h + (reset * memory) @ of_h)
        steps.append(memory)
    return np.stack(steps, axis=1)


def test_weights_alone_load_into_a_model_of_keras_3(tmp_path):
    weights = gru_weights(reset_after=True)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        write_weights(file, {"memory": weights})
    with pytest.raises(ModelError, match="has no model, only weights"):
        ks.load_keras2(tmp_path / "weights.h5")
    model = keras.Sequential([keras.Input((None, FEATURES)), ks.GRU(UNITS)])
    model.load_weights(tmp_path / "weights.h5")
    for mine, written in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(mine, written)


def test_what_is_refused_and_why(tmp_path):
    old, frames = tmp_path / "old.h5", {"frames": ("InputLayer", FRAMES)}
    given = {"memory": gru_weights(reset_after=True)}

    def refused(reason, path=old):
        with pytest.raises(ModelError, match=reason):
            ks.load_keras2(path)

    refused("is not a file; check the path")
    refused("is not a file; check the path", tmp_path)
    write(old, {**frames, "memory": gru(time_major=True)}, given)
    refused(r"layer 'memory' \(GRU\) has `time_major=True`, which Keras 3 does not have. Build the model in Keras 3")
    write(old, {**frames, "memory": ("CuDNNGRU", {"units": UNITS})}, given)
    refused("Unknown layer: 'CuDNNGRU'")
    write(old, {**frames, "memory": gru()}, given, version="3.3.0")
    refused("Its version is 3.3.0: load it with `keras.models.load_model`")
    write(old, {**frames, "memory": gru()}, given, backend="theano")
    refused("wrote it with theano")
    write(old, {**frames, "memory": gru(reset_after=False)}, given)
    refused("Shape mismatch")
    twice = {"class_name": "TFOpLambda", "name": "twice", "config": {"name": "twice", "function": "math.multiply"}}
    twice["inbound_nodes"] = [["frames", 0, 0, {"y": 2.0, "name": None}]]
    read = {"class_name": "InputLayer", "name": "frames", "config": {"name": "frames", **FRAMES}, "inbound_nodes": []}
    ends = {"input_layers": [["frames", 0, 0]], "output_layers": [["twice", 0, 0]]}
    write(old, {}, {}, graph=("Functional", {"name": "model", "layers": [read, twice], **ends}))
    refused(r"layer 'twice' \(TFOpLambda\) is an operation of TensorFlow, not a layer")
    old.write_bytes(old.read_bytes()[:3000])
    refused("cannot be read: .* Copy it again")
    keras.Sequential([keras.Input((None, FEATURES)), ks.GRU(UNITS)]).save(tmp_path / "new.keras")
    refused("is not an HDF5 file of Keras 2", tmp_path / "new.keras")


class Twice(layers.Layer):
    def call(self, x):
        return 2 * x


def test_layers_of_the_user(tmp_path):
    write(tmp_path / "old.h5", {"frames": ("InputLayer", FRAMES), "own": ("Twice", {})}, {})
    with pytest.raises(ModelError, match="Unknown layer: 'Twice'"):
        ks.load_keras2(tmp_path / "old.h5")
    with keras.saving.custom_object_scope({"Twice": Twice}):
        model = ks.load_keras2(tmp_path / "old.h5")
    np.testing.assert_array_equal(model(np.ones((1, 1, FEATURES))), np.full((1, 1, FEATURES), 2))


WRITER = """
import json, sys, numpy as np
try:
    import tf_keras as keras
except ImportError:  # Keras 2 itself, or TensorFlow 2 with it
    try:
        import keras
        assert keras.__version__.startswith("2.")
        from keras.layers import Embedding
    except Exception:
        from tensorflow import keras
layers, Model, Sequential = keras.layers, keras.models.Model, keras.models.Sequential
V, T, B, seq, made = 11, 7, 4, dict(return_sequences=True), {}

def tokens():
    inputs = layers.Input((None,), dtype="int32")
    return inputs, layers.Embedding(V, 5)(inputs)

def text(*parts, **options):
    return Sequential([layers.Embedding(V, 5, **options)] + list(parts) + [layers.Dense(V)])

def inner():
    return Sequential([layers.InputLayer((None, 5)), layers.GRU(5, **seq)])

def nested_twice():
    inputs, x = tokens()
    part = inner()
    return Model(inputs, layers.Dense(V)(part(layers.Dense(5)(part(x)))))

def nested_last():
    inputs, x = tokens()
    part, frames = inner(), layers.Input((None, 5))
    model = Model(frames, layers.GRU(5, **seq)(frames))
    return Model(inputs, [model(layers.Dense(5)(part(x))), part(x)])

def frozen():
    inputs, x = tokens()
    part = Sequential([layers.InputLayer((None, 5)), layers.GRU(6, trainable=False, **seq), layers.BatchNormalization(),
                       layers.GRU(5, **seq)])
    return Model(inputs, part(x))

def shared():
    inputs, x = tokens()
    layer = layers.GRU(5, **seq)
    return Model(inputs, layers.Concatenate()([layer(layer(x)), layers.GRU(5, **seq)(x)]))

def states(layer, count):
    inputs, x = tokens()
    given = layer(return_state=True, **seq)(x)
    return Model(inputs, layer(**seq)(given[0] if count == 1 else x, initial_state=given[1:]))

def encoder_decoder():
    source, x = tokens()
    target, y = tokens()
    given = layers.LSTM(6, return_state=True)(x)[1:]
    return Model([source, target], layers.LSTM(6, **seq)(y, initial_state=given))

def make(name, function):
    try:
        made[name] = function()
    except (AttributeError, TypeError, ValueError) as error:
        print("this Keras has no", name, error)

make("after", lambda: text(layers.GRU(6, reset_after=True, **seq)))
make("before", lambda: text(layers.GRU(6, reset_after=False, **seq)))
make("defaults", lambda: text(layers.GRU(6, **seq), layers.LSTM(6, **seq), layers.SimpleRNN(6, **seq)))
make("masked", lambda: text(layers.GRU(6, **seq), layers.GRU(6, **seq), mask_zero=True))
make("masked_lstm", lambda: text(layers.LSTM(6, **seq), layers.Bidirectional(layers.LSTM(6, **seq)), mask_zero=True))
make("input_length", lambda: text(layers.GRU(6, **seq), layers.TimeDistributed(layers.Dense(3)), input_length=T))
make("stateful", lambda: text(layers.GRU(6, stateful=True, **seq), batch_input_shape=(B, None)))
make("hard_sigmoid", lambda: text(layers.Bidirectional(layers.GRU(6, recurrent_activation="hard_sigmoid", **seq)),
                                  layers.Activation("hard_sigmoid"), layers.Dense(3, activation="hard_sigmoid")))
make("options", lambda: text(layers.GRU(6, activation="relu", dropout=0.1, recurrent_dropout=0.2, use_bias=False,
                                        kernel_regularizer="l2", bias_constraint="non_neg", implementation=1, **seq)))
make("backward", lambda: text(layers.Bidirectional(layers.GRU(6, **seq), merge_mode="sum",
                                                   backward_layer=layers.GRU(6, go_backwards=True, **seq))))
make("cells", lambda: text(layers.RNN(layers.GRUCell(6), **seq), layers.RNN([layers.GRUCell(6), layers.LSTMCell(5)], **seq)))
make("convolution", lambda: text(layers.Conv1D(6, 3, padding="causal"), layers.GRU(6, **seq), layers.BatchNormalization()))
make("mixed", lambda: text(layers.GRU(6, dtype=keras.mixed_precision.Policy("mixed_float16"), **seq)))
make("last", lambda: text(layers.Masking(), layers.GRU(6)))
make("distributed", lambda: text(inner(), layers.TimeDistributed(Sequential([layers.Dense(4, input_shape=(5,)), layers.Dense(3)]))))
make("gru_states", lambda: states(lambda **o: layers.GRU(5, **o), 1))
make("bidirectional_states", lambda: states(lambda **o: layers.Bidirectional(layers.GRU(5, **o)), 2))
for function in (nested_twice, nested_last, frozen, shared, encoder_decoder):
    make(function.__name__, function)

def run(model, inputs):
    if keras.__name__ != "tf_keras":
        return model.predict(inputs, batch_size=B)
    outputs = model(inputs, training=False)  # A prediction would first be traced.
    return [one.numpy() for one in outputs] if isinstance(outputs, list) else outputs.numpy()

random = np.random.RandomState(0)
for name, model in made.items():
    ids = [random.randint(0, V, (B, T)) for _ in model.inputs]
    inputs = ids if len(ids) > 1 else ids[0]
    run(model, inputs)
    model.set_weights([random.uniform(0.5, 1.5, weight.shape) * random.choice([-1, 1], weight.shape if weight.ndim > 1 else ())
                       if weight.ndim > 1 else random.uniform(0.1, 1, weight.shape) for weight in model.get_weights()])
    model.compile("adam", "mse")
    model.reset_states()
    outputs = run(model, inputs)
    np.savez(name + ".npz", *ids, outputs=outputs[0] if isinstance(outputs, list) else outputs)
    model.save(name + ".h5")
    model.save_weights(name + "_weights.h5")
json.dump(sorted(made), open("names.json", "w"))
"""


# Replacing the layers takes longer than all else. These are as Keras 3 would not write them, or of several parts; the
# layers that Keras 3 writes are in test_replace_layers.py.
REPLACED = ("before", "defaults", "stateful", "hard_sigmoid", "options", "mixed", "nested_twice", "frozen", "shared")


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("tf_keras") and "KERAS2_PYTHON" not in os.environ, reason="needs pip install tf_keras"
)
def test_files_that_keras_2_wrote(tmp_path):
    """The variable KERAS2_PYTHON names the Python of an environment with another Keras 2."""
    python = os.environ.get("KERAS2_PYTHON", sys.executable)
    subprocess.run([python, "-c", WRITER], cwd=tmp_path, check=True, capture_output=True, text=True)
    for name in json.loads((tmp_path / "names.json").read_text()):
        model = ks.load_keras2(tmp_path / f"{name}.h5")
        models = [model, ks.replace_layers(model)] if name in REPLACED else [model]
        with np.load(tmp_path / f"{name}.npz") as saved:
            *ids, expected = (saved[array] for array in saved.files[1:] + saved.files[:1])
        for one in models:
            outputs = keras.tree.flatten(one(ids if len(ids) > 1 else ids[0], training=False))[0].numpy()
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                outputs / scale, expected / scale, atol=5e-3 if name == "mixed" else 2e-6, err_msg=name
            )
        weights = models[-1].get_weights()
        models[-1].set_weights([0 * weight for weight in weights])
        models[-1].load_weights(tmp_path / f"{name}_weights.h5")
        for one, other in zip(models[-1].get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
