"""The gated recurrent unit over a sequence: `GRU`.

`keras_seq.layers.gru_step` has the equations and explains the names in the code.
"""

import inspect
from typing import Any

import keras
from keras import ops

from keras_seq import keras_internals, require
from keras_seq.errors import ArgumentError, ConfigError
from keras_seq.layers.fast_cells import AFTER, BEFORE, NONE, FastCell, FastGRU
from keras_seq.layers.fast_layer import FastLayer
from keras_seq.layers.gru_cell import Gates, GRUCell, own_arguments

_LAYER_SIGNATURE = inspect.signature(keras.layers.GRU.__init__)
_CELL_ARGUMENTS = {*inspect.signature(keras.layers.GRUCell.__init__).parameters, "implementation"} - {"self", "kwargs"}


@keras.saving.register_keras_serializable(package="keras_seq")
class GRU(FastLayer, keras.layers.GRU):
    """A GRU over a sequence: `keras.layers.GRU` with faster training on a CPU, and with access to its gates.

    It is a drop-in replacement for `keras.layers.GRU`, with the same constructor, weights, attributes and behavior.
    Weights can be exchanged between the two.

    **The fast path.** On a machine without a GPU, `fit`, `evaluate`, `predict` and every training step in a graph use loops
    compiled by XLA, with a hand-written backward pass (`fast_path`). Training is about twice as fast as with
    `keras.layers.GRU` with 32 or 64 rows in a batch, and seven times with one row (docs/benchmarks/layers.md). Half precision
    is computed in float32 inside, which is faster on a CPU. The loop of Keras runs instead, and a line at level INFO of the
    logger `keras_seq` says why:

    * outside of a graph with fewer than 100 steps, which are over before they would be compiled;
    * in a graph without a gradient tape outside of `fit`, `evaluate` and `predict`, so that no exported graph contains
      compiled code;
    * under a persistent gradient tape or several tapes, which may take a second derivative;
    * with `unroll=True`, a cell of your own, a dropout of 1, or activations that are not in `fast_activations`, which has the
      element-wise ones of Keras;
    * where XLA compiles your whole function, and the length is unknown;
    * on a GPU, where cuDNN runs under the same conditions as for `keras.layers.GRU`.

    XLA compiles the loops for each number of units and rows, and for each length that is known when the graph is traced.
    This takes about half a second; layers of one size share it. XLA never compiles a model with this layer as a whole:
    Keras turns off `jit_compile=True` with a warning, even with `use_cudnn=False`.

    Args:
        units: length of the memory.
        *positional: the other arguments of `keras.layers.GRU`, in its order.
        reset_gate: False removes Γr; see `GRUCell`.
        weight_dropout: fraction of the recurrent kernel's weights to drop in training; see `GRUCell`.
        **named: the other arguments of `keras.layers.GRU`, by name.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: a list with the initial memory, `(batch, units)`; zeros if absent.
        mask: `(batch, time)`, False at steps to skip.
        training: whether dropout is on.

    Raises:
        ArgumentError: an argument is out of range.
        ConfigError: `use_cudnn=True` is not possible with the other arguments.
        NotImplementedError: a `ForwardAccumulator` in a graph takes a derivative of the loop; use `unroll=True` for it.

    Example:
        >>> import numpy as np
        >>> layer = GRU(4, return_sequences=True)
        >>> layer(np.ones((2, 5, 3), "float32")).shape
        TensorShape([2, 5, 4])
    """

    def __init__(
        self, units: int, *positional: Any, reset_gate: bool = True, weight_dropout: float = 0.0, **named: Any
    ):
        arguments = dict(_LAYER_SIGNATURE.bind(self, units, *positional, **named).arguments)
        arguments.update(arguments.pop("kwargs", {}))
        del arguments["self"]
        use_cudnn = arguments.pop("use_cudnn", "auto")
        require.that(use_cudnn in ("auto", True, False), "use_cudnn", "'auto', True or False", use_cudnn)
        if use_cudnn is True and not reset_gate:
            raise ConfigError("`use_cudnn=True` needs the reset gate: cuDNN has no GRU without it")
        if use_cudnn is True and weight_dropout:
            raise ConfigError("`use_cudnn=True` cannot drop weights: remove `weight_dropout`")
        cell_arguments = {name: arguments.pop(name) for name in _CELL_ARGUMENTS & set(arguments)}
        shared = {name: arguments[name] for name in ("dtype", "trainable") if name in arguments}
        cell = GRUCell(
            reset_gate=reset_gate, weight_dropout=weight_dropout, name="gru_cell", **cell_arguments, **shared
        )
        # `keras.layers.GRU.__init__` would create a cell of its own.
        keras.layers.RNN.__init__(self, cell, **arguments)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.use_cudnn = use_cudnn
        self._tell_keras()

    _cell_class = GRUCell

    @property
    def reset_gate(self) -> bool:
        """Whether the layer has a relevance gate Γr."""
        return self.cell.reset_gate

    @property
    def weight_dropout(self) -> float:
        """Fraction of the recurrent kernel's weights that is dropped in training."""
        return self.cell.weight_dropout

    def _keras_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool) -> tuple[Any, Any, Any]:
        """See `FastLayer`."""
        if not self.reset_gate or (training and self.weight_dropout):
            # What Keras prepares for cuDNN needs the full cell and its own kernel.
            return keras_internals.rnn_loop(self, sequences, initial_state, mask, training)
        return super()._keras_loop(sequences, initial_state, mask, training)

    def _fast_cell(self, activation: str, recurrent_activation: str) -> FastCell:
        """See `FastLayer`."""
        reset = (AFTER if self.reset_after else BEFORE) if self.reset_gate else NONE
        return FastGRU(activation, recurrent_activation, reset)

    def _recurrent_kernel(self, training: bool) -> Any:
        """See `FastLayer`."""
        return self.cell.recurrent_kernel_in(training)

    def _biases(self) -> tuple[Any, Any]:
        """See `FastLayer`."""
        return self.cell.input_and_memory_bias()

    def gates(self, sequences: Any, initial_state: Any = None) -> Gates:
        """Returns Γu, Γr and c~ over time, each `(batch, time, units)`, in the order in which the layer reads.

        Args:
            sequences: `(batch, time, features)`; no step is masked.
            initial_state: the initial memory, `(batch, units)`, or a list with it; zeros if absent.

        Raises:
            ArgumentError: an argument has another shape, or `sequences` is a symbolic input of a model.
        """
        if isinstance(sequences, keras.KerasTensor):
            raise ArgumentError("sequences", "data, not a symbolic tensor", sequences)
        sequences = ops.convert_to_tensor(sequences, dtype=self.compute_dtype)
        if len(sequences.shape) != 3 or not sequences.shape[1]:
            raise ArgumentError(
                "sequences.shape", "(batch, time, features) with at least one step", tuple(sequences.shape)
            )
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
        if not self.built:
            self.build(sequences.shape)
        memory = ops.zeros((sequences.shape[0], self.units), self.compute_dtype)
        if initial_state is not None:
            expected = tuple(memory.shape)
            if isinstance(initial_state, list | tuple) and len(initial_state) == 1:
                (initial_state,) = initial_state
            memory = ops.convert_to_tensor(initial_state, dtype=self.compute_dtype)
            if tuple(memory.shape) != expected:
                raise ArgumentError("initial_state.shape", str(expected), tuple(memory.shape))
        steps = []
        for step in range(sequences.shape[1]):
            steps.append(self.cell.gates(sequences[:, step], memory))
            memory, _ = self.cell(sequences[:, step], [memory])
        return Gates(*(ops.stack(values, axis=1) for values in zip(*steps, strict=True)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments: those of `keras.layers.GRU`, and its own two if they are not the defaults.

        So `keras.layers.GRU.from_config` takes the configuration of every layer that it can compute.
        """
        return {**super().get_config(), **own_arguments(self)}
