"""Which tensors of a step in integers have the same scale, so that operators only shift and add.

Tensors that are added, subtracted or parts of each other are one group. There are two kinds of groups:

* *powers*, whose scale is a power of two: what is multiplied, and what a dense layer reads. States, frames and the results
  of LOGISTIC and TANH are among them.
* *sums*: results of dense layers and look-ups, before an activation or as an output. Their scale is that of the weights times
  a power of two, because a product of inputs of scale 2^-15 and weights of scale f becomes a number of scale f * 2^j by a shift.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.tflite.integer.graph import StepGraph

SUMS = ("ADD", "SUB")
_PARTS = ("SPLIT", "STRIDED_SLICE", "RESHAPE")
_OF_ONE_SCALE = (*SUMS, *_PARTS)


class Groups(NamedTuple):
    """The groups of the float32 tensors that are no constants."""

    powers: list[list[int]]
    sums: list[list[int]]


class _Sets:
    """Disjoint sets of tensors."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def find(self, index: int) -> int:
        """Returns the tensor that stands for the set of a tensor."""
        parent = self._parents.setdefault(index, index)
        if parent != index:
            parent = self._parents[index] = self.find(parent)
        return parent

    def join(self, indices: Iterable[int]) -> None:
        """Makes one set of the sets of some tensors."""
        first, *others = map(self.find, indices)
        for one in others:
            self._parents[self.find(one)] = self.find(first)


def groups_of(graph: StepGraph) -> Groups:
    """Returns the groups of a step."""
    sets = _Sets()
    states = _states_and_parts(graph)
    for operator in graph.operators:
        if graph.name(operator) in _OF_ONE_SCALE:
            # A state that is added to larger numbers would lose precision: it is rounded to their scale instead.
            own = set(operator.inputs) & states if graph.name(operator) in SUMS else set()
            sets.join(index for index in _variables(graph, [*operator.inputs, *operator.outputs]) if index not in own)
    for state in graph.states:
        sets.join([state.before, state.after])
    powers = _powers(graph, sets, states)
    for operator in graph.operators:
        if graph.name(operator) == "MUL":  # A sum times a power of two is a sum of the same scale.
            factors = [index for index in _variables(graph, operator.inputs) if sets.find(index) not in powers]
            if factors:
                sets.join([*factors, int(operator.outputs[0])])
    powers = {sets.find(one) for one in powers}
    members: dict[int, list[int]] = defaultdict(list)
    written = (index for operator in graph.operators for index in operator.outputs)
    given = [*graph.frames.values(), *(state.before for state in graph.states)]
    for index in dict.fromkeys(_variables(graph, [*given, *written])):
        members[sets.find(index)].append(index)
    return Groups(
        powers=[every for one, every in members.items() if one in powers],
        sums=[every for one, every in members.items() if one not in powers],
    )


def _variables(graph: StepGraph, indices: Iterable[int]) -> list[int]:
    """Returns the float32 tensors among some that are not constants."""
    found = (int(index) for index in indices if index >= 0)
    return [index for index in found if graph.is_float32(index) and graph.constant(index) is None]


def _states_and_parts(graph: StepGraph) -> set[int]:
    """Returns the tensors that are states, and parts and other shapes of them."""
    found = {index for state in graph.states for index in (state.before, state.after)}
    for operator in graph.operators:
        if graph.name(operator) in _PARTS and found.intersection(operator.inputs):
            found.update(map(int, operator.outputs))
    return found


def _powers(graph: StepGraph, sets: _Sets, states: set[int]) -> set[int]:
    """Returns the sets whose scale must be a power of two."""
    powers = {sets.find(index) for state in graph.states for index in (state.before, state.after)}
    powers |= {sets.find(index) for index in graph.frames.values()}
    products: list[schema.OperatorT] = []
    for operator in graph.operators:
        name = graph.name(operator)
        if name in ("LOGISTIC", "TANH"):
            powers.add(sets.find(int(operator.outputs[0])))
        elif name == "FULLY_CONNECTED":
            powers.add(sets.find(int(operator.inputs[0])))
        elif name in SUMS and states.intersection(operator.inputs):
            powers.add(sets.find(int(operator.outputs[0])))
        elif name == "MUL":
            products.append(operator)
    count = -1
    while len(powers) != count:
        count = len(powers)
        for product in products:
            factors, output = (
                {sets.find(one) for one in _variables(graph, product.inputs)},
                sets.find(int(product.outputs[0])),
            )
            if factors <= powers:
                powers.add(output)
            if output in powers or not factors & powers:
                powers |= factors
    return powers
