"""Reading the program of the C decoder from the flatbuffer of an integer .tflite.

Each operator must give the same integers in every runtime, and in the program. What cannot is refused by name.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.errors import ExportError
from keras_seq_export.micro.hashes import WHOLE_NUMBERS, Hash, HashReader
from keras_seq_export.micro.order import look_up_late
from keras_seq_export.micro.program import Kind, Operator, Program, State, View
from keras_seq_export.micro.sigmoid_table import require_table, table_factor
from keras_seq_export.micro.tensors import Operand, Tensors, part_of
from keras_seq_export.signatures import DECODE, FRAME, TOKEN, is_state
from keras_seq_export.tflite import flatbuffer

_MOST: Final = 2**31 - 1
_LARGEST_FACTOR: Final = 32767


def read_program(content: bytes, first_states: dict[str, npt.NDArray[np.int16]] | None = None) -> Program:
    """Returns the program of the signature `decode` of an integer .tflite.

    Args:
        content: the flatbuffer.
        first_states: the integers of each state at the start of a text, `(1, units)` int16; None for zeros.

    Raises:
        ExportError: the file has an operator, a scale or a tensor with which the C decoder, or another runtime, could give
            other integers.
    """
    return _Reader(flatbuffer.parse(content)).program(first_states or {})


class _Reader:
    """Translates the operators of a graph one by one; RESHAPE, SPLIT and slices become views."""

    def __init__(self, model: schema.ModelT):
        self.model = model
        self.signature = next(one for one in model.signatureDefs if one.signatureKey == DECODE.encode())
        self.tensors = Tensors(model, model.subgraphs[self.signature.subgraphIndex])
        self.operators: list[Operator] = []
        self.rows: dict[int, np.ndarray] = {}  # tables, by the outputs of GATHER
        self.hashes: dict[int, Hash] = {}  # likewise, where the row is that of an n-gram
        self.limited: dict[int, tuple[Operand, int]] = {}  # sources and limits, by the outputs of MINIMUM
        self.token_tensors: list[int] = []  # the input, and other shapes of it
        self.tokens = 0

    def program(self, first_states: dict[str, npt.NDArray[np.int16]]) -> Program:
        inputs = {one.name.decode(): one.tensorIndex for one in self.signature.inputs}
        outputs = {one.name.decode(): one.tensorIndex for one in self.signature.outputs}
        self._read_inputs(inputs)
        for operator in self.tensors.graph.operators:
            name = flatbuffer.operator_name(self.model, operator)
            types = {self.tensors.graph.tensors[index].type for index in operator.outputs}
            if types <= set(WHOLE_NUMBERS) and name != "RESHAPE":
                continue  # It is part of a hash, which is read where it is used.
            if name not in _TRANSLATIONS:
                raise ExportError(f"{self.tensors.place(operator)} has no form in the C decoder, which runs {_NAMES}")
            _TRANSLATIONS[name](self, operator)
        if any(self.tokens - 1 > found.largest_token for found in self.hashes.values()):
            raise ExportError(
                "the C decoder reads n-grams of all tokens of the model; the hashes of this file limit them"
            )
        names = sorted(filter(is_state, inputs), key=lambda name: int(name.rpartition("_")[2]))
        states = [self._state(inputs[name], outputs[name], first_states.get(name)) for name in names]
        results = [index for name, index in outputs.items() if not is_state(name)]
        if len(results) != 1:
            raise ExportError(f"the C decoder gives the logits, or one output. Received: {', '.join(outputs)}")
        return Program(
            operators=look_up_late(self.operators, self.tensors.blocks),
            blocks=self.tensors.blocks,
            states=states,
            frame=self.tensors.given(inputs[FRAME]) if FRAME in inputs else None,
            frame_shape=tuple(self.tensors.shape(inputs[FRAME])) if FRAME in inputs else (),
            tokens=self.tokens,
            output=self.tensors.result(results[0], self.operators),
            input_scale=self.tensors.scale(inputs[FRAME]) if FRAME in inputs else 0.0,
            output_scale=self.tensors.scale(results[0]),
        )

    def _read_inputs(self, inputs: dict[str, int]) -> None:
        """Gives each input but the token a block."""
        for name, index in inputs.items():
            kind = self.tensors.graph.tensors[index].type
            if name == TOKEN and kind == schema.TensorType.INT32:
                self.token_tensors.append(index)
            elif kind == schema.TensorType.INT16 and (name == FRAME or is_state(name)):
                self.tensors.new(index)
            else:
                raise ExportError(
                    f"the input {name} has no form in the C decoder, which reads one token int32, or one frame int16, and "
                    "states"
                )
        if bool(self.token_tensors) == (FRAME in inputs):
            raise ExportError("the C decoder reads either one token or one frame in a step")

    def _state(self, before: int, after: int, first: npt.NDArray[np.int16] | None) -> State:
        scale = self.tensors.scale(before)
        if self.tensors.scale(after) != scale:
            raise ExportError("a state must have one scale, before a step and after it")
        view = self.tensors.given(before)
        values = np.zeros(view.size, np.int16) if first is None else first.reshape(-1)
        return State(view, self.tensors.result(after, self.operators), scale, values)

    def _shift(self, operator: Any, ratio: float, least: int) -> int:
        """Returns the k of a ratio 2^-k."""
        fraction, exponent = math.frexp(ratio)
        is_exact = fraction == 0.5 and least <= 1 - exponent <= 30
        self.tensors.require(is_exact, operator, f"whose scales have the ratio 2^-k, k from {least} to 30", ratio)
        return 1 - exponent

    # ---- operators ----

    def gather(self, operator: Any) -> None:
        table, token = (int(index) for index in operator.inputs[:2])
        values = self.tensors.constant(table)
        is_table = values is not None and values.dtype == np.int8 and values.ndim == 2
        self.tensors.require(is_table, operator, "of a table (tokens, width) int8", "another")
        assert values is not None
        self.tensors.require_one_scale(operator, [table, operator.outputs[0]])
        self.rows[operator.outputs[0]] = values
        if token in self.token_tensors:
            self.tokens = min(self.tokens or len(values), len(values))
            return
        found = HashReader(self.tensors, operator, self.token_tensors[0] if self.token_tensors else -1).read()
        self.tensors.require(found.rows <= len(values), operator, f"of at least {found.rows} rows", len(values))
        self.hashes[operator.outputs[0]] = found

    def quantize(self, operator: Any) -> None:
        source, result = operator.inputs[0], operator.outputs[0]
        ratio = self.tensors.scale(source) / self.tensors.scale(result)
        if source in self.rows:
            table = self.rows[source]
            values = np.unique(table).astype(np.int64)
            factor = round(ratio) if values.any() else 1
            is_exact = 1 <= factor <= _LARGEST_FACTOR and (
                not values.any() or np.array_equal(_requantized(values, ratio), values * factor)
            )
            self.tensors.require(is_exact, operator, "that multiplies by an integer without saturating", ratio)
            self._look_up(operator, factor)
            return
        shift = self._shift(operator, 1 / ratio, 0)
        self.tensors.require(shift <= 14, operator, "that multiplies by at most 2^14", ratio)
        operand, limit = self.limited.get(source) or (self.tensors.operand(operator, source), 32767)
        self.operators.append(Operator(Kind.LIMIT, self.tensors.new(result), (operand,), shift=shift, factor=limit))

    def _look_up(self, quantize: Any, factor: int) -> None:
        """Adds the look-up of a row, which QUANTIZE multiplies by a factor."""
        source, result = quantize.inputs[0], quantize.outputs[0]
        found, table = self.hashes.get(source), self.rows[source]
        if found is None:
            self.operators.append(Operator(Kind.LOOKUP, self.tensors.new(result), factor=factor, weights=table))
            return
        state = self.tensors.operand(quantize, found.state)
        self.operators.append(
            Operator(Kind.NGRAM, self.tensors.new(result), (state,), factor=factor, weights=table, biases=found.numbers)
        )

    def cast(self, operator: Any) -> None:
        is_token = operator.inputs[0] in self.token_tensors
        self.tensors.require(is_token, operator, "of the token", "another")
        self.operators.append(Operator(Kind.TOKEN, self.tensors.new(operator.outputs[0])))

    def minimum(self, operator: Any) -> None:
        sources, result = [int(index) for index in operator.inputs], operator.outputs[0]
        constants = {index: self.tensors.constant(index) for index in sources}
        limits = [index for index, one in constants.items() if one is not None and one.size == 1]
        self.tensors.require(len(limits) == 1 and len(sources) == 2, operator, "of numbers and one constant", "another")
        self.tensors.require_one_scale(operator, [*sources, result])
        limit = int(np.asarray(constants[limits[0]]).item())
        operand = self.tensors.operand(operator, sources[1 - sources.index(limits[0])])
        if self.tensors.is_only_read_by(result, "QUANTIZE"):
            self.limited[result] = (operand, limit)
        else:
            self.operators.append(Operator(Kind.LIMIT, self.tensors.new(result), (operand,), factor=limit))

    def product(self, operator: Any) -> None:
        source, matrix, bias = (*operator.inputs, -1)[:3]
        require, result = self.tensors.require, operator.outputs[0]
        weights = self.tensors.constant(matrix)
        is_matrix = weights is not None and weights.dtype == np.int8 and weights.ndim == 2
        require(is_matrix, operator, "of constant weights (outputs, inputs) int8", "another")
        assert weights is not None
        biases = np.zeros(len(weights), np.int32) if bias < 0 else self.tensors.constant(bias)
        require(biases is not None and biases.dtype == np.int32, operator, "with constant biases int32", "another")
        assert biases is not None
        require(not operator.builtinOptions.weightsFormat, operator, "with plain weights", "shuffled ones")
        operand = self.tensors.operand(operator, source)
        is_row = isinstance(operand, View) and operand.size == weights.shape[1]
        require(is_row, operator, "of one row of numbers", self.tensors.shape(source))
        ratio = self.tensors.scale(source) * self.tensors.scale(matrix) / self.tensors.scale(result)
        shift = self._shift(operator, ratio, 1)
        wide = biases.astype(np.int64)
        sums = np.abs(weights.astype(np.int64)).sum(axis=1) * 2**15 + np.abs(wide) + (1 << (shift - 1))
        require(sums.max() <= _MOST, operator, "whose sums fit 32 bits", f"sums up to {sums.max():,}")
        # A sum is the bias plus a multiple of this number.
        step = min(self._step_of(operand), 1 << shift) if weights.any() else 1 << shift
        # LiteRT rounds twice, first to half of the sum: an odd one may become a tie.
        ties = int((((wide - (1 << (shift - 1))) % step == 0) | (wide % 2 == 1)).sum())
        require(not ties, operator, "whose sums are never halfway between two results", f"{ties} rows")
        relu = self._is_relu(operator)
        out = self.tensors.new(result)
        self.operators.append(
            Operator(Kind.PRODUCT, out, (operand,), shift, weights=weights, biases=biases, is_relu=relu)
        )

    def _step_of(self, operand: Operand) -> int:
        """Returns a power of two that divides all numbers of a view."""
        maker = next(
            (one for one in self.operators if isinstance(operand, View) and one.out.block == operand.block), None
        )
        if maker is not None and maker.kind == Kind.LOOKUP:
            return maker.factor & -maker.factor
        if maker is not None and maker.kind == Kind.LIMIT and maker.factor << maker.shift <= 32767:
            return 1 << maker.shift
        return 1

    def _is_relu(self, operator: Any) -> bool:
        activation = operator.builtinOptions.fusedActivationFunction
        self.tensors.require(activation in (_NONE, _RELU), operator, "with no activation, or RELU", activation)
        return bool(activation == _RELU)

    def _pair(self, operator: Any) -> tuple[Operand, Operand]:
        """Returns the operands of an element-wise operator; one may be a single number."""
        left, right = (self.tensors.operand(operator, index) for index in operator.inputs)
        count = self.tensors.count(operator.outputs[0])
        counts = [one.size for one in (left, right)]
        fits = set(counts) <= {1, count} and count in counts
        self.tensors.require(fits, operator, "of one row of numbers with another, or with one number", counts)
        return left, right

    def sum(self, operator: Any) -> None:
        self.tensors.require_one_scale(operator, [*operator.inputs, operator.outputs[0]])
        kind = Kind.ADD if flatbuffer.operator_name(self.model, operator) == "ADD" else Kind.SUBTRACT
        pair, relu = self._pair(operator), self._is_relu(operator)
        self.operators.append(Operator(kind, self.tensors.new(operator.outputs[0]), pair, is_relu=relu))

    def multiply(self, operator: Any) -> None:
        left, right = (self.tensors.scale(index) for index in operator.inputs)
        shift = self._shift(operator, left * right / self.tensors.scale(operator.outputs[0]), 1)
        pair, relu = self._pair(operator), self._is_relu(operator)
        self.operators.append(Operator(Kind.MULTIPLY, self.tensors.new(operator.outputs[0]), pair, shift, is_relu=relu))

    def activation(self, operator: Any) -> None:
        source, result = operator.inputs[0], operator.outputs[0]
        scale = self.tensors.scale(result)
        self.tensors.require(scale == 2.0**-15, operator, "whose result has the scale 2^-15", scale)
        factor, shift = table_factor(self.tensors.scale(source))
        is_small = factor <= _LARGEST_FACTOR
        self.tensors.require(is_small, operator, "whose numbers have a scale below 2", self.tensors.scale(source))
        kind = Kind.LOGISTIC if flatbuffer.operator_name(self.model, operator) == "LOGISTIC" else Kind.TANH
        require_table(kind.name, self.tensors.scale(source))
        operand = self.tensors.operand(operator, source)
        self.operators.append(Operator(kind, self.tensors.new(result), (operand,), shift, factor))

    def reshape(self, operator: Any) -> None:
        source, result = operator.inputs[0], operator.outputs[0]
        if source in self.token_tensors:
            self.token_tensors.append(result)
        elif self.tensors.graph.tensors[result].type in WHOLE_NUMBERS:
            return  # part of a hash
        elif source in self.rows:
            self.rows[result] = self.rows[source]
        else:
            self.tensors.require_one_scale(operator, [source, result])
            self.tensors.operands[result] = self.tensors.operand(operator, source)

    def split(self, operator: Any) -> None:
        axis, source = self.tensors.constant(operator.inputs[0]), int(operator.inputs[1])
        shape = self.tensors.shape(source)
        is_last = axis is not None and int(axis.item()) % len(shape) == len(shape) - 1
        is_row = math.prod(shape[:-1]) == 1
        self.tensors.require(is_last and is_row, operator, "of one row, along its last axis", shape)
        operand, start = self.tensors.operand(operator, source), 0
        self.tensors.require_one_scale(operator, [source, *operator.outputs])
        for result in operator.outputs:
            self.tensors.operands[result] = part_of(operand, start, self.tensors.count(result))
            start += self.tensors.count(result)

    def strided_slice(self, operator: Any) -> None:
        source, result = operator.inputs[0], operator.outputs[0]
        begin, _, strides = (np.ravel(self.tensors.constant(index)) for index in operator.inputs[1:4])  # type: ignore[arg-type]
        shape, options = self.tensors.shape(source), operator.builtinOptions
        last, masks = len(shape) - 1, (options.ellipsisMask, options.newAxisMask, options.shrinkAxisMask)
        is_row = (
            math.prod(shape[:-1]) == 1 and len(begin) == len(shape) and set(strides.tolist()) == {1} and not any(masks)
        )
        self.tensors.require(is_row, operator, "of one row, of neighbors along its last axis", shape)
        start = 0 if options.beginMask >> last & 1 else int(begin[last]) % shape[last]
        self.tensors.require_one_scale(operator, [source, result])
        part = part_of(self.tensors.operand(operator, source), start, self.tensors.count(result))
        self.tensors.operands[result] = part

    def concatenate(self, operator: Any) -> None:
        result = operator.outputs[0]
        self.tensors.require_one_scale(operator, [*operator.inputs, result])
        shape = self.tensors.shape(result)
        is_row = math.prod(shape[:-1]) == 1 and operator.builtinOptions.axis % len(shape) == len(shape) - 1
        self.tensors.require(is_row and not self._is_relu(operator), operator, "of rows, along their last axis", shape)
        operands = [self.tensors.operand(operator, index) for index in operator.inputs]
        whole, start = self.tensors.new(result), 0
        for operand, index in zip(operands, operator.inputs, strict=True):
            part = whole._replace(start=start, size=self.tensors.count(index))
            self.operators.append(Operator(Kind.COPY, part, (operand,)))
            start += part.size


def _requantized(values: np.ndarray, ratio: float) -> np.ndarray:
    """Returns what QUANTIZE makes of int8 numbers: a product with a multiplier of 31 bits, rounded, saturated."""
    fraction, exponent = math.frexp(ratio)
    half = 1 << (30 - exponent)
    return np.clip((values * round(fraction * 2**31) + half) >> (31 - exponent), -32768, 32767)


_NONE, _RELU = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU
_TRANSLATIONS: Final[dict[str, Callable[[_Reader, Any], None]]] = {
    "ADD": _Reader.sum,
    "CAST": _Reader.cast,
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
_NAMES: Final = ", ".join(_TRANSLATIONS)
