"""Runs a program in NumPy, in the memory that the C decoder uses, with the integers that the decoder computes."""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from keras_seq_export.micro.memory import Memory
from keras_seq_export.micro.program import Kind, Operator, View
from keras_seq_export.micro.sigmoid_table import Name, interpolated

_Numbers = npt.NDArray[np.int16]


class Execution:
    """A program with its memory, which holds the states from step to step.

    Attributes:
        memory: where everything is.
        numbers: the memory, `(size,)` int16.
    """

    def __init__(self, memory: Memory):
        self.memory = memory
        self.numbers = memory.initial()

    def step(self, given: int | _Numbers) -> _Numbers:
        """Returns the logits, or the output, after a token id or a frame."""
        program = self.memory.program
        if program.frame is not None:
            self._part(program.frame)[:] = np.asarray(given).reshape(-1)
        for operator in program.operators:
            sources = [self._part(one).copy() if isinstance(one, View) else one for one in operator.sources]
            out = self._part(operator.out)
            results = _COMPUTED[operator.kind](operator, given, *(one.astype(np.int64) for one in sources))
            out[:] = np.clip(results, 0 if operator.is_relu else -32768, 32767)
        return self._part(program.output).copy()

    def states(self) -> list[_Numbers]:
        """Returns the states after the last step, `(units,)` int16 each."""
        return [self._part(state.before).copy() for state in self.memory.program.states]

    def set_states(self, states: list[_Numbers]) -> None:
        """Makes the next step begin with these states."""
        for state, values in zip(self.memory.program.states, states, strict=True):
            self._part(state.before)[:] = values.reshape(-1)

    def _part(self, view: View) -> _Numbers:
        start = self.memory.offset(view)
        return self.numbers[start : start + view.size]


def _look_up(operator: Operator, token: int) -> np.ndarray:
    assert operator.weights is not None
    row = operator.weights[token, operator.start : operator.start + operator.out.size]
    return row.astype(np.int64) * operator.factor


def _look_up_ngram(operator: Operator, token: int, before: np.ndarray) -> np.ndarray:
    assert operator.weights is not None
    assert operator.biases is not None
    largest, rows, *factors = operator.biases.tolist()
    tokens = [token, *before.clip(0, largest).tolist()]
    row = sum(one * factor for one, factor in zip(tokens, factors, strict=False)) % rows
    return operator.weights[row].astype(np.int64) * operator.factor


def _product(operator: Operator, given: object, numbers: np.ndarray) -> np.ndarray:
    assert operator.weights is not None
    assert operator.biases is not None
    sums = operator.weights.astype(np.int64) @ numbers + operator.biases
    result: np.ndarray = (sums + (1 << (operator.shift - 1))) >> operator.shift
    return result


def _multiply(operator: Operator, given: object, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rounds twice, as LiteRT does: half of the product up, then a tie away from zero."""
    half, rest = (left * right + 1) >> 1, operator.shift - 1
    mask = (1 << rest) - 1
    return (half >> rest) + ((half & mask) > (mask >> 1) + (half < 0))


def _activation(operator: Operator, given: object, numbers: np.ndarray) -> np.ndarray:
    name: Name = "LOGISTIC" if operator.kind == Kind.LOGISTIC else "TANH"
    return interpolated(name, numbers.astype(np.int16), operator.factor, operator.shift)


_COMPUTED: Final[dict[Kind, Callable[..., np.ndarray]]] = {
    Kind.LOOKUP: _look_up,
    Kind.PRODUCT: _product,
    Kind.ADD: lambda operator, given, left, right: left + right,
    Kind.SUBTRACT: lambda operator, given, left, right: left - right,
    Kind.MULTIPLY: _multiply,
    Kind.LIMIT: lambda operator, given, numbers: np.minimum(numbers, operator.factor) << operator.shift,
    Kind.LOGISTIC: _activation,
    Kind.TANH: _activation,
    Kind.COPY: lambda operator, given, numbers: numbers,
    Kind.NGRAM: _look_up_ngram,
    Kind.TOKEN: lambda operator, given: np.array([given]),
}
