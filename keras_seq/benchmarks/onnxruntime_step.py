"""ONNX Runtime's one-token step of a GRU language model, in its fastest forms: batch size 1, one thread.

These forms take, on two cores and at 65 and 10,000 tokens: float32 72 and 640 us, int8 30.5 and 104, int8 in blocks 31 and 96,
int4 in blocks 27.5 and 93. The alternatives that were tried are slower or equal:

* the GRU operator in float32: 73 and 685 us;
* `quantize_dynamic`: the same int8 graph as here; with one scale per column, or unsigned, 36-47 and 135-173;
* blocks of 16 to 128: 29-39 and 98-165;
* plain `run` instead of bound arrays: 4 to 6 us more;
* arena, prepacking, denormals and other session options: no gain.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

Product = Callable[[str, str, np.ndarray, np.ndarray], tuple[Any, list[Any]]]

BLOCK = 256  # the largest block that MatMulNBits supports, and the fastest
OPSET, IR_VERSION = 17, 9  # old enough for all current versions of ONNX Runtime


def onnxruntime_steps(weights: dict[str, np.ndarray], token: int) -> dict[str, Callable[[], np.ndarray]]:
    """Returns the step with each kind of weights. It needs `onnx` and `onnxruntime`.

    Args:
        weights: float32, in Keras's layout: embeddings `(vocabulary, features)`, kernel `(features, 3 * units)`,
            recurrent_kernel `(units, 3 * units)`, bias `(2, 3 * units)`, logits_kernel `(units, vocabulary)`, logits_bias
            `(vocabulary,)`; gates in the order z, r, h.
        token: the token to read, from the zero state.

    Returns:
        For each kind of weights a call that returns the logits `(1, vocabulary)`. The next call overwrites the array. There
        are two int8 forms: one is faster for small vocabularies, the other for large ones.
    """
    products: dict[str, Product] = {
        "float32": float_product,
        "int8": int8_product,
        "int8 in blocks": functools.partial(blocks_product, bits=8),
        "int4 in blocks": functools.partial(blocks_product, bits=4),
    }
    return {kind: onnxruntime_step(onnx_model(weights, product), token) for kind, product in products.items()}


def onnx_model(weights: dict[str, np.ndarray], product: Product) -> bytes:
    """Returns the step as an ONNX model with the inputs `token` and `state` and the outputs `logits` and `new_state`.

    The update and reset gates are one product of the concatenated input and memory. This is as fast as the GRU operator in
    float32, which has no quantized form.

    Args:
        weights: as for `onnxruntime_steps`.
        product: makes the node of a Dense layer and its constants, from the names of its input and output, its matrix and
            its bias.

    Returns:
        The serialized model.
    """
    from onnx import TensorProto, helper, numpy_helper

    vocabulary, _ = weights["embeddings"].shape
    units = len(weights["recurrent_kernel"])
    kernel, of_candidate = np.split(weights["kernel"], [2 * units], axis=1)
    recurrent_kernel, recurrent_of_candidate = np.split(weights["recurrent_kernel"], [2 * units], axis=1)
    bias, bias_of_candidate = np.split(weights["bias"], [2 * units], axis=1)
    layers = {
        "gates": product("both", "gates", np.concatenate([kernel, recurrent_kernel]), bias.sum(axis=0)),
        "proposed": product("embedded", "proposed", of_candidate, bias_of_candidate[0]),
        "remembered": product("state", "remembered", recurrent_of_candidate, bias_of_candidate[1]),
        "logits": product("new_state", "logits", weights["logits_kernel"], weights["logits_bias"]),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["embeddings", "token"], ["embedded"]),
        node("Concat", ["embedded", "state"], ["both"], axis=1),
        layers["gates"][0],
        layers["proposed"][0],
        layers["remembered"][0],
        node("Sigmoid", ["gates"], ["open_gates"]),
        node("Split", ["open_gates"], ["update", "reset"], axis=1),
        node("Mul", ["reset", "remembered"], ["relevant"]),
        node("Add", ["proposed", "relevant"], ["candidate_sum"]),
        node("Tanh", ["candidate_sum"], ["candidate"]),
        node("Sub", ["state", "candidate"], ["difference"]),
        node("Mul", ["update", "difference"], ["kept"]),
        node("Add", ["candidate", "kept"], ["new_state"]),
        layers["logits"][0],
    ]
    constants = [tensor for _, tensors in layers.values() for tensor in tensors]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "step",
        [info("token", TensorProto.INT64, [1]), info("state", TensorProto.FLOAT, [1, units])],
        [info("logits", TensorProto.FLOAT, [1, vocabulary]), info("new_state", TensorProto.FLOAT, [1, units])],
        [numpy_helper.from_array(weights["embeddings"], "embeddings"), *constants],
    )
    versions = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION).SerializeToString()


def float_product(inputs: str, output: str, matrix: np.ndarray, bias: np.ndarray) -> tuple[Any, list[Any]]:
    """Makes a Dense layer with float32 weights."""
    return _node_and_constants("Gemm", inputs, output, {"matrix": matrix, "bias": bias})


def int8_product(inputs: str, output: str, matrix: np.ndarray, bias: np.ndarray) -> tuple[Any, list[Any]]:
    """Makes a Dense layer with int8 weights and one scale. It quantizes its inputs to uint8 at run time.

    `quantize_dynamic` followed by the graph optimizer gives the same node. One scale per column is slower.
    """
    scale = np.abs(matrix).max() / 127 or 1.0
    constants: dict[str, np.ndarray | None] = {
        "matrix": np.round(matrix / scale).astype(np.int8),
        "scale": np.array(scale, np.float32),
        "zero_point": np.array(0, np.int8),
        "bias": bias,
    }
    return _node_and_constants("DynamicQuantizeMatMul", inputs, output, constants, domain="com.microsoft")


def blocks_product(inputs: str, output: str, matrix: np.ndarray, bias: np.ndarray, bits: int) -> tuple[Any, list[Any]]:
    """Makes a Dense layer with 8-bit or 4-bit weights and one scale for each block of a column."""
    quantized, scales = quantize_blocks(matrix, bits)
    rows, columns = matrix.shape
    constants: dict[str, np.ndarray | None] = {
        "matrix": quantized,
        "scales": scales,
        "zero_points": None,
        "order": None,
        "bias": bias,
    }
    # Level 4 computes with int8 inputs: 4 times as fast as with float32 ones at 4 bits, 40 to 100 times at 8 bits.
    attributes = {"K": rows, "N": columns, "bits": bits, "block_size": BLOCK, "accuracy_level": 4}
    return _node_and_constants("MatMulNBits", inputs, output, constants, domain="com.microsoft", **attributes)


def quantize_blocks(matrix: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantizes a matrix in blocks along its columns, in the format of MatMulNBits.

    Args:
        matrix: `(rows, columns)`.
        bits: 8 or 4. With 4 bits, a byte holds two numbers, the first in its lower half.

    Returns:
        The quantized weights, uint8 `(columns, blocks, bytes of a block)`, in which 128 (or 8 with 4 bits) stands for 0; and
        the scale of each block, float32 `(columns, blocks)`.
    """
    rows, columns = matrix.shape
    blocks = np.pad(matrix.T, ((0, 0), (0, -rows % BLOCK))).reshape(columns, -1, BLOCK)
    middle = 2 ** (bits - 1)
    largest = np.abs(blocks).max(axis=2, keepdims=True)
    scales = np.where(largest > 0, largest, 1) / (middle - 1)
    quantized = (np.round(blocks / scales) + middle).astype(np.uint8)
    if bits == 4:
        quantized = quantized[..., ::2] | quantized[..., 1::2] << 4
    return quantized, scales[..., 0].astype(np.float32)


