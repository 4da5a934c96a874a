"""The lookup of a token in a .tflite, with no more work than it needs."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.tflite.flatbuffer import add_buffer, new_operator, numbers, operator_name, uses

LARGEST = 1.25  # times the bytes of embeddings and kernel


class _Lookup(NamedTuple):
    """A GATHER from embeddings, and the FULLY_CONNECTED that alone reads it."""

    graph: schema.SubGraphT
    gather: schema.OperatorT
    dense: schema.OperatorT

    @property
    def embeddings(self) -> schema.TensorT:
        return self.graph.tensors[self.gather.inputs[0]]

    @property
    def kernel(self) -> schema.TensorT:
        return self.graph.tensors[self.dense.inputs[1]]


def read_tokens_as_they_are(model: schema.ModelT) -> None:
    """Takes out what lets negative ids count from the end, three operators a lookup: no token is negative.

    Tokens are what a signature or the loop of `prefill` is given, or looks up in that; what a model computes of them stays.
    """
    for graph in model.subgraphs:
        made_by = _made_by(graph)
        for gather in graph.operators:
            if operator_name(model, gather) == "GATHER":
                token = _counted_from_the_end(model, made_by, gather.inputs[1])
                if token is not None and _is_given(model, graph, made_by, token):
                    gather.inputs = [gather.inputs[0], token]
        for kinds in (("SELECT", "SELECT_V2"), ("LESS", "ADD")):
            read = _read(graph)
            graph.operators = [
                one for one in graph.operators if operator_name(model, one) not in kinds or one.outputs[0] in read
            ]


def _counted_from_the_end(model: schema.ModelT, made_by: dict[int, schema.OperatorT], index: int) -> int | None:
    """Returns the x of SELECT(x < .., x + .., x); None where that is not how a tensor came about."""

    def inputs(tensor: int, kinds: tuple[str, ...]) -> list[int]:
        operator = made_by.get(tensor)
        return list(operator.inputs) if operator is not None and operator_name(model, operator) in kinds else []

    selected = inputs(index, ("SELECT", "SELECT_V2"))
    if not selected:
        return None
    below, above = inputs(selected[0], ("LESS",)), inputs(selected[1], ("ADD",))
    return selected[2] if below[:1] == above[:1] == [selected[2]] else None


def _is_given(model: schema.ModelT, graph: schema.SubGraphT, made_by: dict[int, schema.OperatorT], token: int) -> bool:
    """Whether a tensor is an input of the graph, or looked up in one."""
    operator = made_by.get(token)
    if operator is not None and operator_name(model, operator) == "GATHER":
        token = operator.inputs[0]
    return token in graph.inputs


def _made_by(graph: schema.SubGraphT) -> dict[int, schema.OperatorT]:
    return {output: operator for operator in graph.operators for output in operator.outputs}


def _read(graph: schema.SubGraphT) -> list[int]:
    """Returns the tensors that something reads, as often as they are read."""
    return [index for operator in graph.operators for index in operator.inputs] + list(graph.outputs)


def fold_embeddings(model: schema.ModelT) -> None:
    """Replaces FULLY_CONNECTED(GATHER(embeddings)) by GATHER(embeddings times kernel), the bias by an ADD.

    What a cell makes of a token before it looks at its state depends on the token alone: it is looked up in place of being
    multiplied. With 65 characters, embeddings of 256 and a GRU of 512 units that is a third of a step's products, and a
    file that is smaller by a quarter.

    They are left as they were where something else reads them too, or the table would be larger than 1.25 times both.
    """
    by_weights: dict[tuple[int, int], list[_Lookup]] = defaultdict(list)
    for graph in model.subgraphs:
        for lookup in _lookups(model, graph):
            by_weights[lookup.embeddings.buffer, lookup.kernel.buffer].append(lookup)
    readers = uses(model)
    for weights, lookups in by_weights.items():
        shapes = {(tuple(lookup.embeddings.shape), tuple(lookup.kernel.shape)) for lookup in lookups}
        if len(shapes) > 1 or any(readers[buffer].total() != len(lookups) for buffer in weights):
            continue  # Something else reads them too.
        embeddings, kernel = (numbers(model, tensor) for tensor in (lookups[0].embeddings, lookups[0].kernel))
        if embeddings is None or kernel is None:
            continue
        if len(embeddings) * len(kernel) > LARGEST * (embeddings.size + kernel.size):
            continue
        table = embeddings @ kernel.T
        buffer = add_buffer(model, table)
        for lookup in lookups:
            _use_table(model, lookup, buffer, table.shape)
        for old in weights:
            model.buffers[old].data = None


def _lookups(model: schema.ModelT, graph: schema.SubGraphT) -> Iterator[_Lookup]:
    made_by, read = _made_by(graph), _read(graph)
    for dense in graph.operators:
        if operator_name(model, dense) != "FULLY_CONNECTED" or dense.builtinOptions.fusedActivationFunction:
            continue
        gather = made_by.get(dense.inputs[0])
        if gather is None or operator_name(model, gather) != "GATHER" or read.count(dense.inputs[0]) > 1:
            continue
        if len(graph.tensors[gather.inputs[0]].shape) == len(graph.tensors[dense.inputs[0]].shape) == 2:
            yield _Lookup(graph, gather, dense)


def _use_table(model: schema.ModelT, lookup: _Lookup, buffer: int, shape: tuple[int, ...]) -> None:
    graph, gather, dense = lookup
    lookup.embeddings.shape, lookup.embeddings.buffer = list(shape), buffer
    found = graph.tensors[gather.outputs[0]]
    found.shape = [found.shape[0], shape[1]]
    position = graph.operators.index(dense)
    bias = dense.inputs[2] if len(dense.inputs) > 2 else -1
    if bias < 0:
        gather.outputs = list(dense.outputs)
        del graph.operators[position]
        return
    add = new_operator(model, "ADD", [gather.outputs[0], bias], dense.outputs)
    add.builtinOptionsType, add.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph.operators[position] = add
