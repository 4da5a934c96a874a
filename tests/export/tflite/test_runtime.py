"""LiteRT in Python: steps and texts from the file on disk, in this process and in a fresh one, against Keras."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hamlet import TEXT, WIDE, StartingCell

import keras_seq as ks
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export import LiteRTDecoder, LiteRTSampler, export_tflite
from keras_seq_export.errors import BundleError


def sensor(last):
    frames = keras.Input((None, 3))
    values = keras.layers.Dense(32, "relu", name="first")(frames)
    values = keras.layers.GRU(48, return_sequences=True)(values)
    return keras.Model(frames, last(ks.GRU(40, return_sequences=True)(values)))


@pytest.fixture(scope="module")
def sensor_file(tmp_path_factory):
    """A model over frames, its file and the report."""
    path = tmp_path_factory.mktemp("sensor") / "sensor.tflite"
    model = sensor(keras.layers.Dense(2))
    return model, path, export_tflite(model, None, path)


@pytest.fixture(scope="module")
def series_file(tmp_path_factory):
    """A model over numbers `(batch, time)` whose states do not begin at zero, and its file with internal states."""
    path = tmp_path_factory.mktemp("series") / "series.tflite"
    numbers = keras.Input((None,))
    values = keras.layers.RNN(StartingCell(8), return_sequences=True)(keras.layers.Reshape((-1, 1))(numbers))
    model = keras.Model(numbers, keras.layers.Dense(2)(values))
    export_tflite(model, None, path, state="internal", batch=2)
    return model, path


@pytest.mark.parametrize("prompt", ["", "To be"])
def test_one_seed_one_text(model, vocabulary, exported, prompt):
    sampler = LiteRTSampler(exported)
    for seed in range(5):
        settings = {
            "max_tokens": 40,
            "seed": seed,
            "temperature": 0.9,
            "top_k": 9,
            "top_p": 0.9,
            "repetition_penalty": 1.2,
        }
        assert sampler.sample(prompt, **settings) == ks.sample(model, vocabulary, prompt, **settings)


def test_settings_in_the_file_are_the_default(model, vocabulary, exported):
    text = LiteRTSampler(exported).sample(max_tokens=30, seed=2)
    assert text == ks.sample(model, vocabulary, max_tokens=30, seed=2, temperature=0.5)


@pytest.mark.slow
def test_beams_use_the_bias_in_the_file_but_not_its_temperature(model, vocabulary, small_tflite):
    path = small_tflite(sampling={"temperature": 0.5, "bias": {"t": 9.0}})
    text = LiteRTSampler(path).sample(num_beams=2, max_tokens=10)
    assert text == ks.sample(model, vocabulary, num_beams=2, max_tokens=10, bias={"t": 9.0})
    assert text != ks.sample(model, vocabulary, num_beams=2, max_tokens=10)


def test_score_is_the_models_cross_entropy(model, vocabulary, exported):
    line = TEXT[:43]
    ids = vocabulary.encode(line)
    logits = model.predict(np.concatenate([[vocabulary.start_id], ids[:-1]])[None], verbose=0)[0].astype(np.float64)
    expected = (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(ids)), ids]).sum()
    found = LiteRTSampler(exported).score(line)
    assert found.token_ids.tolist() == ids.tolist()
    assert -found.log_probability == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(found.log_probabilities, ks.score(model, vocabulary, line).log_probabilities, atol=1e-5)


@pytest.mark.parametrize("text", ["", "To", "To be, or no"])
def test_suggestions_are_those_of_keras(model, vocabulary, exported, text):
    found, expected = LiteRTSampler(exported).suggest(text, 5), ks.suggest(model, vocabulary, text, 5)
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    assert [one.probability for one in found] == pytest.approx([one.probability for one in expected], rel=1e-4)


def test_every_option_means_the_same_in_keras_and_litert(model, vocabulary, exported):
    sampler = LiteRTSampler(exported)
    for options in (
        {"stop": ["e", "th"], "seed": 3, "num_samples": 3, "temperature": 1.0},
        {"bias": {"t": 2.0, "<eos>": -float("inf")}, "seed": 4, "temperature": 1.0, "repetition_penalty": 1.3},
        {"num_beams": 3, "num_samples": 2, "length_penalty": 0.5},
        {"num_beams": 2, "stop": " ", "bias": {"e": -1.0}},
    ):
        options["max_tokens"] = 20
        texts, expected = sampler.sample("To", **options), ks.sample(model, vocabulary, "To", **options)
        assert texts == expected
        for one, other in zip(
            *((found if isinstance(found, list) else [found]) for found in (texts, expected)), strict=True
        ):
            assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)


def test_a_fresh_process_writes_the_same_without_tensorflow(model, vocabulary, exported):
    code = (
        "import sys; from keras_seq_export import LiteRTSampler\n"
        f"sampler = LiteRTSampler({str(exported)!r})\n"
        "print(''.join(sampler.generate('To be', max_tokens=30, seed=7, temperature=1.0)), end='')\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-X", "utf8", "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == ks.sample(model, vocabulary, "To be", max_tokens=30, seed=7)


def test_two_threads_share_a_sampler(exported):
    sampler = LiteRTSampler(exported)

    def write(seed):
        return sampler.sample(max_tokens=200, seed=seed)

    alone = [write(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, range(12))) == alone


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"quantization": "int8", **WIDE}, marks=pytest.mark.slow)], ids=["none", "int8"]
)
def test_internal_states_give_the_same_texts_as_explicit_ones(options, small_tflite):
    explicit, internal = small_tflite(**options), small_tflite(state="internal", **options)
    samplers = [LiteRTSampler(explicit), LiteRTSampler(internal)]
    interpreter = Interpreter(model_path=str(internal))
    assert sorted(interpreter.get_signature_list()) == ["decode", "prefill", "reset", "sample"]
    for settings in (
        {"seed": 3},
        {"seed": 3, "num_samples": 3, "logprobs": True},
        {"seed": 5, "repetition_penalty": 1.2},
        {"num_beams": 3, "num_samples": 2},
    ):
        expected, found = (sampler.sample("To be", max_tokens=30, **settings) for sampler in samplers)
        assert found == expected
    decode, reset = interpreter.get_signature_runner("decode"), interpreter.get_signature_runner("reset")
    token = np.array([5], np.int32)
    assert set(decode.get_input_details()) == {"token"}
    first, second = decode(token=token)["logits"], decode(token=token)["logits"]
    assert np.abs(first - second).max() > 1e-4
    reset()
    np.testing.assert_array_equal(decode(token=token)["logits"], first)


@pytest.mark.parametrize("state", [pytest.param("explicit", marks=pytest.mark.slow), "internal"])
def test_rows_of_a_batch_are_separate_texts(state, model, vocabulary, exported, tmp_path):
    report = export_tflite(model, vocabulary, tmp_path / "rows.tflite", batch=3, state=state)
    assert report["draws_compared"] == report["steps_compared"] >= 3 * 65
    last = "write" if state == "explicit" else "reset"
    signatures = sorted(["decode", "prefill", "sample", last])
    assert list(report["operators"]) == signatures
    decoder, alone = LiteRTDecoder(tmp_path / "rows.tflite"), LiteRTSampler(exported)
    rows = np.array([vocabulary.encode(text) for text in ("To be, or ", "not to be:", "question\n\n")])
    states, found = decoder.initial_states(), []
    for step in range(rows.shape[1]):
        logits, states = decoder(rows[:, step], states)
        found.append(logits)
    for row, tokens in enumerate(rows):
        expected = [logits for logits, _ in alone.read(tokens.tolist(), alone.initial_states())]
        np.testing.assert_allclose(np.stack(found)[:, row], expected, atol=1e-5)
    sampler = LiteRTSampler(tmp_path / "rows.tflite")
    text = sampler.sample("To be", max_tokens=30, seed=1, temperature=0.5)
    assert text == alone.sample("To be", max_tokens=30, seed=1)
    if state == "explicit":  # Every row starts from the states given.
        text = sampler.sample("To be", max_tokens=15, temperature=0.0)
        assert [array.shape for array in text.states.arrays] == [(1, 24), (1, 16)]
        options = {"states": text.states, "max_tokens": 30, "seed": 1, "temperature": 0.5}
        assert sampler.sample(**options) == alone.sample(**options)


def test_a_prompt_read_in_chunks_gives_the_states_of_single_steps(vocabulary, exported):
    sampler = LiteRTSampler(exported)
    for length in (1, 63, 64, 65, 200):
        tokens = np.resize(vocabulary.encode(TEXT[:43]), length).tolist()
        logits, states = sampler.prefill(tokens, sampler.initial_states())
        *_, (expected, expected_states) = sampler.read(tokens, sampler.initial_states())
        np.testing.assert_allclose(logits, expected, atol=1e-6)
        np.testing.assert_allclose(states[0], expected_states[0], atol=1e-6)


def frames_and_decoder(path):
    frames = np.random.default_rng(1).normal(size=(1, 70, 3)).astype(np.float32)
    run = Interpreter(model_path=str(path)).get_signature_runner("decode")
    assert set(run.get_input_details()) == {"frame", "state_0", "state_1"}
    decoder = LiteRTDecoder(path)
    assert decoder.bundle.vocabulary is None
    return frames, decoder


def test_a_model_over_frames(sensor_file):
    model, path, report = sensor_file
    assert list(report["operators"]) == ["decode", "prefill"]
    assert report["relative_error"] < 1e-5
    frames, decoder = frames_and_decoder(path)
    output, _ = decoder.prefill(frames, decoder.initial_states())
    np.testing.assert_allclose(output, model.predict(frames, verbose=0)[:, -1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "quantization", "error"),
    [
        (keras.layers.Dense(4, "softmax"), "float16", 2e-3),
        (keras.layers.TimeDistributed(keras.layers.Reshape((5, 8))), "int8", 0.05),
    ],
)
def test_a_quantized_model_over_frames(last, quantization, error, tmp_path):
    model = sensor(last.__class__.from_config(last.get_config()))
    report = export_tflite(model, None, tmp_path / "sensor.tflite", quantization=quantization)
    assert list(report["operators"]) == ["decode", "prefill"]
    assert report["relative_error"] < error
    frames, decoder = frames_and_decoder(tmp_path / "sensor.tflite")
    output, _ = decoder.prefill(frames, decoder.initial_states())
    expected = model.predict(frames, verbose=0)[:, -1]
    np.testing.assert_allclose(output, expected, atol=0.3 * expected.std())


def test_a_model_over_frames_writes_no_text(sensor_file, tmp_path):
    model, path, _ = sensor_file
    with pytest.raises(BundleError, match="cannot write text: use LiteRTDecoder"):
        LiteRTSampler(path)
    decoder = LiteRTDecoder(path)
    for wrong in (np.zeros((1, 4)), np.zeros((2, 3)), np.zeros(3)):
        with pytest.raises(ValueError, match=r"`frame` must have the shape \(1, 3\)"):
            decoder(wrong, decoder.initial_states())
    with pytest.raises(ValueError, match="for models of text"):
        export_tflite(model, None, tmp_path / "other.tflite", held_out="to be")


@pytest.mark.parametrize("wrong", [0.9, np.float32(3), True, "3", None, 2**31, np.int64(-(2**31) - 1), 2**70])
def test_a_token_that_is_not_an_id_is_refused(wrong, exported):
    """A conversion would read 0.9 as token 0, True as token 1, and wrap a large number."""
    sampler = LiteRTSampler(exported)
    decoder, states = sampler.decoder, sampler.initial_states()
    expected = r"must be (integers, the ids of tokens\. Received: \w+=|ids of tokens, which fit int32\.)"
    for name, call in (
        ("token", lambda: decoder([wrong], states)),
        ("token", lambda: decoder.prefill([[wrong]], states)),
        ("token", lambda: sampler(wrong, states)),
        ("tokens", lambda: sampler.prefill([wrong], states)),
        ("token", lambda: sampler.draw(wrong, states, 0.5, SamplingSettings(), sampler._stored_bias, [])),
    ):
        with pytest.raises(ValueError, match=f"`{name}` {expected}"):
            call()
    np.testing.assert_array_equal(decoder(np.array([3], np.uint8), states)[0][0], sampler(3, states)[0])


@pytest.mark.parametrize("number", [0, 1.5, True, "2"])
def test_a_number_of_threads_must_be_positive(number, exported):
    with pytest.raises(ValueError, match="`num_threads` must be a positive integer"):
        LiteRTDecoder(exported, num_threads=number)


def test_a_top_k_larger_than_the_vocabulary(exported):
    sampler = LiteRTSampler(exported)
    plain = sampler.sample(max_tokens=30, seed=1)
    assert sampler.sample(max_tokens=30, seed=1, top_k=2**40) == plain
    assert sampler.sample(max_tokens=30, seed=1) == plain


def test_logits_that_are_not_finite_are_named(exported):
    require_logits_named(exported, units=(24, 16))


@pytest.mark.slow
def test_logits_of_a_large_vocabulary_that_are_not_finite_are_named(tmp_path):
    vocabulary = ks.Vocabulary.from_text("".join(map(chr, range(0x4E00, 0x4E00 + 301))))
    export_tflite(ks.language_model(len(vocabulary), units=[8]), vocabulary, tmp_path / "a.tflite")
    require_logits_named(tmp_path / "a.tflite", units=(8,))


def require_logits_named(path, units):
    sampler, settings = LiteRTSampler(path), SamplingSettings()
    states = [np.full((1, size), np.nan, np.float32) for size in units]
    bias = logit_bias(sampler.vocabulary, settings)
    for number in (0.3, 0.9):
        with pytest.raises(ValueError, match="logits must be numbers"):
            sampler.draw(3, states, number, settings, bias, [])


@pytest.fixture
def internal(small_tflite):
    return LiteRTSampler(small_tflite(state="internal"))


def test_internal_states_are_restored_after_a_failure(internal):
    _, states = internal.prefill([3, 4, 5, 6], internal.initial_states())
    expected, _ = internal(7, states)
    with pytest.raises(BundleError, match="LiteRT cannot run `decode`"):
        internal(10**6, states)
    np.testing.assert_array_equal(internal(7, states)[0], expected)
    decode = internal.decoder._runners["decode"]

    def interrupted(**inputs):
        raise KeyboardInterrupt

    _, elsewhere = internal(3, internal.initial_states())
    internal.decoder._runners["decode"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        internal(7, states)
    internal.decoder._runners["decode"] = decode
    np.testing.assert_array_equal(internal(7, states)[0], expected)
    np.testing.assert_array_equal(internal(4, elsewhere)[0], internal.prefill([3, 4], internal.initial_states())[0])


def test_internal_states_begin_at_the_initial_states_and_reset_sets_them_again(series_file):
    model, path = series_file
    series = np.random.default_rng(1).normal(size=(2, 70)).astype(np.float32)
    expected = model.predict(series, verbose=0)
    interpreter = Interpreter(model_path=str(path))
    decode, reset = interpreter.get_signature_runner("decode"), interpreter.get_signature_runner("reset")
    for _ in range(2):
        found = [decode(frame=np.ascontiguousarray(series[:, step]))["output"] for step in range(3)]
        np.testing.assert_allclose(np.stack(found, axis=1), expected[:, :3], atol=1e-5)
        reset()
    decoder = LiteRTDecoder(path)
    output, states = decoder.prefill(series[:, :69], decoder.initial_states())
    np.testing.assert_allclose(output, expected[:, 68], atol=1e-5)
    decoder(series[:, 0], decoder.initial_states())
    np.testing.assert_allclose(decoder(series[:, 69], states)[0], expected[:, 69], atol=1e-5)


def test_internal_states_do_not_depend_on_the_callers_array(series_file):
    decoder = LiteRTDecoder(series_file[1])
    numbers = np.ones(2, np.float32)
    _, states = decoder(numbers, decoder.initial_states())
    expected, _ = decoder(numbers, states)
    numbers[:] = -5
    decoder(numbers, decoder.initial_states())
    np.testing.assert_array_equal(decoder(np.ones(2, np.float32), states)[0], expected)


def test_threads_share_internal_states(internal):
    def write(seed):
        return internal.sample("To be", max_tokens=20, seed=seed)

    alone = [write(seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(write, range(6))) == alone
