"""Calls each layer and operation in the graph of a model on a single step."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from keras_seq.errors import SteppingError
from keras_seq.models.graph import NotPerStep, StateOfSequence, cannot_be_stepped
from keras_seq.models.independent_steps import last_step_form, single_step_form
from keras_seq.models.recurrent_call import (
    RecurrentCall,
    RecurrentStep,
    begins_at_zero,
    does_more_than_its_cell,
    state_shapes,
    state_with_output,
)
from keras_seq.models.reshape_step import ReshapedFrames, reshaped_frames
from keras_seq.models.step_values import AtOnce, Context, MoreFrames, PerStep, SoFar, is_value, tensor_of
from keras_seq.models.unique_names import UniqueNames
from keras_seq.models.unrolled import unrolled
from keras_seq.models.window_step import Window, WindowStep, left_padding, plan_of, window_of

_KNOWN = ("keras", "keras_seq")  # packages whose layers and operations use the values that they are given
_OF_THE_SHAPE = ("ZerosLike", "OnesLike", "FullLike")


class StepState(NamedTuple):
    """A state of the one-step form.

    Attributes:
        before: its symbolic input, `(batch, units)`.
        after: its value after the step.
        start: its value at the start of a sequence, if it depends on what is given at once; otherwise None.
    """

    before: Any
    after: Any
    start: AtOnce | None


class LayerStates(NamedTuple):
    """The states of one call of a layer in a `StepGraph`.

    Attributes:
        position: its position among the calls.
        layer: the layer.
        is_recurrent: whether it is a recurrent layer; otherwise it keeps past frames, which are zeros at the start.
        has_given_states: whether the call of a recurrent layer is given initial states.
        first: position of its first state among all states.
        state_count: number of states; one more than the layer has if the last one is the output before the step.
        output_state: which state is the output before the step; None if no step is masked, or if a masked one gives zeros.
    """

    position: int
    layer: keras.layers.Layer
    is_recurrent: bool
    has_given_states: bool
    first: int
    state_count: int
    output_state: int | None


class StepCalls:
    """Calls each layer and operation of a graph on a single step.

    Args:
        names: makes the names of layers unique.

    Attributes:
        states: the states of all layers met so far.
        calls: each call so far: the layer or operation, and its outputs, nested: values, or a `NotPerStep`.
        layer_states: the calls of layers with states among them.
        factor: how many times as many frames a step must have, so that every stride divides them.
        look_back: number of steps that all convolutions together look back.
    """

    def __init__(self, names: UniqueNames) -> None:
        self.states: list[StepState] = []
        self.calls: list[tuple[Any, Any]] = []
        self.layer_states: list[LayerStates] = []
        self.factor = 1
        self.look_back = 0
        self._unique = names
        self._contexts: dict[int, tuple[AtOnce, Context]] = {}
        self._steps_before: Any = None

    def __call__(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns the outputs of a call as values, or a `NotPerStep` with the reason why there are none.

        A call without a value for a single step is no error until the output of the model needs the value: it may only
        give the initial state of a recurrent layer.
        """
        try:
            outputs = self._outputs(operation, args, kwargs)
        except SteppingError as error:
            outputs = NotPerStep(error)
        except MoreFrames as more:
            self.factor = math.lcm(self.factor, more.factor)
            outputs = NotPerStep(cannot_be_stepped(operation, "its stride does not divide the step"))
        by_value = _depends_on_values(operation, tree.flatten((args, kwargs)))
        for one in tree.flatten(outputs):
            one.by_value = by_value and one.by_value
        self.calls.append((operation, outputs))
        return outputs

    def values_by_call(self) -> list[tuple[Any, list[PerStep | SoFar | None]]]:
        """Returns `calls` with flat outputs; None in the place of those without a value in a step.

        The errors inside `NotPerStep` would keep the model alive.
        """
        return [
            (operation, [one if isinstance(one, PerStep | SoFar) else None for one in tree.flatten(outputs)])
            for operation, outputs in self.calls
        ]

    def _outputs(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(operation, keras.layers.RNN):
            call = RecurrentCall.of(operation, args, kwargs)
            if not isinstance(call.inputs, AtOnce):
                return self._recurrent_step(call)
        arguments = tree.flatten((args, kwargs))
        for argument in arguments:
            if isinstance(argument, NotPerStep):
                return NotPerStep(argument.reason)
        values = [one for one in arguments if is_value(one)]
        if all(isinstance(value, AtOnce) for value in values):
            return self._at_once(operation, args, kwargs)
        so_far = next((value for value in values if isinstance(value, SoFar)), None)
        if so_far is not None:
            return self._on_last_values(operation, args, kwargs, so_far)
        return self._per_step(operation, args, kwargs)

    def _at_once(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a layer in the graph of the encoder."""
        tensors = tree.map_structure(tensor_of, (args, kwargs))
        outputs = tree.map_structure(AtOnce, self._unique(operation)(*tensors[0], **tensors[1]))
        if isinstance(operation, keras.layers.RepeatVector):
            outputs.repeated = next(one for one in tree.flatten((args, kwargs)) if is_value(one))
        return outputs

    def _on_last_values(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], so_far: SoFar) -> Any:
        """Calls a layer on values so far, which have no time axis."""
        source = getattr(so_far.last_of, "name", "")
        if any(isinstance(one, PerStep) for one in tree.flatten((args, kwargs))):
            raise cannot_be_stepped(
                operation, f"it uses the last state of layer {source!r}, which depends on the whole sequence"
            )
        if isinstance(operation, keras.layers.RepeatVector):
            raise cannot_be_stepped(operation, f"it repeats the last output of layer {source!r} over time")
        tensors = tree.map_structure(tensor_of, tree.map_structure(self._in_step, (args, kwargs)))
        outputs = self._unique(operation)(*tensors[0], **tensors[1])
        delay = max(one.delay for one in tree.flatten((args, kwargs)) if isinstance(one, SoFar))
        return tree.map_structure(lambda tensor: SoFar(tensor, so_far.last_of, delay), outputs)

    def _per_step(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a layer on the frames of a step."""
        values = [one for one in tree.flatten((args, kwargs)) if isinstance(one, PerStep)]
        args, kwargs = tree.map_structure(lambda one: self._beside(one, values[0]), (args, kwargs))
        padding = left_padding(operation)
        if padding is not None:
            (value,) = values
            return PerStep(value.tensor, value.frames, value.delay, value.padding + padding)
        window = window_of(operation)
        if window is not None:
            return self._window_step(operation, window, values[0])
        value = _same_frames(operation, values)
        reshaped = reshaped_frames(operation, value)
        if isinstance(reshaped, ReshapedFrames):
            tensor = self._unique(reshaped.layer)(value.tensor)
            return PerStep(tensor, reshaped.frames, value.delay, length=reshaped.length)
        try:
            outputs = single_step_form(unrolled(operation), args, kwargs, self._unique)()
        except SteppingError:
            on_last_step = last_step_form(operation, args, kwargs, self._unique)
            if on_last_step is None:
                raise
            return tree.map_structure(lambda tensor: SoFar(tensor, operation, value.delay), on_last_step())
        return tree.map_structure(lambda tensor: PerStep(tensor, value.frames, value.delay, 0, value.length), outputs)

    def _window_step(self, layer: keras.layers.Layer, window: Window, value: PerStep) -> PerStep:
        """Calls a layer with a window on the frames of a step and those before, which are a new state."""
        plan = plan_of(window, value)
        self.look_back += math.ceil(plan.past / value.frames)
        ready = self._ready(value) if window.padding + value.padding else None
        step = WindowStep(layer, plan, value, name=self._unique.unique(layer.name))
        if plan.past:
            (before,) = self._new_states([step.units], keras.backend.standardize_dtype(value.tensor.dtype))
            tensor, after = step(value.tensor, before, ready)
            self._add_layer_states(layer, [StepState(before, after, None)])
        else:
            tensor = step(value.tensor)
        return PerStep(tensor, plan.frames, value.delay + plan.delay, length=_frames_after(window, value))

    def _recurrent_step(self, call: RecurrentCall) -> Any:
        """Calls the cell of a recurrent layer on the frames of a step, with new inputs for its states."""
        layer, value = call.layer, call.inputs
        if isinstance(value, NotPerStep):
            return NotPerStep(value.reason)
        _require_stepped(call)
        if any(getattr(one, "by_value", False) for one in tree.flatten(call.initial_state)):
            raise StateOfSequence(layer)
        value = _same_frames(layer, [one for one in (value, call.mask) if isinstance(one, PerStep)])
        starts = [_flat(one) if isinstance(one, AtOnce) else None for one in tree.flatten(call.initial_state)]
        shapes, output_state = state_shapes(layer), None
        mask = tensor_of(call.mask)
        if mask is not None and not layer.zero_output_for_mask:
            output_state, output_size = state_with_output(layer, value.frame_shape)
            if output_state is None or call.initial_state is not None or not begins_at_zero(layer):
                output_state, shapes = len(shapes), [*shapes, (output_size,)]
        ready = self._ready(value)
        states = self._new_states([math.prod(shape) for shape in shapes], layer.cell.compute_dtype)
        step = RecurrentStep(layer, output_state, value.frames, name=self._unique.unique(layer.name))
        output, *new_states = step(value.tensor, states, mask=mask, ready=ready)
        starts = [*starts, *[None] * (len(states) - len(starts))]
        has_given_states = call.initial_state is not None and any(
            start is None for start in starts[: len(state_shapes(layer))]
        )
        added = [StepState(*triple) for triple in zip(states, new_states, starts, strict=True)]
        self._add_layer_states(layer, added, has_given_states, output_state)
        last = [SoFar(state, layer, value.delay) for state in new_states[: len(state_shapes(layer))]]
        outputs: PerStep | SoFar = PerStep(output, value.frames, value.delay, 0, value.length)
        if not layer.return_sequences:
            outputs = SoFar(output if value.frames == 1 else output[:, -1], layer, value.delay)
        return [outputs, *last] if layer.return_state else outputs

    def _add_layer_states(
        self,
        layer: keras.layers.Layer,
        states: list[StepState],
        has_given_states: bool = False,
        output_state: int | None = None,
    ) -> None:
        is_recurrent = isinstance(layer, keras.layers.RNN)
        self.layer_states.append(
            LayerStates(
                len(self.calls), layer, is_recurrent, has_given_states, len(self.states), len(states), output_state
            )
        )
        self.states.extend(states)

    def _new_states(self, sizes: list[int], dtype: str) -> list[Any]:
        """Returns new symbolic inputs, each `(batch, units)`."""
        first = len(self.states)
        return [keras.Input((size,), dtype=dtype, name=f"state_{first + index}") for index, size in enumerate(sizes)]

    def _in_step(self, argument: Any) -> Any:
        """Returns a value in the graph of the step. What is known before the first step is a state that stays the same."""
        if not isinstance(argument, AtOnce):
            return argument
        if id(argument) not in self._contexts:
            self._contexts[id(argument)] = argument, self._new_context(argument)
        return self._contexts[id(argument)][1]

    def _beside(self, argument: Any, value: PerStep) -> Any:
        """Returns an argument beside the frames of a step. What a `RepeatVector` repeats is the same in each frame."""
        if not isinstance(argument, AtOnce) or argument.repeated is None:
            return self._in_step(argument)
        tensor = self._in_step(argument.repeated).tensor
        if value.frames > 1:
            tensor = ops.repeat(tensor[:, None], value.frames, axis=1)
        return PerStep(tensor, value.frames, value.delay, 0, value.length)

    def _new_context(self, source: AtOnce) -> Context:
        shape = source.tensor.shape[1:]
        if None in shape:
            raise SteppingError(
                f"`model` must use values of a fixed size in each step. Received: one of shape ('batch', {shape}) that is "
                "computed from what is given at once, such as all outputs of an encoder"
            )
        (before,) = self._new_states([math.prod(shape)], keras.backend.standardize_dtype(source.tensor.dtype))
        self.states.append(StepState(before, before, _flat(source)))
        return Context(ops.reshape(before, (-1, *shape)))

    def _ready(self, value: PerStep) -> Any:
        """Returns whether the first frame of a value is known, `(batch,)`, or None if it is known from the first step on."""
        if not value.delay:
            return None
        if self._steps_before is None:
            (self._steps_before,) = self._new_states([1], "float32")
            self.states.append(StepState(self._steps_before, self._steps_before + 1, None))
        return self._steps_before[:, 0] >= value.delay


def _depends_on_values(operation: Any, arguments: list[Any]) -> bool:
    """Returns whether the outputs of a call depend on the values of what is read step by step, as far as the graph tells.

    The user's own layers and functions may use only the shape; what they give is compared for several sequences.
    """
    own = isinstance(operation, keras.layers.Lambda) or type(operation).__module__.partition(".")[0] not in _KNOWN
    if own or type(operation).__name__ in _OF_THE_SHAPE:
        return False
    return any(getattr(one, "by_value", False) for one in arguments)


def _flat(value: AtOnce) -> AtOnce:
    """Returns a value as a state, `(batch, units)`."""
    shape = value.tensor.shape[1:]
    return value if len(shape) == 1 else AtOnce(ops.reshape(value.tensor, (-1, math.prod(shape))))


def _require_stepped(call: RecurrentCall) -> None:
    """Requires a recurrent layer to read frames step by step.

    Raises:
        SteppingError: it does not.
    """
    layer = call.layer
    if does_more_than_its_cell(layer):
        raise cannot_be_stepped(layer, "its class has a `call` or `inner_loop` of its own, which may look across time")
    if layer.go_backwards:
        raise cannot_be_stepped(layer, "go_backwards=True reads the sequence from its end")
    if isinstance(call.inputs, SoFar):
        raise cannot_be_stepped(layer, f"it reads the last output of layer {call.inputs.last_of.name!r} as a sequence")
    if isinstance(call.mask, NotPerStep | SoFar | AtOnce):
        raise cannot_be_stepped(layer, "its mask looks across time")


def _same_frames(operation: Any, values: list[PerStep]) -> PerStep:
    """Returns the first of several values, which must have the same frames in a step.

    Raises:
        SteppingError: they have not.
    """
    first = values[0]
    for value in values:
        if value.padding:
            raise cannot_be_stepped(operation, "it reads frames of zeros before the first one; only a convolution can")
        if value.frames != first.frames:
            raise cannot_be_stepped(
                operation, f"it merges {first.frames} and {value.frames} frames of a step: the strides before it differ"
            )
        if value.delay != first.delay:
            raise cannot_be_stepped(
                operation, f"it merges values that are known after {first.delay} and after {value.delay} steps"
            )
    return first


def _frames_after(window: Window, value: PerStep) -> int | None:
    """Returns how many outputs a layer with a window gives for the whole sequence."""
    if value.length is None:
        return None
    return (value.length + value.padding + window.padding - window.width) // window.stride + 1
