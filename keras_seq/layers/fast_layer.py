"""`FastLayer`: a recurrent layer of Keras whose loop over time is the fast path where it can be."""

import logging
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_seq import keras_internals
from keras_seq.layers import fast_path
from keras_seq.layers.fast_activations import name_of
from keras_seq.layers.fast_cells import FastCell

_LOG = logging.getLogger(__name__)
_DTYPES = ("float32", "float64", "float16", "bfloat16")
# Outside of a graph, a step of Keras's loop takes 1 to 3 ms, and compilation takes half a second. From this length on,
# compilation pays off at the third call. Short prompts and single steps stay in Keras's loop.
SMALLEST_EAGER_LENGTH = 100


class FastLayer(keras.layers.RNN):
    """Gives a layer of Keras the fast path. A subclass is `class LSTM(FastLayer, keras.layers.LSTM)`."""

    def __init__(self, *positional: Any, **named: Any):
        super().__init__(*positional, **named)
        self._tell_keras()

    def _tell_keras(self) -> None:
        """Sets what Keras asks of a layer."""
        # XLA cannot compile cuDNN, and it multiplies large matrices more slowly than TensorFlow.
        keras_internals.refuse_jit_compile(self)
        # Keras 3.16 turns this off for recurrent layers: the layers after this one would not see the mask.
        self.supports_masking = True

    _cell_class: type
    _fast_cell: Callable[..., FastCell]  # the names of the activations -> the cell of the fast path

    def _keras_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool) -> tuple[Any, Any, Any]:
        """Runs over the sequence in the loop of Keras, or in cuDNN; see `inner_loop`."""
        cell = self.cell
        drops_by_block = training and cell.dropout and getattr(cell, "implementation", 2) == 1
        if drops_by_block and not cell.recurrent_dropout and getattr(self, "use_cudnn", False) is not True:
            # What Keras prepares for cuDNN needs a single dropout mask.
            return keras_internals.rnn_loop(self, sequences, initial_state, mask, training)
        return super().inner_loop(sequences, initial_state, mask=mask, training=training)

    def _recurrent_kernel(self, training: bool) -> Any:
        """Returns the recurrent kernel of a batch."""
        return self.cell.recurrent_kernel

    def _biases(self) -> tuple[Any, Any]:
        """Returns the biases of the input's and of the memory's product, or None."""
        return None, self.cell.bias if self.cell.use_bias else None

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> tuple[Any, Any, Any]:
        """Runs over the sequence; see `keras_internals.rnn_loop` for the arguments and results."""
        order = self._possible_derivatives(sequences, initial_state)
        reason = self._why_not_fast(order, sequences.shape[1])
        if reason is None:
            return self._fast_loop(sequences, initial_state, mask, training, keeps=order > 0)
        _LOG.info("%s runs in the loop of Keras: %s", self.name, reason)
        return self._keras_loop(sequences, initial_state, mask, training)

    def _possible_derivatives(self, sequences: Any, initial_state: Any) -> int:
        """Returns the order of the derivatives that may be taken; see `keras_internals.possible_derivatives`."""
        # All weights: Keras does not tell the tape that a weight is frozen.
        parts = tf.nest.flatten((sequences, initial_state, self.cell.weights))
        # Tensors, because a tape does not know the variables of carried states and of strategies themselves.
        tensors = [tf.convert_to_tensor(part) for part in parts]
        if keras_internals.has_tangents(tensors):
            if not tf.executing_eagerly() and not self.unroll:
                raise NotImplementedError(
                    "TensorFlow takes no derivative of a loop in a graph in `tf.autodiff.ForwardAccumulator`: build the layer "
                    "with `unroll=True`"
                )
            return 2  # Like a second derivative, it differentiates the loop of Keras.
        return keras_internals.possible_derivatives(tensors)

    def _activations(self) -> dict[str, Any]:
        """Returns the activations of the cell, by what they are called."""
        names = ("activation", "recurrent_activation")
        return {one.replace("_", " "): getattr(self.cell, one) for one in names if hasattr(self.cell, one)}

    def _why_not_fast(self, order: int, length: int | None) -> str | None:
        """Returns the first condition of the fast path that does not hold, or None."""
        activations = {f"its {name} is {one}": name_of(one) is not None for name, one in self._activations().items()}
        is_eager = tf.executing_eagerly()
        conditions = {
            f"it is called outside of a graph, with fewer than {SMALLEST_EAGER_LENGTH} steps": not is_eager
            or (length or 0) >= SMALLEST_EAGER_LENGTH,
            "`use_cudnn=True`": getattr(self, "use_cudnn", False) is not True,
            "`unroll=True`": not self.unroll,
            "its cell is of another class than the layer creates": type(self.cell) is self._cell_class,
            **activations,
            f"it computes in {self.compute_dtype}": self.compute_dtype in _DTYPES,
            "it drops everything": 1 not in (self.cell.dropout, self.cell.recurrent_dropout),
            "a persistent tape or several tapes may take a second derivative": order < 2,
            # No graph that may be exported has compiled code.
            "no gradient tape records it, in a graph outside of `fit`, `evaluate` and `predict`": is_eager
            or order == 1
            or keras_internals.is_in_trainer(),
            "XLA compiles the whole function, and the length is unknown": length is not None
            or not keras_internals.is_in_xla(),
            "this machine has a GPU, or TensorFlow has no XLA": fast_path.is_available(),
        }
        return next((reason for reason, holds in conditions.items() if not holds), None)

    def _fast_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool, keeps: bool
    ) -> tuple[Any, Any, Any]:
        """Runs over the sequence in the fast path; see `inner_loop`."""
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        if mask is not None:
            mask = ops.cast(mask, "bool")
            mask = tf.broadcast_to(mask[:, :, 0] if len(mask.shape) == 3 else mask, tf.shape(sequences)[:2])
        if self.go_backwards:
            sequences, mask = sequences[:, ::-1], None if mask is None else mask[:, ::-1]
        cell = self._fast_cell(*(name_of(one) for one in self._activations().values()))
        run = fast_path.run_eagerly if tf.executing_eagerly() else fast_path.run
        memories, states = run(cell, self._operands(sequences, initial_state, mask, training), keeps)
        memories, *states = (tf.cast(one, self.compute_dtype) for one in (memories, *states))
        outputs = memories
        if mask is not None:
            # As in Keras, a masked step repeats the output before it, or gives zeros if there is none.
            mask = ops.cast(mask, "int32")
            has_output = mask if self.zero_output_for_mask else ops.cumsum(mask, axis=1)
            outputs = ops.where(has_output[:, :, None] > 0, memories, ops.zeros_like(memories))
        last = outputs[:, -1]
        return last, outputs if self.return_sequences else last[:, None], states

    def _operands(self, sequences: Any, initial_state: Any, mask: Any, training: bool) -> fast_path.Operands:
        """Returns what the fast path computes with."""
        cell, rows, batch = self.cell, tf.shape(sequences)[0], sequences.shape[0]
        states = initial_state if isinstance(initial_state, list | tuple) else [initial_state]
        # As in Keras, one row is that of all rows, and any other number is an error.
        memory, *carry = (
            tf.ensure_shape(tf.broadcast_to(one, (rows, self.units)), (batch, self.units)) for one in states
        )
        # Keras casts inputs of floating point alone.
        sequences = tf.cast(tf.ensure_shape(sequences, (None, None, cell.kernel.shape[0])), self.compute_dtype)
        # Tensors, because `tf.custom_gradient` treats variables differently.
        kernel, recurrent_kernel = (
            tf.convert_to_tensor(one) for one in (cell.kernel, self._recurrent_kernel(training))
        )
        zeros = tf.zeros_like(kernel[0])
        biases = [zeros if one is None else tf.convert_to_tensor(one) for one in self._biases()]
        operands = fast_path.Operands(
            inputs=sequences,
            memory=memory,
            carry=carry[0] if carry else None,
            kernel=kernel,
            recurrent_kernel=recurrent_kernel,
            bias=tf.stack(biases),
            input_drops=_stacked(cell.get_dropout_mask(sequences[:, 0]), rows) if training and cell.dropout else None,
            drops=_stacked(cell.get_recurrent_dropout_mask(memory), rows)
            if training and cell.recurrent_dropout
            else None,
        )
        if "16" in self.compute_dtype:  # Processors compute it more slowly than float32, and less exactly.
            operands = fast_path.Operands(*(None if one is None else tf.cast(one, "float32") for one in operands))
        return operands._replace(mask=mask)


def _stacked(masks: Any, rows: Any) -> Any:
    """Returns a dropout mask `(1, rows, width)`, or one for each block `(blocks, rows, width)`, from what a cell draws."""
    masks = tf.stack(masks if isinstance(masks, list | tuple) else [masks])
    return tf.broadcast_to(masks, (masks.shape[0], rows, masks.shape[2]))
