"""The layers that `keras-seq benchmark layer` compares: which cases each supports, and how it runs one.

A process loads only the library of its contender, so the functions import it.
"""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keras_seq.benchmarks.gru_in_jax import in_jax, jax_pass
from keras_seq.benchmarks.layer_cases import Case

PRODUCT = "matrix product"
PRODUCT_SIZE = 2048
PREDICT_BATCHES = 16
OURS, KERAS, TORCH, JAX = "keras_seq", "keras.layers", "torch.nn", "jax.lax.scan"

Pass = Callable[[], Any]


class Contender(NamedTuple):
    """A layer of a library.

    Attributes:
        library: the module that its process imports first.
        make_pass: case -> a function that runs it once.
        supports: case -> whether the library has such a layer.
    """

    library: str
    make_pass: Callable[[Case], Pass]
    supports: Callable[[Case], bool] = lambda case: True

    def is_installed(self) -> bool:
        """Returns whether the library is there."""
        return importlib.util.find_spec(self.library.partition(".")[0]) is not None


_TORCH_CLASSES = {"GRU": "GRU", "LSTM": "LSTM", "SimpleRNN": "RNN"}


def layer_name(contender: str, case: Case) -> str:
    """Returns the full name of the layer that a contender runs, such as `keras.layers.GRU`."""
    if contender == JAX:
        return JAX
    return f"{contender}.{_TORCH_CLASSES[case.layer] if contender == TORCH else case.layer}"


def calls_of_a_pass(case: Case) -> int:
    """Returns how many batches the pass of a contender runs."""
    return PREDICT_BATCHES if case.call == "predict" else 1


def _keras_seq_pass(case: Case) -> Pass:
    import keras_seq

    return _tensorflow_pass(getattr(keras_seq, case.layer), case.arguments, case)


def _keras_pass(case: Case) -> Pass:
    import keras

    arguments = {name: value for name, value in case.arguments.items() if name != "reset_gate"}
    return _tensorflow_pass(getattr(keras.layers, case.layer), arguments, case)


def _tensorflow_pass(layer_class: Any, arguments: Mapping[str, Any], case: Case) -> Pass:
    import keras

    layer = layer_class(case.size.units, **{"return_sequences": True, **arguments})
    if case.bidirectional:
        layer = keras.layers.Bidirectional(layer)
    return _keras_training(layer, case) if case.call == "training" else _keras_inference(layer, case)


def _keras_training(layer: Any, case: Case) -> Pass:
    import tensorflow as tf

    size = case.size
    layer.build((None, None, size.features))
    weights = [weight.value for weight in layer.trainable_weights]
    inputs, lengths = tf.random.normal(size[:3]), tf.constant(case.lengths())
    shape = layer.compute_output_shape(inputs.shape)
    upstream = tf.cast(tf.random.normal(shape), layer.compute_dtype)
    batch, length = (None if axis in case.unknown else getattr(size, axis) for axis in ("batch", "length"))

    @tf.function(input_signature=[tf.TensorSpec((batch, length, size.features)), tf.TensorSpec((batch,), tf.int32)])
    def training_pass(inputs: Any, lengths: Any) -> Any:
        mask = tf.sequence_mask(lengths, inputs.shape[1] or tf.shape(inputs)[1]) if case.masked else None
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, mask=mask, training=True)
        return tape.gradient(outputs, [inputs, *weights], output_gradients=upstream)

    return lambda: training_pass(inputs, lengths)


def _keras_inference(layer: Any, case: Case) -> Pass:
    import keras
    import numpy as np

    size = case.size
    model = keras.Sequential([keras.Input((size.length, size.features)), layer])
    rows = size.batch * calls_of_a_pass(case)
    inputs = np.random.default_rng(0).normal(size=(rows, size.length, size.features)).astype("float32")
    if case.call == "predict":
        return lambda: model.predict(inputs, batch_size=size.batch, verbose=0)
    batch = keras.ops.convert_to_tensor(inputs)
    return lambda: model(batch)


_TORCH_ARGUMENTS = {"return_sequences", "use_bias", "dtype"}


def _in_torch(case: Case) -> bool:
    """Returns whether `torch.nn` has the case. Its `dropout` is another one: between stacked layers."""
    return set(case.arguments) <= _TORCH_ARGUMENTS and case.call != "predict"


def _torch_pass(case: Case) -> Pass:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    size, use_bias = case.size, case.arguments.get("use_bias", True)
    layer_class = getattr(torch.nn, _TORCH_CLASSES[case.layer])
    layer = layer_class(size.features, size.units, bias=use_bias, batch_first=True, bidirectional=case.bidirectional)
    inputs, lengths = torch.randn(*size[:3], requires_grad=True), torch.tensor(case.lengths())
    returns_sequences = case.arguments.get("return_sequences", True)
    dtype = case.arguments.get("dtype", "float32").removeprefix("mixed_")

    def forward() -> Any:
        with torch.autocast("cpu", getattr(torch, dtype), enabled=dtype != "float32"):
            if not case.masked:
                outputs, _ = layer(inputs)
            else:
                packed, _ = layer(pack_padded_sequence(inputs, lengths, batch_first=True))
                outputs, _ = pad_packed_sequence(packed, batch_first=True)
        return outputs if returns_sequences else outputs[:, -1]

    with torch.no_grad():
        upstream = torch.randn_like(forward())

    def training_pass() -> Any:
        return torch.autograd.grad(forward(), [inputs, *layer.parameters()], grad_outputs=upstream)

    return training_pass if case.call == "training" else torch.no_grad()(forward)


def _matrix_product(case: Case) -> Pass:
    import tensorflow as tf

    left, right = (tf.random.normal((PRODUCT_SIZE, PRODUCT_SIZE)) for _ in range(2))
    return tf.function(lambda: tf.matmul(left, right))


CONTENDERS = {
    OURS: Contender("keras_seq.layers.fast_layer", _keras_seq_pass),
    KERAS: Contender("keras", _keras_pass),
    TORCH: Contender("torch", _torch_pass, _in_torch),
    JAX: Contender("jax", jax_pass, in_jax),
    PRODUCT: Contender("tensorflow", _matrix_product),
}


def contenders_of(case: Case) -> list[str]:
    """Returns the layers that support a case and whose library is installed."""
    return [name for name, one in CONTENDERS.items() if name != PRODUCT and one.supports(case) and one.is_installed()]