def _node_and_constants(
    operator: str, inputs: str, output: str, constants: dict[str, np.ndarray | None], **attributes: Any
) -> tuple[Any, list[Any]]:
    """Makes a node whose first input is a tensor and whose other inputs are constants; None omits an input."""
    from onnx import helper, numpy_helper

    names = ["" if array is None else f"{output}/{name}" for name, array in constants.items()]
    tensors = [
        numpy_helper.from_array(array, name)
        for name, array in zip(names, constants.values(), strict=True)
        if array is not None
    ]
    return helper.make_node(operator, [inputs, *names], [output], **attributes), tensors


def onnxruntime_step(model: bytes, token: int) -> Callable[[], np.ndarray]:
    """Loads a model from `onnx_model` and binds its inputs and outputs to arrays.

    Args:
        model: the serialized model.
        token: the token to read.

    Returns:
        A call that returns the logits; see `onnxruntime_steps`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    of_state, of_logits = session.get_inputs()[1].shape, session.get_outputs()[0].shape
    arrays = {
        "token": np.array([token]),
        "state": np.zeros(of_state, np.float32),
        "logits": np.empty(of_logits, np.float32),
        "new_state": np.empty(of_state, np.float32),
    }
    binding = session.io_binding()
    for name, array in arrays.items():
        bind = binding.bind_input if name in ("token", "state") else binding.bind_output
        bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def step() -> np.ndarray:
        session.run_with_iobinding(binding)
        return arrays["logits"]  # This reference keeps all bound arrays alive.

    return step
