"""The table from which LiteRT's LOGISTIC and TANH interpolate int16 numbers.

It is read from LiteRT's own operators: of its 256 entries, some differ by one from 65,536 times the sigmoid.
"""

import functools
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_seq_export.errors import ExportError
from keras_seq_export.signatures import DECODE, FRAME, OUTPUT
from keras_seq_export.tflite import flatbuffer

ENTRIES: Final = 256
Name = Literal["LOGISTIC", "TANH"]
_ALL: Final = np.arange(-(2**15), 2**15).astype(np.int16)
_OF_ENTRIES: Final = 4 / (4096 * 3)  # the scale at which the integer 64 * i gives entry i


def table_factor(scale: float) -> tuple[int, int]:
    """Returns the factor and the shift that LOGISTIC and TANH make of the scale of their numbers."""
    factor, shift = scale * 4096 * 3, 0
    while factor <= 32767 / 2 and shift <= 30:
        factor, shift = factor * 2, shift + 1
    return int(factor), shift


@functools.cache
def sigmoid_table() -> npt.NDArray[np.uint16]:
    """Returns the table `(256,)`: entry i is nearly 65,536 times the sigmoid of i / 24.

    Raises:
        ExportError: this LiteRT does not interpolate such a table.
    """
    exact = _in_litert("TANH", _OF_ENTRIES)[2**15 + 64 * np.arange(ENTRIES)]
    table = (exact.astype(np.int32) + 2**15).astype(np.uint16)
    table.flags.writeable = False
    return table


def interpolated(name: Name, numbers: npt.NDArray[np.int16], factor: int, shift: int) -> npt.NDArray[np.int16]:
    """Returns the results of an operator at the scale 2^-15.

    Args:
        name: of the operator.
        numbers: int16, of any shape.
        factor: of the numbers, which makes them multiples of 1 / 12288 with `shift` (`table_factor`).
        shift: bits by which the products are shifted right.
    """
    table = sigmoid_table().astype(np.int64)
    bits = 9 if name == "LOGISTIC" else 8
    half = 1 << (shift - 1) if shift else 0
    x = (numbers.astype(np.int64) * factor + half) >> shift
    size, last = np.abs(x), ENTRIES - 1
    entry, rest = np.minimum(size >> bits, last - 1), size & ((1 << bits) - 1)
    between = (table[entry] << bits) + rest * (table[entry + 1] - table[entry])
    if name == "LOGISTIC":
        value = np.where(size >> bits >= last, 0x7FFF << 10, between)
        return (np.where(x >= 0, value + 512, (1 << 25) - value + 511) >> 10).astype(np.int16)
    value = np.where(size >> bits >= last, 0xFFFF << 8, between)
    return (np.where(x >= 0, value - (1 << 23) + 128, (1 << 23) + 127 - value) >> 8).astype(np.int16)


@functools.cache
def require_table(name: Name, scale: float) -> None:
    """Requires LiteRT's operator to interpolate the table for each of the 65,536 numbers of a scale.

    Raises:
        ExportError: it does not. LiteRT computes at the scales 2^-11 and 2^-12 in another way.
    """
    different = int((_in_litert(name, scale) != interpolated(name, _ALL, *table_factor(scale))).sum())
    if different:
        raise ExportError(
            f"{name} of numbers of the scale {scale:g} has no form in the C decoder: LiteRT's result differs for "
            f"{different:,} of the 65,536 numbers"
        )


def _in_litert(name: Name, scale: float) -> npt.NDArray[np.int16]:
    """Returns what an operator makes of the integers from -32768 to 32767, with LiteRT's plain kernels."""
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=_operator_alone(name, scale), experimental_op_resolver_type=plain)
    found: npt.NDArray[np.int16] = interpreter.get_signature_runner(DECODE)(**{FRAME: _ALL[None]})[OUTPUT][0]
    return found


def _operator_alone(name: Name, scale: float) -> bytes:
    """Returns a .tflite that holds one operator for 65,536 numbers."""
    model, graph, signature = schema.ModelT(), schema.SubGraphT(), schema.SignatureDefT()
    model.version, model.subgraphs, model.signatureDefs = 3, [graph], [signature]
    model.buffers, model.operatorCodes = [schema.BufferT()], []
    graph.tensors, graph.inputs, graph.outputs = [], [0], [1]
    for tensor_name, tensor_scale in ((FRAME, scale), (OUTPUT, 2.0**-15)):
        index = flatbuffer.add_tensor(graph, tensor_name.encode(), schema.TensorType.INT16, (1, _ALL.size))
        graph.tensors[index].quantization = quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [tensor_scale], [0]
    graph.operators = [flatbuffer.new_operator(model, name, [0], [1], version=3)]
    entries = [schema.TensorMapT(), schema.TensorMapT()]
    for index, (entry, entry_name) in enumerate(zip(entries, (FRAME, OUTPUT), strict=True)):
        entry.name, entry.tensorIndex = entry_name.encode(), index
    signature.signatureKey, signature.subgraphIndex = DECODE.encode(), 0
    signature.inputs, signature.outputs = entries[:1], entries[1:]
    return flatbuffer.pack(model)
