"""A .tflite of integers that is being written, one operator after the other."""

from collections.abc import Iterable, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.tflite.flatbuffer import add_buffer, add_tensor, new_operator

BOOL, INT8, INT16, INT32 = (getattr(schema.TensorType, name) for name in ("BOOL", "INT8", "INT16", "INT32"))
_NUMPY = {INT8: np.int8, INT16: np.int16, INT32: np.int32}
# The first versions that compute 16-bit activations, and int32 in hashes; FULLY_CONNECTED with a bias of 32 bits.
VERSIONS = {
    "FULLY_CONNECTED": 11,
    "GATHER": 2,
    "QUANTIZE": 2,
    "ADD": 3,
    "SUB": 5,
    "MUL": 2,
    "LOGISTIC": 3,
    "TANH": 3,
    "SPLIT": 4,
    "STRIDED_SLICE": 4,
    "MINIMUM": 4,
    "MAXIMUM": 4,
    "RESHAPE": 1,
    "CAST": 1,
    "CONCATENATION": 3,
    "GREATER_EQUAL": 1,
}


class NewModel:
    """A model whose tensors have one scale each.

    Args:
        version: of the flatbuffer's schema.

    Attributes:
        model: the model so far.
        graph: the graph that is being written.
    """

    def __init__(self, version: int):
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description = version, b"keras_seq, integers only"
        self.model.buffers, self.model.operatorCodes, self.model.subgraphs = [schema.BufferT()], [], []
        self._buffers: dict[bytes, int] = {}
        self.begin_graph(b"decode")

    def begin_graph(self, name: bytes) -> None:
        """Begins another graph."""
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.name = [], [], [], name
        self.model.subgraphs.append(self.graph)

    def tensor(self, name: str, kind: int, shape: Sequence[int], scale: float | None, buffer: int = 0) -> int:
        """Adds a tensor; returns its index."""
        index = add_tensor(self.graph, f"{name}:{len(self.graph.tensors)}".encode(), kind, shape, buffer)
        if scale is not None:
            quantization = self.graph.tensors[index].quantization = schema.QuantizationParametersT()
            quantization.scale, quantization.zeroPoint = np.array([scale], np.float32), np.zeros(1, np.int64)
        return index

    def constant(self, name: str, kind: int, values: np.ndarray, scale: float | None = None) -> int:
        """Adds a constant, whose bytes are stored once; returns its index."""
        stored = np.ascontiguousarray(values, _NUMPY[kind])
        content = stored.tobytes()
        if content not in self._buffers:
            self._buffers[content] = add_buffer(self.model, stored)
        return self.tensor(name, kind, stored.shape, scale, self._buffers[content])

    def scale(self, index: int) -> float:
        """Returns the scale of a tensor."""
        return float(self.graph.tensors[index].quantization.scale[0])

    def add(self, name: str, inputs: Iterable[int], outputs: Iterable[int], options: object = None) -> None:
        """Adds an operator."""
        operator = new_operator(self.model, name, list(inputs), list(outputs), VERSIONS[name])
        operator.builtinOptions = options
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self.graph.operators.append(operator)
