"""Compares the one-step form of a model with the whole model, and finds the layer that makes the difference."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_seq.errors import ModelError, SteppingError
from keras_seq.models.difference import Difference, first_difference, tolerance_of
from keras_seq.models.graph import label
from keras_seq.models.logits import are_probabilities, as_logits
from keras_seq.models.step_graph import StepGraph
from keras_seq.models.whole_model import outputs_by_call


def require_equal_steps(
    model: keras.Model,
    graph: StepGraph,
    decode: Callable[..., Any],
    initial: Sequence[np.ndarray],
    rows: np.ndarray,
    whole: np.ndarray,
) -> None:
    """Requires the one-step form of a model to give the outputs of the model.

    Args:
        model: the model over sequences.
        graph: its one-step form.
        decode: the decoder as a function.
        initial: the states before the first step, each `(units,)`.
        rows: sequences for the model, `(rows, steps, ...)`.
        whole: the outputs of the model for them, `(rows, steps, ...)`.

    Raises:
        SteppingError: they differ. The message names the layer.
    """
    tolerance = tolerance_of(model)
    (outputs,) = _walk(decode, initial, _inputs_of(graph, rows), outputs=1)
    difference = first_difference(_comparable(whole), _comparable(outputs), tolerance)
    if difference is None:
        return
    operation, difference = _first_layer_that_differs(model, graph, initial, rows, tolerance) or (model, difference)
    what = "it" if operation is model else label(operation)
    raise SteppingError(
        f"`model` cannot be stepped: {what} gives another output, step by step, than over the whole sequence; they "
        f"differ by {difference.size:.3g} at step {difference.step}"
    )


def _comparable(outputs: np.ndarray) -> np.ndarray:
    """Returns the logarithms of probabilities, of which a small one counts as much as a large one; others as they are."""
    return np.asarray(as_logits(outputs, are_probabilities(outputs)))


def _walk(decode: Callable[..., Any], initial: Sequence[np.ndarray], inputs: Any, outputs: int) -> list[np.ndarray]:
    """Returns outputs of a decoder, each `(rows, steps, ...)` float32; its states follow after `outputs` of them."""
    states: list[Any] = _in_rows(initial, len(inputs))
    steps = []
    for step in range(inputs.shape[1]):
        answers = decode(inputs[:, step], *states)
        states = answers[outputs:]
        steps.append(answers[:outputs])
    return [
        np.stack([np.asarray(ops.cast(one, "float32")) for one in of_output], axis=1)
        for of_output in zip(*steps, strict=True)
    ]


def _first_layer_that_differs(
    model: keras.Model, graph: StepGraph, initial: Sequence[np.ndarray], rows: np.ndarray, tolerance: float
) -> tuple[Any, Difference] | None:
    """Returns the first layer in the graph whose outputs differ, and where."""
    whole = outputs_by_call(model, rows)
    compared = [
        (operation, of_step, of_whole)
        for (operation, outputs), (_, of_call) in zip(graph.calls, whole, strict=True)
        for of_step, of_whole in zip(outputs, of_call, strict=False)
        if of_step is not None
    ]
    decoder = graph.decoder
    every = keras.Model(decoder.inputs, [*(of_step for _, of_step, _ in compared), *decoder.outputs[1:]])
    inputs = _inputs_of(graph, rows)
    walked = _walk(lambda value, *states: every([value, *states], training=False), initial, inputs, len(compared))
    for (operation, _, of_whole), of_step in zip(compared, walked, strict=True):
        if of_whole.shape != of_step.shape:
            return operation, Difference(0, np.inf)
        difference = first_difference(of_whole, of_step, tolerance)
        if difference is not None:
            return operation, difference
    return None


def require_single_softmax(
    model: keras.Model, graph: StepGraph, initial: Sequence[np.ndarray], rows: np.ndarray
) -> None:
    """Requires that the probabilities that a model gives are not the softmax of probabilities.

    Raises:
        ModelError: they are. The message names both layers.
    """
    output = graph.decoder.outputs[0]
    inner = [
        (operation, one)
        for operation, outputs in graph.calls
        for one in outputs
        if one is not None and one.shape == output.shape
    ]
    decoder = keras.Model(graph.decoder.inputs, [one for _, one in inner] + [output])
    first = [_inputs_of(graph, rows)[:, 0], *_in_rows(initial, len(rows))]
    *values, last = (np.asarray(one, np.float64) for one in decoder(first, training=False))
    for (operation, _), probabilities in zip(inner, values, strict=True):
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


def _inputs_of(graph: StepGraph, rows: np.ndarray) -> Any:
    """Returns sequences `(rows, steps, ...)` in the dtype of the decoder's input."""
    return ops.cast(ops.convert_to_tensor(rows), graph.decoder.inputs[0].dtype)


def _in_rows(states: Sequence[np.ndarray], rows: int) -> list[Any]:
    return [ops.tile(ops.convert_to_tensor(state)[None], (rows, 1)) for state in states]
