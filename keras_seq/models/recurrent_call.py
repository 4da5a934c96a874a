"""A call of a recurrent layer in the graph of a model, and one step of it."""

import inspect
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_seq.keras_internals import mask_of
from keras_seq.models.graph import cannot_be_stepped


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
    """Returns an operation; for a stateful recurrent layer, one with the same cell that starts from its initial state."""
    if not isinstance(operation, keras.layers.RNN) or not operation.stateful:
        return operation
    return keras.layers.RNN(
        operation.cell,
        return_sequences=operation.return_sequences,
        return_state=operation.return_state,
        go_backwards=operation.go_backwards,
        zero_output_for_mask=operation.zero_output_for_mask,
        dtype=operation.dtype_policy,
    )


def does_more_than_its_cell(layer: keras.layers.RNN) -> bool:
    """Returns whether the class of a recurrent layer has a loop of its own, which may do what the cell does not."""
    own = (getattr(type(layer), name).__module__ for name in ("call", "inner_loop"))
    return not all(module.partition(".")[0] in ("keras", "keras_seq") for module in own)


def state_sizes(layer: keras.layers.RNN) -> list[int]:
    """Returns the units of each state.

    Raises:
        SteppingError: a state is not a vector.
    """
    shapes = [tuple(state.shape) for state in tree.flatten(layer.get_initial_state(batch_size=1))]
    for shape in shapes:
        if len(shape) != 2:
            received = ", ".join(map(str, ("batch", *shape[1:])))
            raise cannot_be_stepped(layer, f"a state must be (batch, units), not ({received})")
    return [units for _, units in shapes]


def begins_at_zero(layer: keras.layers.RNN) -> bool:
    """Returns whether the states of a layer are zeros before the first step, unless a call is given others."""
    return not any(np.any(state) for state in tree.flatten(layer.get_initial_state(batch_size=1)))


class RecurrentStep(keras.layers.Layer):
    """One step of a recurrent layer, with its cell: inputs `(batch, ...)` and states -> output and new states.

    At a masked step the states stay as they are, and the output is that of the step before it, or zeros, as in Keras.

    Args:
        layer: the recurrent layer. Its cell is shared.
        output_state: which state is the output of the step before; for masked steps only.
        name: name of the step.
    """

    def __init__(self, layer: keras.layers.RNN, output_state: int | None, name: str):
        super().__init__(name=name, dtype=layer.dtype_policy)
        self.cell = layer.cell
        self._structure = layer.get_initial_state(batch_size=1)
        self._output_state = output_state
        self._returns_mask = layer.compute_mask
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, states: list[Any], mask: Any = None) -> list[Any]:
        """Returns the output and the new states. An additional last state is the output before this step."""
        count = len(tree.flatten(self._structure))
        # Without the copy, the cell would warn that it does not know the mask of its inputs.
        inputs = inputs if mask is None else ops.copy(inputs)
        output, new_states = self.cell(inputs, tree.pack_sequence_as(self._structure, states[:count]))
        new_states = tree.flatten(new_states)
        if mask is not None:
            keeps = ops.cast(mask, "bool")[:, None]
            before = ops.zeros_like(output) if self._output_state is None else states[self._output_state]
            output = ops.where(keeps, output, before)
            new_states = [ops.where(keeps, *pair) for pair in zip(new_states, states[:count], strict=True)]
        if len(states) > count:
            new_states.append(output)
        return [ops.cast(output, self.compute_dtype), *new_states]

    def compute_mask(self, inputs: Any, previous_mask: Any) -> list[Any]:
        """Returns the mask of the output, the one that the recurrent layer would attach to it."""
        returned = tree.flatten(self._returns_mask(inputs, previous_mask)) if previous_mask is not None else [None]
        return [returned[0], *[None] * len(tree.flatten(self._structure)), None]


def state_with_output(layer: keras.layers.RNN, inputs: keras.KerasTensor) -> tuple[int | None, int]:
    """Returns the index of the new state that equals the output of the cell, as in a GRU, or None; and the output's size.

    Args:
        layer: the recurrent layer; the cell is run on random numbers.
        inputs: symbolic inputs of a step, `(batch, ...)`.
    """
    random = np.random.default_rng(0)
    structure = layer.get_initial_state(batch_size=3)
    states = [ops.convert_to_tensor(random.normal(size=state.shape), state.dtype) for state in tree.flatten(structure)]
    values = ops.convert_to_tensor(random.normal(size=(3, *inputs.shape[1:])), layer.compute_dtype)
    output, new_states = layer.cell(values, tree.pack_sequence_as(structure, states))
    equal = (index for index, state in enumerate(tree.flatten(new_states)) if np.array_equal(state, output))
    return next(equal, None), output.shape[-1]
