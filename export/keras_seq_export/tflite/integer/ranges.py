"""The range of each number in a step of a model, from its weights alone: no text is needed to find it.

Interval arithmetic (Moore 1966) over the operators of the step. States are taken to lie in [-1, 1]; that the new states then lie there
too is checked. A gate z and 1 - z belong together: z * a + (1 - z) * b lies between a and b.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.errors import ExportError
from keras_seq_export.tflite.integer.graph import StepGraph

# What an LSTM's memory is cut off to. It is a sum over all steps, so its weights do not bound it. The hyperbolic tangent
# of a larger number is 1 in 16 bits; but a memory that was larger is forgotten earlier than in the model.
MEMORY_RANGE = 32.0
_ROUNDING = 1e-6  # of float32 sums


class Range(NamedTuple):
    """The smallest and the largest value of each element of a tensor, float64 arrays that broadcast to its shape."""

    low: np.ndarray
    high: np.ndarray

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return float(max(np.abs(self.low).max(), np.abs(self.high).max()))


class Ranges(NamedTuple):
    """The ranges of a step.

    Attributes:
        of: by tensor.
        memories: states, as tensors before the step, that are sums over all steps, cut off to `MEMORY_RANGE`.
    """

    of: dict[int, Range]
    memories: set[int]


def ranges_of(graph: StepGraph, frame_range: float) -> Ranges:
    """Returns the range of each float32 tensor of a step.

    Args:
        graph: the step.
        frame_range: the largest absolute value in a frame.

    Raises:
        ExportError: a state is not bounded, or an operator has no integer form.
    """
    memories = {state.before for state in graph.states if _is_memory(graph, state.before, state.after)}
    found: dict[int, Range] = {}
    for index in graph.frames.values():
        found[index] = _symmetric(frame_range)
    for state in graph.states:
        found[state.before] = _symmetric(MEMORY_RANGE if state.before in memories else 1.0)
    for operator in graph.operators:
        outputs = _outputs(graph, operator, found)
        for state in graph.states:
            if state.before in memories and state.after in list(operator.outputs):
                outputs = [found[state.before]]
        found.update(zip(map(int, operator.outputs), outputs, strict=True))
    for state in graph.states:
        if state.before not in memories and found[state.after].largest > 1 + _ROUNDING:
            raise ExportError(
                f"integers need states between -1 and 1, but {state.name} ({graph.place(state.after)}) may leave this range: "
                "give its layer the activation tanh; or export a .tflite with another {}",
                "quantization",
            )
    return Ranges(found, memories)


def _symmetric(largest: float) -> Range:
    return Range(np.array(-largest), np.array(largest))


def _is_memory(graph: StepGraph, before: int, after: int) -> bool:
    """Returns whether a state is gate * state + something in [-1, 1], as an LSTM's memory is, and no mixture of both."""
    add = graph.producer(after, "ADD")
    if add is None or _mixed(graph, add) is not None:
        return False
    kept, added = (graph.producer(index, "MUL") for index in add.inputs)
    if kept is not None and added is not None and before in list(added.inputs):
        kept, added = added, kept
    if kept is None or added is None or before not in list(kept.inputs):
        return False
    factors = [index for index in (*kept.inputs, *added.inputs) if index != before]
    return len(factors) == 3 and all(graph.producer(index, "LOGISTIC", "TANH") is not None for index in factors)


def _outputs(graph: StepGraph, operator: schema.OperatorT, found: dict[int, Range]) -> list[Range]:
    name = graph.name(operator)

    def given(position: int) -> Range:
        index = int(operator.inputs[position])
        constant = graph.constant(index)
        if constant is None and index not in found:
            raise graph.has_no_integer_form(operator)
        return found[index] if constant is None else Range(*[constant.astype(np.float64)] * 2)

    if name in _ELEMENTWISE:
        mixed = _mixed(graph, operator) if name == "ADD" else None
        if mixed is not None and found.keys() >= set(mixed):
            one = _hull(*(found[index] for index in mixed))
        else:
            one = _ELEMENTWISE[name](given(0), given(1))
        return [_activated(graph, operator, one)]
    if name in _FIXED:
        return [_FIXED[name]]
    if name == "GATHER" and operator.builtinOptions.axis == 0:
        table = graph.weights(operator).astype(np.float64)
        return [Range(table.min(axis=0), table.max(axis=0))]
    if name == "FULLY_CONNECTED":
        return [_activated(graph, operator, _product(graph, operator, given(0)))]
    if name in ("STRIDED_SLICE", "RESHAPE") or (name == "SPLIT" and _splits_units(graph, operator)):
        whole = given(1 if name == "SPLIT" else 0)
        part = Range(np.array(whole.low.min()), np.array(whole.high.max()))  # holds for each part
        return [part] * len(operator.outputs)
    raise graph.has_no_integer_form(operator)


def _splits_units(graph: StepGraph, split: schema.OperatorT) -> bool:
    """Returns whether a SPLIT divides the last axis."""
    whole, *parts = (graph.shape(int(index)) for index in (split.inputs[1], *split.outputs))
    return all(part[:-1] == whole[:-1] for part in parts) and sum(part[-1] for part in parts) == whole[-1]


def _product(graph: StepGraph, operator: schema.OperatorT, given: Range) -> Range:
    kernel, bias = graph.weights(operator).astype(np.float64), graph.bias(operator)
    low, high = (np.broadcast_to(one.reshape(-1), kernel.shape[1]) for one in given)
    positive, negative = np.maximum(kernel, 0), np.minimum(kernel, 0)
    return Range(positive @ low + negative @ high + bias, positive @ high + negative @ low + bias)


def _mixed(graph: StepGraph, add: schema.OperatorT) -> tuple[int, int] | None:
    """Returns the tensors a and b of z * a + (1 - z) * b; None for other sums."""
    one, other = (graph.producer(index, "MUL") for index in add.inputs)
    if one is None or other is None:
        return None
    for gated, rest in ((one, other), (other, one)):
        for gate, a in (gated.inputs, gated.inputs[::-1]):
            for opposite, b in (rest.inputs, rest.inputs[::-1]):
                sub = graph.producer(opposite, "SUB")
                if sub is None or sub.inputs[1] != gate or graph.producer(gate, "LOGISTIC") is None:
                    continue
                whole = graph.constant(sub.inputs[0])
                if whole is not None and (whole == 1).all():
                    return int(a), int(b)
    return None


def _activated(graph: StepGraph, operator: schema.OperatorT, found: Range) -> Range:
    return Range(*(np.maximum(one, 0) for one in found)) if graph.is_relu(operator) else found


def _hull(one: Range, other: Range) -> Range:
    return Range(np.minimum(one.low, other.low), np.maximum(one.high, other.high))


def _product_of_ranges(one: Range, other: Range) -> Range:
    products = np.broadcast_arrays(*(left * right for left in one for right in other))
    return Range(np.minimum.reduce(products), np.maximum.reduce(products))


_ELEMENTWISE: dict[str, Callable[[Range, Range], Range]] = {
    "ADD": lambda one, other: Range(one.low + other.low, one.high + other.high),
    "SUB": lambda one, other: Range(one.low - other.high, one.high - other.low),
    "MUL": _product_of_ranges,
}
_FIXED = {"LOGISTIC": Range(np.array(0.0), np.array(1.0)), "TANH": _symmetric(1.0)}
