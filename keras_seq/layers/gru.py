"""The gated recurrent unit over a sequence: `GRU`.

`keras_seq.layers.gru_step` has the equations and explains the names in the code.
"""

import inspect
import logging
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_seq import keras_internals, require
from keras_seq.errors import ArgumentError, ConfigError
from keras_seq.layers import gru_fast_path
from keras_seq.layers.gru_activations import name_of
from keras_seq.layers.gru_cell import Gates, GRUCell, own_arguments
from keras_seq.layers.gru_loops import AFTER, BEFORE, NONE, Cell


def _stacked(masks: Any) -> Any:
    """Returns a dropout mask `(1, batch, width)`, or one for each block `(blocks, ...)`, from what a cell draws; or None."""
    if masks is None:
        return None
    return tf.stack(masks if isinstance(masks, list | tuple) else [masks])


_LOG = logging.getLogger(__name__)
_FAST_DTYPES = ("float32", "float64", "float16", "bfloat16")
_LAYER_SIGNATURE = inspect.signature(keras.layers.GRU.__init__)
_CELL_ARGUMENTS = {*inspect.signature(keras.layers.GRUCell.__init__).parameters, "implementation"} - {"self", "kwargs"}


@keras.saving.register_keras_serializable(package="keras_seq")
class GRU(keras.layers.GRU):
    """A GRU over a sequence: `keras.layers.GRU` with faster training on a CPU, and with access to its gates.

    It is a drop-in replacement for `keras.layers.GRU`, with the same constructor, weights, attributes and behavior.
    Weights can be exchanged between the two.

    **The fast path.** On a machine without a GPU, `fit`, `evaluate`, `predict` and every training step in a graph use loops
    compiled by XLA, with a hand-written backward pass (`gru_fast_path`). Training is 1.4 to 2.3 times as fast as with
    `keras.layers.GRU` at batch sizes of 32 and 64, and 7 times at batch size 1 (BUILD.md has the table). Half precision
    is computed in float32 inside, which is faster on a CPU. The loop of Keras runs instead, and a line at level INFO of the
    logger `keras_seq` says why:

    * in eager mode, and without a gradient tape outside of `fit`, `evaluate` and `predict`, so that no exported graph
      contains compiled code;
    * under a persistent gradient tape or several tapes, which may take a second derivative;
    * with `unroll=True`, or activations that are not in `gru_activations`, which has those of Keras that act on each number;
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
        # XLA cannot compile cuDNN, and it multiplies large matrices more slowly than TensorFlow.
        keras_internals.refuse_jit_compile(self)
        # Keras 3.16 turns this off for recurrent layers: the layers after this one would not see the mask.
        self.supports_masking = True

    @property
    def reset_gate(self) -> bool:
        """Whether the layer has a relevance gate Γr."""
        return self.cell.reset_gate

    @property
    def weight_dropout(self) -> float:
        """Fraction of the recurrent kernel's weights that is dropped in training."""
        return self.cell.weight_dropout

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> tuple[Any, Any, Any]:
        """Runs over the sequence; see `keras_internals.rnn_loop` for the arguments and results."""
        order = self._possible_derivatives(sequences, initial_state)
        reason = self._why_not_fast(order, sequences.shape[1] is not None)
        if reason is None:
            return self._fast_loop(sequences, initial_state, mask, training, keeps=order > 0)
        _LOG.info("%s runs in the loop of Keras: %s", self.name, reason)
        drops_weights = training and self.weight_dropout
        drops_by_block = training and self.dropout and self.cell.implementation == 1 and not self.recurrent_dropout
        if not self.reset_gate or drops_weights or (drops_by_block and self.use_cudnn is not True):
            # What `keras.layers.GRU` prepares for cuDNN needs the full cell, its own kernel and a single dropout mask.
            return keras_internals.rnn_loop(self, sequences, initial_state, mask, training)
        return keras_internals.gru_loop(self, sequences, initial_state, mask, training)

    def _possible_derivatives(self, sequences: Any, initial_state: Any) -> int:
        """Returns the order of the derivatives that may be taken; see `keras_internals.possible_derivatives`."""
        # All weights: Keras does not tell the tape that a weight is frozen.
        parts = tf.nest.flatten((sequences, initial_state, self.cell.weights))
        # Tensors, because a tape does not know the variables of carried states and of strategies themselves.
        tensors = [tf.convert_to_tensor(part) for part in parts]
        if not tf.executing_eagerly() and not self.unroll and keras_internals.has_tangents(tensors):
            raise NotImplementedError(
                "TensorFlow takes no derivative of a loop in a graph in `tf.autodiff.ForwardAccumulator`: build the layer with "
                "`unroll=True`"
            )
        return keras_internals.possible_derivatives(tensors)

    def _why_not_fast(self, order: int, has_length: bool) -> str | None:
        """Returns the first condition of `gru_fast_path` that does not hold, or None."""
        cell = self.cell
        conditions = {
            "it is called outside of a graph": not tf.executing_eagerly(),
            "`use_cudnn=True`": self.use_cudnn is not True,
            "`unroll=True`": not self.unroll,
            f"its activation is {cell.activation}": name_of(cell.activation) is not None,
            f"its recurrent activation is {cell.recurrent_activation}": name_of(cell.recurrent_activation) is not None,
            f"it computes in {self.compute_dtype}": self.compute_dtype in _FAST_DTYPES,
            "a persistent tape or several tapes may take a second derivative": order < 2,
            # No graph that may be exported has compiled code.
            "no gradient tape records it, outside of `fit`, `evaluate` and `predict`": order == 1
            or keras_internals.is_in_trainer(),
            "XLA compiles the whole function, and the length is unknown": has_length or not keras_internals.is_in_xla(),
            "this machine has a GPU, or TensorFlow has no XLA": gru_fast_path.is_available(),
        }
        return next((reason for reason, holds in conditions.items() if not holds), None)

    def _fast_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool, keeps: bool
    ) -> tuple[Any, Any, Any]:
        """Runs over the sequence in the fast path; see `inner_loop`."""
        cell, memory = self.cell, initial_state[0] if isinstance(initial_state, list | tuple) else initial_state
        memory = tf.ensure_shape(memory, (None, self.units))
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        if mask is not None:
            mask = ops.cast(mask, "bool")
            mask = tf.broadcast_to(mask[:, :, 0] if len(mask.shape) == 3 else mask, tf.shape(sequences)[:2])
        sequences = tf.ensure_shape(sequences, (None, None, cell.kernel.shape[0]))
        drops = training and 0 < self.dropout < 1
        input_drops = cell.get_dropout_mask(sequences[:, 0]) if drops else None
        memory_drops = cell.get_recurrent_dropout_mask(memory) if training and 0 < self.recurrent_dropout < 1 else None
        if self.go_backwards:
            sequences, mask = sequences[:, ::-1], None if mask is None else mask[:, ::-1]
        operands = [sequences, memory, *self._weights_as_tensors(training), *map(_stacked, (input_drops, memory_drops))]
        if "16" in self.compute_dtype:  # Processors compute it more slowly than float32, and less exactly.
            operands = [None if one is None else tf.cast(one, "float32") for one in operands]
        operands.insert(gru_fast_path.DIFFERENTIABLE, mask)
        reset = (AFTER if self.reset_after else BEFORE) if self.reset_gate else NONE
        step = Cell(reset, name_of(cell.activation) or "", name_of(cell.recurrent_activation) or "")
        memories = gru_fast_path.run(step, gru_fast_path.Operands(*operands), keeps)
        memories = tf.cast(memories, self.compute_dtype)
        outputs = memories
        if mask is not None:
            # As in Keras, a masked step repeats the output before it, or gives zeros if there is none.
            mask = ops.cast(mask, "int32")
            has_output = mask if self.zero_output_for_mask else ops.cumsum(mask, axis=1)
            outputs = ops.where(has_output[:, :, None] > 0, memories, ops.zeros_like(memories))
        last = outputs[:, -1]
        return last, outputs if self.return_sequences else last[:, None], [memories[:, -1]]

    def _weights_as_tensors(self, training: bool) -> tuple[Any, Any, Any]:
        """Returns the kernel, the recurrent kernel and both biases `(2, blocks * units)`.

        They are tensors because `tf.custom_gradient` treats variables differently.
        """
        cell = self.cell
        kernels = [tf.convert_to_tensor(one) for one in (cell.kernel, cell.recurrent_kernel_in(training))]
        zeros = tf.zeros_like(kernels[0][0])
        biases = [zeros if one is None else tf.convert_to_tensor(one) for one in cell.input_and_memory_bias()]
        return *kernels, tf.stack(biases)

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
