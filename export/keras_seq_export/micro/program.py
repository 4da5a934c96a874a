"""The program of the C decoder: one step of a model as a short list of integer operators on int16 numbers."""

import dataclasses
import enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Kind(enum.IntEnum):
    """What an operator computes; the numbers are those of `ks_micro_kind` in keras_seq_micro.h. Sums saturate."""

    LOOKUP = 0  # the token's row of a table, times a factor
    PRODUCT = 1  # weights by numbers, plus biases, shifted right with rounding
    ADD = 2
    SUBTRACT = 3
    MULTIPLY = 4  # shifted right with rounding
    LIMIT = 5  # at most a limit, shifted left
    LOGISTIC = 6
    TANH = 7
    COPY = 8
    NGRAM = 9  # the row of an n-gram in a table, times a factor
    TOKEN = 10  # the id of the token


class View(NamedTuple):
    """A part of a block of memory.

    Attributes:
        block: number of the block.
        start: first element.
        size: number of elements.
    """

    block: int
    start: int
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """One operator of a program.

    Attributes:
        kind: what it computes.
        out: where the results go.
        sources: what it reads: views, or constants `(count,)` int16. A source of one number goes with every element.
            NGRAM: the tokens before, the latest one first.
        shift: bits by which results are shifted: left by LIMIT, right by the others.
        factor: LOOKUP and NGRAM: factor of each number; LIMIT: the limit; LOGISTIC and TANH: multiplier of the numbers.
        weights: LOOKUP: the table `(tokens, width)` int8; NGRAM: `(rows, width)`; PRODUCT: the weights `(outputs, inputs)` int8.
        start: LOOKUP: first column of the table that is read.
        biases: PRODUCT: `(outputs,)` int32. NGRAM: the largest token of the state, the number of rows, the factor of the
            token and of each one before it; the row is the sum of the tokens times their factors, modulo the rows.
        is_relu: whether negative results become 0.
    """

    kind: Kind
    out: View
    sources: tuple[View | npt.NDArray[np.int16], ...] = ()
    shift: int = 0
    factor: int = 0
    weights: npt.NDArray[np.int8] | None = None
    start: int = 0
    biases: npt.NDArray[np.int32] | None = None
    is_relu: bool = False

    @property
    def is_elementwise(self) -> bool:
        """Whether result i depends on number i of each source only, so that it may replace that number."""
        return self.kind not in (Kind.LOOKUP, Kind.PRODUCT, Kind.NGRAM, Kind.TOKEN)


class State(NamedTuple):
    """A state of the model.

    Attributes:
        before: where the step reads it.
        after: where the step leaves the new one.
        scale: value of the integer 1.
        first: the integers at the start of a text, `(units,)` int16.
    """

    before: View
    after: View
    scale: float
    first: npt.NDArray[np.int16]


@dataclasses.dataclass(frozen=True)
class Program:
    """One step of a model.

    Attributes:
        operators: in the order in which they run.
        blocks: number of elements of each block of memory.
        states: the states in the order of their numbers.
        frame: where the step reads its frame; None if it reads a token.
        frame_shape: its shape, with one row.
        tokens: number of tokens that it can read; 0 if it reads a frame.
        output: where the step leaves the logits, or the output.
        input_scale: value of the integer 1 of a frame; 0 if it reads a token.
        output_scale: value of the integer 1 of the output.
    """

    operators: list[Operator]
    blocks: list[int]
    states: list[State]
    frame: View | None
    frame_shape: tuple[int, ...]
    tokens: int
    output: View
    input_scale: float
    output_scale: float
