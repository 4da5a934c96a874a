"""The n-grams of `keras_seq.NgramEmbedding` in a float32 step: they are taken apart into what integers can compute."""

from typing import NamedTuple

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
            positions = [self._integers(one, 1).tolist() for one in (longer, later)]
            if positions != [ages[1:].tolist(), ages[:-1].tolist()] or later.inputs[0] != known.outputs[0]:
                return None
        except _OtherOperator:
            return None
        self._graph.states.remove(state)
        indices = self._look_up_each(lookup, len(factors) - 1)
        return Ngrams(state, token, self._largest_token(token, factors), factors, int(rows.item()), indices)

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
        largest = min(map(len, tables), default=LARGEST_TOKEN + 1) - 1
        if largest > LARGEST_TOKEN or int(factors.astype(np.int64).sum()) * largest >= 2**31:
            raise ExportError(
                f"the n-grams of {largest + 1:,} tokens are too many for integers, which hold {LARGEST_TOKEN + 1:,}: leave out "
                "n-grams, or export a .tflite with another {}",
                "quantization",
            )
        return largest

    def _look_up_each(self, lookup: schema.OperatorT, count: int) -> list[int]:
        """Replaces the look-up of all rows by one for each; returns their indices."""
        graph, table, output = self._graph.graph, int(lookup.inputs[0]), int(self._total.outputs[0])
        width, name = self._graph.shape(table)[1], self._graph.graph.tensors[table].name
        options = schema.GatherOptionsT()
        options.axis, options.batchDims = 0, 0
        indices, operators, sum_so_far = list[int](), list[schema.OperatorT](), -1
        for number in range(count):
            indices.append(add_tensor(graph, name + b"/row", schema.TensorType.INT32, (1,)))
            row = add_tensor(graph, name + b"/vector", schema.TensorType.FLOAT32, (1, width))
            gather = new_operator(self._graph.model, "GATHER", [table, indices[-1]], [row])
            gather.builtinOptionsType, gather.builtinOptions = schema.BuiltinOptions.GatherOptions, options
            operators.append(gather)
            if number == 0:
                sum_so_far = row
                continue
            is_last = number == count - 1
            total = output if is_last else add_tensor(graph, name + b"/sum", schema.TensorType.FLOAT32, (1, width))
            add = new_operator(self._graph.model, "ADD", [sum_so_far, row], [total])
            add.builtinOptionsType, add.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
            operators.append(add)
            sum_so_far = total
        if count == 1:
            operators[0].outputs = [output]
        self._graph.replace(self._matched, operators)
        return indices


class _OtherOperator(Exception):
    """An operator is not the one that `NgramEmbedding` has there."""
