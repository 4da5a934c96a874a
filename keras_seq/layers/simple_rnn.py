"""The plain recurrent layer over a sequence: `SimpleRNN`."""

import keras

from keras_seq.layers.fast_cells import FastSimpleRNN
from keras_seq.layers.fast_layer import FastLayer


@keras.saving.register_keras_serializable(package="keras_seq")
class SimpleRNN(FastLayer, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with faster training on a CPU, and the same constructor, weights, attributes and behavior.

    Training is about twice as fast with 32 or 64 rows in a batch, and more than six times with one (docs/benchmarks/layers.md).
    The docstring of `keras_seq.GRU` says when the fast path runs.

    Args:
        *positional: the arguments of `keras.layers.SimpleRNN`, in its order.
        **named: the arguments of `keras.layers.SimpleRNN`, by name.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: a list with the initial memory, `(batch, units)`; zeros if absent.
        mask: `(batch, time)`, False at steps to skip.
        training: whether dropout is on.

    Raises:
        ValueError: as `keras.layers.SimpleRNN` does.
        NotImplementedError: a `ForwardAccumulator` in a graph takes a derivative of the loop; use `unroll=True` for it.

    Example:
        >>> import numpy as np
        >>> layer = SimpleRNN(4, return_sequences=True)
        >>> layer(np.ones((2, 5, 3), "float32")).shape
        TensorShape([2, 5, 4])
    """

    _cell_class = keras.layers.SimpleRNNCell
    _fast_cell = FastSimpleRNN
