"""The n-grams of `keras_seq.NgramEmbedding` in a float32 step: they are taken apart into what integers can compute."""

from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.errors import ExportError
from keras_seq_export.tflite.flatbuffer import add_tensor, int32_constant, new_operator
from keras_seq_export.tflite.integer.graph import State, StepGraph

LARGEST_TOKEN = 2**15 - 1  # The state holds tokens as int16.


class Ngrams(NamedTuple):
    """The hashes of an `NgramEmbedding`.

    Attributes:
        state: the tokens before, `(1, longest - 1)`, the latest one first.
        token: the tensor of the token, `(1,)` int32.
        largest_token: the largest id of a token.
        factors: the factor of the token and of each one before it in a hash, `(longest,)` int32.
        rows: number of rows.
        indices: tensors `(1,)` int32, which the operators of the step read: the row of each n-gram, the shortest first.
    """

    state: State
    token: int
    largest_token: int
    factors: np.ndarray
    rows: int
    indices: list[int]

    @property
    def reductions(self) -> list[int]:
        """The numbers that are subtracted from a sum, in this order, each if it is not larger than what is left."""
        largest = int(self.factors.astype(np.int64).sum()) * self.largest_token
        return [self.rows << shift for shift in range(max(0, (largest // self.rows).bit_length() - 1), -1, -1)]


def separate_ngrams(graph: StepGraph) -> list[Ngrams]:
    """Takes the hashes of n-grams out of a float32 step. What is left looks up one row after the other and adds them.

    Raises:
        ExportError: the tokens or the hashes are too large.
    """
    found = []
    for total in [one for one in graph.operators if graph.name(one) == "SUM"]:
        ngrams = _Pattern(graph, total).match()
        if ngrams is not None:
            found.append(ngrams)
    return found


class _Pattern:
    """The operators that `NgramEmbedding` becomes in a .tflite.

    Args:
        graph: the step.
        total: the operator SUM, which adds the rows.
    """

    def __init__(self, graph: StepGraph, total: schema.OperatorT):
        self._graph, self._total = graph, total
        self._matched: list[schema.OperatorT] = [total]

    def match(self) -> Ngrams | None:
        """Replaces the operators in the graph and returns their hashes; None, and no change, if they compute something else."""
        try:
            lookup = self._before(self._total, "GATHER", 0)
            remainder = self._before(lookup, "FLOOR_MOD", 1)
            longer = self._before(remainder, "GATHER", 0)
            sums = self._before(longer, "CUMSUM", 0)
            terms = self._before(sums, "MUL", 0)
            known = self._before(terms, "CONCATENATION", 0)
            token = int(self._before(known, "RESHAPE", 0).inputs[0])
            before = int(self._before(known, "CAST", 1).inputs[0])
            state = next((one for one in self._graph.states if one.before == before), None)
            if state is None:
                return None
            later = self._before(self._producer(state.after, "CAST"), "GATHER", 0)
            rows, factors = (self._integers(one, 1) for one in (remainder, terms))
            ages = np.arange(len(factors))
            self._require(rows.size == 1 and later.inputs[0] == known.outputs[0])
            self._require(self._integers(longer, 1).tolist() == ages[1:].tolist())
            self._require(self._integers(later, 1).tolist() == ages[:-1].tolist())
            self._require_options(lookup, sums, terms, known, longer, later)
        except _OtherOperator:
            return None
        largest = self._largest_token(token, factors)
        self._graph.states.remove(state)
        indices = self._look_up_each(lookup, len(factors) - 1)
        return Ngrams(state, token, largest, factors, int(rows.item()), indices)

    def _require_options(self, lookup: Any, sums: Any, terms: Any, known: Any, *columns: Any) -> None:
        """Requires the operators to go along the axes that they have in `NgramEmbedding`."""
        (axis,), total = self._integers(self._total, 1).reshape(-1), self._total.builtinOptions
        self._require(axis in (-2, 1) and not total.keepDims and lookup.builtinOptions.axis == 0)
        (along,) = self._integers(sums, 1).reshape(-1)
        self._require(along in (-1, 1) and not sums.builtinOptions.exclusive and not sums.builtinOptions.reverse)
        self._require(all(one.builtinOptions.axis in (-1, 1) for one in (known, *columns)))
        self._require(not any(one.builtinOptions.fusedActivationFunction for one in (terms, known)))

    def _require(self, is_so: bool) -> None:
        if not is_so:
            raise _OtherOperator

    def _producer(self, index: int, name: str) -> schema.OperatorT:
        operator = self._graph.producer(index, name)
        if operator is None:
            raise _OtherOperator
        self._matched.append(operator)
        return operator

    def _before(self, operator: schema.OperatorT, name: str, position: int) -> schema.OperatorT:
        """Returns the operator that gives an input; for a GATHER, position 1 is that of the index."""
        return self._producer(int(operator.inputs[position]), name)

    def _integers(self, operator: schema.OperatorT, position: int) -> np.ndarray:
        found = int32_constant(self._graph.model, self._graph.graph.tensors[operator.inputs[position]])
        if found is None:
            raise _OtherOperator
        return found

    def _largest_token(self, token: int, factors: np.ndarray) -> int:
        """Returns the largest id of a token, from the embeddings that look it up."""
        tables = [
            self._graph.weights(one)
            for one in self._graph.operators
            if self._graph.name(one) == "GATHER" and one.inputs[1] == token
        ]
        if not tables:
            raise ExportError(
                "a model that reads its tokens as n-grams alone has no form in integers: read them with an Embedding too, or "
                "export a .tflite with another {}",
                "quantization",
            )
        largest = min(map(len, tables)) - 1
        if largest > LARGEST_TOKEN or int(factors.astype(np.int64).sum()) * largest >= 2**31:
            raise ExportError(
                f"the n-grams of {largest + 1:,} tokens are too many for integers, which hold {LARGEST_TOKEN + 1:,}: leave out "
                "n-grams, or export a .tflite with another {}",
                "quantization",
            )
        return largest

    def _look_up_each(self, lookup: schema.OperatorT, count: int) -> list[int]:
        """Replaces the look-up of all rows by one for each; returns their indices."""
        graph, table = self._graph.graph, int(lookup.inputs[0])
        width, name = self._graph.shape(table)[1], graph.tensors[table].name

        def vector() -> int:
            return add_tensor(graph, name + b"/vector", schema.TensorType.FLOAT32, (1, width))

        indices = [add_tensor(graph, name + b"/row", schema.TensorType.INT32, (1,)) for _ in range(count)]
        rows = [self._operator("GATHER", [table, index], vector(), schema.GatherOptionsT()) for index in indices]
        operators = [rows[0]]
        for row in rows[1:]:
            sum_so_far = operators[-1].outputs[0]
            operators += [row, self._operator("ADD", [sum_so_far, row.outputs[0]], vector(), schema.AddOptionsT())]
        operators[-1].outputs = list(self._total.outputs)
        self._graph.replace(self._matched, operators)
        return indices

    def _operator(self, name: str, inputs: list[int], output: int, options: object) -> schema.OperatorT:
        operator = new_operator(self._graph.model, name, inputs, [output])
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        operator.builtinOptions = options
        return operator


class _OtherOperator(Exception):
    """An operator is not the one that `NgramEmbedding` has there."""
