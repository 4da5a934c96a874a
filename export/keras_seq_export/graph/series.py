"""The signature `serving_default` of a model that is not of text: whole sequences in, what the model gives for them out."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_seq.models.inputs import ModelInput
from keras_seq.models.step_graph import StepOutput
from keras_seq.models.whole_model import whole_outputs
from keras_seq_export.graph.endpoints import Endpoint
from keras_seq_export.graph.first_states import FirstStates
from keras_seq_export.graph.limits import Limits, most_rows
from keras_seq_export.graph.request_checks import Inputs, check, checked_endpoint, id_check
from keras_seq_export.graph.step import GraphStep, signature_dtype
from keras_seq_export.signatures import PLURALS


class _Plan(NamedTuple):
    """How many steps a sequence takes.

    Attributes:
        length: number of frames that the model takes; None for any multiple of those in a step.
        late_frames: for each output, the number of frames that are not known yet after the steps of an input; None for a
            value so far.
        steps_of_zeros: number of steps of zeros that give the late frames, on which the zeros have no effect.
    """

    length: int | None
    late_frames: list[int | None]
    steps_of_zeros: int


def series_endpoint(model: keras.Model, step: GraphStep, limits: Limits) -> Endpoint:
    """Returns the function and the input signature of `serving_default`, which runs one step after the other.

    Args:
        model: the model over sequences.
        step: its one-step form.
        limits: how large a request may be.
    """
    graph, first_states, plan = step.stepped.graph, FirstStates(step), _plan_of(model, step)
    specs = [_sequence_spec(given) for given in step.inputs]

    def serve(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        values, at_once = given[: len(specs)], given[len(specs) :]
        rows = tf.shape(values[0])[0]
        steps = tf.shape(values[0])[1] // graph.frames
        padded = [_by_step(value, graph.frames, steps + plan.steps_of_zeros) for value in values]
        return _run(step, padded, first_states(rows, at_once), rows, steps, plan)

    def checks(inputs: Inputs) -> Iterator[tf.Operation]:
        frames = [tf.shape(inputs[spec.name])[1] for spec in specs]
        if plan.length is None:
            whole = (frames[0] >= graph.frames) & tf.equal(frames[0] % graph.frames, 0)
            expected = f"`{specs[0].name}` must have a multiple of {graph.frames} frames, at least {graph.frames}."
            yield check(whole, expected, frames[0])
        for spec, count in zip(specs[1:], frames[1:], strict=True):
            expected = f"`{spec.name}` must have as many frames as `{specs[0].name}`."
            yield check(tf.equal(count, frames[0]), expected, count)
        for spec, one in zip(specs, step.inputs, strict=True):
            if one.token_count is not None:
                yield id_check(spec.name, inputs[spec.name], one.token_count)
        yield from first_states.checks(inputs)

    def size_checks(inputs: Inputs) -> Iterator[tf.Operation]:
        yield from limits.sequence_checks(specs[0].name, inputs[specs[0].name], graph.frames)
        yield from first_states.size_checks(inputs, limits)

    return checked_endpoint((serve, [*specs, *first_states.specs]), {}, checks, size_checks, most_rows(step))


def _sequence_spec(given: ModelInput) -> tf.TensorSpec:
    """Returns the spec of an input over a whole sequence, `(batch, frames, ...)`."""
    name = PLURALS.get(given.name, given.name)
    return tf.TensorSpec([None, *given.tensor.shape[1:]], signature_dtype(given.tensor), name)


def _plan_of(model: keras.Model, step: GraphStep) -> _Plan:
    graph = step.stepped.graph
    length: int | None = step.inputs[0].tensor.shape[1]
    # Enough steps that every output is known.
    frames = length or graph.frames * (2 + max(output.delay for output in graph.outputs))
    steps = frames // graph.frames
    late_frames: list[int | None] = [None if output.so_far else 0 for output in graph.outputs]
    if graph.frames > 1 and late_frames != [None] * len(late_frames):
        whole = _outputs_of_zeros(model, step, frames)
        for index, output in enumerate(graph.outputs):
            if not output.so_far:
                known = output.frames * max(0, steps - output.delay)
                late_frames[index] = max(0, whole[output.position].shape[1] - known)
    pairs = zip(graph.outputs, late_frames, strict=True)
    return _Plan(length, late_frames, max(-(-(late or 0) // output.frames) for output, late in pairs))


def _outputs_of_zeros(model: keras.Model, step: GraphStep, frames: int) -> list[np.ndarray]:
    """Returns what the model gives for a row of zeros."""
    values = []
    for given in step.stepped.graph.inputs:
        shape = list(given.tensor.shape[1:])
        if given.is_stepped or given.has_length:
            shape[0] = frames
        values.append(np.zeros([1, *shape], signature_dtype(given.tensor).as_numpy_dtype))
    return whole_outputs(model, step.stepped.graph.inputs, values)


def _by_step(values: tf.Tensor, frames: int, steps: tf.Tensor) -> tf.Tensor:
    """Returns frames `(rows, frames, ...)` as steps `(rows, steps, ...)`; frames of zeros follow after the last."""
    if frames == 1:
        return values
    shape = tf.shape(values)
    missing = tf.maximum(steps * frames - shape[1], 0)
    padded = tf.concat([values, tf.zeros(tf.concat([shape[:1], [missing], shape[2:]], 0), values.dtype)], axis=1)
    return tf.reshape(padded[:, : steps * frames], tf.concat([[shape[0], steps, frames], shape[2:]], 0))


def _run(
    step: GraphStep,
    values: Sequence[tf.Tensor],
    states: Sequence[tf.Tensor],
    rows: tf.Tensor,
    steps: tf.Tensor,
    plan: _Plan,
) -> dict[str, tf.Tensor]:
    """Returns the outputs of the model after `steps` steps, and those that the steps of zeros give."""
    outputs = step.stepped.graph.outputs
    shapes = [tensor.shape[1:] for tensor in step.stepped.decoder.outputs[: len(outputs)]]
    kept = [
        tf.zeros([rows, *shape])
        if output.so_far
        else tf.TensorArray(tf.float32, size=steps + plan.steps_of_zeros, element_shape=[None, *shape])
        for output, shape in zip(outputs, shapes, strict=True)
    ]

    def advance(position: tf.Tensor, kept: list, states: list[tf.Tensor]) -> tuple:
        named, states = step.run([tf.gather(one, position, axis=1) for one in values], states)
        kept = [
            tf.where(position < steps, value, before) if output.so_far else before.write(position, value)
            for output, value, before in zip(outputs, named.values(), kept, strict=True)
        ]
        return position + 1, kept, states

    _, kept, _ = tf.while_loop(
        lambda position, *_: position < steps + plan.steps_of_zeros, advance, (tf.constant(0), kept, list(states))
    )
    rows_of = zip(outputs, kept, plan.late_frames, strict=True)
    values_of = [one if late is None else _frames_of(output, one, steps, late) for output, one, late in rows_of]
    return dict(zip(step.outputs, values_of, strict=True))


def _frames_of(output: StepOutput, array: tf.TensorArray, steps: tf.Tensor, late_frames: int) -> tf.Tensor:
    """Returns the frames `(rows, frames, ...)` of an output, from the first that is known on."""
    stacked = array.stack()
    by_row = tf.transpose(stacked, [1, 0, *range(2, len(stacked.shape))])
    if output.frames > 1:
        shape = tf.shape(by_row)
        by_row = tf.reshape(by_row, tf.concat([[shape[0], shape[1] * output.frames], shape[3:]], 0))
    count = output.frames * tf.maximum(steps - output.delay, 0) + late_frames
    return by_row[:, output.delay * output.frames :][:, :count]
