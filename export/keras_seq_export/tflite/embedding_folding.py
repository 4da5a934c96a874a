"""Cheaper lookup of tokens in a .tflite: products that depend on the token alone are computed at export.

A GATHER looks up the embedding of a token, and a FULLY_CONNECTED often multiplies it with a kernel before the state
takes part. Both can be one GATHER from the table embeddings times kernel.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.tflite.flatbuffer import (
    add_buffer,
    count_readers,
    float32_constant,
    int32_constant,
    new_operator,
    operator_name,
)

LARGEST_TABLE = 1.25  # times the size of embeddings and kernel together
_SELECT = ("SELECT", "SELECT_V2")


class Lookup(NamedTuple):
    """A GATHER from embeddings, and the FULLY_CONNECTED that is its only reader."""

    graph: schema.SubGraphT
    gather: schema.OperatorT
    dense: schema.OperatorT

    @property
    def embeddings(self) -> schema.TensorT:
        """The table that the GATHER reads."""
        return self.graph.tensors[self.gather.inputs[0]]

    @property
    def kernel(self) -> schema.TensorT:
        """The weights that the row is multiplied with."""
        return self.graph.tensors[self.dense.inputs[1]]


def remove_negative_index_handling(model: schema.ModelT) -> None:
    """Removes the three operators of each lookup that let negative ids count from the end: no token is negative.

    This applies to token ids from an input of a signature or of the loop of `prefill`, or looked up in one, and to
    remainders, such as the hashes of n-grams. Other ids that the model computes may be negative, so their operators stay.
    """
    for graph in model.subgraphs:
        producers = _producers(graph)
        for gather in graph.operators:
            if operator_name(model, gather) == "GATHER":
                token = _wrapped_index(model, producers, gather.inputs[1])
                if token is not None and _is_never_negative(model, graph, producers, token):
                    gather.inputs = [gather.inputs[0], token]
        for names in (_SELECT, ("LESS", "ADD")):
            read = _read_tensors(graph)
            graph.operators = [
                operator
                for operator in graph.operators
                if operator_name(model, operator) not in names or operator.outputs[0] in read
            ]


def _wrapped_index(model: schema.ModelT, producers: dict[int, schema.OperatorT], tensor: int) -> int | None:
    """Returns x if a tensor is SELECT(x < size, x + size, x), else None."""

    def inputs(tensor: int, names: tuple[str, ...]) -> list[int]:
        operator = producers.get(tensor)
        return list(operator.inputs) if operator is not None and operator_name(model, operator) in names else []

    select = inputs(tensor, _SELECT)
    if not select:
        return None
    less, add = inputs(select[0], ("LESS",)), inputs(select[1], ("ADD",))
    return select[2] if less[:1] == add[:1] == [select[2]] else None


def _is_never_negative(
    model: schema.ModelT, graph: schema.SubGraphT, producers: dict[int, schema.OperatorT], ids: int
) -> bool:
    """Returns whether a tensor is an input of the graph, is looked up in one, or is a remainder."""
    operator = producers.get(ids)
    name = "" if operator is None else operator_name(model, operator)
    if operator is None or name == "GATHER":
        return (ids if operator is None else operator.inputs[0]) in graph.inputs
    divisor = int32_constant(model, graph.tensors[operator.inputs[1]]) if name == "FLOOR_MOD" else None
    return divisor is not None and bool((divisor > 0).all())


def _producers(graph: schema.SubGraphT) -> dict[int, schema.OperatorT]:
    """Returns the operator that writes each tensor."""
    return {output: operator for operator in graph.operators for output in operator.outputs}


def _read_tensors(graph: schema.SubGraphT) -> list[int]:
    """Returns the tensors that an operator or the caller reads, once for each reader."""
    return [index for operator in graph.operators for index in operator.inputs] + list(graph.outputs)


def fold_embeddings(model: schema.ModelT) -> None:
    """Replaces FULLY_CONNECTED(GATHER(embeddings)) by GATHER(embeddings times kernel), and its bias by an ADD.

    With 65 characters, embeddings of 256 and a GRU of 512 units, this saves a third of the multiplications of a step
    and a quarter of the file.

    Embeddings stay if something else reads them or the kernel, or if the table would be larger than 1.25 times both.
    """
    lookups_of: dict[tuple[int, int], list[Lookup]] = defaultdict(list)
    for graph in model.subgraphs:
        for lookup in lookups_in(model, graph):
            lookups_of[lookup.embeddings.buffer, lookup.kernel.buffer].append(lookup)
    readers = count_readers(model)
    for buffers, lookups in lookups_of.items():
        shapes = {(tuple(lookup.embeddings.shape), tuple(lookup.kernel.shape)) for lookup in lookups}
        if len(shapes) > 1 or any(readers[buffer].total() != len(lookups) for buffer in buffers):
            continue  # Something else reads them.
        embeddings, kernel = (float32_constant(model, tensor) for tensor in (lookups[0].embeddings, lookups[0].kernel))
        if embeddings is None or kernel is None:
            continue
        if len(embeddings) * len(kernel) > LARGEST_TABLE * (embeddings.size + kernel.size):
            continue
        table = embeddings @ kernel.T
        table_buffer = add_buffer(model, table)
        for lookup in lookups:
            _use_table(model, lookup, table_buffer, table.shape)
        for buffer in buffers:
            model.buffers[buffer].data = None


def lookups_in(model: schema.ModelT, graph: schema.SubGraphT) -> Iterator[Lookup]:
    """Yields the lookups of a graph that a dense layer multiplies."""
    producers, read = _producers(graph), _read_tensors(graph)
    for dense in graph.operators:
        if operator_name(model, dense) != "FULLY_CONNECTED" or dense.builtinOptions.fusedActivationFunction:
            continue
        gather = producers.get(dense.inputs[0])
        if gather is None or operator_name(model, gather) != "GATHER" or read.count(dense.inputs[0]) > 1:
            continue
        if len(graph.tensors[gather.inputs[0]].shape) == len(graph.tensors[dense.inputs[0]].shape) == 2:
            yield Lookup(graph, gather, dense)


def _use_table(model: schema.ModelT, lookup: Lookup, buffer: int, shape: tuple[int, ...]) -> None:
    graph, gather, dense = lookup
    lookup.embeddings.shape, lookup.embeddings.buffer = list(shape), buffer
    row = graph.tensors[gather.outputs[0]]
    row.shape = [row.shape[0], shape[1]]
    position = graph.operators.index(dense)
    bias = dense.inputs[2] if len(dense.inputs) > 2 else -1
    if bias < 0:
        gather.outputs = list(dense.outputs)
        del graph.operators[position]
        return
    add = new_operator(model, "ADD", [gather.outputs[0], bias], dense.outputs)
    add.builtinOptionsType, add.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph.operators[position] = add
