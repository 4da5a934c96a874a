"""Files of stock layers, written by another process, and the same models with `ks.GRU` in them."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq.keras_internals import all_layers

layers = keras.layers
TEXT = "to be, or not to be, that is the question\n" * 3
VOCABULARY = ks.Vocabulary.from_text(TEXT)
SIZE = len(VOCABULARY)

# What somebody has who does not know this package: no line of it imports keras_seq.
WRITER = f"""
import sys, keras, numpy as np
from keras import layers

def text(*parts, batch=None):
    return keras.Sequential([keras.Input((None,), batch_size=batch, dtype="int32"), layers.Embedding({SIZE}, 5),
                             *parts, layers.Dense({SIZE})])

def nested():
    frames = keras.Input((None, 5))
    inner = keras.Sequential([keras.Input((None, 5)), layers.GRU(6, return_sequences=True)])
    outputs, state = layers.GRU(6, return_sequences=True, return_state=True, name="first")(inner(frames))
    return keras.Model(frames, layers.GRU(6, return_sequences=True)(outputs, initial_state=state))

def encoder_decoder():
    source, frames = keras.Input((None, 5)), keras.Input((None, 5))
    return keras.Model([source, frames], layers.GRU(6, return_sequences=True)(frames, initial_state=layers.GRU(6)(source)))

seq = dict(return_sequences=True)
models = dict(
    after=text(layers.GRU(6, name="memory", **seq)),
    before=text(layers.GRU(6, reset_after=False, **seq)),
    others=text(layers.LSTM(6, **seq), layers.GRU(6, **seq), layers.SimpleRNN(6, **seq),
                layers.RNN(layers.GRUCell(6), **seq)),
    options=text(layers.GRU(6, activation="relu", recurrent_activation="hard_sigmoid", dropout=0.1, use_bias=False,
                            recurrent_dropout=0.2, kernel_regularizer="l2", trainable=False, **seq)),
    stateful=text(layers.GRU(6, stateful=True, **seq), batch=2),
    bidirectional=text(layers.Bidirectional(layers.GRU(6, activation="relu", **seq))),
    half=text(layers.GRU(6, dtype="mixed_float16", **seq)),
    distributed=keras.Sequential([keras.Input((None, 4, 5)), layers.TimeDistributed(layers.GRU(6))]),
    distributed_model=keras.Sequential([keras.Input((None, 4, 5)), layers.TimeDistributed(
        keras.Sequential([keras.Input((4, 5)), layers.GRU(6, **seq), layers.Bidirectional(layers.GRU(6))]))]),
    nested=nested(),
    encoder_decoder=encoder_decoder(),
)
random = np.random.default_rng(0)
for name, model in models.items():
    model.set_weights([random.normal(size=weight.shape) / 2 for weight in model.get_weights()])
    inputs = [random.integers(0, {SIZE}, (2, 4)) if one.dtype == "int32" else
              random.normal(size=[size or 4 for size in (2, *one.shape[1:])]) for one in model.inputs]
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    np.savez(name + ".npz", *inputs, outputs=outputs)
    for format in ("keras", "h5"):
        model.save(f"{{name}}.{{format}}")
