"""The memory of the C decoder: one array of int16 numbers, in which the blocks of a program share space over time.

A step finds the states and the frame in place, and leaves the new states and the output in place.
"""

import dataclasses
import itertools
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_seq_export.errors import ExportError
from keras_seq_export.micro.order import compute_late
from keras_seq_export.micro.program import Kind, Operator, Program, View

_ALIGNED: Final = 2  # numbers: the decoder reads two at once


class Memory(NamedTuple):
    """Where the blocks of a program are.

    Attributes:
        program: the program, with its copies of new states to where the next step reads them.
        offsets: first element of each block.
        size: number of elements in all.
    """

    program: Program
    offsets: list[int]
    size: int

    def offset(self, view: View) -> int:
        """Returns the first element of a view."""
        return self.offsets[view.block] + view.start

    def initial(self) -> npt.NDArray[np.int16]:
        """Returns the memory at the start of a text, `(size,)`."""
        values = np.zeros(self.size, np.int16)
        for state in self.program.states:
            start = self.offset(state.before)
            values[start : start + state.before.size] = state.first
        return values


class _Piece(NamedTuple):
    """A part of a block, which is needed from the operator `first` to the operator `last`."""

    block: int
    start: int
    size: int
    first: int
    last: int


def planned(program: Program) -> Memory:
    """Returns a program and where its blocks are: in the order of its operators, or another, that needs less memory.

    Raises:
        ExportError: states take each other's values in a circle.
    """
    program = _with_output_apart(program)
    late = dataclasses.replace(program, operators=compute_late(program.operators))
    return min(_planned(program), _planned(late), key=lambda memory: memory.size)


def _with_output_apart(program: Program) -> Program:
    """Copies an output that is an old state, which the new one replaces, or a state that a draw would change."""
    old = {state.before.block for state in program.states}
    kept = old | {state.after.block for state in program.states} if program.tokens else old
    if program.output.block not in kept:
        return program
    output = View(len(program.blocks), 0, program.output.size)
    copy = Operator(Kind.COPY, output, (program.output,))
    blocks, operators = [*program.blocks, output.size], [*program.operators, copy]
    return dataclasses.replace(program, operators=operators, blocks=blocks, output=output)


def _planned(program: Program) -> Memory:
    """Places each block at the lowest place that is free while it is needed, the largest first, or in another order."""
    program, same = _with_states_in_place(program)
    pieces = _pieces(program, same)
    size = {block: max(one.start + one.size for one in pieces[block]) for block in pieces}
    life = {block: max(o.last for o in pieces[block]) - min(o.first for o in pieces[block]) for block in pieces}
    orders = (
        sorted(pieces, key=lambda block: -size[block]),
        sorted(pieces, key=lambda block: (-life[block], -size[block])),
        sorted(pieces, key=lambda block: min(one.first for one in pieces[block])),
        sorted(pieces, key=lambda block: -size[block] * life[block]),
    )
    kept = {state.before.block for state in program.states}
    plans = [_placed(program, pieces, sorted(order, key=lambda block: block not in kept)) for order in orders]
    offsets, total = min(plans, key=lambda plan: plan[1])
    memory = Memory(program, [offsets.get(same.get(block, block), 0) for block in range(len(program.blocks))], total)
    _require_no_overlap(memory)
    return memory


def _reads(operator: Operator) -> list[View]:
    return [source for source in operator.sources if isinstance(source, View)]


def _with_states_in_place(program: Program) -> tuple[Program, dict[int, int]]:
    """Lets each new state replace the old one where nothing reads the old one later; copies the others at the end.

    Returns:
        The program, and the blocks of new states with those of the old ones that they share.
    """
    same: dict[int, int] = {}
    copies = []
    for state in program.states:
        if state.after == state.before:
            continue
        old, new = state.before.block, state.after.block
        makers = [i for i, one in enumerate(program.operators) if one.out.block == new]
        readers = [i for i, one in enumerate(program.operators) if any(view.block == old for view in _reads(one))]
        may_share = (
            len(makers) == 1
            and new not in same
            and state.after == View(new, 0, program.blocks[new])
            and all(i < makers[0] or (i == makers[0] and _in_place(program.operators[i], old)) for i in readers)
            and not any(old == other.after.block or new == other.before.block for other in program.states)
        )
        if may_share:
            same[new] = old
        else:
            copies.append(Operator(Kind.COPY, state.before, (state.after,)))
    return dataclasses.replace(program, operators=[*program.operators, *_ordered(copies)]), same


