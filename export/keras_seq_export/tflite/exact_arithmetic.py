"""Arithmetic that runtimes compute alike, bit for bit, for files with 8-bit and 4-bit weights.

A dense layer with such weights rounds its inputs to 8 bits. The last bits of TANH and LOGISTIC differ between the kernels
for different processors, and now and then they decide whether an input is rounded up or down. The states are then different by
a whole step of that rounding, and another token may be sampled. Products of integers are the same everywhere, and so is a
single addition, multiplication or division of float32 numbers, which IEEE 754 defines. Here everything else is written with
these.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.tflite.flatbuffer import add_buffer, new_operator, operator_name

# tanh(x) is nearly u * (A + B / (v + C + D / (v + E))) for u = x / LIMIT, cut off at -1 and 1, and v = u * u. These numbers
# make the largest difference least for |u| <= 1. For all x it is 4.8e-5, a hundredth of a step of the 8-bit inputs.
LIMIT = 5.0
A, B, C, D, E = 0.25909273713831515, 1.2533686037558829, 0.8963650996405081, -0.30253233436627747, 0.4787366102787877

_ACTIVATIONS = ("TANH", "LOGISTIC")
_ORDERED = ("VARIABLE", "WHILE", "CALL")  # parts of the names of operators that must stay where they are
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
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.shape = b"exact/%d" % len(self.graph.tensors), kind, list(shape)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

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

    def binary(
        self, name: str, one: int | _Number, other: int | _Number, output: int | None = None, cut: int = 0
    ) -> int:
        """Writes an operator of two inputs, each a tensor or a constant; returns its output, as large as the tensor."""
        like = one if isinstance(one, int) else other
        assert isinstance(like, int)
        inputs = [value if isinstance(value, int) else self.constant(value) for value in (one, other)]
        if output is None:
            output = self.new_tensor(self.graph.tensors[like].shape)
        self.write(name, inputs, [output], fusedActivationFunction=cut)
        return output


def use_exact_arithmetic(model: schema.ModelT) -> None:
    """Replaces the operators of a quantized model whose results differ between runtimes."""
    buffers: dict[bytes, int] = {}
    for graph in model.subgraphs:
        operators, graph.operators = graph.operators, []
        writer = _Writer(model, graph, graph.operators, buffers, {})
        for operator in _activations_side_by_side(model, graph, operators):
            if isinstance(operator, list):
                _write_activations(writer, operator)
            elif operator_name(model, operator) == "FULLY_CONNECTED" and _is_int8(graph, operator):
                _write_product(writer, operator)
            else:
                graph.operators.append(operator)


def _is_int8(graph: schema.SubGraphT, dense: schema.OperatorT) -> bool:
    """Returns whether a dense layer has 8-bit weights; those of 4 bits are multiplied alike as they are."""
    return bool(graph.tensors[dense.inputs[1]].type == schema.TensorType.INT8)


def _is_activation(graph: schema.SubGraphT, name: str, operator: schema.OperatorT) -> bool:
    if name not in _ACTIVATIONS or not _shape(graph, operator):
        return False
    return bool(graph.tensors[operator.outputs[0]].type == schema.TensorType.FLOAT32)


def _activations_side_by_side(
    model: schema.ModelT, graph: schema.SubGraphT, operators: list[schema.OperatorT]
) -> list[schema.OperatorT | list[schema.OperatorT]]:
    """Returns the operators, with a list for activations of one shape that can be computed together.

    Twelve operators then compute all gates of a cell; for each gate alone, there would be ten. Variables and loops are not
    passed, because an order of theirs that no tensor shows must stay.
    """
    found: list[schema.OperatorT | list[schema.OperatorT]] = []
    group: list[schema.OperatorT] = []  # the activations of the current group
    later: list[schema.OperatorT] = []  # operators that need one of them
    for operator in operators:
        name = operator_name(model, operator)
        is_activation = _is_activation(graph, name, operator)
        needs_group = {int(index) for one in group + later for index in one.outputs}.intersection(operator.inputs)
        begins = is_activation and bool(group) and (needs_group or _shape(graph, operator) != _shape(graph, group[0]))
        if begins or any(part in name for part in _ORDERED):
            found += [group, *later] if group else []
            group, later, needs_group = [], [], set()
        if is_activation:
            group.append(operator)
        else:
            (later if needs_group else found).append(operator)
    return found + ([group, *later] if group else [])


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
    u = writer.binary("MUL", x, share / LIMIT, cut=schema.ActivationFunctionType.RELU_N1_TO_1)
    v = writer.binary("MUL", u, u)
    inner = writer.binary("ADD", v, E)
    outer = writer.binary("ADD", writer.binary("DIV", D, inner), inner)
    outer = writer.binary("ADD", outer, C - E)
    factor = writer.binary("ADD", writer.binary("DIV", share * B, outer), share * A)
    if any(is_logistic):
        writer.binary("ADD", writer.binary("MUL", u, factor), 1 - share, y)
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
    if bias < 0:
        writer.binary("MUL", dense.outputs[0], scale / power, output, cut)
    else:
        writer.binary("ADD", writer.binary("MUL", dense.outputs[0], scale / power), bias, output, cut)
