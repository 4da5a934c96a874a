"""Compares the one-step form of a model with the whole model, and finds the layer that makes the difference."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_seq.errors import ModelError, SteppingError
from keras_seq.models.difference import Difference, first_difference, tolerance_of
from keras_seq.models.graph import label
from keras_seq.models.logits import are_probabilities, as_logits
from keras_seq.models.step_graph import StepGraph, StepOutput
from keras_seq.models.step_values import PerStep
from keras_seq.models.whole_model import outputs_by_call, whole_outputs


class Expected(NamedTuple):
    """What one output of a model is at some steps.

    Attributes:
        steps: positions of the steps, ascending.
        values: the output after each, `(rows, len(steps), ...)` float32.
    """

    steps: np.ndarray
    values: np.ndarray


def expected_outputs(model: keras.Model, graph: StepGraph, values: Sequence[np.ndarray]) -> list[Expected]:
    """Returns what each output of a step must be, computed by the whole model.

    Args:
        model: the model over sequences.
        graph: its one-step form.
        values: what the model reads, as `probe_values` returns it.
    """
    count = step_count(graph, values)
    whole = whole_outputs(model, graph.inputs, values)
    expected = [_by_step(output, whole[output.position], count) for output in graph.outputs]
    for prefix in reversed(_prefixes(graph, count)) if any(output.so_far for output in graph.outputs) else ():
        whole = whole_outputs(model, graph.inputs, first_steps(graph, values, prefix))
        for index, output in enumerate(graph.outputs):
            if output.so_far:
                steps, later = expected[index]
                earlier = whole[output.position][:, None]
                expected[index] = Expected(np.append(prefix - 1, steps), np.concatenate([earlier, later], axis=1))
    return expected


def step_count(graph: StepGraph, values: Sequence[np.ndarray]) -> int:
    """Returns the number of steps of what a model reads."""
    return graph.stepwise(values)[0].shape[1] // graph.frames


def first_steps(graph: StepGraph, values: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Returns the first steps of what a model reads, and all that it is given at once."""
    pairs = zip(graph.inputs, values, strict=True)
    return [one[:, : count * graph.frames] if given.is_stepped else one for given, one in pairs]


def as_steps(graph: StepGraph, values: np.ndarray, count: int) -> np.ndarray:
    """Returns frames `(rows, frames, ...)` by steps: themselves, or `(rows, count, frames, ...)` if a step has several."""
    if graph.frames == 1:
        return values
    return values.reshape(len(values), count, graph.frames, *values.shape[2:])


def as_frames(graph: StepGraph, values: np.ndarray) -> np.ndarray:
    """Returns what `as_steps` was given."""
    return values if graph.frames == 1 else values.reshape(len(values), -1, *values.shape[3:])


