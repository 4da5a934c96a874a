"""Quantized weights: those in the file, multiplied in NumPy, against the float32 weights and against LiteRT."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hamlet import WIDE, small_model
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from keras_seq_export import LiteRTSampler, export_tflite
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.contents import contents_of
from keras_seq_export.tflite.quantization import BLOCK, pack_int4, quantize_blocks

UNITS = 64
KINDS = ("none", "float16", "int8", "int4")


@pytest.fixture(scope="module")
def model():
    return small_model(**WIDE)[0]


@pytest.fixture(scope="module")
def vocabulary():
    return small_model(**WIDE)[1]


@pytest.fixture(scope="module")
def files(small_tflite):
    return {kind: small_tflite(quantization=kind, **WIDE) for kind in KINDS}


def stored_matrices(path):
    """Returns the large constants of `decode` by shape, dequantized in NumPy to float32."""
    model = flatbuffer.parse(read_bundle(path).model)
    graph = model.subgraphs[0]
    found = {}
    readers = {int(index): operator for operator in graph.operators for index in operator.inputs}
    for number, tensor in enumerate(graph.tensors):
        data = model.buffers[tensor.buffer].data
        if data is None or len(tensor.shape) != 2 or number not in readers:
            continue
        stored, shape = np.asarray(data, np.uint8), tuple(map(int, tensor.shape))
        if tensor.type == schema.TensorType.INT8:
            values = stored.view(np.int8).reshape(shape) * np.float32(tensor.quantization.scale[0])
            if flatbuffer.operator_name(model, readers[number]) == "FULLY_CONNECTED":
                # The scale is a power of two; the rest of it is multiplied with the product.
                rest = graph.tensors[readers[int(readers[number].outputs[0])].inputs[1]]
                values = values * np.asarray(model.buffers[rest.buffer].data, np.uint8).view(np.float32)
        elif tensor.type == schema.TensorType.INT4:
            scales = graph.tensors[tensor.quantization.details.scales]
            scale_values = np.asarray(model.buffers[scales.buffer].data, np.uint8).view(np.float16).astype(np.float32)
            four = np.stack([stored & 15, stored >> 4], axis=-1).astype(np.int8).reshape(-1, BLOCK)
            values = (np.where(four > 7, four - 16, four) * scale_values.reshape(-1, 1)).reshape(shape)
        else:
            values = stored.view(np.float16 if tensor.type == schema.TensorType.FLOAT16 else np.float32).reshape(shape)
        found[shape] = values.astype(np.float32)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_stored_weights_are_those_of_the_model(kind, model, vocabulary, files):
    """Up to half a rounding step, except for the largest weights, which may be clipped to 0.6."""
    embeddings, kernel, recurrent_kernel, _, logits_kernel, _ = model.get_weights()
    found = stored_matrices(files[kind])
    expected = {
        (len(vocabulary), 3 * UNITS): embeddings @ kernel,  # One table: it is no larger than both.
        (3 * UNITS, UNITS): recurrent_kernel.T,
        (len(vocabulary), UNITS): logits_kernel.T,
    }
    assert set(found) == set(expected)
    for shape, matrix in expected.items():
        in_blocks = kind == "int4" and shape[1] == UNITS
        blocks = matrix.reshape(-1, BLOCK) if in_blocks else matrix.reshape(1, -1)
        difference = np.abs(found[shape].reshape(blocks.shape) - blocks)
        largest = np.abs(blocks).max(axis=-1, keepdims=True)
        half_a_step = {"none": 0, "float16": 2**-11}.get(kind, 1 / 14 if in_blocks else 1 / 254) * largest
        kept = np.abs(blocks) <= 0.6 * largest
        assert (difference <= np.where(kept, half_a_step * 1.001 + 1e-6, 0.41 * largest)).all()


@pytest.mark.parametrize("kind", ["float16", "int8", "int4"])
def test_litert_multiplies_what_is_stored(kind, model, vocabulary, files):
    """A GRU in NumPy with the stored weights; the rest of the difference is LiteRT's quantization of inputs to 8 bits."""
    found = stored_matrices(files[kind])
    bias, logits_bias = model.get_weights()[3], model.get_weights()[5]
    sampler = LiteRTSampler(files[kind])
    state, states = np.zeros(UNITS, np.float32), sampler.initial_states()
    largest, spread = 0.0, []
    for token in vocabulary.encode("To be, or not"):
        x = found[len(vocabulary), 3 * UNITS][token] + bias[0]
        h = found[3 * UNITS, UNITS] @ state + bias[1]
        z, r = (1 / (1 + np.exp(-(x[part] + h[part]))) for part in (slice(UNITS), slice(UNITS, 2 * UNITS)))
        state = z * state + (1 - z) * np.tanh(x[2 * UNITS :] + r * h[2 * UNITS :])
        expected = found[len(vocabulary), UNITS] @ state + logits_bias
        logits, states = sampler(int(token), states)
        largest = max(largest, np.abs(logits - expected).max())
        spread.append(expected.std())
    assert largest < (1e-5 if kind == "float16" else 0.03 * np.mean(spread))


