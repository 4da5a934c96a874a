"""The one-step form of a model over sequences, which maps a token and states to logits and states.

The graph of the model is rerun on the input of a single step. Each recurrent layer is replaced by its cell, with the states
of the cell as additional inputs and outputs. All other layers are the same objects as before, so all weights are shared.
A layer that is not recurrent must act on each time step independently; `independent_steps` verifies this by running it.
`step_model` compares the result with the whole model.
"""

import itertools
from typing import Any, NamedTuple

import keras
from keras import tree

from keras_seq.errors import ModelError, SteppingError
from keras_seq.models.graph import NotPerStep, cannot_be_stepped, run_graph
from keras_seq.models.independent_steps import single_step_form
from keras_seq.models.recurrent_call import (
    RecurrentCall,
    RecurrentStep,
    begins_at_zero,
    does_more_than_its_cell,
    state_sizes,
    state_with_output,
)


class StepGraph(NamedTuple):
    """The one-step form of a model.

    Attributes:
        decoder: a model with the inputs `token` or `frame`, `state_0`, ... and the outputs of the step and its states.
        calls: each call in the order in which the graph runs: the layer or operation, and its symbolic outputs in the
            step; None for those without a value for a single step.
        layer_states: the calls of recurrent layers among them, in the order of their states.
    """

    decoder: keras.Model
    calls: list[tuple[Any, list[Any]]]
    layer_states: list["LayerStates"]


class LayerStates(NamedTuple):
    """The states of one call of a recurrent layer in a `StepGraph`.

    Attributes:
        position: its position among the calls.
        layer: the recurrent layer.
        has_given_states: whether the call of the layer is given initial states.
        state_count: number of states; one more than the layer has if the last one is the output before the step.
        output_state: which state is the output before the step; None if no step is masked, or if a masked one gives zeros.
    """

    position: int
    layer: keras.layers.RNN
    has_given_states: bool
    state_count: int
    output_state: int | None


def step_graph(model: keras.Model, step: keras.KerasTensor) -> StepGraph:
    """Returns the one-step form of a model, which shares every weight with `model`. It is not verified yet.

    Args:
        model: a Sequential or Functional model with one input `(batch, time, ...)` and one output.
        step: the symbolic input of a single step, `(batch, ...)`.

    Raises:
        SteppingError: a layer looks across time or into the future, or has states that are not `(batch, units)`. The
            message names the layer.
        ModelError: the model gives its output only after the last step.
    """
    steps = _Steps(model.inputs[0].shape[1])
    (output,) = run_graph(model, [step], steps)
    if isinstance(output, NotPerStep):
        raise output.reason
    if not steps.states:
        raise SteppingError(f"`model` must have a recurrent layer. Received: {model.name} with none")
    decoder = keras.Model([step, *steps.states], [output, *steps.new_states], name="step")
    # The errors inside `NotPerStep` would keep the model alive.
    return StepGraph(decoder, steps.calls_without_errors(), steps.layer_states)