assert "keras_seq" not in sys.modules
"""
NAMES = [line.split("=")[0].strip() for line in WRITER.splitlines() if line.startswith("    ") and "=text(" in line]
NAMES += ["distributed", "distributed_model", "nested", "encoder_decoder"]
QUICK = {("before", "keras"), ("bidirectional", "keras"), ("nested", "h5"), ("encoder_decoder", "keras")}
# The replacement does not see what kind of file a model is from: only configurations that .h5 may write otherwise.
ALSO_H5 = ("options", "bidirectional", "distributed_model", "nested")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    subprocess.run([sys.executable, "-c", WRITER], cwd=folder, capture_output=True, text=True, check=True)
    return folder


def kinds(model):
    return {f"{type(layer).__module__.partition('.')[0]}.{type(layer).__name__}" for layer in all_layers(model)}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        pytest.param(name, suffix, marks=() if (name, suffix) in QUICK else pytest.mark.slow)
        for name in NAMES
        for suffix in ("keras", "h5")
        if suffix == "keras" or name in ALSO_H5
    ],
)
def test_files_of_stock_layers_give_the_same_with_our_layer(files, name, suffix):
    model = keras.models.load_model(files / f"{name}.{suffix}", compile=False)
    replaced = ks.replace_layers(model)
    assert "keras.GRU" in kinds(model)  # the model itself is as it was
    ours = {f"keras.{kind}": f"keras_seq.{kind}" for kind in ("GRU", "LSTM", "SimpleRNN")}
    assert not kinds(replaced) & set(ours)
    cells = {"keras.GRUCell", "keras_seq.GRUCell"}  # That of `RNN` stays.
    assert kinds(replaced) - cells == {ours.get(kind, kind) for kind in kinds(model)} - cells
    assert ("keras.GRUCell" in kinds(replaced)) == (name == "others")
    assert [layer.name for layer in replaced.layers] == [layer.name for layer in model.layers]
    assert [weight.trainable for weight in replaced.weights] == [weight.trainable for weight in model.weights]
    for one, other in zip(replaced.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with np.load(files / f"{name}.npz") as saved:
        *inputs, expected = (saved[array] for array in saved.files[1:] + saved.files[:1])
    tolerance = {"atol": 2e-3} if name == "half" else {"atol": 1e-6}
    np.testing.assert_allclose(replaced(inputs if len(inputs) > 1 else inputs[0]), expected, **tolerance)


def test_the_arguments_stay(files):
    model = keras.models.load_model(files / "options.keras", compile=False)
    mine, stock = (one.layers[1].get_config() for one in (ks.replace_layers(model), model))
    assert mine == stock


@pytest.mark.slow
def test_a_file_is_sampled_and_evaluated_and_trains_on(files):
    model = keras.models.load_model(files / "after.h5", compile=False)
    replaced = ks.replace_layers(model)
    assert ks.sample(replaced, VOCABULARY, "to ", max_tokens=9, seed=3) == ks.sample(
        model, VOCABULARY, "to ", max_tokens=9, seed=3
    )
    mine, stock = (ks.evaluate(one, VOCABULARY, TEXT) for one in (replaced, model))
    assert mine.nats_per_token == pytest.approx(stock.nats_per_token, rel=1e-6)
    replaced.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    replaced.fit(ks.streams(TEXT, VOCABULARY, batch_size=2, length=10), epochs=1, verbose=0)
    assert ks.evaluate(replaced, VOCABULARY, TEXT).nats_per_token < mine.nats_per_token


def test_carried_states_come_along(files):
    model = keras.models.load_model(files / "stateful.keras", compile=False)
    tokens = np.array([[1, 2], [3, 4]])
    model(tokens)
    replaced = ks.replace_layers(model)
    np.testing.assert_allclose(replaced(tokens), model(tokens), atol=1e-6)


def test_subclasses_of_the_user_stay():
    class Own(layers.GRU):
        pass

    replaced = ks.replace_layers(
        keras.Sequential([keras.Input((None, 3)), Own(4), layers.Reshape((4, 1)), layers.GRU(2)])
    )
    assert [type(layer) for layer in replaced.layers] == [Own, layers.Reshape, ks.GRU]


class Holder(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.memory = layers.GRU(4, name="inner")

    def build(self, shape):
        self.memory.build(shape)

    def call(self, x):
        return self.memory(x)

    def compute_output_shape(self, shape):
        return (shape[0], 4)


@pytest.mark.parametrize("outside", [lambda layer: layer, layers.TimeDistributed], ids=["alone", "distributed"])
def test_a_layer_that_creates_a_stock_layer_is_named(outside):
    shape = (None, 3) if outside is not layers.TimeDistributed else (None, 2, 3)
    with pytest.raises(
        ks.errors.ModelError, match=r"'own' \(Holder\) cannot be replaced: it creates layer 'inner' \(GRU\)"
    ):
        ks.replace_layers(keras.Sequential([keras.Input(shape), outside(Holder(name="own"))]))


def test_what_is_no_model_with_a_graph_is_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ks.errors.ArgumentError, match="`model` must be a Keras model"):
        ks.replace_layers(layers.GRU(3))
    for model in (Subclassed(), keras.Sequential([layers.GRU(3)])):
        with pytest.raises(ks.errors.ModelError, match="must be a built Sequential or Functional model"):
            ks.replace_layers(model)


def test_custom_objects_do_not_replace_the_layers(files):
    """The docs advise against them. If Keras changes this, the docs must change."""
    ours = {"GRU": ks.GRU}
    for name in ("after", "bidirectional"):
        assert "keras_seq.GRU" not in kinds(keras.models.load_model(files / f"{name}.keras", ours, compile=False))
    # In .h5 files only layers outside wrappers are replaced.
    assert "keras.GRU" not in kinds(keras.models.load_model(files / "after.h5", ours, compile=False))
    assert "keras.GRU" in kinds(keras.models.load_model(files / "bidirectional.h5", ours, compile=False))
