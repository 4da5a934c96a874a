"""Integer flatbuffers, written operator by operator: the files that the C decoder runs."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.integer.new_model import VERSIONS

_TYPES = {
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
}


class IntegerGraph:
    """A .tflite with one signature, `decode`. Tensors are numbers; a `scale` of None is no quantization.

    Example:
        >>> graph = IntegerGraph()
        >>> x = graph.input("frame", (1, 4), 2.0**-13)
        >>> graph.output("output", graph.add("TANH", [x], (1, 4), 2.0**-15))
        >>> content = graph.pack()
    """

    def __init__(self):
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []
        self.model.subgraphs = [self.graph]
        self.model.buffers = [schema.BufferT()]
        self.signature = schema.SignatureDefT()
        self.signature.signatureKey = b"decode"
        self.signature.subgraphIndex = 0
        self.signature.inputs, self.signature.outputs = [], []
        self.model.signatureDefs = [self.signature]

    def tensor(self, shape, scale=None, dtype=np.int16, buffer=0):
        number = len(self.graph.tensors)
        flatbuffer.add_tensor(self.graph, f"t{number}".encode(), _TYPES[np.dtype(dtype)], shape, buffer)
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale, quantization.zeroPoint = [float(np.float32(scale))], [0]
            self.graph.tensors[number].quantization = quantization
        return number

    def constant(self, values, scale=None):
        values = np.asarray(values)
        return self.tensor(values.shape, scale, values.dtype, flatbuffer.add_buffer(self.model, values))

    def _entry(self, name, number):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), number
        return entry

    def input(self, name, shape, scale=None, dtype=np.int16):
        number = self.tensor(shape, scale, dtype)
        self.graph.inputs.append(number)
        self.signature.inputs.append(self._entry(name, number))
        return number

    def output(self, name, number):
        self.graph.outputs.append(number)
        self.signature.outputs.append(self._entry(name, number))

    def add(self, name, inputs, shape, scale, *, dtype=np.int16, outputs=1, **options):
        """Adds an operator; returns its output, or a list of them."""
        numbers = [self.tensor(shape, scale, dtype) for _ in range(outputs)]
        operator = flatbuffer.new_operator(self.model, name, inputs, numbers, VERSIONS.get(name, 1))
        kind = _OPTIONS.get(name)
        if kind is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(schema, f"{kind}T")()
            for field, value in {**_FIELDS.get(name, {}), **options}.items():
                setattr(operator.builtinOptions, field, value)
        self.graph.operators.append(operator)
        return numbers[0] if outputs == 1 else numbers

    def pack(self):
        return flatbuffer.pack(self.model)


_OPTIONS = {
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "QUANTIZE": "QuantizeOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "SPLIT": "SplitOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "RESHAPE": "ReshapeOptions",
    "CONCATENATION": "ConcatenationOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
}
_FIELDS = {
    "FULLY_CONNECTED": {"quantizedBiasType": schema.TensorType.INT32, "keepNumDims": False},
    "ADD": {"potScaleInt16": False},
    "SUB": {"potScaleInt16": False},
    "CONCATENATION": {"axis": -1},
}
