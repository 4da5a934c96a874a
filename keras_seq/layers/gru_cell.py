"""One step of a gated recurrent unit: `GRUCell`.

`keras_seq.layers.gru_step` has the equations and explains the names in the code.
"""

import inspect
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_seq import require
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
        return {**super().get_config(), **own_arguments(self)}


def own_arguments(unit: Any) -> dict[str, Any]:
    """Returns the arguments that the classes of Keras do not have, without those that have their defaults."""
    own = {"reset_gate": unit.reset_gate, "weight_dropout": unit.weight_dropout}
    parameters = inspect.signature(GRUCell.__init__).parameters
    return {name: value for name, value in own.items() if value != parameters[name].default}
