"""The gated recurrent unit: one step (`GRUCell`), and the layer that runs it over a sequence (`GRU`).

`keras_seq.layers.gru_step` has the equations and explains the names in the code.
"""

import inspect
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from keras_seq import keras_internals, require
from keras_seq.errors import ArgumentError, ConfigError
from keras_seq.layers import gru_fast_path
from keras_seq.layers.chrono_initializer import ChronoInitializer
from keras_seq.layers.gru_step import (
    Step,
    project,
    step_with_reset_after,
    step_with_reset_before,
    step_without_reset,
)


class Gates(NamedTuple):
    """The gates and the candidate of a step, each `(..., units)`.

    Attributes:
        update: Γu in (0, 1). 0 keeps the memory; 1 replaces it by the candidate.
        relevance: Γr in (0, 1), the fraction of the memory that enters the candidate; all 1 with `reset_gate=False`.
        candidate: c~, in (-1, 1) with the default tanh.
    """

    update: Any
    relevance: Any
    candidate: Any


@keras.saving.register_keras_serializable(package="keras_seq")
class GRUCell(keras.layers.GRUCell):
    """One step of a GRU.

    It is a drop-in replacement for `keras.layers.GRUCell`, with the same constructor, weights and configuration.

    Args:
        units: length of the memory.
        *positional: the other arguments of `keras.layers.GRUCell`, in its order.
        reset_gate: False removes Γr, which gives the simplified GRU. The weights then have the two blocks keep and
            candidate, the bias is `(2 * units,)`, and `reset_after` has no effect.
        weight_dropout: fraction of the recurrent kernel's weights to drop in training. The same weights are dropped at
            every step and in every row of a batch (DropConnect, Wan et al. 2013, as used by Merity et al. 2017, arXiv
            1708.02182). This regularizes the memory at the cost of one mask per batch.
        **named: the other arguments of `keras.layers.GRUCell`, by name.

    Call arguments:
        inputs: `(batch, features)`.
        states: a list with the memory, `(batch, units)`.

    Returns:
        The new memory `(batch, units)`, and a list with it as the new state.

    Raises:
        ArgumentError: `units` is not a positive integer, `weight_dropout` is not in [0, 1), `reset_gate` is not a
            bool, or a `ChronoInitializer` is for another number of blocks.

    Example:
        >>> import numpy as np
        >>> cell = GRUCell(4)
        >>> output, states = cell(np.ones((2, 3), "float32"), [np.zeros((2, 4), "float32")])
        >>> output.shape
        TensorShape([2, 4])
    """

    reset_gate: bool
    weight_dropout: float
    bias: Any

    def __init__(
        self, units: int, *positional: Any, reset_gate: bool = True, weight_dropout: float = 0.0, **named: Any
    ):
        require.positive_integer("units", units)
        require.boolean("reset_gate", reset_gate)
        require.fraction("weight_dropout", weight_dropout)
        super().__init__(int(units), *positional, **named)
        self.reset_gate = reset_gate
        self.weight_dropout = weight_dropout
        self._dropped_kernel: Any = None
        blocks = 3 if reset_gate else 2
        if isinstance(self.bias_initializer, ChronoInitializer):
            gates = self.bias_initializer.gates
            require.that(gates == blocks, "gates", f"{blocks} in the ChronoInitializer of this layer", gates)
        if self.implementation == 1:
            self.dropout_mask_count = blocks

    def build(self, input_shape: Any) -> None:
        """Creates the weights for inputs `(batch, features)`."""
        if self.reset_gate:
            super().build(input_shape)
            return
        keras.layers.Layer.build(self, input_shape)
        columns = 2 * self.units
        self.kernel = self._add_weight("kernel", "kernel", (input_shape[-1], columns))
        self.recurrent_kernel = self._add_weight("recurrent_kernel", "recurrent", (self.units, columns))
        self.bias = self._add_weight("bias", "bias", (columns,)) if self.use_bias else None

    def _add_weight(self, name: str, prefix: str, shape: tuple[int, ...]) -> Any:
        """Adds a weight with the initializer, regularizer and constraint whose attributes start with `prefix`."""
        settings = {kind: getattr(self, f"{prefix}_{kind}") for kind in ("initializer", "regularizer", "constraint")}
        return self.add_weight(name=name, shape=shape, **settings)

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, Any]:
        """Computes `c' = Γu * c~ + (1 - Γu) * c`."""
        memory = states[0] if isinstance(states, list | tuple) else states
        keep, _, candidate = self._step(inputs, memory, training)
        # In the order of operations of `keras.layers.GRUCell`, so that both round alike.
        memory = keep * memory + (1 - keep) * candidate
        return memory, [memory] if isinstance(states, list | tuple) else memory

    def gates(self, inputs: Any, memory: Any) -> Gates:
        """Returns Γu, Γr, c~, each `(batch, units)`, for `inputs` `(batch, features)` and `memory` `(batch, units)`."""
        keep, relevance, candidate = self._step(inputs, memory, training=False)
        return Gates(1 - keep, relevance, candidate)

    def _step(self, inputs: Any, memory: Any, training: bool) -> Step:
        """Runs the form of the step that the arguments of the constructor select."""
        input_masks = self.get_dropout_mask(inputs) if training and 0 < self.dropout < 1 else None
        masks = self.get_recurrent_dropout_mask(memory) if training and 0 < self.recurrent_dropout < 1 else None
        input_bias, memory_bias = self.input_and_memory_bias()
        kernel, activations = self.recurrent_kernel_in(training), (self.recurrent_activation, self.activation)
        x = project(inputs, self.kernel, input_bias, input_masks)
        if not self.reset_gate:
            return step_without_reset(x, memory, kernel, masks, *activations)
        if self.reset_after:
            return step_with_reset_after(x, memory, kernel, memory_bias, masks, *activations)
        return step_with_reset_before(x, memory, kernel, masks, *activations)

    def input_and_memory_bias(self) -> tuple[Any, Any]:
        """Returns the biases of the input's and of the memory's product; None for a product without a bias.

        Only `reset_after` needs two biases, since Γr scales the second one.
        """
        if not self.use_bias:
            return None, None
        return (self.bias[0], self.bias[1]) if self.reset_gate and self.reset_after else (self.bias, None)

    def recurrent_kernel_in(self, training: bool) -> Any:
        """Returns the recurrent kernel; in training with `weight_dropout`, without the weights dropped in this batch."""
        if not (training and self.weight_dropout):
            return self.recurrent_kernel
        if self._dropped_kernel is None:
            self._dropped_kernel = keras.random.dropout(
                ops.convert_to_tensor(self.recurrent_kernel), self.weight_dropout, seed=self.seed_generator
            )
        return self._dropped_kernel

    def get_recurrent_dropout_mask(self, step_input: Any) -> Any:
        """Draws what is dropped in a batch. Recurrent layers of Keras call it before their loop over time."""
        self.recurrent_kernel_in(training=True)
        return super().get_recurrent_dropout_mask(step_input)

    def reset_recurrent_dropout_mask(self) -> None:
        """Discards what was dropped in a batch. Recurrent layers of Keras call it after their loop over time."""
        super().reset_recurrent_dropout_mask()
        self._dropped_kernel = None

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments: those of `keras.layers.GRUCell`, and its own two if they are not the defaults.

        So `keras.layers.GRUCell.from_config` takes the configuration of every cell that it can compute.
        """
        return {**super().get_config(), **_own_arguments(self)}


def _own_arguments(unit: "GRUCell | GRU") -> dict[str, Any]:
    """Returns the arguments that the classes of Keras do not have, without those that have their defaults."""
    own = {"reset_gate": unit.reset_gate, "weight_dropout": unit.weight_dropout}
    parameters = inspect.signature(GRUCell.__init__).parameters
    return {name: value for name, value in own.items() if value != parameters[name].default}


_LAYER_SIGNATURE = inspect.signature(keras.layers.GRU.__init__)
_CELL_ARGUMENTS = {*inspect.signature(keras.layers.GRUCell.__init__).parameters, "implementation"} - {"self", "kwargs"}


@keras.saving.register_keras_serializable(package="keras_seq")
class GRU(keras.layers.GRU):
    """A GRU over a sequence: `keras.layers.GRU` with faster training on a CPU, and with access to its gates.

    It is a drop-in replacement for `keras.layers.GRU`, with the same constructor, weights, attributes and behavior.
    Weights can be exchanged between the two.

    **The fast path.** Training in a graph on a machine without a GPU, as in `model.fit`, uses a hand-written backward
    pass compiled by XLA (`gru_fast_path`). It is 1.5 to 2.3 times as fast as `keras.layers.GRU` at batch sizes of 32
    and 64, and 8 to 10 times at batch size 1 (BUILD.md has the table). It supports both values of `reset_after`, masks,
    `initial_state`, `go_backwards`, `stateful`, `dropout` and `weight_dropout`. Keras's loop runs instead:

    * for inference, in eager mode, and without a gradient tape, so that no exported graph contains compiled code;
    * under a persistent gradient tape or several tapes, which may take a second derivative;
    * with `recurrent_dropout`, other activations, `unroll=True`, `reset_gate=False`, or `implementation=1` with dropout;
    * in half precision;
    * if the length of the sequences is unknown when the graph is traced, because each length is compiled separately,
      which takes one or two seconds;
    * on a GPU, where cuDNN runs under the same conditions as for `keras.layers.GRU`.

    Each batch size is compiled separately too. XLA never compiles a model with this layer as a whole: Keras turns off
    `jit_compile=True` with a warning, even with `use_cudnn=False`.

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
        NotImplementedError: a derivative of the fast path is requested in forward mode; use `unroll=True` for it.

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
        if self._takes_fast_path(sequences, initial_state, training):
            return self._fast_loop(sequences, initial_state, mask)
        drops_weights = training and self.weight_dropout
        drops_by_block = training and self.dropout and self.cell.implementation == 1 and not self.recurrent_dropout
        if not self.reset_gate or drops_weights or (drops_by_block and self.use_cudnn is not True):
            # What `keras.layers.GRU` prepares for cuDNN needs the full cell, its own kernel and a single dropout mask.
            return keras_internals.rnn_loop(self, sequences, initial_state, mask, training)
        return keras_internals.gru_loop(self, sequences, initial_state, mask, training)

    def _takes_fast_path(self, sequences: Any, initial_state: Any, training: bool) -> bool:
        """Returns whether `gru_fast_path` runs; the docstring of the class lists the conditions."""
        cell = self.cell
        return (
            bool(training)
            and not tf.executing_eagerly()
            and self.use_cudnn is not True
            and not self.unroll
            and self.reset_gate
            and not cell.recurrent_dropout
            and not (self.dropout and cell.implementation == 1)
            and cell.activation in (keras.activations.tanh, ops.tanh, tf.tanh)
            and cell.recurrent_activation in (keras.activations.sigmoid, ops.sigmoid, tf.sigmoid)
            and self.compute_dtype in ("float32", "float64")
            and sequences.shape[1] is not None
            and gru_fast_path.is_available()
            and self._has_one_tape(sequences, initial_state)
        )

    def _has_one_tape(self, sequences: Any, initial_state: Any) -> bool:
        """Returns whether a gradient tape records the layer, and cannot take a second derivative."""
        parts = tf.nest.flatten((sequences, initial_state, self.cell.trainable_weights))
        # Tensors, because a tape does not know the variables of carried states and of strategies themselves.
        return keras_internals.possible_derivatives([tf.convert_to_tensor(part) for part in parts]) == 1

    def _fast_loop(self, sequences: Any, initial_state: Any, mask: Any) -> tuple[Any, Any, Any]:
        """Runs over the sequence with the hand-written backward pass; see `inner_loop`."""
        memory = initial_state[0] if isinstance(initial_state, list | tuple) else initial_state
        memory = tf.ensure_shape(memory, (None, self.units))
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        if mask is not None:
            mask = ops.reshape(ops.cast(mask, "bool"), ops.shape(sequences)[:2])
        if 0 < self.dropout < 1:
            sequences *= self.cell.get_dropout_mask(sequences[:, 0])[:, None]
        if self.go_backwards:
            sequences, mask = sequences[:, ::-1], None if mask is None else mask[:, ::-1]
        memories = gru_fast_path.run(sequences, memory, *self._weights_as_tensors(), mask, self.reset_after)
        outputs = memories
        if mask is not None:
            # As in Keras, a masked step repeats the output before it, or gives zeros if there is none.
            mask = ops.cast(mask, "int32")
            has_output = mask if self.zero_output_for_mask else ops.cumsum(mask, axis=1)
            outputs = ops.where(has_output[:, :, None] > 0, memories, ops.zeros_like(memories))
        last = outputs[:, -1]
        return last, outputs if self.return_sequences else last[:, None], [memories[:, -1]]

    def _weights_as_tensors(self) -> tuple[Any, Any, Any]:
        """Returns the kernel, the recurrent kernel and both biases `(2, 3 * units)`.

        They are tensors because `tf.custom_gradient` treats variables differently.
        """
        cell = self.cell
        kernels = [tf.convert_to_tensor(one) for one in (cell.kernel, cell.recurrent_kernel_in(training=True))]
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
        return {**super().get_config(), **_own_arguments(self)}
