"""Steps in integers and in float32, of models that are made for a test."""

import functools

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import keras_seq as ks
from keras_seq_export.graph.endpoints import decode_endpoint
from keras_seq_export.graph.step import float32_step
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.conversion import convert
from keras_seq_export.tflite.integer.conversion import integer_model

VOCABULARY = ks.Vocabulary.from_text("to be, or not to be")
TOKENS = len(VOCABULARY)
RNN, DENSE = keras.layers.SimpleRNN, keras.layers.Dense


def of_layers(*layers, embedding_dim=8, activation=None):
    """Returns a model of tokens with these layers between its embeddings and its logits."""
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(TOKENS, embedding_dim)(tokens)
    for layer in layers:
        values = layer(values)
    return keras.Model(tokens, DENSE(TOKENS, activation=activation)(values))


def of_residuals():
    """Returns a model whose embeddings and two layers are added."""
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(TOKENS, 16)(tokens)
    first = keras.layers.GRU(16, return_sequences=True)(values)
    second = keras.layers.LSTM(16, return_sequences=True)(first)
    return keras.Model(tokens, DENSE(TOKENS)(keras.layers.Add()([values, first, second])))


def of_bounded_sum():
    """Returns a model in which TANH reads a sum of two states, whose scale would be one that has another kernel."""
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(TOKENS, 8)(tokens)
    layers = [keras.layers.GRU(8, return_sequences=True) for _ in range(2)]
    summed = keras.layers.Add()([layer(values) for layer in layers])
    return keras.Model(tokens, DENSE(TOKENS)(keras.layers.Activation("tanh")(summed)))


def of_two_kinds_of_ngrams():
    """Returns a model with two tables of n-grams, whose hashes share operators."""
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.GRU(16, return_sequences=True)(keras.layers.Embedding(TOKENS, 8)(tokens))
    longer, pairs = ks.NgramEmbedding(TOKENS, TOKENS, 3, 31), ks.NgramEmbedding(TOKENS, TOKENS, 2, 37)
    return keras.Model(tokens, keras.layers.Add()([DENSE(TOKENS)(values), longer(tokens), pairs(tokens)]))


MODELS = {
    "GRU": lambda: ks.language_model(TOKENS, units=[16], embedding_dim=8),
    "GRU, reset before": lambda: of_layers(ks.GRU(16, return_sequences=True, reset_after=False)),
    "GRU without reset gate": lambda: of_layers(ks.GRU(16, return_sequences=True, reset_gate=False)),
    "Keras's GRU": lambda: of_layers(keras.layers.GRU(16, return_sequences=True)),
    "Keras's GRU, reset before": lambda: of_layers(keras.layers.GRU(16, return_sequences=True, reset_after=False)),
    "LSTM": lambda: ks.language_model(TOKENS, cell="lstm", units=[16], embedding_dim=8),
    "SimpleRNN": lambda: ks.language_model(TOKENS, cell="simple_rnn", units=[16], embedding_dim=8),
    "two layers": lambda: ks.language_model(TOKENS, units=[16, 12], embedding_dim=8),
    "tied": lambda: ks.language_model(TOKENS, units=[16], embedding_dim=8, tie_embeddings=True),
    "table too large to fold": lambda: of_layers(keras.layers.GRU(64, return_sequences=True)),
    "dense layers": lambda: of_layers(
        RNN(16, return_sequences=True), DENSE(12, "relu"), DENSE(10, "tanh"), DENSE(10), DENSE(10, "sigmoid")
    ),
    "residuals": of_residuals,
    "n-grams": lambda: ks.language_model(TOKENS, units=[16], embedding_dim=8, ngrams=4, ngram_rows=31),
    "two kinds of n-grams": of_two_kinds_of_ngrams,
    "pairs of tokens": lambda: ks.language_model(
        TOKENS, units=[16], embedding_dim=16, tie_embeddings=True, ngrams=2, ngram_rows=97
    ),
    "tanh of a sum of states": of_bounded_sum,
    "softmax": lambda: of_layers(RNN(16, return_sequences=True), activation="softmax"),
}


_IN_EVERY_RUN = ("GRU", "LSTM", "SimpleRNN", "tied", "dense layers", "tanh of a sum of states", "n-grams")
# The models for `pytest.mark.parametrize`; most of them are slow proofs.
NAMES = [pytest.param(name, marks=() if name in _IN_EVERY_RUN else pytest.mark.slow) for name in MODELS]


def with_random_weights(model, seed=0, scale=1.5):
    """Gives a model weights such as those of a trained one, biases too; returns it."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        inputs = weight.shape[0] if len(weight.shape) > 1 else 4
        weight.assign(generator.normal(size=weight.shape) * scale / np.sqrt(inputs))
    return model


def float32_content(model, vocabulary=VOCABULARY):
    """Returns the .tflite of a model in float32 with the signature `decode` only."""
    _, step, _ = float32_step(model, vocabulary)
    return convert({"decode": decode_endpoint(step, 1)}, "none")


@functools.lru_cache
def contents_of(name):
    """Returns the .tflite of one of `MODELS` in float32 and in integers."""
    content = float32_content(with_random_weights(MODELS[name]()))
    return content, integer_model(content)


class LiteRT:
    """`decode` in LiteRT: `step(inputs)` returns the outputs by name."""

    def __init__(self, content, kernels=OpResolverType.AUTO):
        self.interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
        self.run = self.interpreter.get_signature_runner("decode")

    def __call__(self, inputs):
        return self.run(**inputs)

    @property
    def inputs(self):
        return self.run.get_input_details()

    @property
    def outputs(self):
        return self.run.get_output_details()

    def zeros(self):
        """Returns the states at the start of a text."""
        return {name: np.zeros(one["shape"], one["dtype"]) for name, one in self.inputs.items() if name[:5] == "state"}


class Micro:
    """`decode` in TensorFlow Lite for Microcontrollers, likewise."""

    def __init__(self, content):
        tflite_micro = pytest.importorskip("tflite_micro", reason="needs pip install tflite-micro")

        self.inputs, self.outputs = flatbuffer.positions(content)
        self.runtime = tflite_micro.runtime.Interpreter.from_bytes(content)

    def __call__(self, inputs):
        for name, value in inputs.items():
            self.runtime.set_input(value, self.inputs[name])
        self.runtime.invoke()
        return {name: self.runtime.get_output(position) for name, position in self.outputs.items()}


def types_of(content):
    """Returns the types of all tensors of a .tflite."""
    names = {value: name for name, value in vars(schema.TensorType).items()}
    return {names[tensor.type] for graph in flatbuffer.parse(content).subgraphs for tensor in graph.tensors}