def test_the_sizes(files, vocabulary):
    sizes = {kind: (files[kind]).stat().st_size for kind in KINDS}
    dtypes = {kind: contents_of(read_bundle(files[kind]).model).stored_bytes for kind in sizes}
    weights = dtypes["none"]["float32"]
    assert dtypes["float16"]["float16"] == pytest.approx(weights / 2, rel=0.05)
    assert dtypes["int8"]["int8"] == pytest.approx(weights / 4, rel=0.05)
    assert dtypes["int4"]["int4"] == (3 * UNITS + len(vocabulary)) * UNITS / 2
    assert sizes["none"] > sizes["float16"] > sizes["int8"] > sizes["int4"]


def test_int8_has_one_scale_per_tensor(files):
    model = flatbuffer.parse(read_bundle(files["int8"]).model)
    scales = [
        len(tensor.quantization.scale)
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.type == schema.TensorType.INT8
    ]
    assert set(scales) == {1}
    (version,) = {
        code.version for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED
    }
    assert version <= 9  # That of tflite-runtime 2.14.


WEIGHTS = arrays.arrays(
    np.float32, (3, 2 * BLOCK), elements=st.floats(-(2.0**10), 2.0**10, width=32, allow_subnormal=False)
)


@pytest.mark.parametrize(("bits", "dtype"), [(4, np.float16), (8, np.float32)])
@given(weights=WEIGHTS)
def test_the_scale_is_never_worse_than_that_of_the_largest_weight(bits, dtype, weights):
    highest = 2 ** (bits - 1) - 1
    blocks = weights.reshape(3, 2, BLOCK)
    values, scales = quantize_blocks(blocks, bits, dtype)
    assert values.max() <= highest
    assert values.min() >= (-8 if bits == 4 else -127)
    plain = np.maximum(np.abs(blocks).max(-1, keepdims=True) / highest, np.finfo(dtype).tiny).astype(dtype)
    plain = plain.astype(np.float32)
    error = np.square(values * scales.astype(np.float32)[..., None] - blocks).sum(-1)
    plain_error = np.square(np.clip(np.rint(blocks / plain), -highest, highest) * plain - blocks).sum(-1)
    assert (error <= plain_error * (1 + 1e-4) + 1e-9).all()


@given(arrays.arrays(np.int8, (2, 2 * BLOCK), elements=st.integers(-8, 7)))
def test_packed_values_can_be_unpacked(values):
    packed = pack_int4(values)
    assert packed.nbytes == values.size / 2
    unpacked = np.stack([packed & 15, packed >> 4], axis=-1).astype(np.int8).reshape(values.shape)
    np.testing.assert_array_equal(np.where(unpacked > 7, unpacked - 16, unpacked), values)


def test_two_shapes_may_share_a_buffer(tmp_path):
    """The converter stores equal bytes once: here a kernel (64, 32) and one (32, 64)."""
    frames = keras.Input((None, 64))
    values = keras.layers.GRU(64, return_sequences=True)(frames)
    narrow, wide = keras.layers.Dense(32, use_bias=False), keras.layers.Dense(64, use_bias=False)
    model = keras.Model(frames, wide(narrow(values)))
    numbers = np.random.default_rng(0).normal(size=(64 * 32)).astype(np.float32)
    narrow.set_weights([numbers.reshape(32, 64).T])  # TFLite has them transposed.
    wide.set_weights([numbers.reshape(64, 32).T])
    assert export_tflite(model, None, tmp_path / "a.tflite", quantization="int4")["relative_error"] < 0.1
