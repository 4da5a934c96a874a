"""The order of a program's operators: what is computed late needs memory for a short time."""

import dataclasses
import itertools

from keras_seq_export.micro.program import Kind, Operator, View


def look_up_late(operators: list[Operator], blocks: list[int]) -> list[Operator]:
    """Returns the operators with each look-up before its first reader.

    Where the readers use parts of a row, each part is looked up by itself, in a new block. A row of a large model would take
    most of its memory; its parts are needed one after the other.
    """
    moved = list(operators)
    for lookup in [one for one in operators if one.kind == Kind.LOOKUP]:
        position = moved.index(lookup)
        moved.remove(lookup)
        readers = [i for i, one in enumerate(moved) if _views(one, lookup.out.block)]
        parts = sorted({view for i in readers for view in _views(moved[i], lookup.out.block)})
        is_disjoint = all(one.start + one.size <= other.start for one, other in itertools.pairwise(parts))
        if not readers or not is_disjoint:
            moved.insert(min(readers, default=position), lookup)
            continue
        for part in parts:
            blocks.append(part.size)
            out = View(len(blocks) - 1, 0, part.size)
            moved = [_reading(one, part, out) for one in moved]
            first = next(i for i, one in enumerate(moved) if _views(one, out.block))
            moved.insert(first, dataclasses.replace(lookup, out=out, start=lookup.start + part.start))
    return moved


def compute_late(operators: list[Operator]) -> list[Operator]:
    """Returns the operators in the order in which each is right before its first reader, where it has one."""
    moved = list(operators)
    for operator in reversed(operators):
        readers = [one for one in moved if one is not operator and _views(one, operator.out.block)]
        if readers and sum(one.out.block == operator.out.block for one in moved) == 1:
            moved.remove(operator)
            moved.insert(min(map(moved.index, readers)), operator)
    return moved


def _views(operator: Operator, block: int) -> list[View]:
    return [source for source in operator.sources if isinstance(source, View) and source.block == block]


def _reading(operator: Operator, old: View, new: View) -> Operator:
    """Returns an operator that reads another view in place of one."""
    if old not in _views(operator, old.block):
        return operator
    sources = tuple(new if isinstance(source, View) and source == old else source for source in operator.sources)
    return dataclasses.replace(operator, sources=sources)
