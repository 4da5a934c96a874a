"""Quantizing the weights of a .tflite: those of dense layers, embeddings and convolutions, nearly all of its weights.

TensorFlow's converter can do part of this, with side effects. Its float16 also converts other constants, so the
smallest temperature becomes 0 and `sample` fails. Its int8 dequantizes whole embeddings before a loop. It has no 4-bit
weights. Everything else in the file stays as it is.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.signatures import is_quantized
from keras_seq_export.tflite.exact_arithmetic import spread_columns, use_exact_arithmetic
from keras_seq_export.tflite.flatbuffer import (
    add_buffer,
    add_tensor,
    count_readers,
    float32_constant,
    new_operator,
    operator_name,
)

BLOCK = 32  # weights of a row that share a scale in int4
SMALLEST = 1024  # weights; smaller matrices stay in float32
DENSE, GATHER = "FULLY_CONNECTED", "GATHER"
_CONVOLUTIONS = {("CONV_2D", 1), ("DEPTHWISE_CONV_2D", 1)}
_WEIGHTS = {(DENSE, 1), (GATHER, 0)}
# Versions of FULLY_CONNECTED that make an older runtime refuse the file instead of answering wrongly: 8-bit weights
# with inputs quantized at run time, and 4-bit weights.
_DENSE_VERSIONS = {"int8": 9, "int4": 13}

_Uses = list[tuple[schema.SubGraphT, schema.TensorT]]  # all tensors with the same buffer


def quantize_weights(model: schema.ModelT, quantization: str) -> None:
    """Stores the weights of a float32 model as `"float16"`, `"int8"` or `"int4"`; `"none"` changes nothing.

    int8 has one scale per tensor; runtimes before 2.17 refuse one per row. In dense layers it is a power of two times a
    number that is multiplied with the product (`exact_arithmetic`). int4 has a float16 scale for each 32 weights
    of a row, the layout that XNNPACK multiplies (`BlockwiseQuantization` in the TFLite schema). Embeddings, and kernels
    whose rows are not a multiple of 32, are int8 then. Convolutions multiply float32 numbers, which a runtime unpacks from
    float16 or int8 when it loads the file.
    """
    if not is_quantized(quantization):
        return
    if quantization in _DENSE_VERSIONS:
        spread_columns(model, SMALLEST)
    for buffer, readers in count_readers(model).items():
        uses = [(graph, tensor) for graph in model.subgraphs for tensor in graph.tensors if tensor.buffer == buffer]
        weights = float32_constant(model, uses[0][1])
        is_convolution = set(readers) <= _CONVOLUTIONS
        if weights is None or weights.size < SMALLEST or not (is_convolution or set(readers) <= _WEIGHTS):
            continue
        if quantization == "float16":
            _store_unpacked(model, uses, weights.astype(np.float16), schema.TensorType.FLOAT16, None)
        elif is_convolution:
            values, scale = quantize_blocks(weights.reshape(1, -1), 8, np.float32)
            _store_unpacked(model, uses, values, schema.TensorType.INT8, _one_scale(scale))
        elif quantization == "int4" and set(readers) == {(DENSE, 1)} and _has_whole_blocks(uses):
            _store_int4(model, uses, weights)
        else:
            _store_int8(model, uses, weights)
        model.buffers[buffer].data = None
    if quantization in _DENSE_VERSIONS:
        _use_integer_weights(model, _DENSE_VERSIONS[quantization])
        use_exact_arithmetic(model)
    # The converter's entry describes the model before quantization.
    model.metadata = [entry for entry in model.metadata or [] if entry.name != b"min_runtime_version"]


def _has_whole_blocks(uses: _Uses) -> bool:
    """Returns whether all tensors with this buffer have one shape whose rows are whole blocks.

    Tensors of different shapes may share a buffer, because the converter stores equal bytes once.
    """
    shapes = {tuple(tensor.shape) for _, tensor in uses}
    return len(shapes) == 1 and all(shape[1] % BLOCK == 0 for shape in shapes)


def _store_unpacked(
    model: schema.ModelT,
    uses: _Uses,
    values: np.ndarray,
    kind: int,
    quantization: schema.QuantizationParametersT | None,
) -> None:
    """Adds a DEQUANTIZE from a constant in front of each tensor, which a runtime computes once."""
    buffer = add_buffer(model, values)
    for graph, tensor in uses:
        stored = add_tensor(graph, tensor.name + b"/stored", kind, tensor.shape, buffer)
        graph.tensors[stored].quantization, tensor.buffer = quantization, 0
        inputs, outputs = [stored], [graph.tensors.index(tensor)]
        version = 3 if kind == schema.TensorType.FLOAT16 else 2
        graph.operators.insert(0, new_operator(model, "DEQUANTIZE", inputs, outputs, version=version))


def _store_int8(model: schema.ModelT, uses: _Uses, weights: np.ndarray) -> None:
    values, scale = quantize_blocks(weights.reshape(1, -1), 8, np.float32)
    buffer = add_buffer(model, values)
    for _, tensor in uses:
        tensor.type, tensor.buffer, tensor.quantization = schema.TensorType.INT8, buffer, _one_scale(scale)


def _one_scale(scale: np.ndarray) -> schema.QuantizationParametersT:
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = scale, np.zeros(1, np.int64)
    return quantization


def _store_int4(model: schema.ModelT, uses: _Uses, weights: np.ndarray) -> None:
    values, scales = quantize_blocks(weights.reshape(len(weights), -1, BLOCK), 4, np.float16)
    buffer, scales_buffer = add_buffer(model, pack_int4(values)), add_buffer(model, scales)
    for graph, tensor in uses:
        tensor.type, tensor.buffer = schema.TensorType.INT4, buffer
        tensor.quantization = _block_scales(graph, tensor, scales_buffer, scales.shape)


def _block_scales(
    graph: schema.SubGraphT, tensor: schema.TensorT, buffer: int, shape: tuple[int, ...]
) -> schema.QuantizationParametersT:
    details = schema.BlockwiseQuantizationT()
    details.scales = add_tensor(graph, tensor.name + b"/scales", schema.TensorType.FLOAT16, shape, buffer)
    details.zeroPoints, details.blockSize = -1, BLOCK
    quantization = schema.QuantizationParametersT()
    quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    quantization.details = details
    return quantization


def _use_integer_weights(model: schema.ModelT, version: int) -> None:
    """Makes dense layers multiply integers, and adds a DEQUANTIZE after each lookup of integers."""
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            code.version = version
    for graph in model.subgraphs:
        operators = []
        for operator in graph.operators:
            name = operator_name(model, operator)
            operators.append(operator)
            if name == DENSE and graph.tensors[operator.inputs[1]].type != schema.TensorType.FLOAT32:
                operator.builtinOptions.asymmetricQuantizeInputs = True
            if name == GATHER and graph.tensors[operator.inputs[0]].type == schema.TensorType.INT8:
                operators.append(_dequantized(model, graph, operator))
        graph.operators = operators


def _dequantized(model: schema.ModelT, graph: schema.SubGraphT, gather: schema.OperatorT) -> schema.OperatorT:
    """Makes a GATHER return int8; returns the DEQUANTIZE that follows it."""
    (output,) = gather.outputs
    like = graph.tensors[output]
    row = add_tensor(graph, like.name + b"/int8", schema.TensorType.INT8, like.shape)
    graph.tensors[row].quantization = graph.tensors[gather.inputs[0]].quantization
    gather.outputs = [row]
    return new_operator(model, "DEQUANTIZE", gather.outputs, [output], version=2)


def quantize_blocks(blocks: np.ndarray, bits: int, scale_dtype: type[np.floating]) -> tuple[np.ndarray, np.ndarray]:
    """Returns int8 values `(..., block)` and a scale for each block `(...)` for weights `(..., block)`.

    The scale that keeps the largest weight of a block is not always the best: a smaller one clips a few weights but
    rounds the others more finely. Of 21 scales, each block gets the one with the least squared error. This reduces the
    loss of a model of tiny Shakespeare from 0.0027 to 0.0006 nats (512 units, int8) and from 0.0107 to 0.0084 (384
    units, int4).

    Args:
        blocks: the weights.
        bits: of the values, 8 or 4.
        scale_dtype: dtype of the scales, to which they are rounded before use.
    """
    highest = 2 ** (bits - 1) - 1
    lowest = -highest if bits == 8 else -highest - 1  # LiteRT does not allow -128.
    largest = np.abs(blocks).max(axis=-1)
    least_error = np.full(largest.shape, np.inf)
    values, scales = np.zeros(blocks.shape, np.int8), np.ones(largest.shape, scale_dtype)
    for share in np.linspace(0.6, 1, 21):
        candidate = np.maximum(largest * share / highest, np.finfo(scale_dtype).tiny).astype(scale_dtype)
        step = candidate[..., None].astype(np.float32)
        rounded = np.clip(np.rint(blocks / step), lowest, highest)
        error = np.square(rounded * step - blocks).sum(axis=-1)
        better = error < least_error
        least_error[better], scales[better], values[better] = error[better], candidate[better], rounded[better]
    return values, scales


def pack_int4(values: np.ndarray) -> np.ndarray:
    """Returns 4-bit values packed two per byte, the first in the lower half."""
    low, high = values.reshape(-1, 2).T.astype(np.uint8)
    return (low & 15) | (high << 4)