class _Steps:
    """Calls each layer and operation of a graph on a single step.

    Attributes:
        states: symbolic inputs for the states of all recurrent layers met so far.
        new_states: their values after the step, in the same order.
        calls: see `StepGraph`.
        layer_states: see `StepGraph`.
    """

    def __init__(self, length: int | None) -> None:
        self.states: list[Any] = []
        self.new_states: list[Any] = []
        self.calls: list[tuple[Any, Any]] = []
        self.layer_states: list[LayerStates] = []
        self._length = length
        self._unique = _UniqueNames()

    def __call__(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns the outputs of a step, or a `NotPerStep` with the reason why there are none.

        A call without a value for a single step is no error until the output of the model needs the value: it may only
        give the initial state of a recurrent layer.
        """
        try:
            if isinstance(operation, keras.layers.RNN):
                outputs = self._recurrent_step(RecurrentCall.of(operation, args, kwargs))
            else:
                outputs = self._independent_step(operation, args, kwargs)
        except SteppingError as error:
            outputs = NotPerStep(error)
        self.calls.append((operation, outputs))
        return outputs

    def calls_without_errors(self) -> list[tuple[Any, list[Any]]]:
        """Returns `calls`, with None in place of each `NotPerStep`, and flat outputs."""
        return [
            (operation, [None if isinstance(one, NotPerStep) else one for one in tree.flatten(outputs)])
            for operation, outputs in self.calls
        ]

    def _recurrent_step(self, call: RecurrentCall) -> Any:
        """Calls the cell of a recurrent layer, with new inputs for its states."""
        layer = call.layer
        if isinstance(call.inputs, NotPerStep):
            return _passed_on(layer, call.inputs)
        if does_more_than_its_cell(layer):
            raise cannot_be_stepped(
                layer, "its class has a `call` or `inner_loop` of its own, which may look across time"
            )
        if layer.go_backwards:
            raise cannot_be_stepped(layer, "go_backwards=True reads the sequence from its end")
        if isinstance(call.mask, NotPerStep):
            raise cannot_be_stepped(layer, "its mask looks across time")
        if not layer.return_sequences:
            return NotPerStep(
                ModelError(
                    f"`model` must give an output after each step, (batch, time, ...): layer {layer.name!r} must have "
                    "return_sequences=True"
                )
            )
        sizes, output_state = state_sizes(layer), None
        if call.mask is not None and not layer.zero_output_for_mask:
            output_state, output_size = state_with_output(layer, call.inputs)
            if output_state is None or call.initial_state is not None or not begins_at_zero(layer):
                output_state, sizes = len(sizes), [*sizes, output_size]
        states = self._new_states(sizes, layer.cell.compute_dtype)
        has_given_states = call.initial_state is not None
        self.layer_states.append(LayerStates(len(self.calls), layer, has_given_states, len(states), output_state))
        step = RecurrentStep(layer, output_state, name=self._unique.name_of(layer))
        output, *new_states = step(call.inputs, states, mask=call.mask)
        self.new_states.extend(new_states)
        if not layer.return_state:
            return output
        return [output, *(_last_state(layer) for _ in state_sizes(layer))]

    def _new_states(self, sizes: list[int], dtype: str) -> list[Any]:
        """Returns new symbolic inputs, each `(batch, units)`."""
        names = (f"state_{index}" for index in itertools.count(len(self.states)))
        states = [keras.Input((size,), dtype=dtype, name=name) for size, name in zip(sizes, names, strict=False)]
        self.states.extend(states)
        return states

    def _independent_step(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a layer or operation that acts on each time step independently.

        Raises:
            SteppingError: it does not.
        """
        for argument in tree.flatten((args, kwargs)):
            if isinstance(argument, NotPerStep):
                return _passed_on(operation, argument)
        return single_step_form(operation, args, kwargs, self._length, rename=self._unique)()


def _passed_on(operation: Any, argument: NotPerStep) -> NotPerStep:
    """Returns what stands for the outputs of a call with an argument that has no value for a single step."""
    if argument.last_of is None:
        return argument
    return NotPerStep(
        cannot_be_stepped(
            operation, f"it uses the last state of layer {argument.last_of.name!r}, which depends on the whole sequence"
        )
    )


def _last_state(layer: keras.layers.RNN) -> NotPerStep:
    """Returns what stands for a state that a recurrent layer returns after the last step."""
    reason = f"`model` must give an output after each step. Received: the last state of layer {layer.name!r}"
    return NotPerStep(ModelError(reason), last_of=layer)


class _Renamed(keras.layers.Layer):
    """A layer or operation under another name."""

    def __init__(self, operation: Any, name: str):
        super().__init__(name=name, autocast=False)
        self.operation = operation
        self.supports_masking = getattr(operation, "supports_masking", False)
        self.built = True

    def call(self, *inputs: Any, **options: Any) -> Any:
        return self.operation(*inputs, **options)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return self.operation.compute_mask(inputs, previous_mask)


class _UniqueNames:
    """Gives layers unique names, as a model requires: layers of nested models can share one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._named: dict[int, Any] = {}

    def __call__(self, operation: Any) -> Any:
        """Returns `operation`, or the same operation under another name if its name is taken. The result is cached."""
        if id(operation) not in self._named:
            name = self.name_of(operation)
            self._named[id(operation)] = operation if name == operation.name else _Renamed(operation, name)
        return self._named[id(operation)]

    def name_of(self, operation: Any) -> str:
        """Returns the name of an operation, with a number if it is taken."""
        stem = operation.name
        if stem in ("token", "frame") or stem.startswith("state_"):
            stem = f"layer_{stem}"  # The inputs have these names.
        names = (f"{stem}_{number}" if number else stem for number in itertools.count())
        name = next(name for name in names if name not in self._taken)
        self._taken.add(name)
        return name
