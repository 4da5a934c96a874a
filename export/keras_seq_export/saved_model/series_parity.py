"""Verifying a SavedModel of a model that is not of text: every signature is compared with the model."""

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_seq.models.difference import scales
from keras_seq.models.probe import most_steps, random_rows, steps_to_compare
from keras_seq.models.step_comparison import as_steps, expected_outputs, first_steps
from keras_seq.models.step_graph import StepGraph
from keras_seq.models.step_model import stepped
from keras_seq.models.whole_model import whole_outputs
from keras_seq_export.comparison import compare, require_equal_but_for_rounding
from keras_seq_export.graph.encoder import length_name
from keras_seq_export.graph.step import GraphStep, signature_dtype
from keras_seq_export.saved_model.at_once import AtOnce, states_of_rows
from keras_seq_export.saved_model.cpp_session import Request
from keras_seq_export.saved_model.session_answers import run_all
from keras_seq_export.saved_model.warm_up import series_warm_up
from keras_seq_export.signatures import (
    DECODE,
    ENCODE,
    GENERATE,
    LENGTH,
    OUTPUT,
    PLURALS,
    PREFILL,
    PREFILL_STEPS,
    ROW,
    START,
    state_name,
)

_ROWS = 3
_STEPS = 256  # steps of each row
_PADDING = 3  # frames after the end of a source

_Answer = dict[str, np.ndarray]


def verify_series(
    model: keras.Model, exported: keras.Model, step: GraphStep, directory: Path
) -> dict[str, dict[str, float]]:
    """Runs every signature of a SavedModel in TensorFlow's C++ session and compares the answers with the model's.

    Differences are relative to the size of each number; see `keras_seq.models.difference.scales`.

    Args:
        model: the model of the user, over sequences.
        exported: the model from which the file was made: `model`, or its copy in float32.
        step: the one-step form of `exported`.
        directory: the SavedModel.

    Returns:
        What was compared, by signature.

    Raises:
        ExportError: a signature does not run in the C++ session, or its outputs differ from the model's.
    """
    inputs = _Inputs.random(exported, step)
    first = START if not step.has_encoder else ENCODE
    requests = [*inputs.requests(step), Request(first, inputs.first)]
    decoded, prefilled, served, *prefixes, started = run_all(directory, requests, series_warm_up(step))
    # The session runs on the CPU; an accelerator may compute in lower precision.
    with tf.device("/CPU:0"):
        return {
            DECODE: _compare_decode(model, exported, inputs, decoded),
            PREFILL: _compare_prefill(step, inputs, decoded, prefilled, prefixes),
            GENERATE: _compare_whole(exported, step, inputs, served),
            first: _compare_first(first, inputs, started),
        }


