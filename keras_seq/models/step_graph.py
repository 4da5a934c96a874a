"""The one-step form of a model over sequences, which maps a token or frame and states to outputs and states.

The graph of the model is rerun on the input of a single step. Each recurrent layer is replaced by its cell, with the states
of the cell as additional inputs and outputs. A convolution keeps the frames before the step as a state (`window_step`).
What depends only on inputs that are given at once, such as the source of a translation, is computed once by the encoder.
All other layers are the same objects as before, so all weights are shared. A layer that is neither must act on each time
step independently; `independent_steps` verifies this by running it. `step_model` compares the result with the whole model.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import keras
from keras import tree

from keras_seq.errors import SteppingError
from keras_seq.models.graph import NotPerStep, run_graph
from keras_seq.models.inputs import ModelInput
from keras_seq.models.step_calls import LayerStates, StepCalls
from keras_seq.models.step_values import AtOnce, PerStep, SoFar, Value
from keras_seq.models.unique_names import UniqueNames

T = TypeVar("T")

_MOST_FRAMES = 4096


class StepOutput(NamedTuple):
    """An output of a model, step by step.

    Attributes:
        position: its position among the outputs of the model.
        name: its name in the signatures of an export.
        so_far: whether the model gives it once, `(batch, ...)`; a step then gives the value so far.
        frames: number of frames of it in a step.
        delay: number of steps after which the first frame is known. The outputs of the steps before mean nothing.
    """

    position: int
    name: str
    so_far: bool
    frames: int
    delay: int


class StepGraph(NamedTuple):
    """The one-step form of a model.

    Attributes:
        decoder: a model with the inputs `token` or `frame`, `state_0`, ... and the outputs of the step and its states.
        encoder: a model with the inputs that are given at once, and the states that they determine; None without them.
        inputs: the inputs of the model.
        outputs: the outputs of the decoder before its states.
        frames: number of frames in a step: the product of the strides of the model.
        look_back: number of steps that all convolutions together look back.
        encoded: for each state, its position among the outputs of the encoder; None for a state that begins by itself.
        calls: each call in the order in which the graph runs: the layer or operation, and its outputs in a step; None in
            the place of those that have no value there.
        layer_states: the calls of layers with states among them, in the order of their states.
    """

    decoder: keras.Model
    encoder: keras.Model | None
    inputs: list[ModelInput]
    outputs: list[StepOutput]
    frames: int
    look_back: int
    encoded: list[int | None]
    calls: list[tuple[Any, list[PerStep | SoFar | None]]]
    layer_states: list[LayerStates]

    def stepwise(self, values: Sequence[T]) -> list[T]:
        """Returns, of one value for each input of the model, those of the inputs that are read step by step."""
        return [one for given, one in zip(self.inputs, values, strict=True) if given.is_stepped]

    def at_once(self, values: Sequence[T]) -> list[T]:
        """Returns, of one value for each input of the model, those of the inputs that are given at once."""
        return [one for given, one in zip(self.inputs, values, strict=True) if not given.is_stepped]

    def merged(self, stepwise: Sequence[T], at_once: Sequence[T]) -> list[T]:
        """Returns one value for each input of the model, from what `stepwise` and `at_once` return."""
        by_kind = {True: iter(stepwise), False: iter(at_once)}
        return [next(by_kind[given.is_stepped]) for given in self.inputs]

    @property
    def state_count(self) -> int:
        """The number of states."""
        return len(self.encoded)

    @property
    def is_recurrent(self) -> bool:
        """Whether all states are those of recurrent layers, and each step has one frame and an output for it."""
        of_layers = sum(step.state_count for step in self.layer_states if step.is_recurrent)
        plain = all(not output.so_far and output.frames == 1 and not output.delay for output in self.outputs)
        return of_layers == self.state_count and self.frames == 1 and plain and len(self.inputs) == 1

    @property
    def summary(self) -> str:
        """What the one-step form has, for error messages."""
        kept = ", ".join(repr(step.layer.name) for step in self.layer_states)
        names = ", ".join(repr(given.name) for given in self.inputs)
        return f"inputs {names}, states of {kept}, {self.frames} frames in a step"


def step_graph(model: keras.Model, inputs: Sequence[ModelInput], outputs: Sequence[int]) -> StepGraph:
    """Returns the one-step form of a model, which shares every weight with `model`. It is not verified yet.

    Args:
        model: a Sequential or Functional model.
        inputs: what each input of it is.
        outputs: positions of the outputs that a step gives.

    Raises:
        SteppingError: a layer looks across time or into the future, or the model takes less than one step. The message
            names the layer.
    """
    frames = 1
    while True:
        names = UniqueNames([given.name for given in inputs])
        calls = StepCalls(names)
        step_inputs = [given.step_tensor(frames) if given.is_stepped else given.at_once_tensor() for given in inputs]
        values = [_value_of(*pair, frames) for pair in zip(inputs, step_inputs, strict=True)]
        results = run_graph(model, values, calls)
        if calls.factor == 1:
            break
        frames *= calls.factor
        _require_whole_steps(inputs, frames)
    return _graph_of(model, inputs, step_inputs, [(index, results[index]) for index in outputs], frames, calls)


def _value_of(given: ModelInput, tensor: Any, frames: int) -> Value:
    """Returns what the model reads in the place of one of its inputs."""
    if not given.is_stepped:
        return AtOnce(given.as_model_takes(tensor))
    return PerStep(given.as_model_takes(tensor), frames, length=given.tensor.shape[1])


def _require_whole_steps(inputs: Sequence[ModelInput], frames: int) -> None:
    if frames > _MOST_FRAMES:
        raise SteppingError(
            f"`model` must have strides whose product is at most {_MOST_FRAMES:,}. Received: {frames:,}"
        )
    for given in inputs:
        length = given.tensor.shape[1] if given.is_stepped else None
        if length is not None and length < frames:
            raise SteppingError(
                f"`model` must take at least one step of {frames} frames, the product of its strides. "
                f"Received: input {given.name!r} with {length} frames"
            )


def _graph_of(
    model: keras.Model,
    inputs: Sequence[ModelInput],
    tensors: list[Any],
    results: list[tuple[int, Any]],
    frames: int,
    calls: StepCalls,
) -> StepGraph:
    for index, result in results:
        if isinstance(result, NotPerStep):
            raise result.reason
        if not isinstance(result, PerStep | SoFar):
            raise SteppingError(
                f"`model` must give outputs that depend on each step. Received: output {index}, which depends only on what "
                "is given at once"
            )
        if isinstance(result, PerStep) and result.padding:
            raise SteppingError(f"`model` must not end in frames of zeros. Received: output {index}, which is padded")
    if not calls.layer_states:
        raise SteppingError(
            f"`model` must have a recurrent layer, or a convolution over time. Received: {model.name} with none"
        )
    step_tensors = [tensor for given, tensor in zip(inputs, tensors, strict=True) if given.is_stepped]
    decoder = keras.Model(
        [*step_tensors, *(state.before for state in calls.states)],
        [*(result.tensor for _, result in results), *(state.after for state in calls.states)],
        name="step",
    )
    starts = [state.start for state in calls.states]
    encoded = [start for start in starts if start is not None]
    at_once = [tensor for given, tensor in zip(inputs, tensors, strict=True) if not given.is_stepped]
    encoder = keras.Model(at_once, [start.tensor for start in encoded], name="encoder") if encoded else None
    positions = iter(range(len(encoded)))
    return StepGraph(
        decoder,
        encoder,
        list(inputs),
        _outputs_of(model, results, inputs),
        frames,
        calls.look_back,
        [None if start is None else next(positions) for start in starts],
        calls.values_by_call(),
        calls.layer_states,
    )


def _outputs_of(
    model: keras.Model, results: list[tuple[int, PerStep | SoFar]], inputs: Sequence[ModelInput]
) -> list[StepOutput]:
    names = UniqueNames([given.name for given in inputs])
    return [
        StepOutput(
            index,
            names.unique(_output_name(model, index)),
            isinstance(result, SoFar),
            result.frames if isinstance(result, PerStep) else 1,
            result.delay,
        )
        for index, result in results
    ]


def _output_name(model: keras.Model, index: int) -> str:
    """Returns the name of an output: its key, for a model that returns a dictionary, or that of its layer."""
    if len(model.outputs) == 1:
        return "output"
    path, _ = tree.flatten_with_path(model.output)[index]
    return path[-1] if path and isinstance(path[-1], str) else model.output_names[index]
