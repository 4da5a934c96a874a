"""Reading the hash of an n-gram from an integer .tflite (`keras_seq_export.tflite.integer.hashes` writes it).

The file computes a hash with some forty operators on int32 numbers; the C decoder, with one sum and one remainder.
"""

from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.errors import ExportError
from keras_seq_export.micro.tensors import Tensors

WHOLE_NUMBERS = (schema.TensorType.INT32, schema.TensorType.BOOL)  # the types of what is computed for a hash


class Hash(NamedTuple):
    """The row of an n-gram: the sum of its tokens times their factors, modulo the number of rows.

    Attributes:
        state: the tensor of the tokens before, the latest one first.
        largest_token: tokens of the state are limited to 0 to this number.
        rows: number of rows.
        factors: of the token, and of each one before it.
    """

    state: int
    largest_token: int
    rows: int
    factors: list[int]

    @property
    def numbers(self) -> np.ndarray:
        """The numbers as the C decoder reads them, int32."""
        return np.array([self.largest_token, self.rows, *self.factors], np.int32)


class HashReader:
    """Follows the operators that compute the index of a row, from the last one to the first.

    Args:
        tensors: the tensors of the graph.
        gather: the operator that looks the row up.
        token: the tensor of the token.
    """

    def __init__(self, tensors: Tensors, gather: Any, token: int):
        self._tensors, self._gather, self._token = tensors, gather, token

    def read(self) -> Hash:
        """Returns the hash.

        Raises:
            ExportError: the index is something else.
        """
        column = self._given(int(self._gather.inputs[1]), "RESHAPE", 0)
        sums, position = self._column(column)
        sums, rows, limit = self._remainder(sums)
        terms = self._terms(sums)
        states, largest = set[int](), set[int]()
        factors = []
        for age, term in enumerate(terms):
            multiplication = self._plain(self._producer(term, "MUL"))
            values = self._constant(multiplication, 1).reshape(-1)
            factors.append(int(values[position]))
            if age == 0:
                self._require(self._given(int(multiplication.inputs[0]), "RESHAPE", 0) == self._token)
                continue
            tokens, before = self._column(int(multiplication.inputs[0]))
            self._require(before == age - 1)
            state, most = self._limited_state(tokens)
            states.add(state)
            largest.add(most)
        self._require(len(states) == len(largest) == 1)
        while factors[-1] == 0:
            factors.pop()
        # The sum is as small as the subtractions expect, and fits int32 in every runtime.
        self._require(min(factors) > 0 and sum(factors) * max(largest) < min(limit, 2**31))
        return Hash(states.pop(), largest.pop(), rows, factors)

    def _remainder(self, index: int) -> tuple[int, int, int]:
        """Returns the sums before all subtractions, what is left after them, and what the sums must be below."""
        subtracted = []
        while (sub := self._tensors.producer(index, "SUB")) is not None:
            multiplication = self._plain(self._producer(int(self._plain(sub).inputs[1]), "MUL"))
            comparison = self._producer(self._given(int(multiplication.inputs[0]), "CAST", 0), "GREATER_EQUAL")
            number = self._constant(multiplication, 1)
            self._require(number.size == 1 and np.array_equal(number, self._constant(comparison, 1)))
            self._require(comparison.inputs[0] == sub.inputs[0])
            subtracted.append(int(number.item()))
            index = int(sub.inputs[0])
        self._require(bool(subtracted) and subtracted == [subtracted[0] << shift for shift in range(len(subtracted))])
        return index, subtracted[0], 2 * subtracted[-1]

    def _terms(self, index: int) -> list[int]:
        """Returns the summands of a sum, the first one first."""
        terms = []
        while (add := self._tensors.producer(index, "ADD")) is not None:
            terms.append(int(self._plain(add).inputs[1]))
            index = int(add.inputs[0])
        return [index, *reversed(terms)]

    def _limited_state(self, index: int) -> tuple[int, int]:
        """Returns the tensor of a state whose numbers are limited, and their largest one."""
        minimum = self._producer(index, "MINIMUM")
        maximum = self._producer(int(minimum.inputs[0]), "MAXIMUM")
        low, high = self._constant(maximum, 1), self._constant(minimum, 1)
        self._require(low.size == high.size == 1 and low.item() == 0)
        return self._given(int(maximum.inputs[0]), "CAST", 0), int(high.item())

    def _column(self, index: int) -> tuple[int, int]:
        """Returns the tensor of which another is a column, and the number of the column."""
        split = self._tensors.producer(index, "SPLIT")
        if split is None:
            return index, 0
        return int(split.inputs[1]), [int(one) for one in split.outputs].index(index)

    def _plain(self, operator: Any) -> Any:
        """Returns an operator, which must have no activation."""
        self._require(not operator.builtinOptions.fusedActivationFunction)
        return operator

    def _producer(self, index: int, name: str) -> Any:
        operator = self._tensors.producer(index, name)
        self._require(operator is not None)
        return operator

    def _given(self, index: int, name: str, position: int) -> int:
        """Returns an input of the operator of this name that gives a tensor."""
        return int(self._producer(index, name).inputs[position])

    def _constant(self, operator: Any, position: int) -> np.ndarray:
        found = self._tensors.constant(int(operator.inputs[position]))
        self._require(found is not None)
        assert found is not None
        return found

    def _require(self, is_so: bool) -> None:
        if not is_so:
            raise ExportError(
                f"{self._tensors.place(self._gather)} must be one of a token, or of n-grams as keras_seq exports them, so that "
                "every runtime computes the same integers. Received: another index"
            )