def up_to_length(graph: StepGraph, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns what a model reads, up to the number of frames that it takes."""
    pairs = zip(graph.inputs, values, strict=True)
    return [one[:, : given.tensor.shape[1]] if given.is_stepped else one for given, one in pairs]


def _prefixes(graph: StepGraph, count: int) -> list[int]:
    """Returns how many steps are read to compare values so far, fewer than all; none if the model takes a fixed number."""
    if any(given.tensor.shape[1] is not None for given in graph.stepwise(graph.inputs)):
        return []
    first = 1 + max(output.delay for output in graph.outputs)
    return [steps for steps in (first, (first + count) // 2) if steps < count]


def _by_step(output: StepOutput, whole: np.ndarray, count: int) -> Expected:
    """Returns the outputs `(rows, ...)` or `(rows, frames, ...)` of the whole model by steps."""
    if output.so_far:
        return Expected(np.array([count - 1]), whole[:, None])
    rows, frames, *shape = whole.shape
    groups = frames // output.frames
    whole = whole[:, : groups * output.frames]
    by_step = whole.reshape(rows, groups, *([output.frames] if output.frames > 1 else []), *shape)
    by_step = by_step[:, : max(0, count - output.delay)]
    return Expected(output.delay + np.arange(by_step.shape[1]), by_step)


def require_equal_steps(
    model: keras.Model,
    graph: StepGraph,
    decode: Callable[..., Any],
    initial: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    expected: Sequence[Expected],
) -> None:
    """Requires the one-step form of a model to give the outputs of the model.

    Args:
        model: the model over sequences.
        graph: its one-step form.
        decode: the decoder as a function.
        initial: the states before the first step, each `(rows, units)`.
        values: what the model reads.
        expected: what `expected_outputs` returns for it.

    Raises:
        SteppingError: they differ. The message names the layer.
    """
    tolerance = tolerance_of(model)
    outputs = _walk(decode, initial, graph, values, outputs=len(graph.outputs))
    for output, of_whole, of_steps in zip(graph.outputs, expected, outputs, strict=True):
        by_step = of_steps[:, of_whole.steps]
        if by_step.shape != of_whole.values.shape:
            raise SteppingError(
                f"`model` cannot be stepped: output {output.name!r} has the shape {of_whole.values.shape[2:]} in the model, "
                f"and {by_step.shape[2:]} in a step"
            )
        difference = first_difference(_comparable(of_whole.values), _comparable(by_step), tolerance)
        if difference is not None:
            step = int(of_whole.steps[difference.step])
            found = _first_layer_that_differs(model, graph, initial, values, tolerance)
            operation, difference = found or (model, Difference(step, difference.size))
            what = "it" if operation is model else label(operation)
            raise SteppingError(
                f"`model` cannot be stepped: {what} gives another output, step by step, than over the whole sequence; they "
                f"differ by {difference.size:.3g} at step {difference.step}{_of_rest(graph)}"
            )


def _of_rest(graph: StepGraph) -> str:
    """Returns what to do if the model takes frames that do not fill a step, which may make a difference at the end."""
    lengths = {given.tensor.shape[1] for given in graph.stepwise(graph.inputs)}
    rest = [length for length in lengths if length is not None and length % graph.frames]
    return f"; it takes {rest[0]} frames, but a step has {graph.frames}: make it a multiple" if rest else ""


def _comparable(outputs: np.ndarray) -> np.ndarray:
    """Returns the logarithms of probabilities, of which a small one counts as much as a large one; others as they are."""
    return np.asarray(as_logits(outputs, are_probabilities(outputs)))


def _walk(
    decode: Callable[..., Any],
    initial: Sequence[np.ndarray],
    graph: StepGraph,
    values: Sequence[np.ndarray],
    outputs: int,
) -> list[np.ndarray]:
    """Returns outputs of a decoder, each `(rows, steps, ...)` float32; its states follow after `outputs` of them."""
    states: list[Any] = [ops.convert_to_tensor(state) for state in initial]
    steps = []
    for step in range(step_count(graph, values)):
        answers = decode(*values_of_step(graph, values, step), *states)
        states = answers[outputs:]
        steps.append(answers[:outputs])
    return [
        np.stack([np.asarray(ops.cast(one, "float32")) for one in of_output], axis=1)
        for of_output in zip(*steps, strict=True)
    ]


def values_of_step(graph: StepGraph, values: Sequence[np.ndarray], step: int) -> list[Any]:
    """Returns what the decoder reads in a step, in the dtypes of its inputs."""
    frames = slice(step * graph.frames, (step + 1) * graph.frames)
    parts = [one[:, step] if graph.frames == 1 else one[:, frames] for one in graph.stepwise(values)]
    return [
        ops.cast(ops.convert_to_tensor(part), tensor.dtype)
        for part, tensor in zip(parts, graph.decoder.inputs, strict=False)
    ]


def _first_layer_that_differs(
    model: keras.Model,
    graph: StepGraph,
    initial: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    tolerance: float,
) -> tuple[Any, Difference] | None:
    """Returns the first layer in the graph whose outputs differ, and where."""
    whole = outputs_by_call(model, graph.inputs, values)
    compared = [
        (operation, of_step.tensor, of_whole)
        for (operation, outputs), (_, of_call) in zip(graph.calls, whole, strict=True)
        for of_step, of_whole in zip(outputs, of_call, strict=False)
        if isinstance(of_step, PerStep) and of_step.frames == 1 and not of_step.delay + of_step.padding
    ]
    decoder, first = graph.decoder, len(graph.outputs)
    every = keras.Model(decoder.inputs, [*(of_step for _, of_step, _ in compared), *decoder.outputs[first:]])
    walked = _walk(lambda *given: every([*given], training=False), initial, graph, values, len(compared))
    for (operation, _, of_whole), of_step in zip(compared, walked, strict=True):
        count = min(of_whole.shape[1] if of_whole.ndim > 1 else 0, of_step.shape[1])
        of_whole, of_step = of_whole[:, :count], of_step[:, :count]
        if of_whole.shape != of_step.shape:
            return operation, Difference(0, np.inf)
        difference = first_difference(of_whole, of_step, tolerance)
        if difference is not None:
            return operation, difference
    return None


def require_single_softmax(
    model: keras.Model, graph: StepGraph, initial: Sequence[np.ndarray], values: Sequence[np.ndarray]
) -> None:
    """Requires that the probabilities that a language model gives are not the softmax of probabilities.

    Raises:
        ModelError: they are. The message names both layers.
    """
    output = graph.decoder.outputs[0]
    inner = [
        (operation, one.tensor)
        for operation, outputs in graph.calls
        for one in outputs
        if one is not None and one.tensor.shape == output.shape
    ]
    decoder = keras.Model(graph.decoder.inputs, [one for _, one in inner] + [output])
    first = [*values_of_step(graph, values, 0), *map(ops.convert_to_tensor, initial)]
    *others, last = (np.asarray(one, np.float64) for one in decoder(first, training=False))
    for (operation, _), probabilities in zip(inner, others, strict=True):
        # Their logarithms, because an untrained softmax over many tokens gives nearly the same to all.
        if not are_probabilities(probabilities):
            continue
        with np.errstate(divide="ignore"):
            of_layer, of_model = np.log(probabilities), np.log(last)
        again = probabilities - np.logaddexp.reduce(probabilities, axis=-1, keepdims=True)
        repeats = np.allclose(of_layer, of_model, rtol=0, atol=1e-3)
        if not repeats and np.allclose(again, of_model, rtol=0, atol=1e-5):
            raise ModelError(
                f"`model` must end in one softmax, or none. Received: {model.name}, which takes a softmax of the "
                f"probabilities that {label(operation)} gives; remove one of them"
            )
