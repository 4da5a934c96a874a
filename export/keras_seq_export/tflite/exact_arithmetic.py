"""Arithmetic that runtimes compute alike, bit for bit, for files with 8-bit and 4-bit weights.

A dense layer with such weights rounds its inputs to 8 bits. The last bits of TANH and LOGISTIC differ between the kernels
for different processors, and now and then they decide whether an input is rounded up or down. The states are then different by
a whole step of that rounding, and another token may be sampled. Products of integers are the same everywhere, and so is a
single addition, multiplication or division of float32 numbers, which IEEE 754 defines. Here both functions, and the scales
and biases of 8-bit products, are written with these.

The rest stays as it is, and its last bits may differ: products of kernels that are too small to be quantized,
convolutions, SOFTMAX, LOG, GELU, the means and the RSQRT of a LayerNormalization, and the functions of a model's own layers. So do
TANH and LOGISTIC whose results only leave the model, because nothing rounds them and small probabilities must be right.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.signatures import SAMPLE, is_state
from keras_seq_export.tflite.embedding_folding import Lookup, lookups_in
from keras_seq_export.tflite.flatbuffer import (
    add_buffer,
    add_tensor,
    count_readers,
    float32_constant,
    new_operator,
    operator_name,
)

# tanh(x) is nearly u * (A + B / (w + C + D / w)) for u = x / LIMIT, cut off at -1 and 1, and w = u * u + E. Of the numbers
# with which float32 arithmetic gives exactly 1 at u = 1 and never more, the largest difference is nearly least with these: 5.7e-5,
# less than a hundredth of a step of the 8-bit inputs. Exactly 1 matters: a gate of 0.99998 would forget a state in the end.
LIMIT = 5.25
A, B, C, D, E = 0.2672372, 1.2116775, 0.3959514, -0.2576004, 0.436898

_ACTIVATIONS = ("TANH", "LOGISTIC")
_KEEP_THEIR_PLACE = ("VARIABLE", "WHILE", "CALL")  # parts of the names of operators with effects that no tensor shows
_GOLDEN_RATIO = (1 + 5**0.5) / 2  # its multiples, without the whole part, are spread evenly
_OPTIONS = {
    "ADD": (schema.BuiltinOptions.AddOptions, schema.AddOptionsT),
    "MUL": (schema.BuiltinOptions.MulOptions, schema.MulOptionsT),
    "DIV": (schema.BuiltinOptions.DivOptions, schema.DivOptionsT),
    "CONCATENATION": (schema.BuiltinOptions.ConcatenationOptions, schema.ConcatenationOptionsT),
    "SPLIT": (schema.BuiltinOptions.SplitOptions, schema.SplitOptionsT),
}

_Number = float | np.ndarray


class _Writer(NamedTuple):
    """Writes operators to the end of a list.

    Attributes:
        model: the model.
        graph: the graph of the operators.
        operators: the list.
        buffers: the buffer of each constant of the model.
        constants: the tensor of each constant of the graph.
    """

    model: schema.ModelT
    graph: schema.SubGraphT
    operators: list[schema.OperatorT]
    buffers: dict[bytes, int]
    constants: dict[tuple[bytes, int], int]

    def new_tensor(self, shape: Sequence[int], kind: int = schema.TensorType.FLOAT32) -> int:
        """Adds a tensor; returns its index."""
        return add_tensor(self.graph, b"exact/%d" % len(self.graph.tensors), kind, shape)

    def constant(self, value: _Number, kind: int = schema.TensorType.FLOAT32) -> int:
        """Returns the tensor of a constant."""
        values = np.asarray(value, np.int32 if kind == schema.TensorType.INT32 else np.float32)
        content = values.tobytes()
        if content not in self.buffers:
            self.buffers[content] = add_buffer(self.model, values)
        if (content, kind) not in self.constants:
            self.constants[content, kind] = index = self.new_tensor(values.shape, kind)
            self.graph.tensors[index].buffer = self.buffers[content]
        return self.constants[content, kind]

    def write(self, name: str, inputs: Iterable[int], outputs: Iterable[int], **options: int) -> None:
        """Writes an operator."""
        operator = new_operator(self.model, name, list(inputs), list(outputs))
        operator.builtinOptionsType, kind = _OPTIONS[name]
        operator.builtinOptions = kind()
        for option, value in options.items():
            setattr(operator.builtinOptions, option, value)
        self.operators.append(operator)

    def binary(self, name: str, one: int, other: int, output: int | None = None, cut: int = 0) -> int:
        """Writes an operator of two tensors; returns its output, a new tensor if none is given."""
        if output is None:
            shapes = (tuple(map(int, self.graph.tensors[index].shape)) for index in (one, other))
            output = self.new_tensor(np.broadcast_shapes(*shapes))
        self.write(name, [one, other], [output], fusedActivationFunction=cut)
        return output


def spread_columns(model: schema.ModelT, smallest: int) -> None:
    """Multiplies the columns of looked-up embeddings by numbers between 1 and 1.03, and divides the kernel by them.

    8-bit embeddings are multiples of one number. When a dense layer rounds them to 8 bits again, many would lie exactly in the
    middle between two values, where some runtimes round to the even one and others away from zero.

    Args:
        model: the model, before its weights are quantized.
        smallest: number of weights of the smallest kernel that will be quantized.
    """
    buffers: dict[bytes, int] = {}
    readers = count_readers(model)
    lookups_of: dict[int, list[Lookup]] = defaultdict(list)
    for graph in model.subgraphs:
        for lookup in lookups_in(model, graph):
            lookups_of[lookup.kernel.buffer].append(lookup)
    for buffer, lookups in lookups_of.items():
        kernel = float32_constant(model, lookups[0].kernel)
        is_one_shape = len({tuple(lookup.kernel.shape) for lookup in lookups}) == 1
        if kernel is None or kernel.size < smallest or not is_one_shape or readers[buffer].total() != len(lookups):
            continue
        columns = (1 + np.arange(kernel.shape[1]) * _GOLDEN_RATIO % 1 / 32).astype(np.float32)
        model.buffers[buffer].data = np.frombuffer((kernel / columns).tobytes(), np.uint8)
        for graph, gather, dense in lookups:
            writer = _Writer(model, graph, [], buffers, {})
            spread = writer.binary("MUL", int(gather.outputs[0]), writer.constant(columns))
            position = graph.operators.index(dense)
            graph.operators[position:position] = writer.operators
            dense.inputs = [spread, *dense.inputs[1:]]


def use_exact_arithmetic(model: schema.ModelT) -> None:
    """Replaces the operators of a quantized model whose results differ between runtimes."""
    buffers: dict[bytes, int] = {}
    for number, graph in enumerate(model.subgraphs):
        results = _results(model, number)
        operators, graph.operators = graph.operators, []
        writer = _Writer(model, graph, graph.operators, buffers, {})
        for group in _activations_side_by_side(model, graph, operators, results):
            if _is_replaced(model, graph, group[0], results):
                _write_activations(writer, group)
            elif operator_name(model, group[0]) == "FULLY_CONNECTED" and _is_int8(graph, group[0]):
                _write_product(writer, group[0])
            else:
                graph.operators += group


def _results(model: schema.ModelT, number: int) -> set[int]:
    """Returns the tensors of a graph that only leave the model, as they are or as logarithms.

    Outputs without a name of a signature, those of a loop's body, count as states. In a model of text, an output is not
    enough: `sample` computes with the logits that `decode` returns, and both must compute the same bits.
    """
    graph, names, readers = model.subgraphs[number], defaultdict(list), defaultdict(set)
    for signature in model.signatureDefs or []:
        if signature.subgraphIndex == number:
            for entry in signature.outputs:
                names[int(entry.tensorIndex)].append(entry.name.decode())
    for operator in graph.operators:
        for index in operator.inputs:
            readers[int(index)].add(operator_name(model, operator))
    samples = any(signature.signatureKey == SAMPLE.encode() for signature in model.signatureDefs or [])
    outputs = set(map(int, graph.outputs))
    states = {index for index in outputs if not names[index] or any(map(is_state, names[index]))}
    only_output = set() if samples else {index for index in outputs if not readers[index]}
    only_logarithm = {index for index, names_of_readers in readers.items() if names_of_readers == {"LOG"}}
    return (only_output | only_logarithm) - states


def _is_int8(graph: schema.SubGraphT, dense: schema.OperatorT) -> bool:
    """Returns whether a dense layer has 8-bit weights; those of 4 bits are multiplied alike as they are."""
    return bool(graph.tensors[dense.inputs[1]].type == schema.TensorType.INT8)


def _is_replaced(model: schema.ModelT, graph: schema.SubGraphT, operator: schema.OperatorT, results: set[int]) -> bool:
    """Returns whether an operator is an activation that is written with exact operators."""
    output = int(operator.outputs[0]) if len(operator.outputs) == 1 else -1
    if operator_name(model, operator) not in _ACTIVATIONS or output in results or not _shape(graph, operator):
        return False
    return bool(graph.tensors[output].type == schema.TensorType.FLOAT32)


def _activations_side_by_side(
    model: schema.ModelT, graph: schema.SubGraphT, operators: list[schema.OperatorT], results: set[int]
) -> list[list[schema.OperatorT]]:
    """Returns the operators in groups: activations of one shape that can be computed together, and others alone.

    Twelve operators then compute all gates of a cell; for each gate alone, there would be nine (TANH) or ten (LOGISTIC).

    An operator may move to before a group if it reads none of its results, directly or through others, because each
    tensor is written once. Only variables, loops and calls depend on an order that no tensor shows: nothing passes them.
    """
    groups: list[list[schema.OperatorT]] = []
    activations: list[schema.OperatorT] = []  # the group that is being collected
    dependents: list[schema.OperatorT] = []  # operators that read its results, directly or through others
    for operator in operators:
        is_replaced = _is_replaced(model, graph, operator, results)
        written = {int(index) for one in activations + dependents for index in one.outputs}
        depends = bool(written.intersection(operator.inputs))
        is_other_group = is_replaced and bool(activations) and _shape(graph, operator) != _shape(graph, activations[0])
        stays = any(part in operator_name(model, operator) for part in _KEEP_THEIR_PLACE)
        if stays or is_other_group or (is_replaced and depends):
            groups += [activations] if activations else []
            groups += [[one] for one in dependents]
            activations, dependents, depends = [], [], False
        if is_replaced:
            activations.append(operator)
        elif depends:
            dependents.append(operator)
        else:
            groups.append([operator])
    groups += [activations] if activations else []
    return groups + [[one] for one in dependents]


def _shape(graph: schema.SubGraphT, operator: schema.OperatorT) -> tuple[int, ...]:
    return tuple(map(int, graph.tensors[operator.outputs[0]].shape))


def _write_activations(writer: _Writer, group: list[schema.OperatorT]) -> None:
    """Writes tanh(x), and tanh(x / 2) / 2 + 1 / 2, which is the logistic function, of tensors of one shape."""
    shape = _shape(writer.graph, group[0])
    is_logistic = [operator_name(writer.model, operator) == "LOGISTIC" for operator in group]
    whole = (*shape[:-1], shape[-1] * len(group))
    x, y = int(group[0].inputs[0]), int(group[0].outputs[0])
    if len(group) > 1:
        x, y = writer.new_tensor(whole), writer.new_tensor(whole)
        writer.write("CONCATENATION", [operator.inputs[0] for operator in group], [x], axis=len(shape) - 1)
    share: _Number = 0.5 if all(is_logistic) else 1.0
    if any(is_logistic) and not all(is_logistic):
        share = np.repeat(np.where(is_logistic, 0.5, 1.0), shape[-1])
    u = writer.binary("MUL", x, writer.constant(share / LIMIT), cut=schema.ActivationFunctionType.RELU_N1_TO_1)
    w = writer.binary("ADD", writer.binary("MUL", u, u), writer.constant(E))
    below = writer.binary("ADD", writer.binary("DIV", writer.constant(D), w), w)
    below = writer.binary("ADD", below, writer.constant(C))
    factor = writer.binary("DIV", writer.constant(share * B), below)
    factor = writer.binary("ADD", factor, writer.constant(share * A))
    if any(is_logistic):
        writer.binary("ADD", writer.binary("MUL", u, factor), writer.constant(1 - share), y)
    else:
        writer.binary("MUL", u, factor, y)
    if len(group) > 1:
        axis = writer.constant(len(shape) - 1, schema.TensorType.INT32)
        writer.write("SPLIT", [axis, y], [operator.outputs[0] for operator in group], numSplits=len(group))


def _write_product(writer: _Writer, dense: schema.OperatorT) -> None:
    """Moves the scale and the bias of a product of 8-bit weights into operators of their own.

    Kernels multiply the sum by the scales of inputs and weights in different orders, and add the bias before or after they
    round. With a power of two as the scale of the weights, and without a bias, all results are the same.
    """
    graph, weights = writer.graph, writer.graph.tensors[dense.inputs[1]]
    scale = float(weights.quantization.scale[0])
    power = float(2.0 ** np.round(np.log2(scale)))
    integers = writer.new_tensor(weights.shape, weights.type)
    graph.tensors[integers].buffer = weights.buffer
    quantization = graph.tensors[integers].quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = np.array([power], np.float32), np.zeros(1, np.int64)
    output = int(dense.outputs[0])
    bias = int(dense.inputs[2]) if len(dense.inputs) > 2 else -1
    dense.inputs, dense.outputs = [dense.inputs[0], integers, -1], [writer.new_tensor(graph.tensors[output].shape)]
    cut, dense.builtinOptions.fusedActivationFunction = dense.builtinOptions.fusedActivationFunction, 0
    writer.operators.append(dense)
    rest = writer.constant(scale / power)
    if bias < 0:
        writer.binary("MUL", dense.outputs[0], rest, output, cut)
    else:
        writer.binary("ADD", writer.binary("MUL", dense.outputs[0], rest), bias, output, cut)
