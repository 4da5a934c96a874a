"""The tensors of an integer .tflite: constants, scales, and where the C decoder has their numbers."""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.errors import ExportError
from keras_seq_export.micro.program import Kind, Operator, View
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.contents import names_of

Operand = View | npt.NDArray[np.int16]


class Tensors:
    """The tensors of one graph.

    Args:
        model: the flatbuffer.
        graph: one of its graphs.

    Attributes:
        graph: the graph.
        blocks: number of elements of each block of memory.
        operands: where the numbers of tensors are, by their index.
    """

    def __init__(self, model: schema.ModelT, graph: schema.SubGraphT):
        self._model, self.graph = model, graph
        self.blocks: list[int] = []
        self.operands: dict[int, Operand] = {}
        self._constants: dict[int, np.ndarray] = {}  # by their buffer, so that tensors share them

    def place(self, operator: Any) -> str:
        """Returns how messages call an operator."""
        number = self.graph.operators.index(operator)
        return f"operator {number} of the graph, {flatbuffer.operator_name(self._model, operator)},"

    def require(self, is_so: bool, operator: Any, expected: str, received: object) -> None:
        """Raises ExportError unless an operator is as expected."""
        if not is_so:
            raise ExportError(
                f"{self.place(operator)} must be one {expected}, so that every runtime computes the same integers. "
                f"Received: {received}"
            )

    def shape(self, index: int) -> list[int]:
        """Returns the shape of a tensor."""
        return [int(size) for size in self.graph.tensors[index].shape]

    def count(self, index: int) -> int:
        """Returns the number of elements of a tensor."""
        return math.prod(self.shape(index))

    def new(self, index: int) -> View:
        """Gives a tensor a new block of memory."""
        self.blocks.append(self.count(index))
        view = View(len(self.blocks) - 1, 0, self.blocks[-1])
        self.operands[index] = view
        return view

    def scale(self, index: int) -> float:
        """Returns the one scale of a tensor, whose zero point is 0."""
        tensor = self.graph.tensors[index]
        quantization = tensor.quantization
        scales = [] if quantization is None or quantization.scale is None else list(quantization.scale)
        zeros = [] if quantization is None or quantization.zeroPoint is None else list(quantization.zeroPoint)
        if len(scales) != 1 or any(zeros) or not scales[0] > 0:
            raise ExportError(
                f"tensor {tensor.name.decode()} must have one scale and the zero point 0. Received: {scales}, {zeros}"
            )
        return float(scales[0])

    def require_one_scale(self, operator: Any, indices: list[int]) -> None:
        """Requires the tensors of an operator to have equal scales."""
        scales = {self.scale(index) for index in indices}
        self.require(len(scales) == 1, operator, "whose tensors have one scale", sorted(scales))

    def constant(self, index: int) -> np.ndarray | None:
        """Returns the values of a constant; None for other tensors."""
        tensor = self.graph.tensors[index]
        data = self._model.buffers[tensor.buffer].data
        if data is None or not len(data):
            return None
        if tensor.buffer not in self._constants:
            self._constants[tensor.buffer] = np.asarray(data, np.uint8).view(_DTYPES[tensor.type])
        return self._constants[tensor.buffer].reshape(tensor.shape)

    def operand(self, operator: Any, index: int) -> Operand:
        """Returns where an operator reads the numbers of an int16 tensor."""
        tensor = self.graph.tensors[index]
        is_int16 = tensor.type == schema.TensorType.INT16
        self.require(is_int16, operator, "of int16 numbers", _TYPE_NAMES[tensor.type])
        if index not in self.operands:
            constant = self.constant(index)
            self.require(constant is not None, operator, "whose inputs are known", tensor.name.decode())
            assert constant is not None
            self.operands[index] = constant.reshape(-1)
        return self.operands[index]

    def given(self, index: int) -> View:
        """Returns the block of an input of the graph."""
        found = self.operands[index]
        assert isinstance(found, View)
        return found

    def result(self, index: int, operators: list[Operator]) -> View:
        """Returns the view of an output of the graph. A constant is copied into a block by a new operator."""
        found = self.operands.get(index)
        if isinstance(found, View):
            return found
        values = self.constant(index) if found is None else found
        assert values is not None  # A graph has no other tensors.
        view = self.new(index)
        operators.append(Operator(Kind.COPY, view, (values.reshape(-1),)))
        return view

    def producer(self, index: int, name: str) -> Any:
        """Returns the operator of this name that gives a tensor; None if another gives it."""
        is_wanted = (one for one in self.graph.operators if index in list(one.outputs))
        operator = next(is_wanted, None)
        return operator if operator is not None and flatbuffer.operator_name(self._model, operator) == name else None

    def is_only_read_by(self, index: int, name: str) -> bool:
        """Returns whether all readers of a tensor are operators of one name, and it is no output of the graph."""
        readers = [one for one in self.graph.operators if index in list(one.inputs)]
        is_read = all(flatbuffer.operator_name(self._model, one) == name for one in readers)
        return is_read and index not in list(self.graph.outputs)


def part_of(operand: Operand, start: int, count: int) -> Operand:
    """Returns neighbors among the numbers of an operand."""
    if isinstance(operand, View):
        return View(operand.block, operand.start + start, count)
    return operand[start : start + count]


_DTYPES: Final[dict[int, np.dtype]] = {
    schema.TensorType.INT8: np.dtype(np.int8),
    schema.TensorType.INT16: np.dtype(np.int16),
    schema.TensorType.INT32: np.dtype(np.int32),
    schema.TensorType.INT64: np.dtype(np.int64),
}
_TYPE_NAMES: Final = names_of(schema.TensorType)
