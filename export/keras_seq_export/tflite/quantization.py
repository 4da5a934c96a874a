"""The weights of a .tflite in fewer bits: those of dense layers and embeddings, by far the most of a recurrent model.

TensorFlow's converter could do some of it, and does other things too: its float16 takes in every constant, so that the
smallest temperature becomes 0 and `sample` fails; its int8 unpacks embeddings whole before a loop; four bits it does not
know. All else in the file stays as it is.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.tflite.flatbuffer import add_buffer, add_tensor, new_operator, numbers, operator_name, uses

BLOCK = 32  # weights of a row that share a scale in int4
SMALLEST = 1024  # numbers; what has fewer stays as it is
DENSE, GATHER = "FULLY_CONNECTED", "GATHER"
_WEIGHTS = {(DENSE, 1), (GATHER, 0)}
# Of FULLY_CONNECTED, so that an older runtime refuses the file instead of answering wrongly: with 8-bit weights and inputs
# quantized as they come, with 4-bit ones.
_VERSIONS = {"int8": 9, "int4": 13}


def quantize_weights(model: schema.ModelT, quantization: str) -> None:
    """Puts the weights of a float32 model into `"float16"`, `"int8"` or `"int4"`; with `"none"` they stay.

    int8 has one scale a tensor; runtimes before 2.17 refuse a scale a row. int4 has a scale in float16 for each 32 weights
    of a row, as XNNPACK multiplies them (`BlockwiseQuantization` of the TFLite schema); rows that are no multiple of 32
    long, and embeddings, have int8.
    """
    if quantization == "none":
        return
    for index, readers in uses(model).items():
        tensors = [(graph, tensor) for graph in model.subgraphs for tensor in graph.tensors if tensor.buffer == index]
        weights = numbers(model, tensors[0][1])
        if weights is None or weights.ndim != 2 or weights.size < SMALLEST or not set(readers) <= _WEIGHTS:
            continue
        if quantization == "float16":
            half = add_buffer(model, weights.astype(np.float16))
            for graph, tensor in tensors:
                _give_back(model, graph, tensor, half)
        elif quantization == "int4" and set(readers) == {(DENSE, 1)} and _in_blocks(tensors):
            values, scales = quantize(weights.reshape(len(weights), -1, BLOCK), 4, np.float16)
            four, of_blocks = add_buffer(model, pack_int4(values)), add_buffer(model, scales)
            for graph, tensor in tensors:
                tensor.type, tensor.buffer = schema.TensorType.INT4, four
                tensor.quantization = _block_scales(graph, tensor, of_blocks, scales.shape)
        else:
            values, scale = quantize(weights.reshape(1, -1), 8, np.float32)
            eight = add_buffer(model, values)
            for _, tensor in tensors:
                tensor.type, tensor.buffer, tensor.quantization = schema.TensorType.INT8, eight, _one_scale(scale)
        model.buffers[index].data = None
    if quantization in _VERSIONS:
        _read_integers(model, _VERSIONS[quantization])
    # What the converter wrote there is of the model before.
    model.metadata = [one for one in model.metadata or [] if one.name != b"min_runtime_version"]


def _in_blocks(tensors: list[tuple[schema.SubGraphT, schema.TensorT]]) -> bool:
    """Whether the rows of all tensors of a buffer, which the converter shares where bytes are equal, are whole blocks."""
    shapes = {tuple(tensor.shape) for _, tensor in tensors}
    return len(shapes) == 1 and all(shape[1] % BLOCK == 0 for shape in shapes)


def _give_back(model: schema.ModelT, graph: schema.SubGraphT, tensor: schema.TensorT, half: int) -> None:
    """Lets a tensor be computed from its numbers in half precision, which a runtime does once."""
    stored = add_tensor(graph, tensor, b"/float16", schema.TensorType.FLOAT16, tensor.shape)
    stored.buffer, tensor.buffer = half, 0
    places = [len(graph.tensors) - 1], [graph.tensors.index(tensor)]
    graph.operators.insert(0, new_operator(model, "DEQUANTIZE", *places, version=3))


def _one_scale(scale: np.ndarray) -> schema.QuantizationParametersT:
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = scale, np.zeros(1, np.int64)
    return quantization


def _block_scales(
    graph: schema.SubGraphT, tensor: schema.TensorT, buffer: int, shape: tuple[int, ...]
) -> schema.QuantizationParametersT:
    scales = add_tensor(graph, tensor, b"/scales", schema.TensorType.FLOAT16, shape)
    scales.buffer = buffer
    details = schema.BlockwiseQuantizationT()
    details.scales, details.zeroPoints, details.blockSize = len(graph.tensors) - 1, -1, BLOCK
    quantization = schema.QuantizationParametersT()
    quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    quantization.details = details
    return quantization


def _read_integers(model: schema.ModelT, version: int) -> None:
    """Lets dense layers multiply integer weights, and what is looked up in integers be dequantized after it."""
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            code.version = version
    for graph in model.subgraphs:
        operators = []
        for operator in graph.operators:
            kind = operator_name(model, operator)
            operators.append(operator)
            if kind == DENSE and graph.tensors[operator.inputs[1]].type != schema.TensorType.FLOAT32:
                operator.builtinOptions.asymmetricQuantizeInputs = True
            if kind == GATHER and graph.tensors[operator.inputs[0]].type == schema.TensorType.INT8:
                (output,) = operator.outputs
                found = add_tensor(
                    graph, graph.tensors[output], b"/int8", schema.TensorType.INT8, graph.tensors[output].shape
                )
                found.quantization = graph.tensors[operator.inputs[0]].quantization
                operator.outputs = [len(graph.tensors) - 1]
                operators.append(new_operator(model, "DEQUANTIZE", operator.outputs, [output], version=2))
        graph.operators = operators


def quantize(blocks: np.ndarray, bits: int, of_scales: type[np.floating]) -> tuple[np.ndarray, np.ndarray]:
    """Returns values int8 `(..., block)` and a scale for each block `(...)` for weights `(..., block)`.

    Of some scales below the one that spares a block's largest weight, each has that with the least squared error: to cut a
    few weights off often serves the others. Tiny Shakespeare, 512 units, int8: 0.0006 nats lost in place of 0.0027; 384
    units, int4: 0.0084 in place of 0.0107.

    Args:
        blocks: the weights.
        bits: of the values, 8 or 4.
        of_scales: the dtype of the scales, in which they are rounded before they are used.
    """
    highest = 2 ** (bits - 1) - 1
    lowest = -highest if bits == 8 else -highest - 1  # LiteRT wants 8 bits without -128.
    largest = np.abs(blocks).max(axis=-1)
    best = np.full(largest.shape, np.inf)
    values, scales = np.zeros(blocks.shape, np.int8), np.ones(largest.shape, of_scales)
    for share in np.linspace(0.6, 1, 21):
        tried = np.maximum(largest * share / highest, np.finfo(of_scales).tiny).astype(of_scales)
        width = tried[..., None].astype(np.float32)
        rounded = np.clip(np.rint(blocks / width), lowest, highest)
        error = np.square(rounded * width - blocks).sum(axis=-1)
        better = error < best
        best[better], scales[better], values[better] = error[better], tried[better], rounded[better]
    return values, scales


def pack_int4(values: np.ndarray) -> np.ndarray:
    """Returns 4-bit values, two in a byte, the first in its lower half."""
    low, high = values.reshape(-1, 2).T.astype(np.uint8)
    return (low & 15) | (high << 4)
