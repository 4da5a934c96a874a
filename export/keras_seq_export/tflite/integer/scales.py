"""The scale of each tensor of a step in integers, and its weights in 8 bits.

A larger scale would cost precision, a smaller one would cut off numbers. So each group of tensors has the smallest scale that holds
its largest number (`ranges`). Weights have nearly the scale of the least squared error.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.errors import ExportError
from keras_seq_export.signatures import LOGITS
from keras_seq_export.tflite.integer.graph import StepGraph
from keras_seq_export.tflite.integer.groups import groups_of
from keras_seq_export.tflite.integer.ranges import MEMORY_RANGE, Ranges
from keras_seq_export.tflite.integer.weights import (
    Weights,
    best_weights,
    common_mantissa,
    weights_of_mantissa,
)

HIGHEST = 32767
GATE_SCALE = 2.0**-15  # of the results of LiteRT's LOGISTIC and TANH
# Dense layers read multiples of 4, of a scale of a power of two. Other numbers are multiplied by 4, so they must be below 2^13.
HIGHEST_INPUT = 8191
EMBEDDING_SCALE = 2.0**-15
LARGEST_LOGIT_SCALE = 0.25
_LARGEST_ACTIVATION_SCALE = 4.0  # LiteRT's LOGISTIC and TANH overflow from 5.3 on
# With these scales, or those within a thousandth of an octave, LiteRT computes LOGISTIC and TANH with another kernel.
_OTHER_KERNEL = (2.0**-12, 2.0**-11)
_NEAR = 0.002  # octaves
_HEADROOM = 1.05  # rounded weights may add up to more than the weights do
_LEAST_SUM = 2.0**-9  # the range of a group whose weights are all zero; the draw takes scales from 2^-24 on
_LEAST_FACTOR = 128  # embeddings in 8 bits are multiplied by 128 to 252, and are below 2^15 then


class Lookup(NamedTuple):
    """A table in 8 bits. A row becomes `values * factor` in 16 bits, with the scale of its group."""

    weights: Weights
    factor: int


class Scales(NamedTuple):
    """How a step is written in integers.

    Attributes:
        of: the scale of each float32 tensor that is no constant.
        kernels: the weights of each FULLY_CONNECTED, by its output.
        embeddings: the outputs of GATHER that only dense layers read. They are multiples of 4 as they are.
        lookups: the table of each of these.
    """

    of: dict[int, float]
    kernels: dict[int, Weights]
    embeddings: set[int]
    lookups: dict[int, Lookup]

    def of_input(self, index: int) -> float:
        """Returns the scale in which a dense layer reads a tensor."""
        return self.of[index] if index in self.embeddings else self.of[index] / 4


def scales_of(graph: StepGraph, ranges: Ranges) -> Scales:
    """Returns the scale of each tensor, and the weights in 8 bits.

    Raises:
        ExportError: the logits, or what an activation reads, are too large.
    """
    scales, groups = Scales({}, {}, _embeddings(graph), {}), groups_of(graph)
    for members in groups.powers:
        is_embedding = not scales.embeddings.isdisjoint(members)
        scale = EMBEDDING_SCALE if is_embedding else _scale_of_powers(graph, ranges, members)
        scales.of.update(dict.fromkeys(members, _of_activations(graph, members, scale)))
    for members in groups.powers:
        _choose_kernels(graph, scales, members, 1.0)
    for members in groups.sums:
        mantissa = _mantissa(graph, scales, members)
        largest = max(ranges.of[index].largest for index in members) * _HEADROOM
        scale = float(mantissa * 2.0 ** np.ceil(np.log2(max(largest, _LEAST_SUM) / HIGHEST / mantissa)))
        scales.of.update(dict.fromkeys(members, _of_activations(graph, members, scale)))
        _choose_kernels(graph, scales, members, mantissa)
    logits = graph.outputs.get(LOGITS)
    if logits is not None and scales.of[logits] > LARGEST_LOGIT_SCALE:
        raise ExportError(
            f"the logits may be as large as {ranges.of[logits].largest:.3g}, which 16 bits hold only with {scales.of[logits]:g} "
            "between two numbers: train with smaller weights, or export a .tflite with another {}",
            "quantization",
        )
    return scales


def _of_activations(graph: StepGraph, members: list[int], scale: float) -> float:
    """Returns the scale of a group, made larger where LOGISTIC or TANH reads it and would take another kernel.

    Raises:
        ExportError: the numbers are so large that LOGISTIC or TANH would overflow.
    """
    read = [one for one in members if any(graph.name(reader) in ("LOGISTIC", "TANH") for reader in graph.readers(one))]
    if not read:
        return scale
    while any(abs(np.log2(scale / other)) < _NEAR for other in _OTHER_KERNEL):
        scale *= 2
    if scale > _LARGEST_ACTIVATION_SCALE:
        raise ExportError(
            f"{graph.place(read[0])} may be as large as {scale * HIGHEST:.3g}, too large for an activation in integers: normalize "
            "the frames, train with smaller weights, or export a .tflite with another {}",
            "quantization",
        )
    return scale


def _embeddings(graph: StepGraph) -> set[int]:
    """Returns the outputs of GATHER that only dense layers read."""
    found = set()
    for operator in graph.operators:
        if graph.name(operator) == "GATHER":
            output = int(operator.outputs[0])
            readers = graph.readers(output)
            if (
                readers
                and all(graph.name(one) == "FULLY_CONNECTED" for one in readers)
                and output not in graph.outputs.values()
            ):
                found.add(output)
    return found


def _scale_of_powers(graph: StepGraph, ranges: Ranges, members: list[int]) -> float:
    """Returns the scale of a group that has a power of two."""
    if all(_is_gate(graph, ranges, index) for index in members):
        return GATE_SCALE
    if ranges.memories.intersection(members):
        return MEMORY_RANGE / 2**15
    largest = max(ranges.of[index].largest for index in members)
    if any(graph.producer(index, "FULLY_CONNECTED", "GATHER") for index in members):
        largest *= _HEADROOM
    # A state of 1 is cut off to 8191 / 8192.
    return float(2.0 ** np.ceil(np.log2(max(largest, 2.0**-13) / (HIGHEST_INPUT + 1))))


def _is_gate(graph: StepGraph, ranges: Ranges, index: int) -> bool:
    """Returns whether a tensor is the result of LOGISTIC or TANH, or a sum of such and constants, that no dense layer reads."""
    is_read = any(graph.name(one) == "FULLY_CONNECTED" for one in graph.readers(index))
    is_result = graph.producer(index, "LOGISTIC", "TANH", "ADD", "SUB") is not None
    return is_result and not is_read and ranges.of[index].largest <= 1


def _written_by(graph: StepGraph, members: list[int], name: str) -> Iterator[tuple[int, schema.OperatorT]]:
    """Yields the tensors of a group that an operator of this name writes, each with the operator."""
    for index in members:
        operator = graph.producer(index, name)
        if operator is not None:
            yield index, operator


def _mantissa(graph: StepGraph, scales: Scales, members: list[int]) -> float:
    """Returns the scale of a group of sums, in [1, 2): its power of two is not known yet.

    The kernel after an embedding can have any scale, because the embedding is multiplied by a factor.
    """
    dense = [one for _, one in _written_by(graph, members, "FULLY_CONNECTED")]
    others = [one for one in dense if int(one.inputs[0]) not in scales.embeddings]
    tables = [one for _, one in _written_by(graph, members, "GATHER")]
    return common_mantissa([graph.weights(one) for one in others or dense or tables])


def _choose_kernels(graph: StepGraph, scales: Scales, members: list[int], mantissa: float) -> None:
    for index, operator in _written_by(graph, members, "FULLY_CONNECTED"):
        kernel, given = graph.weights(operator), int(operator.inputs[0])
        if given in scales.embeddings:
            if given not in scales.lookups:
                scales.lookups[given] = _embedding_lookup(graph, given, kernel, mantissa)
            table, factor = scales.lookups[given]
            # The row that is read is not embeddings but embeddings times this number.
            kernel = kernel * np.float32(table.scale / (factor * EMBEDDING_SCALE))
        # In units of the products, the bias must fit 32 bits, and results may be shifted by 24 bits: weights that are nearly zero
        # get a larger scale than they need.
        least = max(float(np.abs(graph.bias(operator)).max()) / 2.0**28, scales.of[index] / 2.0**24)
        scales.kernels[index] = weights_of_mantissa(kernel, mantissa, least / scales.of_input(given))


def _embedding_lookup(graph: StepGraph, index: int, kernel: np.ndarray, mantissa: float) -> Lookup:
    """Returns the table of embeddings, with the factor that gives the kernel after it nearly its best scale."""
    gather = graph.producer(index, "GATHER")
    assert gather is not None
    table = best_weights(graph.weights(gather))
    best = best_weights(kernel).scale * table.scale / EMBEDDING_SCALE / mantissa  # or this times a power of two
    factor = int(np.rint(_LEAST_FACTOR * 2.0 ** (np.log2(best) % 1) / 4)) * 4
    return Lookup(table, min(factor, 2 * _LEAST_FACTOR - 4))
