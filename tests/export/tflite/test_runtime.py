"""LiteRT in Python: steps and texts from the file on disk, in this process and in a fresh one, against Keras."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hamlet import LINE, VOCABULARY, two_layers

import keras_seq as ks
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export import LiteRTDecoder, LiteRTSampler, export_tflite
from keras_seq_export.errors import BundleError


@pytest.fixture(scope="module")
def model():
    return two_layers()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "hamlet.tflite"
    return path, export_tflite(model, VOCABULARY, path, sampling={"temperature": 0.5})


@pytest.mark.parametrize("prompt", ["", "to be"])
def test_one_seed_one_text(model, exported, prompt):
    sampler = LiteRTSampler(exported[0])
    for seed in range(5):
        settings = {
            "max_tokens": 40,
            "seed": seed,
            "temperature": 0.9,
            "top_k": 9,
            "top_p": 0.9,
            "repetition_penalty": 1.2,
        }
        assert sampler.sample(prompt, **settings) == ks.sample(model, VOCABULARY, prompt, **settings)


def test_settings_in_the_file_are_the_default(model, exported):
    text = LiteRTSampler(exported[0]).sample(max_tokens=30, seed=2)
    assert text == ks.sample(model, VOCABULARY, max_tokens=30, seed=2, temperature=0.5)


def test_beams_take_the_bias_in_the_file_and_leave_its_temperature(model, tmp_path):
    path = tmp_path / "model.tflite"
    export_tflite(model, VOCABULARY, path, sampling={"temperature": 0.5, "bias": {"t": 9.0}})
    text = LiteRTSampler(path).sample(num_beams=2, max_tokens=10)
    assert text == ks.sample(model, VOCABULARY, num_beams=2, max_tokens=10, bias={"t": 9.0})
    assert text != ks.sample(model, VOCABULARY, num_beams=2, max_tokens=10)


def test_score_is_the_models_cross_entropy(model, exported):
    ids = VOCABULARY.encode(LINE)
    logits = model.predict(np.concatenate([[VOCABULARY.start_id], ids[:-1]])[None], verbose=0)[0].astype(np.float64)
    expected = (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(ids)), ids]).sum()
    found = LiteRTSampler(exported[0]).score(LINE)
    assert found.token_ids.tolist() == ids.tolist()
    assert -found.log_probability == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(found.log_probabilities, ks.score(model, VOCABULARY, LINE).log_probabilities, atol=1e-5)


def test_every_option_means_the_same_in_keras_and_litert(model, exported):
    sampler = LiteRTSampler(exported[0])
    for options in (
        {"stop": ["e", "th"], "seed": 3, "num_samples": 3, "temperature": 1.0},
        {"bias": {"t": 2.0, "<eos>": -float("inf")}, "seed": 4, "temperature": 1.0, "repetition_penalty": 1.3},
        {"num_beams": 3, "num_samples": 2, "length_penalty": 0.5},
        {"num_beams": 2, "stop": " ", "bias": {"e": -1.0}},
    ):
        options["max_tokens"] = 20
        texts, expected = sampler.sample("to", **options), ks.sample(model, VOCABULARY, "to", **options)
        assert texts == expected
        for one, other in zip(
            *((found if isinstance(found, list) else [found]) for found in (texts, expected)), strict=True
        ):
            assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)


def test_a_fresh_process_writes_the_same_without_tensorflow(model, exported):
    code = (
        "import sys; from keras_seq_export import LiteRTSampler\n"
        f"print(''.join(LiteRTSampler({str(exported[0])!r}).generate('to be', max_tokens=30, seed=7, temperature=1.0)), end='')\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-X", "utf8", "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == ks.sample(model, VOCABULARY, "to be", max_tokens=30, seed=7)


def test_two_threads_share_a_sampler(exported):
    sampler = LiteRTSampler(exported[0])

    def write(seed):
        return sampler.sample(max_tokens=200, seed=seed)

    alone = [write(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, range(12))) == alone


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_states_inside_give_the_same_as_states_outside(quantization, tmp_path):
    model = ks.language_model(len(VOCABULARY), units=[48, 40])
    samplers = {}
    for state in ("explicit", "internal"):
        report = export_tflite(model, VOCABULARY, tmp_path / state, quantization=quantization, state=state, max_loss=1)
        samplers[state] = LiteRTSampler(tmp_path / state)
    assert list(report["operators"]) == ["decode", "prefill", "reset", "sample"]
    for options in (
        {"seed": 3},
        {"seed": 3, "num_samples": 3, "logprobs": True},
        {"seed": 5, "repetition_penalty": 1.2},
        {"num_beams": 3, "num_samples": 2},
    ):
        explicit, internal = (sampler.sample("to be", max_tokens=30, **options) for sampler in samplers.values())
        assert explicit == internal
    run = Interpreter(model_path=str(tmp_path / "internal"))
    decode, reset = run.get_signature_runner("decode"), run.get_signature_runner("reset")
    token = np.array([5], np.int32)
    assert set(decode.get_input_details()) == {"token"}
    first, second = decode(token=token)["logits"], decode(token=token)["logits"]
    assert np.abs(first - second).max() > 1e-4
    reset()
    np.testing.assert_array_equal(decode(token=token)["logits"], first)


@pytest.mark.parametrize("state", ["explicit", "internal"])
def test_rows_of_a_batch_are_texts_of_their_own(state, model, exported, tmp_path):
    report = export_tflite(model, VOCABULARY, tmp_path / "rows.tflite", batch=3, state=state)
    assert report["draws_compared"] == report["steps_compared"] >= 3 * 65
    decoder, alone = LiteRTDecoder(tmp_path / "rows.tflite"), LiteRTSampler(exported[0])
    rows = np.array([VOCABULARY.encode(text) for text in ("to be, or ", "not to be:", "question\n\n")])
    states, found = decoder.initial_states(), []
    for step in range(rows.shape[1]):
        logits, states = decoder(rows[:, step], states)
        found.append(logits)
    for row, tokens in enumerate(rows):
        expected = [logits for logits, _ in alone.read(tokens.tolist(), alone.initial_states())]
        np.testing.assert_allclose(np.stack(found)[:, row], expected, atol=1e-5)
    text = LiteRTSampler(tmp_path / "rows.tflite").sample("to be", max_tokens=30, seed=1, temperature=0.5)
    assert text == alone.sample("to be", max_tokens=30, seed=1)


def test_a_prompt_is_read_in_chunks_as_token_by_token(exported):
    sampler = LiteRTSampler(exported[0])
    for length in (1, 63, 64, 65, 200):
        tokens = np.resize(VOCABULARY.encode(LINE), length).tolist()
        logits, states = sampler.prefill(tokens, sampler.initial_states())
        *_, (expected, expected_states) = sampler.read(tokens, sampler.initial_states())
        np.testing.assert_allclose(logits, expected, atol=1e-6)
        np.testing.assert_allclose(states[0], expected_states[0], atol=1e-6)


def sensor(last):
    frames = keras.Input((None, 3))
    values = keras.layers.Dense(32, "relu", name="first")(frames)
    values = keras.layers.GRU(48, return_sequences=True)(values)
    return keras.Model(frames, last(ks.GRU(40, return_sequences=True)(values)))


@pytest.mark.parametrize(
    ("last", "quantization"),
    [
        (keras.layers.Dense(2), "none"),
        (keras.layers.Dense(4, "softmax"), "float16"),
        (keras.layers.TimeDistributed(keras.layers.Reshape((5, 8))), "int8"),
    ],
)
def test_a_model_over_frames(last, quantization, tmp_path):
    model = sensor(last.__class__.from_config(last.get_config()))
    report = export_tflite(model, None, tmp_path / "sensor.tflite", quantization=quantization)
    assert list(report["operators"]) == ["decode", "prefill"]
    assert report["relative_error"] < {"none": 1e-5, "float16": 2e-3, "int8": 0.05}[quantization]
    run = Interpreter(model_path=str(tmp_path / "sensor.tflite")).get_signature_runner("decode")
    assert set(run.get_input_details()) == {"frame", "state_0", "state_1"}
    frames = np.random.default_rng(1).normal(size=(1, 70, 3)).astype(np.float32)
    decoder = LiteRTDecoder(tmp_path / "sensor.tflite")
    assert decoder.bundle.vocabulary is None
    output, _ = decoder.prefill(frames, decoder.initial_states())
    expected = model.predict(frames, verbose=0)[:, -1]
    np.testing.assert_allclose(output, expected, atol=1e-5 if quantization == "none" else 0.3 * expected.std())


def test_a_model_over_frames_writes_no_text(tmp_path):
    export_tflite(sensor(keras.layers.Dense(2)), None, tmp_path / "sensor.tflite")
    with pytest.raises(BundleError, match="writes no text: read it with LiteRTDecoder"):
        LiteRTSampler(tmp_path / "sensor.tflite")
    decoder = LiteRTDecoder(tmp_path / "sensor.tflite")
    for wrong in (np.zeros((1, 4)), np.zeros((2, 3)), np.zeros(3)):
        with pytest.raises(ValueError, match=r"takes an array of shape \(1, 3\)"):
            decoder(wrong, decoder.initial_states())
    with pytest.raises(ValueError, match="for models of text"):
        export_tflite(sensor(keras.layers.Dense(2)), None, tmp_path / "other.tflite", held_out="to be")


def test_the_file_itself_draws_where_it_can(exported):
    """Its `sample` is three times as fast as the draw in NumPy."""
    sampler = LiteRTSampler(exported[0])
    run, used = sampler._decoder.run, []

    def counting(signature, *arguments):
        used.append(signature)
        return run(signature, *arguments)

    sampler._decoder.run = counting
    for options, signature in (
        ({}, "sample"),
        ({"top_k": 3, "top_p": 0.9, "min_p": 0.1, "temperature": 0.0}, "sample"),
        ({"repetition_penalty": 1.2}, "decode"),
        ({"bias": {"t": 1.0}}, "decode"),
        ({"logprobs": True}, "decode"),
    ):
        used.clear()
        sampler.sample("to", max_tokens=5, seed=1, **options)
        assert len(used) > 1
        assert set(used[1:]) == {signature}


def test_a_top_k_beyond_any_vocabulary(model, exported):
    sampler = LiteRTSampler(exported[0])
    plain = sampler.sample(max_tokens=30, seed=1)
    assert sampler.sample(max_tokens=30, seed=1, top_k=2**40) == plain
    assert sampler.sample(max_tokens=30, seed=1) == plain


@pytest.mark.parametrize("size", [len(VOCABULARY), 1000])
def test_logits_that_are_no_numbers_are_named(size, tmp_path):
    vocabulary = ks.Vocabulary.from_text("".join(map(chr, range(0x4E00, 0x4E00 + size - 3))))
    model = ks.language_model(len(vocabulary), units=[8])
    export_tflite(model, vocabulary, tmp_path / "a.tflite")
    sampler = LiteRTSampler(tmp_path / "a.tflite")
    wrong, settings = [np.full((1, 8), np.nan, np.float32)], SamplingSettings()
    added = logit_bias(vocabulary, settings)
    for number in (0.3, 0.9):
        with pytest.raises(ValueError, match="logits must be numbers"):
            sampler.draw(3, wrong, number, settings, added, [])


def internal(model, folder):
    export_tflite(model, VOCABULARY, folder / "internal", state="internal")
    return LiteRTSampler(folder / "internal")


def test_states_inside_are_found_again_after_a_failure(model, tmp_path):
    sampler = internal(model, tmp_path)
    _, states = sampler.prefill([3, 4, 5, 6], sampler.initial_states())
    expected, _ = sampler(7, states)
    with pytest.raises(RuntimeError):
        sampler(10**6, states)
    np.testing.assert_array_equal(sampler(7, states)[0], expected)
    decode = sampler._decoder._runners["decode"]

    def interrupted(**inputs):
        raise KeyboardInterrupt

    _, elsewhere = sampler(3, sampler.initial_states())
    sampler._decoder._runners["decode"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        sampler(7, states)
    sampler._decoder._runners["decode"] = decode
    np.testing.assert_array_equal(sampler(7, states)[0], expected)
    np.testing.assert_array_equal(sampler(4, elsewhere)[0], sampler.prefill([3, 4], sampler.initial_states())[0])


def test_states_inside_remember_what_was_read_not_the_callers_array(tmp_path):
    export_tflite(sensor(keras.layers.Dense(2)), None, tmp_path / "sensor.tflite", state="internal")
    decoder = LiteRTDecoder(tmp_path / "sensor.tflite")
    frame = np.ones((1, 3), np.float32)
    _, states = decoder(frame, decoder.initial_states())
    expected, _ = decoder(frame, states)
    frame[:] = -5
    decoder(frame, decoder.initial_states())
    np.testing.assert_array_equal(decoder(np.ones((1, 3), np.float32), states)[0], expected)


def test_threads_share_states_inside(model, tmp_path):
    sampler = internal(model, tmp_path)

    def write(seed):
        return sampler.sample("to be", max_tokens=20, seed=seed)

    alone = [write(seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(write, range(6))) == alone
