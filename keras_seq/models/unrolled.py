"""Recurrent layers inside each time step, such as `TimeDistributed(LSTM(8))`, without their loop."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras

from keras_seq.keras_internals import all_layers

_lock = threading.RLock()  # The layers belong to the user: two threads must not restore each other's values.


def unrolled(operation: Any) -> Any:
    """Returns a `TimeDistributed` whose inner recurrent layers run without a loop, which a .tflite can hold.

    Any other operation, and one without inner recurrent layers, is returned itself.
    """
    if not isinstance(operation, keras.layers.TimeDistributed):
        return operation
    loops = [layer for layer in all_layers(operation.layer) if isinstance(layer, keras.layers.RNN) and not layer.unroll]
    return keras.layers.TimeDistributed(_Unrolled(operation.layer, loops), name=operation.name) if loops else operation


class _Unrolled(keras.layers.Layer):
    """Calls a layer with the loops of recurrent layers in it unrolled. Their number of steps must be fixed.

    Args:
        inner: the layer.
        loops: the recurrent layers.
    """

    def __init__(self, inner: keras.layers.Layer, loops: list[keras.layers.RNN]):
        super().__init__(name=inner.name, dtype=inner.dtype_policy)
        self.inner, self._loops = inner, loops
        self.supports_masking = True
        self.built = True

    def call(self, frame: Any, mask: Any = None) -> Any:
        with _without_loops(self._loops):
            return self.inner(frame)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.inner.compute_output_shape(input_shape)


@contextlib.contextmanager
def _without_loops(layers: list[keras.layers.RNN]) -> Iterator[None]:
    """Unrolls recurrent layers. In another thread that traces the model meanwhile, this changes no number."""
    with _lock:
        kept = [layer.unroll for layer in layers]
        for layer in layers:
            layer.unroll = True
        try:
            yield
        finally:
            for layer, unroll in zip(layers, kept, strict=True):
                layer.unroll = unroll
