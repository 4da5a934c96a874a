"""The signatures of files that learn: what they compute against Keras and the formula, and what they leave as it was."""

import numpy as np
import pytest
from ai_edge_litert.compiled_model import CompiledModel
from hamlet import LINE, TEXT, WIDE, report_of
from learning_oracle import decoded, features_of_file, learned_by_hand, projection_of_file

from keras_seq.generation.score import segments
from keras_seq_export import LiteRTDecoder, LiteRTSampler
from keras_seq_export.signatures import LEARNING_SIGNATURES
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.inspect import inspect, lines

SLOW = pytest.mark.slow
# SimpleRNN and mixed precision are slow only because each more file takes seconds.
MODELS = (
    "stack",
    "lstm",
    *(pytest.param(one, marks=SLOW) for one in ("words", "start", "functional", "simple_rnn", "mixed")),
)


def text_for(sampler, tokens):
    """Returns a text of so many tokens that the model can read."""
    if sampler.vocabulary.level == "word":
        return " ".join((TEXT * 9).split()[: tokens // 2])  # Each punctuation mark is a token too.
    return (TEXT if "T" in sampler.vocabulary.tokens else LINE * 9)[:tokens]


def parts_of(sampler, text, by_line=False):
    """Returns the tokens that are read and those that follow them, of each segment of a text."""
    vocabulary = sampler.vocabulary
    parts = segments(text, vocabulary, by_line=by_line)
    return [([vocabulary.start_id, *part[:-1].tolist()], part) for part in parts]


def by_hand(sampler, text, model=None, by_line=False):
    """Returns what the formula learns from a text, with the logits of a Keras model, or with the file's own."""
    found = []
    for tokens, following in parts_of(sampler, text, by_line):
        values = features_of_file(sampler.decoder, tokens)
        if model is None:
            logits, _ = decoded(sampler.decoder, tokens)
        else:
            logits = model.predict(np.array([tokens]), verbose=0)[0]
        found.append((logits, values, following))
    return learned_by_hand(found)


def require_learned(sampler, report, expected, tolerance):
    assert report.tokens == len(expected.of_model)
    assert report.nats_per_token == pytest.approx(-expected.log_probabilities.mean(), abs=tolerance)
    assert report.model_nats_per_token == pytest.approx(-expected.of_model.mean(), abs=tolerance)
    assert report.weight == pytest.approx(expected.weight, abs=tolerance)
    found = sampler.decoder.call("get_weights", {})
    assert np.linalg.norm(found["weights"] - expected.weights) < tolerance * np.linalg.norm(expected.weights)
    np.testing.assert_allclose(np.exp(found["log_shares"]), expected.shares, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_a_file_learns_what_the_formula_learns_from_keras(name, learning_file):
    """150 characters are blocks of 64, 64 and 22."""
    path, model = learning_file(name)
    sampler = LiteRTSampler(path)
    text = text_for(sampler, 150)
    expected = by_hand(sampler, text, model)
    report = sampler.learn(text)
    assert 0.2 < expected.weight < 1
    assert report.nats_per_token < report.model_nats_per_token
    require_learned(sampler, report, expected, 1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_decode_and_prefill_use_what_was_learned(name, learning_file):
    """logits = model + a W f; the states are those of the model."""
    path, model = learning_file(name)
    sampler = LiteRTSampler(path)
    text = text_for(sampler, 60)
    decoder, vocabulary = sampler.decoder, sampler.vocabulary
    tokens = [vocabulary.start_id, *vocabulary.encode(text).tolist()]
    values = features_of_file(decoder, tokens)
    _, states = decoded(decoder, tokens)
    sampler.learn(text * 3)
    learned = decoder.call("get_weights", {})
    shares = np.exp(learned["log_shares"].astype(np.float64))
    delta = shares @ (0, 0.5, 1) * values @ learned["weights"].T
    assert np.abs(delta).max() > 0.3
    logits, after = decoded(decoder, tokens)
    expected = model.predict(np.array([tokens]), verbose=0)[0] + delta
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(after, states)
    last, _ = decoder.prefill(np.int32([tokens]), decoder.initial_states())
    np.testing.assert_allclose(last[0], logits[-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        *(("wide", one) for one in ("none", "int8", "int4")),
        pytest.param("wide", "float16", marks=SLOW),
        pytest.param("wide lstm", "int8", marks=SLOW),  # Its states are 0.2 to 19 in size.
        *(pytest.param("words", one, marks=SLOW) for one in ("int8", "int4", "float16")),
    ],
)
def test_quantized_files_learn_from_their_own_logits(name, quantization, learning_file):
    path, _ = learning_file(name, quantization)
    sampler = LiteRTSampler(path)
    text = text_for(sampler, 150)
    expected = by_hand(sampler, text)
    require_learned(sampler, sampler.learn(text), expected, 1e-4)
    assert report_of(path)["largest_learning_difference"] < {"int8": 0.1, "int4": 0.3}.get(quantization, 1e-3)


@pytest.mark.parametrize("name", ["stack", "lstm", *(pytest.param(one, marks=SLOW) for one in ("words", "start"))])
def test_the_features_are_a_projection_of_the_states_and_a_bias(name, learning_file):
    sampler = LiteRTSampler(learning_file(name)[0])
    decoder, vocabulary = sampler.decoder, sampler.vocabulary
    tokens = [vocabulary.start_id, *vocabulary.encode(text_for(sampler, 300)).tolist()]
    projection, error = projection_of_file(decoder, tokens)
    units = sum(shape[1] for shape in decoder.state_shapes)
    assert projection.shape == (min(units, 64), units)
    assert error < 1e-4
    assert decoder.weights_shape == (len(vocabulary), min(units, 64) + 1)
    assert name != "words" or len(vocabulary) % 2 == 1


def test_each_line_is_read_from_the_start(learning_file):
    path, model = learning_file("stack")
    sampler = LiteRTSampler(path)
    expected = by_hand(sampler, TEXT, model, by_line=True)
    report = sampler.learn(TEXT, by_line=True)
    assert report.tokens == len(TEXT)  # Each line feed becomes <eos>.
    require_learned(sampler, report, expected, 1e-4)


@pytest.mark.parametrize("trained", [False, True])
def test_the_file_says_how_texts_are_read(trained, small_tflite):
    path = small_tflite(learn=True, by_line=trained)
    reports = {by_line: LiteRTSampler(path).learn(TEXT, by_line=by_line) for by_line in (None, True, False)}
    assert reports[None] == reports[trained]
    assert reports[True] != reports[False]


def signature_calls(path, states_from):
    """Yields the outputs of each signature that predicts, for the same inputs."""
    decoder = LiteRTDecoder(path)
    states = [np.tanh(np.random.default_rng(1).normal(size=shape)).astype(np.float32) for shape in states_from]
    random = np.random.default_rng(2)
    settings = {"temperature": np.float32([0.8]), "top_k": np.int32([5]), "top_p": np.float32([0.9])}
    settings["min_p"] = np.float32([0.01])
    uniforms = random.random((1, 32), np.float32)
    tokens = random.integers(4, decoder.output_shape[0], (1, 64), np.int32)
    yield decoder.run("decode", {"token": tokens[:, 0]}, states)
    yield decoder.run("prefill", {"tokens": tokens, "length": np.int32([60])}, states)
    for number in uniforms[0]:
        yield decoder.run("sample", {"token": tokens[:, 0], "uniform": number[None], **settings}, states)
    if decoder.has_write:
        inputs = {"token": tokens[:, 0], "uniforms": uniforms, "length": np.int32([32]), **settings}
        yield decoder.run("write", inputs, states)


@pytest.mark.parametrize(
    ("quantization", "options"),
    [
        ("none", {}),
        pytest.param("none", {"starting": True}, marks=SLOW),
        *((one, WIDE) for one in ("none", "int8", "int4")),
        pytest.param("float16", WIDE, marks=SLOW),
    ],
    ids=str,
)
def test_a_file_that_has_learned_nothing_is_the_file_without_learn(quantization, options, small_tflite):
    one, other = (small_tflite(quantization=quantization, **options, **more) for more in ({}, {"learn": True}))
    shapes = LiteRTDecoder(one).state_shapes
    for (found, states), (expected, states_of_expected) in zip(
        signature_calls(other, shapes), signature_calls(one, shapes), strict=True
    ):
        for array, same in zip([*found.values(), *states], [*expected.values(), *states_of_expected], strict=True):
            np.testing.assert_array_equal(array, same)
    texts = [LiteRTSampler(path).sample("To ", max_tokens=60, seed=7) for path in (one, other)]
    assert texts[0] == texts[1]


def test_learn_reads_the_tokens_before_length_only(learning_file):
    sampler = LiteRTSampler(learning_file("stack")[0])
    decoder, random = sampler.decoder, np.random.default_rng(0)
    tokens, following = random.integers(3, 20, (2, 1, 64), np.int32)

    def learn(length, tokens, following):
        decoder.call("reset_weights", {})
        inputs = {"tokens": tokens, "next_tokens": following, "length": np.int32([length]), "rate": np.float32([12])}
        outputs, states = decoder.run("learn", inputs, decoder.initial_states())
        return [*outputs.values(), *states, *decoder.call("get_weights", {}).values()], outputs, states

    everything, outputs, states = learn(10, tokens, following)
    for values in outputs.values():
        assert (values[0, :10] < 0).all()
        assert not values[0, 10:].any()
    _, expected = decoder.run("prefill", {"tokens": tokens, "length": np.int32([10])}, decoder.initial_states())
    for state, same in zip(states, expected, strict=True):
        np.testing.assert_array_equal(state, same)
    for kept in (tokens, following):
        kept[0, 10:] = 5
    for array, same in zip(learn(10, tokens, following)[0], everything, strict=True):
        np.testing.assert_array_equal(array, same)
    for wrong, right in ((0, 1), (-3, 1), (65, 64), (1000, 64)):  # Never a loop without end.
        for array, same in zip(learn(wrong, tokens, following)[0], learn(right, tokens, following)[0], strict=True):
            np.testing.assert_array_equal(array, same)


def test_what_was_set_is_what_is_got_in_each_runtime(learning_file):
    """LiteRT's CompiledModel, of which the other languages are made, stores an input that is an output too as garbage."""
    path = learning_file("stack")[0]
    compiled, decoder = CompiledModel.from_file(str(path)), LiteRTDecoder(path)
    shape, random = decoder.weights_shape, np.random.default_rng(0)
    learned = {"weights": random.normal(size=shape).astype(np.float32), "log_shares": np.float32([-1, -2, -0.5])}

    def run(name, values):
        names = compiled.get_signature_list()[name]
        inputs = {one: compiled.create_input_buffer_by_name(name, one) for one in names["inputs"]}
        outputs = {one: compiled.create_output_buffer_by_name(name, one) for one in names["outputs"]}
        for one, value in values.items():
            inputs[one].write(value)
        compiled.run_by_name(name, inputs, outputs)
        return {
            one: buffer.read(3 if one == "log_shares" else shape[0] * shape[1], np.float32)
            for one, buffer in outputs.items()
        }

    for name, values, expected in (
        ("set_weights", learned, learned),
        ("reset_weights", {}, {"weights": np.zeros(shape), "log_shares": np.log(np.float32([1 / 3] * 3))}),
    ):
        for call in (run, decoder.call):
            np.testing.assert_allclose(call(name, values)["log_shares"], expected["log_shares"], rtol=1e-6)
            for one, found in call("get_weights", {}).items():
                np.testing.assert_allclose(found.reshape(expected[one].shape), expected[one], rtol=1e-6)


@pytest.mark.parametrize(("name", "quantization"), [("stack", "none"), ("words", "none"), ("wide", "int8")])
def test_only_learn_has_another_loop_and_all_operators_are_builtin(name, quantization, learning_file):
    path, _ = learning_file(name, quantization)
    found = inspect(path)
    with_loops = {one for one, signature in found["signatures"].items() if "WHILE" in signature["operators"]}
    assert with_loops == {"prefill", "learn"} | ({"write"} & set(found["signatures"]))
    every = {operator for signature in found["signatures"].values() for operator in signature["operators"]}
    assert "CUSTOM" not in every
    assert not [operator for operator in every if operator.startswith("FLEX")]
    assert set(LEARNING_SIGNATURES) <= set(found["signatures"])
    for one in ("get_weights", "set_weights", "reset_weights"):
        assert sum(found["signatures"][one]["operators"].values()) < 12
    model = flatbuffer.parse(read_bundle(path).model)
    tops = {signature.subgraphIndex for signature in model.signatureDefs}
    for index, graph in enumerate(model.subgraphs):  # LiteRT.js cannot read a variable inside of a loop.
        operators = {flatbuffer.operator_name(model, one) for one in graph.operators}
        assert index in tops or "READ_VARIABLE" not in operators
    for signature in model.signatureDefs:
        outputs = {entry.tensorIndex for entry in signature.outputs}
        assert len(outputs) == len(signature.outputs)
        assert signature.signatureKey.decode() not in LEARNING_SIGNATURES or not (
            outputs & {entry.tensorIndex for entry in signature.inputs}
        )


def test_the_weights_of_a_new_file_take_no_space(small_tflite):
    """In the file they are a FILL, and P is its largest new part."""
    one, other = small_tflite(), small_tflite(learn=True)
    found, plain = inspect(other), inspect(one)
    vocabulary_size, features = LiteRTDecoder(other).weights_shape
    grown = found["stored_bytes"]["float32"] - plain["stored_bytes"]["float32"]
    assert 4 * 40 * 40 <= grown < 4 * (40 * 40 + vocabulary_size * features)
    assert found["signatures"]["learn"]["operators"]["FILL"] >= 1


def test_what_a_file_says_of_learning(learning_file):
    path, _ = learning_file("stack")
    found = inspect(path)
    assert found["config"]["learning"] == {"rate": 12.0}
    shown = "\n".join(lines(found))
    assert "\n  learning             rate 12.0\n" in shown
    for name in LEARNING_SIGNATURES:
        assert f"\nsignature {name}\n" in shown
    assert "  -> next_tokens       int32 [1, 64]\n" in shown
    assert "  <- weights           float32 [27, 41]\n" in shown
    report = report_of(path)
    assert list(report["operators"]) == sorted(["decode", "prefill", "sample", "write", *LEARNING_SIGNATURES])
    assert report["largest_learning_difference"] < 1e-4
