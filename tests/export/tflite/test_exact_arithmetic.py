"""Files with 8-bit weights compute the same bits everywhere: LiteRT's results are those of NumPy, operator by operator."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from changed_models import without_write
from hamlet import VOCABULARY, small_model

from keras_seq_export import LiteRTDecoder, LiteRTSampler, export_tflite
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.exact_arithmetic import LIMIT, spread_columns, use_exact_arithmetic

MODELS = {
    "gru": {"units": (64,), "embedding_dim": 32},
    "lstm": {"cell": "lstm", "units": (48, 40), "embedding_dim": 32},
    "simple_rnn": {"cell": "simple_rnn", "units": (64,), "embedding_dim": 32, "weight_scale": 6},
    "tied words": {"level": "word", "units": (64,), "embedding_dim": 64, "tie_embeddings": True},
}
F = np.float32


def product(x, weights, scale):
    """A row times 8-bit weights, as XNNPACK multiplies them: the row has 8 bits too, with a scale and a zero point."""
    low, high = min(x.min(), F(0)), max(x.max(), F(0))
    steps = F(255) / (high - low) if high > low else F(1)
    from_low, from_high = low * steps, high * steps
    zero = F(-128) - from_low if (F(-128) + from_low) + (F(127) + from_high) > 0 else F(127) - from_high
    zero = int(np.rint(np.clip(zero, F(-128), F(127))))
    rounded = np.clip(np.rint(x * steps), -128 - zero, 127 - zero).astype(np.int64)
    return (rounded @ weights.astype(np.int64).T).astype(F) * (F(1) / steps) * scale


def run_in_numpy(model, inputs):
    """Returns the outputs of `decode`, with every operator rounded to float32 on its own."""
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    names = {schema.TensorType.FLOAT32: F, schema.TensorType.INT32: np.int32, schema.TensorType.INT8: np.int8}
    values = {}
    for index, tensor in enumerate(graph.tensors):
        data = model.buffers[tensor.buffer].data
        if data is not None:
            values[index] = np.asarray(data, np.uint8).view(names[tensor.type]).reshape(tensor.shape)
    values |= {entry.tensorIndex: inputs[entry.name.decode()] for entry in signature.inputs}
    scale_of = {
        index: F(t.quantization.scale[0]) for index, t in enumerate(graph.tensors) if t.type == schema.TensorType.INT8
    }
    for operator in graph.operators:
        name = flatbuffer.operator_name(model, operator)
        given = [values[index] for index in operator.inputs if index >= 0]
        cut = operator.builtinOptions is not None and getattr(operator.builtinOptions, "fusedActivationFunction", 0)
        if name == "FULLY_CONNECTED":
            found = [np.stack([product(row, given[1], scale_of[operator.inputs[1]]) for row in given[0]])]
        elif name == "SPLIT":
            found = np.split(given[1], len(operator.outputs), axis=int(given[0]))
        elif name == "CONCATENATION":
            found = [np.concatenate(given, axis=operator.builtinOptions.axis)]
        elif name == "GATHER":
            found = [given[0][given[1]]]
        elif name == "DEQUANTIZE":
            found = [given[0].astype(F) * scale_of[operator.inputs[0]]]
        elif name == "RESHAPE":
            found = [given[0].reshape(graph.tensors[operator.outputs[0]].shape)]
        else:
            apply = {"ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": np.divide}[name]
            found = [apply(*given)]
        if cut:
            assert cut == schema.ActivationFunctionType.RELU_N1_TO_1
            found = [np.clip(value, F(-1), F(1)) for value in found]
        values |= dict(zip(operator.outputs, found, strict=True))
    return {entry.name.decode(): values[entry.tensorIndex] for entry in signature.outputs}


@pytest.mark.parametrize(
    "name", ["gru", *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name != "gru")]
)
def test_numpy_computes_the_same_bits(name, small_tflite):
    path = small_tflite(quantization="int8", **MODELS[name])
    sampler, model = LiteRTSampler(path), flatbuffer.parse(read_bundle(path).model)
    states = sampler.initial_states()
    for token in sampler.vocabulary.encode("to be, or not to be: that is the question"):
        given = {f"state_{number}": state for number, state in enumerate(states)}
        expected = run_in_numpy(model, {"token": np.array([token], np.int32), **given})
        logits, states = sampler(int(token), states)
        np.testing.assert_array_equal(logits[None], expected["logits"])
        for number, state in enumerate(states):
            np.testing.assert_array_equal(state, expected[f"state_{number}"])


def test_the_activations():
    """Of several shapes, alone and together, one of them after another."""

    @tf.function
    def several(x, y):
        first = tf.math.tanh(x[:, 1:])
        return {
            "tanh": tf.math.tanh(x),
            "logistic": tf.math.sigmoid(x * 2),
            "first": first,
            "second": tf.math.sigmoid(first),
            "alone": tf.math.sigmoid(y),
        }

    near_limit = LIMIT * (1 + np.arange(-3000, 100) * 2.0**-23)  # nearly every float32 number there
    x = [np.linspace(-30, 30, 5001), np.linspace(-1e-3, 1e-3, 99), near_limit, -near_limit, [-1e30, 1e30]]
    x = np.concatenate(x).astype(F)[None]
    y = np.linspace(-20, 20, 24, dtype=F).reshape(2, 3, 4)
    concrete = several.get_concrete_function(tf.TensorSpec(x.shape), tf.TensorSpec(y.shape))
    model = flatbuffer.parse(tf.lite.TFLiteConverter.from_concrete_functions([concrete], several).convert())
    model.signatureDefs = []  # Outputs of a signature that nothing else reads would stay TANH and LOGISTIC.
    use_exact_arithmetic(model)
    left = {flatbuffer.operator_name(model, operator) for operator in model.subgraphs[0].operators}
    assert not left & {"TANH", "LOGISTIC"}
    interpreter = Interpreter(model_content=flatbuffer.pack(model))
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], x if len(details["shape"]) == 2 else y)
    interpreter.invoke()
    outputs = [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]

    def logistic(values):
        return 0.5 + 0.5 * np.tanh(values / 2)

    exact = x.astype(np.float64)
    expected = {
        "tanh": np.tanh(exact),
        "logistic": logistic(2 * exact),
        "first": np.tanh(exact[:, 1:]),
        "second": logistic(np.tanh(exact[:, 1:])),
        "alone": logistic(y.astype(np.float64)),
    }
    for (_, values), output in zip(sorted(expected.items()), outputs, strict=True):
        np.testing.assert_allclose(output, values, rtol=0, atol=5.8e-5)
        assert np.abs(output).max() <= 1
    tanh, logistic_of_double = outputs[sorted(expected).index("tanh")], outputs[sorted(expected).index("logistic")]
    assert logistic_of_double.min() == 0
    for values, lowest in ((tanh, -1), (logistic_of_double, 0)):
        np.testing.assert_array_equal(values[x > LIMIT], 1)
        np.testing.assert_array_equal(values[x < -LIMIT], lowest)


def test_a_saturated_gate_keeps_a_state_for_good(tmp_path):
    """An LSTM whose first frame opens the input gate; afterwards it is shut, and the forget gate is open."""
    units = 32
    frames = keras.Input((None, units))
    lstm = keras.layers.LSTM(units, return_sequences=True)
    model = keras.Model(frames, keras.layers.Dense(units)(lstm(frames)))
    kernel, recurrent_kernel, bias = (np.zeros_like(weights) for weights in lstm.get_weights())
    kernel[0, :units], kernel[0, 2 * units : 3 * units] = 40, 2
    bias[:units], bias[units : 2 * units], bias[3 * units :] = -20, 20, 20
    lstm.set_weights([kernel, recurrent_kernel, bias])
    path = tmp_path / "latch.tflite"
    export_tflite(model, None, path, quantization="int8")
    decoder, in_numpy = LiteRTDecoder(path), flatbuffer.parse(read_bundle(path).model)
    first, rest = np.eye(1, units, dtype=F), np.zeros((1, units), F)
    _, written = decoder(first, decoder.initial_states())
    assert any(np.allclose(state, np.tanh(2), atol=0.01) for state in written)  # the cell
    states = written
    for _ in range(5000):
        _, states = decoder(rest, states)
    in_numpy_states = {f"state_{number}": state for number, state in enumerate(written)}
    for _ in range(2000):
        outputs = run_in_numpy(in_numpy, {"frame": rest, **in_numpy_states})
        in_numpy_states = {name: outputs[name] for name in in_numpy_states}
    for state, other, expected in zip(states, in_numpy_states.values(), written, strict=True):
        np.testing.assert_array_equal(state, expected)
        np.testing.assert_array_equal(other, expected)


@pytest.mark.parametrize(
    ("activation", "operator"), [("sigmoid", "LOGISTIC"), pytest.param("tanh", "TANH", marks=pytest.mark.slow)]
)
def test_all_signatures_compute_the_same_logits(activation, operator, tmp_path):
    """Logarithms of a small sigmoid, which must be right, and a tanh, which `decode` only returns but `sample` reads."""
    keras.utils.set_random_seed(2)
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.GRU(64, return_sequences=True)(keras.layers.Embedding(len(VOCABULARY), 32)(tokens))
    small = keras.initializers.RandomUniform(-14, 0)
    values = keras.layers.Dense(len(VOCABULARY), activation, bias_initializer=small)(values)
    model = keras.Model(tokens, keras.ops.log(values) if activation == "sigmoid" else values)
    path = tmp_path / "a.tflite"
    report = export_tflite(model, VOCABULARY, path, quantization="int8")
    assert report["largest_difference"] < 0.01
    expected = 1 if activation == "sigmoid" else 0
    assert [operators.get(operator, 0) for operators in report["operators"].values()] == [expected] * 4
    sampler, without = LiteRTSampler(path), LiteRTSampler(without_write(path, tmp_path / "b.tflite"))
    ids = [int(token) for token in VOCABULARY.encode("to be, or not to be")]
    states = sampler.initial_states()
    at_once, states_at_once = sampler.prefill(ids, states)
    for token in ids:
        logits, states = sampler(token, states)
    np.testing.assert_array_equal(at_once, logits)
    for state, expected in zip(states_at_once, states, strict=True):
        np.testing.assert_array_equal(state, expected)
    one, other = (each.sample("to be", max_tokens=60, seed=4) for each in (sampler, without))
    assert one.token_ids == other.token_ids
    np.testing.assert_array_equal(one.log_probabilities, other.log_probabilities)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_small_outputs_of_a_model_without_text_are_right(activation, tmp_path):
    """The smallest probability of a classifier is not 0, and the gates of its GRU are exact."""
    keras.utils.set_random_seed(3)
    frames = keras.Input((None, 32))
    values = keras.layers.GRU(64, return_sequences=True)(frames)
    bias = keras.initializers.Constant(-20 if activation == "sigmoid" else 1e-4)
    model = keras.Model(frames, keras.layers.Dense(32, activation, bias_initializer=bias)(values))
    path = tmp_path / "a.tflite"
    report = export_tflite(model, None, path, quantization="int8")
    name, other = ("LOGISTIC", "TANH") if activation == "sigmoid" else ("TANH", "LOGISTIC")
    for signature in ("decode", "prefill"):
        assert (report["operators"][signature][name], report["operators"][signature].get(other, 0)) == (1, 0)
    rows = np.random.default_rng(0).normal(size=(1, 10, 32)).astype(F)
    decoder = LiteRTDecoder(path)
    states, found = decoder.initial_states(), []
    at_once, _ = decoder.prefill(rows, states)
    for step in range(10):
        output, states = decoder(rows[:, step], states)
        found.append(output[0])
    np.testing.assert_array_equal(at_once, output)
    if activation == "sigmoid":
        np.testing.assert_allclose(np.stack(found), model.predict(rows, verbose=0)[0], rtol=0.1)


def test_a_state_that_is_also_the_output_is_exact(tmp_path):
    frames = keras.Input((None, 32))
    model = keras.Model(frames, keras.layers.SimpleRNN(32, return_sequences=True)(frames))
    report = export_tflite(model, None, tmp_path / "a.tflite", quantization="int8")
    assert not any("TANH" in operators for operators in report["operators"].values())


@pytest.mark.parametrize("quantization", ["none", "float16"])
def test_float_weights_keep_the_operators_of_litert(quantization, small_tflite):
    model = flatbuffer.parse(read_bundle(small_tflite(quantization=quantization, **MODELS["gru"])).model)
    names = [flatbuffer.operator_name(model, operator) for operator in model.subgraphs[0].operators]
    assert (names.count("TANH"), names.count("LOGISTIC"), names.count("DIV")) == (1, 2, 0)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_looked_up_rows_are_not_multiples_of_one_number(quantization, small_tflite):
    """Rounded to 8 bits again, multiples of one number often lie in the middle between two values."""
    model = flatbuffer.parse(read_bundle(small_tflite(quantization=quantization, **MODELS["tied words"])).model)
    for graph in model.subgraphs:
        producer = {index: operator for operator in graph.operators for index in operator.outputs}
        for operator in graph.operators:
            if flatbuffer.operator_name(model, operator) == "FULLY_CONNECTED" and operator.inputs[0] in producer:
                assert flatbuffer.operator_name(model, producer[operator.inputs[0]]) != "DEQUANTIZE"


@pytest.mark.slow
def test_a_state_of_the_model_itself_is_read_before_it_is_written(tmp_path):
    """Activations are computed together, but nothing passes a read or a write of a variable."""
    model, vocabulary = small_model(**MODELS["lstm"])
    texts = []
    for state in ("explicit", "internal"):
        path = tmp_path / f"{state}.tflite"
        export_tflite(model, vocabulary, path, quantization="int8", state=state, max_loss=1)
        texts.append(LiteRTSampler(path).sample("to be", max_tokens=40, seed=3))
    assert texts[0] == texts[1]


def test_a_dense_layer_keeps_its_activation_and_bias(tmp_path):
    keras.utils.set_random_seed(1)
    frames = keras.Input((None, 64))
    values = keras.layers.Dense(64, "relu", bias_initializer="normal")(frames)
    values = keras.layers.GRU(32, return_sequences=True)(values)
    model = keras.Model(frames, keras.layers.Dense(64, "relu", bias_initializer="normal")(values))
    report = export_tflite(model, None, tmp_path / "a.tflite", quantization="int8")
    assert report["relative_error"] < 0.05


@pytest.mark.parametrize(("smallest", "added"), [(64 * 192, 1), (64 * 192 + 1, 0)])
def test_a_kernel_that_stays_in_float32_gets_no_factors(smallest, added, small_tflite):
    model = flatbuffer.parse(read_bundle(small_tflite(**MODELS["tied words"])).model)
    before = len(model.subgraphs[0].operators)
    spread_columns(model, smallest)
    assert len(model.subgraphs[0].operators) == before + added