def _ordered(copies: list[Operator]) -> list[Operator]:
    """Returns the copies such that none overwrites what a later one reads."""
    left, ordered = list(copies), []
    while left:
        for one in left:
            if not any(one.out.block == view.block for other in left if other is not one for view in _reads(other)):
                break
        else:
            raise ExportError("states that take each other's values in a circle have no form in the C decoder")
        left.remove(one)
        ordered.append(one)
    return ordered


def _in_place(operator: Operator, block: int) -> bool:
    """Returns whether an operator may write its results over a whole block that it reads."""
    read = [view for view in _reads(operator) if view.block == block]
    return operator.is_elementwise and all(view.size == operator.out.size and not view.start for view in read)


def _pieces(program: Program, same: dict[int, int]) -> dict[int, list[_Piece]]:
    """Returns the pieces that have a place of their own, by block."""
    end = len(program.operators)
    written = {one.out.block: i for i, one in reversed(list(enumerate(program.operators)))}
    uses = [(view, i) for i, one in enumerate(program.operators) for view in (*_reads(one), one.out)]
    uses.append((program.output, end))
    given = [state.before for state in program.states] + ([] if program.frame is None else [program.frame])
    written |= {view.block: -1 for view in given}
    uses += [(view, -1) for view in given]
    for state in program.states:  # The next step reads it.
        uses.append((state.after if state.after.block in same else state.before, end))
    found: dict[int, list[_Piece]] = {}
    for block, first in written.items():
        views = [(view, i) for view, i in uses if view.block == block]
        edges = {0, program.blocks[block]} | {
            edge for view, _ in views for edge in (view.start, view.start + view.size)
        }
        for start, stop in itertools.pairwise(sorted(edges)):
            last = max((i for view, i in views if view.start < stop and start < view.start + view.size), default=first)
            found.setdefault(same.get(block, block), []).append(_Piece(block, start, stop - start, first, last))
    return found


def _placed(program: Program, pieces: dict[int, list[_Piece]], order: list[int]) -> tuple[dict[int, int], int]:
    """Places blocks in an order; returns the first element of each, and the number of elements in all."""
    offsets: dict[int, int] = {}
    placed: list[tuple[int, _Piece]] = []  # with the first element of its block
    for block in order:
        edges = {edge for base, one in placed for edge in (base + one.start, base + one.start + one.size)}
        starts = sorted({0} | {_aligned(edge) for edge in edges})
        offsets[block] = next(
            start
            for start in starts
            if not any(_conflict(program, base, one, start, new) for base, one in placed for new in pieces[block])
        )
        placed += [(offsets[block], piece) for piece in pieces[block]]
    return offsets, _aligned(max((base + one.start + one.size for base, one in placed), default=0))


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNED) * _ALIGNED


def _conflict(program: Program, one_base: int, one: _Piece, other_base: int, other: _Piece) -> bool:
    """Returns whether two pieces need the same place at the same time."""
    one_start, other_start = one_base + one.start, other_base + other.start
    if one_start >= other_start + other.size or other_start >= one_start + one.size:
        return False
    if one.last < other.first or other.last < one.first:
        return False
    if one.last == other.first and one.first < other.first:
        return not _replaces(program.operators, one.last, one_base, one.block, other_base, other.block)
    if other.last == one.first and other.first < one.first:
        return not _replaces(program.operators, other.last, other_base, other.block, one_base, one.block)
    return True


def _replaces(operators: list[Operator], number: int, old_base: int, old: int, new_base: int, new: int) -> bool:
    """Returns whether an operator writes each result, in the block `new`, over the number in `old` that it is made of."""
    if not 0 <= number < len(operators) or operators[number].out.block != new or not operators[number].is_elementwise:
        return False
    out = operators[number].out
    read = [view for view in _reads(operators[number]) if view.block == old]
    return bool(read) and all(view.size == out.size and old_base + view.start == new_base + out.start for view in read)


def _require_no_overlap(memory: Memory) -> None:
    """Asserts that no operator overwrites what it still reads."""
    for operator in memory.program.operators:
        out, count = memory.offset(operator.out), operator.out.size
        for view in _reads(operator):
            start = memory.offset(view)
            is_apart = start + view.size <= out or out + count <= start
            assert is_apart or (operator.is_elementwise and start == out and view.size == count)
