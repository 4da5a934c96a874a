"""The requests with which a server warms up: a small one for each signature."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_seq_export.graph.first_states import FirstStates
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.requests import warm_up_requests
from keras_seq_export.signatures import (
    DECODE,
    ENCODE,
    GENERATE,
    LENGTH,
    PLURALS,
    PREFILL,
    PREFILL_STEPS,
    ROW,
    START,
    state_name,
)

_Inputs = dict[str, np.ndarray]


def text_warm_up(step: GraphStep, start_id: int, max_length: int) -> dict[str, _Inputs]:
    """Returns one request for each signature of a model of text; see `warm_up_requests`."""
    return warm_up_requests(start_id, max_length, _states(step), _at_once(step))


def series_warm_up(step: GraphStep) -> dict[str, _Inputs]:
    """Returns one request for each signature of any other model."""
    frames = step.inputs[0].tensor.shape[1] or step.stepped.graph.frames
    whole = {
        PLURALS.get(given.name, given.name): np.zeros([1, frames, *given.tensor.shape[2:]], spec.dtype.as_numpy_dtype)
        for given, spec in zip(step.inputs, step.input_specs(None), strict=True)
    }
    states = {state_name(index): state[None] for index, state in enumerate(_states(step))}
    length = {LENGTH: np.array([PREFILL_STEPS], np.int32)}
    return {
        GENERATE: {**whole, **_at_once(step)},
        DECODE: {**_zeros(step.input_specs(None)), **states},
        PREFILL: {**_zeros(step.input_specs(None, PREFILL_STEPS)), **length, **states},
        **({ENCODE: _at_once(step)} if step.has_encoder else {START: {ROW: np.zeros(1, np.int32)}}),
    }


def _states(step: GraphStep) -> list[np.ndarray]:
    """Returns states of the right shapes, each `(units,)`."""
    return [np.zeros(units, np.float32) for units in step.units] if step.has_encoder else step.initial


def _at_once(step: GraphStep) -> _Inputs:
    """Returns what `encode` takes, for one row; each source has one frame."""
    lengths = {spec.name for spec in FirstStates(step).specs} - {given.name for given in step.stepped.inputs_at_once}
    values = _zeros(FirstStates(step).specs)
    return {name: np.ones_like(value) if name in lengths else value for name, value in values.items()}


def _zeros(specs: Sequence[tf.TensorSpec]) -> _Inputs:
    return {spec.name: np.zeros([size or 1 for size in spec.shape], spec.dtype.as_numpy_dtype) for spec in specs}
