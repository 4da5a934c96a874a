"""A call of a recurrent layer in the graph of a model, and one step of it."""

import inspect
import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_seq.keras_internals import layer_with, mask_of


class RecurrentCall(NamedTuple):
    """The arguments of a call of a recurrent layer.

    Attributes:
        layer: the layer.
        inputs: `(batch, time, ...)`, or `(batch, ...)` in a step.
        initial_state: the initial states that the call was given, or None.
        mask: `(batch, time)`, or `(batch,)` in a step, False at steps to skip; or None.
    """

    layer: keras.layers.RNN
    inputs: Any
    initial_state: Any
    mask: Any

    @classmethod
    def of(cls, layer: keras.layers.RNN, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "RecurrentCall":
        """Returns the arguments by name. A mask that another layer attached to the inputs counts like an argument."""
        arguments = inspect.signature(layer.call).bind(*args, **kwargs).arguments
        inputs = next(iter(arguments.values()))
        mask = arguments.get("mask")
        return cls(layer, inputs, arguments.get("initial_state"), mask_of(inputs) if mask is None else mask)

    def states_before(self) -> list[Any]:
        """Returns the states before the first step, flat, each `(batch, units)`."""
        given = self.initial_state
        return tree.flatten(self.layer.get_initial_state(len(self.inputs)) if given is None else given)


def without_carried_state(operation: Any) -> Any:
    """Returns an operation; for a stateful recurrent layer, one that shares its cell and starts from its initial state."""
    if not isinstance(operation, keras.layers.RNN) or not operation.stateful:
        return operation
    return layer_with(operation, stateful=False)


def does_more_than_its_cell(layer: keras.layers.RNN) -> bool:
    """Returns whether the class of a recurrent layer has a loop of its own, which may do what the cell does not."""
    own = (getattr(type(layer), name).__module__ for name in ("call", "inner_loop"))
    return not all(module.partition(".")[0] in ("keras", "keras_seq") for module in own)


def state_shapes(layer: keras.layers.RNN) -> list[tuple[int, ...]]:
    """Returns the shape of each state, without the batch."""
    return [tuple(state.shape[1:]) for state in tree.flatten(layer.get_initial_state(batch_size=1))]


def begins_at_zero(layer: keras.layers.RNN) -> bool:
    """Returns whether the states of a layer are zeros before the first step, unless a call is given others."""
    return not any(np.any(state) for state in tree.flatten(layer.get_initial_state(batch_size=1)))


class RecurrentStep(keras.layers.Layer):
    """One step of a recurrent layer, with its cell: inputs `(batch, ...)` and states -> output and new states.

    At a masked step the states stay as they are, and the output is that of the step before it, or zeros, as in Keras.
    Several frames in a step, `(batch, frames, ...)`, are read one after the other.

    Args:
        layer: the recurrent layer. Its cell is shared.
        output_state: which state is the output of the step before; for masked steps only.
        frames: the number of frames in a step.
        name: name of the step.
    """

    def __init__(self, layer: keras.layers.RNN, output_state: int | None, frames: int, name: str):
        super().__init__(name=name, dtype=layer.dtype_policy)
        self.cell = layer.cell
        self._structure = layer.get_initial_state(batch_size=1)
        self._shapes = state_shapes(layer)
        self._output_state, self._frames = output_state, frames
        self._returns_mask = layer.compute_mask
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, states: list[Any], mask: Any = None, ready: Any = None) -> list[Any]:
        """Returns the output and the new states, each `(batch, units)`.

        Args:
            inputs: of one frame `(batch, ...)`, or of several `(batch, frames, ...)`.
            states: those of the cell, flat, and perhaps the output before this step.
            mask: False at a masked frame, `(batch,)` or `(batch, frames)`; or None.
            ready: False before the first frame of the sequence, `(batch,)`; or None.
        """
        # Without the copy, the cell would warn that it does not know the mask of its inputs.
        inputs = inputs if mask is None else ops.copy(inputs)
        if self._frames == 1:
            output, new_states = self._frame(inputs, states, mask)
        else:
            outputs, new_states = [], states
            for index in range(self._frames):
                masked = None if mask is None else mask[:, index]
                output, new_states = self._frame(inputs[:, index], new_states, masked)
                outputs.append(output)
            output = ops.stack(outputs, axis=1)
        if ready is not None:
            new_states = [ops.where(ready[:, None], *pair) for pair in zip(new_states, states, strict=True)]
        return [ops.cast(output, self.compute_dtype), *new_states]

    def _frame(self, inputs: Any, states: list[Any], mask: Any) -> tuple[Any, list[Any]]:
        """Returns the output and the new states after one frame."""
        count = len(self._shapes)
        shaped = [ops.reshape(state, (-1, *shape)) for state, shape in zip(states[:count], self._shapes, strict=True)]
        output, new_states = self.cell(inputs, tree.pack_sequence_as(self._structure, shaped))
        flat = zip(tree.flatten(new_states), self._shapes, strict=True)
        new_states = [ops.reshape(state, (-1, math.prod(shape))) for state, shape in flat]
        shape = output.shape[1:]
        if mask is not None:
            keeps = ops.cast(mask, "bool")[:, None]
            flat_output = ops.reshape(output, (-1, math.prod(shape)))
            before = ops.zeros_like(flat_output) if self._output_state is None else states[self._output_state]
            output = ops.reshape(ops.where(keeps, flat_output, before), (-1, *shape))
            new_states = [ops.where(keeps, *pair) for pair in zip(new_states, states[:count], strict=True)]
        if len(states) > count:
            new_states.append(ops.reshape(output, (-1, math.prod(shape))))
        return output, new_states

    def compute_mask(self, inputs: Any, previous_mask: Any) -> list[Any]:
        """Returns the mask of the output, the one that the recurrent layer would attach to it."""
        returned = tree.flatten(self._returns_mask(inputs, previous_mask)) if previous_mask is not None else [None]
        return [returned[0], *[None] * len(tree.flatten(self._structure)), None]


def state_with_output(layer: keras.layers.RNN, frame_shape: tuple[int, ...]) -> tuple[int | None, int]:
    """Returns the index of the new state that equals the output of the cell, as in a GRU, or None; and the output's size.

    Args:
        layer: the recurrent layer; the cell is run on random numbers.
        frame_shape: shape of its inputs at one step, without the batch.
    """
    random = np.random.default_rng(0)
    structure = layer.get_initial_state(batch_size=3)
    states = [ops.convert_to_tensor(random.normal(size=state.shape), state.dtype) for state in tree.flatten(structure)]
    values = ops.convert_to_tensor(random.normal(size=(3, *frame_shape)), layer.compute_dtype)
    output, new_states = layer.cell(values, tree.pack_sequence_as(structure, states))
    equal = (index for index, state in enumerate(tree.flatten(new_states)) if np.array_equal(state, output))
    return next(equal, None), math.prod(output.shape[1:])
