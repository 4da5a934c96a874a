"""Steps in integers: the same bits in every runtime, and nearly the numbers of the model."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import OpResolverType
from integer_steps import (
    MODELS,
    NAMES,
    TOKENS,
    VOCABULARY,
    LiteRT,
    Micro,
    contents_of,
    float32_content,
    of_layers,
    types_of,
    with_random_weights,
)

import keras_seq as ks
from keras_seq.generation.sampling import log_softmax
from keras_seq_export import ExportError
from keras_seq_export.graph.endpoints import decode_endpoint, start_endpoint
from keras_seq_export.graph.step import float32_step
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.conversion import convert
from keras_seq_export.tflite.integer.conversion import integer_model

KERNELS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, OpResolverType.BUILTIN_REF)
EDGES = (-32768, -8193, -8192, -8191, -1, 0, 1, 8191, 8192, 32767)


def random_states(details, generator, step):
    """Returns states of any numbers, or of those at which something is cut off."""
    shapes = {name: tuple(one["shape"]) for name, one in details.items() if name.startswith("state")}
    if step % 2:
        return {name: generator.integers(-32768, 32768, shape).astype(np.int16) for name, shape in shapes.items()}
    return {name: generator.choice(EDGES, shape).astype(np.int16) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", NAMES)
def test_all_kernels_and_tflite_micro_compute_the_same_bits(name):
    content = contents_of(name)[1]
    assert types_of(content) <= {"INT8", "INT16", "INT32", *(["BOOL"] if "n-grams" in name or "pairs" in name else [])}
    runtimes = [*(LiteRT(content, kernels) for kernels in KERNELS), Micro(content)]
    generator, states = np.random.default_rng(1), runtimes[0].zeros()
    for step in range(200):
        inputs = {"token": generator.integers(TOKENS, size=1, dtype=np.int32)}
        # The text first, then states that no text leads to.
        inputs |= states if step < 100 else random_states(runtimes[0].inputs, generator, step)
        first, *others = (runtime(inputs) for runtime in runtimes)
        for output, values in first.items():
            for other in others:
                np.testing.assert_array_equal(other[output], values)
        states = {output: values for output, values in first.items() if output.startswith("state")}


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_those_of_float32(name):
    float32, integer = (LiteRT(content) for content in contents_of(name))
    scale = integer.outputs["logits"]["quantization"][0]
    before, states, lost = float32.zeros(), integer.zeros(), []
    for token in np.random.default_rng(2).integers(TOKENS, size=(200, 1), dtype=np.int32):
        before, states = float32({"token": token, **before}), integer({"token": token, **states})
        expected, found = log_softmax(before.pop("logits")[0]), log_softmax(states.pop("logits")[0] * scale)
        lost.append(np.exp(expected) @ (expected - found))
    assert np.mean(lost) < 0.001


@pytest.mark.parametrize("name", ["GRU", "table too large to fold", "dense layers"])
def test_no_sum_of_a_dense_layer_is_near_a_tie(name):
    """Inputs are multiples of 4 and biases are not, so rounding in one step or in two gives the same."""
    model = flatbuffer.parse(contents_of(name)[1])
    (graph,) = model.subgraphs
    for operator in graph.operators:
        if flatbuffer.operator_name(model, operator) == "FULLY_CONNECTED":
            given, kernel, bias = (graph.tensors[index] for index in operator.inputs)
            values = np.frombuffer(bytes(model.buffers[bias.buffer].data), np.int32)
            assert (values % 4 == 2).all()
            scales = [float(one.quantization.scale[0]) for one in (given, kernel, graph.tensors[operator.outputs[0]])]
            shift = np.log2(scales[2] / scales[0] / scales[1])
            assert shift == int(shift) >= 3
            assert operator.builtinOptions.quantizedBiasType == schema.TensorType.INT32


def test_weights_that_are_all_zero_give_equal_logits():
    model = MODELS["GRU"]()
    model.set_weights([0 * weight for weight in model.get_weights()])
    step = LiteRT(integer_model(float32_content(model)))
    assert not step({"token": np.zeros(1, np.int32), **step.zeros()})["logits"].any()


def test_tied_embeddings_are_stored_once():
    model = flatbuffer.parse(contents_of("tied")[1])
    readers = flatbuffer.count_readers(model)
    assert {("GATHER", 0): 1, ("FULLY_CONNECTED", 1): 1} in readers.values()


@pytest.mark.parametrize("layer", [keras.layers.GRU(8), keras.layers.LSTM(8)])
def test_frames_are_integers_of_the_given_range(layer):
    frames = keras.Input((None, 3))
    layer.return_sequences = True
    model = with_random_weights(keras.Model(frames, keras.layers.Dense(2)(layer(frames))))
    content = float32_content(model, None)
    step, float32 = LiteRT(integer_model(content, frame_range=4.0)), LiteRT(content)
    scale, output_scale = step.inputs["frame"]["quantization"][0], step.outputs["output"]["quantization"][0]
    assert scale == 2.0**-11  # 8192 of them are 4
    states, before = step.zeros(), float32.zeros()
    for frame in np.random.default_rng(3).uniform(-4, 4, (50, 1, 3)).astype(np.float32):
        found = step({"frame": np.rint(frame / scale).astype(np.int16), **states})
        expected = float32({"frame": frame, **before})
        np.testing.assert_allclose(found.pop("output") * output_scale, expected.pop("output"), atol=0.1)
        states, before = found, expected


def test_frames_that_an_activation_reads_have_a_limit():
    frames = keras.Input((None, 3))
    values = keras.layers.SimpleRNN(8, return_sequences=True)(keras.layers.Activation("tanh")(frames))
    content = float32_content(with_random_weights(keras.Model(frames, keras.layers.Dense(2)(values))), None)
    step, float32 = LiteRT(integer_model(content, frame_range=1e4)), LiteRT(content)
    scale = step.inputs["frame"]["quantization"][0]
    output_scale = step.outputs["output"]["quantization"][0]
    for number in (-1e4, 1e4, 3.0):  # LiteRT's TANH overflows with larger scales.
        frame = np.full((1, 1, 3), number, np.float32)
        found = step({"frame": np.rint(frame / scale).astype(np.int16), **step.zeros()})["output"] * output_scale
        np.testing.assert_allclose(found, float32({"frame": frame, **float32.zeros()})["output"], atol=0.2)
    with pytest.raises(ExportError, match="too large for an activation in integers: normalize the frames"):
        integer_model(content, frame_range=1e5)


def ngrams_alone():
    tokens = keras.Input((None,), dtype="int32")
    return keras.Model(tokens, ks.NgramEmbedding(TOKENS, TOKENS, 3, 31)(tokens))


def ngrams_of_many_tokens():
    tokens = keras.Input((None,), dtype="int32")
    embeddings = keras.layers.Embedding(32_769, 4)(tokens)
    return keras.Model(tokens, embeddings + ks.NgramEmbedding(32_769, 4, 2, 31)(tokens))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (ngrams_alone, "a model that reads its tokens as n-grams alone has no form in integers"),
        (ngrams_of_many_tokens, "the n-grams of 32,769 tokens are too many for integers, which hold 32,768"),
    ],
)
def test_ngrams_without_a_form_in_integers_are_refused(build, message):
    content = float32_content(build(), None)
    with pytest.raises(ExportError, match=message):
        integer_model(content)


@pytest.mark.parametrize("kernel", [0, 1e-12, 1e-5])
def test_the_bias_of_a_kernel_that_is_nearly_zero_is_kept(kernel):
    model = with_random_weights(of_layers(keras.layers.GRU(8, return_sequences=True)))
    dense = model.layers[-1]
    dense.kernel.assign(dense.kernel * kernel)
    content = float32_content(model)
    step = LiteRT(integer_model(content))
    logits = (
        step({"token": np.zeros(1, np.int32), **step.zeros()})["logits"] * step.outputs["logits"]["quantization"][0]
    )
    np.testing.assert_allclose(logits[0], dense.bias.numpy(), atol=1e-3)


def test_a_bias_that_is_much_larger_than_its_kernel_is_kept():
    model = with_random_weights(of_layers(keras.layers.GRU(8, return_sequences=True)))
    dense = model.layers[-1]
    dense.bias.assign(1000 * dense.bias)
    step = LiteRT(integer_model(float32_content(model)))
    logits = (
        step({"token": np.zeros(1, np.int32), **step.zeros()})["logits"] * step.outputs["logits"]["quantization"][0]
    )
    np.testing.assert_allclose(logits[0], dense.bias.numpy(), atol=3)


def test_a_state_that_is_added_to_larger_numbers_keeps_its_scale():
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(TOKENS, 8)(tokens)
    summed = keras.layers.Add()([values * 50.0, keras.layers.GRU(8, return_sequences=True)(values)])
    model = with_random_weights(keras.Model(tokens, keras.layers.Dense(TOKENS)(summed)))
    step = LiteRT(integer_model(float32_content(model)))
    assert step.inputs["state_0"]["quantization"][0] == 2.0**-13


def test_initial_states_beyond_their_range_are_refused():
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(TOKENS, 4)(tokens)
    values = ks.GRU(8, return_sequences=True)(values, initial_state=keras.ops.full((1, 8), 1.5))
    with pytest.raises(ExportError, match="the initial values of state_0 must be between -1 and 1"):
        integer_model(with_start(keras.Model(tokens, keras.layers.Dense(TOKENS)(values))))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (
            keras.layers.LayerNormalization(name="norm"),
            r"norm, moments/mean has no form in integers \(operator MEAN\): leave out LayerNorm",
        ),
        (keras.layers.Activation("gelu", name="bent"), r"bent, Gelu/\w+ has no form in integers \(operator GELU\)"),
        (keras.layers.SimpleRNN(8, "relu", return_sequences=True, name="relu_rnn"), "relu_rnn.*may leave this range"),
        (keras.layers.GRU(8, recurrent_activation="hard_sigmoid", return_sequences=True), "has no form in integers"),
    ],
)
def test_what_integers_cannot_compute_is_refused_by_name(layer, reason):
    model = with_random_weights(of_layers(keras.layers.SimpleRNN(8, return_sequences=True), layer))
    with pytest.raises(ExportError, match=reason):
        integer_model(float32_content(model))


def test_sums_that_may_leave_32_bits_are_refused():
    model = with_random_weights(of_layers(keras.layers.SimpleRNN(600, return_sequences=True)))
    model.layers[-1].kernel.assign(np.sign(model.layers[-1].kernel))  # Each weight is as large as the largest.
    with pytest.raises(ExportError, match="the sums of logits may leave 32 bits"):
        integer_model(float32_content(model))


def test_logits_that_are_too_large_are_refused():
    model = with_random_weights(MODELS["SimpleRNN"]())
    model.layers[-1].kernel.assign(4000 * model.layers[-1].kernel)
    with pytest.raises(ExportError, match="the logits may be as large as"):
        integer_model(float32_content(model))


def with_start(model):
    """Returns the .tflite in float32 of a model whose states do not begin at zero."""
    _, step, _ = float32_step(model, VOCABULARY)
    return convert({"decode": decode_endpoint(step, 1), "start": start_endpoint(step, 1)}, "none")


def test_initial_states_are_returned_by_start():
    tokens = keras.Input((None,), dtype="int32")
    initial = keras.ops.ones((1, 8)) * np.linspace(-1, 1, 8, dtype=np.float32)
    values = keras.layers.Embedding(TOKENS, 4)(tokens)
    values = ks.GRU(8, return_sequences=True)(values, initial_state=initial)
    content = integer_model(with_start(keras.Model(tokens, keras.layers.Dense(TOKENS)(values))))
    found = LiteRT(content).interpreter.get_signature_runner("start")()
    np.testing.assert_array_equal(found["state_0"][0], np.rint(np.linspace(-1, 1, 8) * 8192))
    Micro(content)
