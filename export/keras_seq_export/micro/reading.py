"""Reading the program of the C decoder from the flatbuffer of an integer .tflite.

Each operator must compute the same integers in every runtime, and in the program. What cannot is refused by name.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.errors import ExportError
from keras_seq_export.micro.program import Kind, Operator, Program, State, View
from keras_seq_export.micro.sigmoid_table import require_table, table_factor
from keras_seq_export.signatures import DECODE
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.contents import names_of

_MOST: Final = 2**31 - 1
_Operand = View | npt.NDArray[np.int16]


def read_program(content: bytes, first_states: list[npt.NDArray[np.int16]] | None = None) -> Program:
    """Returns the program of the signature `decode` of an integer .tflite.

    Args:
        content: the flatbuffer.
        first_states: the integers of each state at the start of a text, `(1, units)` int16; None for zeros.

    Raises:
        ExportError: the file has an operator, a scale or a tensor that the C decoder does not run with the same integers.
    """
    return _Reader(flatbuffer.parse(content)).program(first_states)


class _Reader:
    """Translates the operators of a graph one by one; RESHAPE, SPLIT and slices become views."""

    def __init__(self, model: schema.ModelT):
        self.model = model
        self.signature = next(one for one in model.signatureDefs if one.signatureKey == DECODE.encode())
        self.graph = model.subgraphs[self.signature.subgraphIndex]
        self.operators: list[Operator] = []
        self.blocks: list[int] = []
        self.operands: dict[int, _Operand] = {}
        self.rows: dict[int, tuple[int, np.ndarray]] = {}  # the outputs of GATHER: token tensor, table
        self.limited: dict[int, tuple[_Operand, int]] = {}  # the outputs of MINIMUM: source, limit
        self.constants: dict[int, np.ndarray] = {}
        self.token: int | None = None
        self.tokens = 0

    def program(self, first_states: list[npt.NDArray[np.int16]] | None) -> Program:
        frame = self._read_inputs()
        for operator in self.graph.operators:
            name = flatbuffer.operator_name(self.model, operator)
            if name not in _TRANSLATIONS:
                raise ExportError(f"{self._place(operator)} has no form in the C decoder, which runs {_NAMES}")
            _TRANSLATIONS[name](self, operator)
        outputs = {one.name.decode(): one.tensorIndex for one in self.signature.outputs}
        inputs = {one.name.decode(): one.tensorIndex for one in self.signature.inputs}
        states = []
        for number in range(len(inputs) - 1):
            before, after = inputs[f"state_{number}"], outputs[f"state_{number}"]
            view = self._view(before)
            same = self._scale(before) == self._scale(after)
            self._require(same, self.graph.operators[-1], f"that leaves state_{number} in its own scale", "another scale")
            first = np.zeros(view.count, np.int16) if first_states is None else first_states[number].reshape(-1)
            states.append(State(view, self._stored(after), self._scale(before), first))
        (result,) = outputs.keys() - {f"state_{number}" for number in range(len(states))}
        return Program(
            operators=_lookups_where_needed(self.operators, self.blocks),
            blocks=self.blocks,
            states=states,
            frame=frame,
            tokens=self.tokens,
            output=self._stored(outputs[result]),
            input_scale=0.0 if frame is None else self._scale(inputs["frame"]),
            output_scale=self._scale(outputs[result]),
        )

    def _read_inputs(self) -> View | None:
        """Gives each input a block; returns that of the frame, None for a token."""
        frame = None
        for entry in self.signature.inputs:
            name, tensor = entry.name.decode(), self.graph.tensors[entry.tensorIndex]
            if name == "token" and tensor.type == schema.TensorType.INT32:
                self.token = entry.tensorIndex
            elif tensor.type == schema.TensorType.INT16 and (name == "frame" or name.startswith("state_")):
                view = self._new(entry.tensorIndex)
                frame = view if name == "frame" else frame
            else:
                raise ExportError(
                    f"input {name} has no form in the C decoder, which reads one token int32, or one frame int16, and states"
                )
        if (self.token is None) == (frame is None):
            raise ExportError("the C decoder reads either one token or one frame in a step")
        return frame

    # ---- tensors ----

    def _place(self, operator: Any) -> str:
        number = self.graph.operators.index(operator)
        return f"operator {number} of the graph, {flatbuffer.operator_name(self.model, operator)},"

    def _require(self, is_so: bool, operator: Any, expected: str, received: object) -> None:
        if not is_so:
            raise ExportError(
                f"{self._place(operator)} must be one {expected}, so that every runtime computes the same integers. "
                f"Received: {received}"
            )

    def _count(self, index: int) -> int:
        return math.prod(int(size) for size in self.graph.tensors[index].shape)

    def _new(self, index: int) -> View:
        """Gives a tensor a new block of memory."""
        self.blocks.append(self._count(index))
        view = View(len(self.blocks) - 1, 0, self.blocks[-1])
        self.operands[index] = view
        return view

    def _scale(self, index: int) -> float:
        quantization = self.graph.tensors[index].quantization
        scales = [] if quantization is None or quantization.scale is None else list(quantization.scale)
        zeros = [] if quantization is None or quantization.zeroPoint is None else list(quantization.zeroPoint)
        if len(scales) != 1 or any(zeros) or not scales[0] > 0:
            name = self.graph.tensors[index].name.decode()
            raise ExportError(f"tensor {name} must have one scale and the zero point 0. Received: {scales}, {zeros}")
        return float(scales[0])

    def _constant(self, index: int) -> np.ndarray | None:
        """Returns the values of a constant; None for other tensors. Tensors of one buffer share them."""
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or not len(data):
            return None
        if tensor.buffer not in self.constants:
            flat = np.asarray(data, np.uint8).view(_DTYPES[tensor.type])
            self.constants[tensor.buffer] = flat.reshape(tensor.shape)
        return self.constants[tensor.buffer]

    def _operand(self, operator: Any, index: int) -> _Operand:
        """Returns where the numbers of an int16 tensor are."""
        tensor = self.graph.tensors[index]
        is_int16 = tensor.type == schema.TensorType.INT16
        self._require(is_int16, operator, "of int16 numbers", _TYPE_NAMES[tensor.type])
        if index not in self.operands:
            constant = self._constant(index)
            self._require(constant is not None, operator, "whose inputs are known", tensor.name.decode())
            self.operands[index] = constant.reshape(-1)  # type: ignore[union-attr]  # required above
        return self.operands[index]

    def _view(self, index: int) -> View:
        found = self.operands[index]
        assert isinstance(found, View)  # An input has a block.
        return found

    def _stored(self, index: int) -> View:
        """Returns the view of an output of the graph, which is copied into a block if it is a constant."""
        found = self.operands.get(index)
        if found is None:
            found = self._constant(index)
            assert found is not None  # A graph has no other tensors.
            found = found.reshape(-1)
        if not isinstance(found, View):
            values = found
            found = self._new(index)
            self.operators.append(Operator(Kind.COPY, found, (values,)))
        return found

    def _shift(self, operator: Any, ratio: float, least: int) -> int:
        """Returns the k of a ratio 2^-k."""
        fraction, exponent = math.frexp(ratio)
        is_exact = fraction == 0.5 and least <= 1 - exponent <= 30
        self._require(is_exact, operator, f"whose scales have the ratio 2^-k, k from {least} to 30", ratio)
        return 1 - exponent

    # ---- operators ----

    def gather(self, operator: Any) -> None:
        table, token = (int(index) for index in operator.inputs[:2])
        values = self._constant(table)
        is_lookup = values is not None and values.dtype == np.int8 and values.ndim == 2 and token == self.token
        self._require(is_lookup, operator, "of a table (tokens, width) int8 and of the token", "another")
        assert values is not None
        same = self._scale(table) == self._scale(operator.outputs[0])
        self._require(same, operator, "of one scale", self._scale(operator.outputs[0]))
        self.tokens = min(self.tokens or len(values), len(values))
        self.rows[operator.outputs[0]] = (table, values)

    def quantize(self, operator: Any) -> None:
        source, result = operator.inputs[0], operator.outputs[0]
        ratio = self._scale(source) / self._scale(result)
        if source in self.rows:
            _, table = self.rows[source]
            factor = round(ratio)
            values = np.unique(table).astype(np.int64)
            exact = factor >= 1 and np.array_equal(_requantized(values, ratio), values * factor)
            self._require(exact, operator, "that multiplies by an integer without saturating", ratio)
            self.operators.append(Operator(Kind.LOOKUP, self._new(result), factor=factor, weights=table))
            return
        shift = -self._shift(operator, ratio, -14)
        self._require(shift >= 0, operator, "that multiplies by 2^k, k from 0 to 14", ratio)
        operand, limit = self.limited.get(source) or (self._operand(operator, source), 32767)
        self.operators.append(Operator(Kind.LIMIT, self._new(result), (operand,), shift=shift, factor=limit))

    def minimum(self, operator: Any) -> None:
        sources = list(operator.inputs)
        constants = [self._constant(index) for index in sources]
        is_limit = sum(one is not None and one.size == 1 for one in constants) == 1
        self._require(is_limit, operator, "of numbers and one constant", "another")
        self._equal_scales(operator, [*sources, operator.outputs[0]])
        position = next(i for i, one in enumerate(constants) if one is not None)
        limit, operand = int(constants[position].item()), self._operand(operator, sources[1 - position])  # type: ignore[union-attr]
        if self._is_read_by(operator.outputs[0], "QUANTIZE"):
            self.limited[operator.outputs[0]] = (operand, limit)
        else:
            self.operators.append(Operator(Kind.LIMIT, self._new(operator.outputs[0]), (operand,), factor=limit))

    def _is_read_by(self, index: int, name: str) -> bool:
        """Returns whether all readers of a tensor are operators of one name."""
        readers = [one for one in self.graph.operators if index in list(one.inputs)]
        outputs = [one.tensorIndex for one in self.signature.outputs]
        return index not in outputs and all(flatbuffer.operator_name(self.model, one) == name for one in readers)

    def product(self, operator: Any) -> None:
        source, matrix, bias = (*operator.inputs, -1)[:3]
        weights = self._constant(matrix)
        is_matrix = weights is not None and weights.dtype == np.int8 and weights.ndim == 2
        self._require(is_matrix, operator, "of constant weights (outputs, inputs) int8", "another")
        assert weights is not None
        biases = np.zeros(len(weights), np.int32) if bias < 0 else self._constant(bias)
        is_int32 = biases is not None and biases.dtype == np.int32
        self._require(is_int32, operator, "with biases int32, or none", getattr(biases, "dtype", "another"))
        assert biases is not None
        options = operator.builtinOptions
        activation = options.fusedActivationFunction
        is_known = activation in (_NONE, _RELU) and not options.weightsFormat
        self._require(is_known, operator, "with no activation, or RELU, and plain weights", activation)
        operand = self._operand(operator, source)
        is_view = isinstance(operand, View) and operand.count == weights.shape[1]
        self._require(is_view, operator, "of one row of numbers", "another shape")
        ratio = self._scale(source) * self._scale(matrix) / self._scale(operator.outputs[0])
        shift = self._shift(operator, ratio, 1)
        sums = np.abs(weights.astype(np.int64)).sum(axis=1) * 32768 + np.abs(biases.astype(np.int64))
        fits = int(sums.max()) + (1 << (shift - 1)) <= _MOST
        self._require(fits, operator, f"whose sums are below {_MOST + 1:,}", f"{int(sums.max()):,}")
        step = self._step_of(operand)
        ties = (biases.astype(np.int64) - (1 << (shift - 1))) % min(step, 1 << shift) == 0
        self._require(not ties.any(), operator, "whose sums are never halfway between two results", int(ties.sum()))
        out = self._new(operator.outputs[0])
        relu = activation == _RELU
        self.operators.append(
            Operator(Kind.PRODUCT, out, (operand,), shift, weights=weights, biases=biases, is_relu=relu)
        )

    def _step_of(self, operand: _Operand) -> int:
        """Returns a power of two that divides all numbers of an operand."""
        if not isinstance(operand, View):
            return int(np.bitwise_or.reduce(operand.astype(np.int64), initial=1 << 14)) & -int(
                np.bitwise_or.reduce(operand.astype(np.int64), initial=1 << 14)
            )
        maker = next((one for one in self.operators if one.out.block == operand.block), None)
        if maker is None or maker.kind not in (Kind.LIMIT, Kind.LOOKUP):
            return 1
        if maker.kind == Kind.LOOKUP:
            return maker.factor & -maker.factor
        return 1 << maker.shift if maker.factor << maker.shift <= 32767 else 1

    def _equal_scales(self, operator: Any, indices: list[int]) -> None:
        scales = {self._scale(index) for index in indices}
        self._require(len(scales) == 1, operator, "whose tensors have one scale", sorted(scales))

    def _pair(self, operator: Any) -> tuple[_Operand, _Operand]:
        """Returns the operands of an element-wise operator; one may be a single number."""
        is_plain = operator.builtinOptions.fusedActivationFunction == _NONE
        self._require(is_plain, operator, "without an activation", operator.builtinOptions.fusedActivationFunction)
        left, right = (self._operand(operator, index) for index in operator.inputs)
        count = self._count(operator.outputs[0])
        counts = [one.count if isinstance(one, View) else one.size for one in (left, right)]
        fits = set(counts) <= {1, count} and count in counts
        self._require(fits, operator, "of one row of numbers with another, or with one number", counts)
        return left, right

    def sum(self, operator: Any) -> None:
        self._equal_scales(operator, [*operator.inputs, operator.outputs[0]])
        kind = Kind.ADD if flatbuffer.operator_name(self.model, operator) == "ADD" else Kind.SUBTRACT
        pair = self._pair(operator)
        self.operators.append(Operator(kind, self._new(operator.outputs[0]), pair))

    def multiply(self, operator: Any) -> None:
        left, right = (self._scale(index) for index in operator.inputs)
        shift = self._shift(operator, left * right / self._scale(operator.outputs[0]), 1)
        pair = self._pair(operator)
        self.operators.append(Operator(Kind.MULTIPLY, self._new(operator.outputs[0]), pair, shift))

    def activation(self, operator: Any) -> None:
        source, result = operator.inputs[0], operator.outputs[0]
        self._require(self._scale(result) == 2.0**-15, operator, "whose result has the scale 2^-15", self._scale(result))
        factor, shift = table_factor(self._scale(source))
        self._require(factor <= 32767, operator, "whose numbers have a scale below 2", self._scale(source))
        kind = Kind.LOGISTIC if flatbuffer.operator_name(self.model, operator) == "LOGISTIC" else Kind.TANH
        operand = self._operand(operator, source)
        require_table(kind.name, self._scale(source))
        self.operators.append(Operator(kind, self._new(result), (operand,), shift, factor))

    def reshape(self, operator: Any) -> None:
        source, result = operator.inputs[0], operator.outputs[0]
        if source == self.token:
            self.token = result
        elif source in self.rows:
            self.rows[result] = self.rows[source]
        else:
            self._equal_scales(operator, [source, result])
            self.operands[result] = self._operand(operator, source)

    def split(self, operator: Any) -> None:
        source = int(operator.inputs[1])
        axis = self._constant(operator.inputs[0])
        shape = self.graph.tensors[source].shape
        is_last = axis is not None and int(axis.item()) % len(shape) == len(shape) - 1
        is_row = math.prod(int(size) for size in shape[:-1]) == 1
        self._require(is_last and is_row, operator, "of one row, along its last axis", list(shape))
        operand, start = self._operand(operator, source), 0
        for result in operator.outputs:
            self._equal_scales(operator, [source, result])
            self.operands[result] = _part(operand, start, self._count(result))
            start += self._count(result)

    def strided_slice(self, operator: Any) -> None:
        source, result = operator.inputs[0], operator.outputs[0]
        begin, end, strides = (self._constant(index) for index in operator.inputs[1:4])
        shape = [int(size) for size in self.graph.tensors[source].shape]
        options, last = operator.builtinOptions, len(shape) - 1
        masks = (options.ellipsisMask, options.newAxisMask, options.shrinkAxisMask)
        is_part = begin is not None and end is not None and strides is not None and math.prod(shape[:-1]) == 1
        is_plain = is_part and not any(masks) and len(begin) == len(shape) and set(strides.tolist()) == {1}  # type: ignore[arg-type, union-attr]
        self._require(is_plain, operator, "of one row, of neighbors along its last axis", shape)
        start = 0 if options.beginMask >> last & 1 else int(begin[last]) % shape[last]  # type: ignore[index]
        self._equal_scales(operator, [source, result])
        self.operands[result] = _part(self._operand(operator, source), start, self._count(result))

    def concatenate(self, operator: Any) -> None:
        result = operator.outputs[0]
        self._equal_scales(operator, [*operator.inputs, result])
        shape = [int(size) for size in self.graph.tensors[result].shape]
        is_row = math.prod(shape[:-1]) == 1 and operator.builtinOptions.axis % len(shape) == len(shape) - 1
        self._require(is_row, operator, "of rows, along their last axis", shape)
        operands = [self._operand(operator, index) for index in operator.inputs]
        whole, start = self._new(result), 0
        for operand, index in zip(operands, operator.inputs, strict=True):
            part = whole._replace(start=start, count=self._count(index))
            self.operators.append(Operator(Kind.COPY, part, (operand,)))
            start += part.count


def _part(operand: _Operand, start: int, count: int) -> _Operand:
    if isinstance(operand, View):
        return View(operand.block, operand.start + start, count)
    return operand[start : start + count]


def _requantized(values: np.ndarray, ratio: float) -> np.ndarray:
    """Returns what QUANTIZE makes of int8 numbers: a product with a multiplier of 31 bits, rounded, saturated."""
    fraction, exponent = math.frexp(ratio)
    multiplier = round(fraction * 2**31)
    half = 1 << (30 - exponent)
    return np.clip((values * multiplier + half) >> (31 - exponent), -32768, 32767)


def _lookups_where_needed(operators: list[Operator], blocks: list[int]) -> list[Operator]:
    """Moves each look-up to its first reader; where the readers use parts of a row, each part is looked up by itself.

    A row of a large model takes most of its memory; its parts are needed one after the other.
    """
    moved = list(operators)
    for lookup in [one for one in operators if one.kind == Kind.LOOKUP]:
        position = moved.index(lookup)
        moved.remove(lookup)
        readers = [i for i, one in enumerate(moved) if any(_reads(source, lookup.out.block) for source in one.sources)]
        parts = sorted({s for i in readers for s in moved[i].sources if isinstance(s, View) and s.block == lookup.out.block})
        ends = [part.start + part.count for part in parts]
        is_disjoint = all(end <= following.start for end, following in zip(ends, parts[1:], strict=False))
        if not readers or not is_disjoint:
            moved.insert(min(readers, default=position), lookup)
            continue
        for part in parts:
            blocks.append(part.count)
            out = View(len(blocks) - 1, 0, part.count)
            moved = [_reading(one, part, out) for one in moved]
            first = next(i for i, one in enumerate(moved) if any(_reads(source, out.block) for source in one.sources))
            moved.insert(first, Operator(Kind.LOOKUP, out, factor=lookup.factor, weights=lookup.weights, start=part.start))
    return moved


def _reads(source: _Operand, block: int) -> bool:
    return isinstance(source, View) and source.block == block


def _reading(operator: Operator, old: View, new: View) -> Operator:
    """Returns an operator that reads another view in place of one."""
    if not any(isinstance(source, View) and source == old for source in operator.sources):
        return operator
    import dataclasses

    sources = tuple(new if isinstance(source, View) and source == old else source for source in operator.sources)
    return dataclasses.replace(operator, sources=sources)


_NONE, _RELU = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU
_DTYPES: Final = {
    schema.TensorType.INT8: np.dtype(np.int8),
    schema.TensorType.INT16: np.dtype(np.int16),
    schema.TensorType.INT32: np.dtype(np.int32),
    schema.TensorType.INT64: np.dtype(np.int64),
}
_TRANSLATIONS: Final[dict[str, Callable[[_Reader, Any], None]]] = {
    "ADD": _Reader.sum,
    "CONCATENATION": _Reader.concatenate,
    "FULLY_CONNECTED": _Reader.product,
    "GATHER": _Reader.gather,
    "LOGISTIC": _Reader.activation,
    "MINIMUM": _Reader.minimum,
    "MUL": _Reader.multiply,
    "QUANTIZE": _Reader.quantize,
    "RESHAPE": _Reader.reshape,
    "SPLIT": _Reader.split,
    "STRIDED_SLICE": _Reader.strided_slice,
    "SUB": _Reader.sum,
    "TANH": _Reader.activation,
}
_TYPE_NAMES: Final = names_of(schema.TensorType)
_NAMES: Final = ", ".join(_TRANSLATIONS)