class _Inputs(NamedTuple):
    """The inputs on which the file is compared with the model.

    Attributes:
        whole: a value for each input of the model, whole sequences `(rows, frames, ...)` or what is given at once.
        steps: number of steps that `decode` reads.
        by_step: for each input of a step, `(rows, steps, ...)`, by name.
        at_once: the inputs of `encode` for these rows; the sources are padded.
        states: the states before the first step of these rows, each `(rows, units)`.
        lengths: number of steps that `prefill` reads of each row.
        first: the inputs of `start`, or of `encode` for sources of several lengths.
        first_states: what it must return for each row.
    """

    whole: list[np.ndarray]
    steps: int
    by_step: _Answer
    at_once: _Answer
    states: _Answer
    lengths: np.ndarray
    first: _Answer
    first_states: list[list[np.ndarray]]

    @classmethod
    def random(cls, model: keras.Model, step: GraphStep) -> "_Inputs":
        """Returns random inputs, the same on every call."""
        graph = step.stepped.graph
        length = step.inputs[0].tensor.shape[1]
        steps = steps_to_compare(max(_STEPS // graph.frames, PREFILL_STEPS + 1), graph.look_back)
        steps = min(steps, most_steps(model))
        if length is not None:
            steps = length // graph.frames if step.stepped.has_values_so_far else min(steps, length // graph.frames)
        whole = random_rows(model, graph.inputs, _ROWS, length or steps * graph.frames)
        dtypes = [spec.dtype.as_numpy_dtype for spec in step.input_specs(None)]
        by_step = {
            given.name: as_steps(graph, one[:, : steps * graph.frames], steps).astype(dtype)
            for given, one, dtype in zip(step.inputs, graph.stepwise(whole), dtypes, strict=True)
        }
        given_at_once = graph.at_once(whole)
        one_by_one = AtOnce.random(model, step, _ROWS)
        with tf.device("/CPU:0"):
            states = states_of_rows(step, given_at_once, _ROWS)
        return cls(
            whole,
            steps,
            by_step,
            _padded(step, given_at_once),
            {state_name(index): state for index, state in enumerate(states)},
            np.minimum([1, PREFILL_STEPS, 7], steps).astype(np.int32),
            one_by_one.inputs if step.has_encoder else {ROW: np.zeros(_ROWS, np.int32)},
            one_by_one.states,
        )

    def requests(self, step: GraphStep) -> list[Request]:
        """Returns the requests to `decode`, `prefill` and `serving_default`, and to `decode` for each row of `prefill`."""
        stepwise = {name: values.swapaxes(0, 1) for name, values in self.by_step.items()}
        missing = max(0, PREFILL_STEPS - self.steps)
        several = {
            PLURALS.get(name, name): np.pad(values, [(0, 0), (0, missing), *[(0, 0)] * (values.ndim - 2)])
            for name, values in self.by_step.items()
        }
        first = {name: values[:, :PREFILL_STEPS] for name, values in several.items()}
        # The initial states are the defaults.
        states = self.states if step.has_encoder else {}
        specs, sequences = step.input_specs(None), step.stepped.graph.stepwise(self.whole)
        whole = {
            PLURALS.get(spec.name, spec.name): one.astype(spec.dtype.as_numpy_dtype)
            for spec, one in zip(specs, sequences, strict=True)
        }
        return [
            Request(DECODE, {**stepwise, **self.states}, scan=tuple(stepwise)),
            Request(PREFILL, {**first, LENGTH: self.lengths, **states}),
            Request(GENERATE, {**whole, **self.at_once}),
            *(self._first_steps(row, length) for row, length in enumerate(self.lengths)),
        ]

    def _first_steps(self, row: int, length: int) -> Request:
        stepwise = {name: values[row : row + 1, :length].swapaxes(0, 1) for name, values in self.by_step.items()}
        states = {name: state[row : row + 1] for name, state in self.states.items()}
        return Request(DECODE, {**stepwise, **states}, scan=tuple(stepwise))


def _padded(step: GraphStep, values: list[np.ndarray]) -> _Answer:
    """Returns what is given at once as the inputs of `encode`; each source ends in frames that must not be read."""
    if not step.has_encoder:
        return {}
    wanted, inputs = step.stepped.inputs_at_once, _Answer()
    for given, one in zip(wanted, values, strict=True):
        inputs[given.name] = one.astype(signature_dtype(given.tensor).as_numpy_dtype)
        if (name := length_name(given, wanted)) is not None:
            inputs[name] = np.full(len(one), one.shape[1], np.int32)
            inputs[given.name] = np.concatenate([inputs[given.name], inputs[given.name][:, :_PADDING]], axis=1)
    return inputs


def _compare_decode(model: keras.Model, exported: keras.Model, inputs: _Inputs, decoded: _Answer) -> dict[str, float]:
    """Compares the outputs of `decode`, one step after another, with those of the user's model."""
    difference = 0.0
    # In half precision, the copy in float32 tells more.
    for of_model in [exported] if model is exported else [exported, model]:
        graph = stepped(of_model).graph
        values = first_steps(graph, inputs.whole, inputs.steps)
        difference = 0.0
        for name, one in zip(_names(graph), expected_outputs(of_model, graph, values), strict=True):
            output = decoded[name].swapaxes(0, 1)[:, one.steps]
            if of_model is exported:
                size = scales(one.values)
                compare(DECODE, one.values / size, output / size)
            else:
                require_equal_but_for_rounding(DECODE, model, one.values, output)
            difference = max(difference, float(np.abs(one.values - output).max()))
    return {"steps_compared": _ROWS * inputs.steps, "largest_difference": difference}


def _names(graph: StepGraph) -> list[str]:
    """Returns the names of the outputs of a step in the signatures."""
    return [output.name for output in graph.outputs] if len(graph.outputs) > 1 else [OUTPUT]


def _compare_prefill(
    step: GraphStep, inputs: _Inputs, decoded: _Answer, prefilled: _Answer, prefixes: list[_Answer]
) -> dict[str, float]:
    """Compares the outputs and the states of `prefill` with those of `decode`, step by step."""
    difference = 0.0
    for name in step.outputs:
        by_step = decoded[name].swapaxes(0, 1)
        size, expected = scales(by_step), by_step[np.arange(_ROWS), inputs.lengths - 1]
        compare(PREFILL, expected / size, prefilled[name] / size)
        difference = max(difference, float(np.abs(expected - prefilled[name]).max()))
    for name in inputs.states:
        expected = np.concatenate([answer[name] for answer in prefixes])
        size = scales(expected[:, None])
        compare(f"{PREFILL}, {name}", expected / size, prefilled[name] / size)
    return {"rows_compared": _ROWS, "largest_difference": difference}


def _compare_whole(exported: keras.Model, step: GraphStep, inputs: _Inputs, served: _Answer) -> dict[str, float]:
    """Compares `serving_default` with the model over whole sequences."""
    graph, difference = step.stepped.graph, 0.0
    whole = whole_outputs(exported, graph.inputs, inputs.whole)
    for name, output in zip(step.outputs, graph.outputs, strict=True):
        expected = whole[output.position]
        size = scales(expected[:, None] if output.so_far else expected)
        compare(GENERATE, expected / size, served[name] / size)
        difference = max(difference, float(np.abs(expected - served[name]).max()))
    return {"rows_compared": _ROWS, "largest_difference": difference}


def _compare_first(signature: str, inputs: _Inputs, answer: _Answer) -> dict[str, float]:
    """Compares the states that `start` or `encode` returns."""
    difference = 0.0
    for index, rows in enumerate(zip(*inputs.first_states, strict=True)):
        name = state_name(index)
        difference = max(difference, compare(f"{signature}, {name}", np.concatenate(rows), answer[name]))
    return {"rows_compared": _ROWS, "largest_difference": difference}
