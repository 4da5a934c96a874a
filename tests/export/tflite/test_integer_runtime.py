"""Files of integers in `LiteRTSampler` and `LiteRTDecoder`: texts, scores, states and suggestions, and damaged files."""

import json

import integer_oracle
import keras
import numpy as np
import pytest
from bundles import rebundled
from hamlet import TEXT, prompts, report_of, small_model

import keras_seq as ks
from keras_seq.data.tokens import UNK
from keras_seq.generation.sampling import log_softmax
from keras_seq.generation.threefry import uniform
from keras_seq_export import LiteRTDecoder, LiteRTSampler, export_tflite
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.contents import contents_of
from keras_seq_export.tflite.inspect import inspect

CELLS = ("gru", "lstm", "simple_rnn")
OPTIONS = {"quantization": "integer", "weight_scale": 2}


@pytest.fixture(scope="module", params=CELLS)
def of_cell(request, small_tflite):
    return small_tflite(cell=request.param, **OPTIONS)


@pytest.fixture(scope="module")
def exported(small_tflite):
    return small_tflite(cell="gru", **OPTIONS)


def raw_step(path):
    """Returns a step of the file by itself: token and int16 states to int16 logits and states, and the scale of logits."""
    decoder = LiteRTDecoder(path)
    runner = decoder._interpreter.get_signature_runner("decode")
    scale = runner.get_output_details()["logits"]["quantization"][0]

    def step(token, states):
        found = runner(token=np.array([token], np.int32), **states)
        return found.pop("logits")[0].tolist(), found

    zeros = {name: np.zeros(tensor.shape, np.int16) for name, tensor in decoder.states.items()}
    return step, zeros, scale


def oracle_text(path, prompt, max_tokens, seed, bias=None, **settings):
    """Returns the tokens of a continuation by a plain loop over `decode` and the definition of the draw."""
    vocabulary = read_bundle(path).vocabulary
    step, states, scale = raw_step(path)
    added = [0.0] * len(vocabulary)
    for token, value in (bias or {}).items():
        added[vocabulary.ids[token]] = None if value == -np.inf else value
    for index in (vocabulary.pad_id, vocabulary.start_id, vocabulary.unk_id):
        if index is not None:
            added[index] = None
    tokens = [vocabulary.start_id, *vocabulary.encode(prompt).tolist()]
    for token in tokens[:-1]:
        _, states = step(token, states)
    token, found = tokens[-1], []
    for position in range(max_tokens):
        logits, states = step(token, states)
        token = integer_oracle.draw(
            integer_oracle.biased(logits, added, float(np.float32(scale))),
            integer_oracle.logit_step(float(np.float32(scale))),
            int(uniform(seed % 2**64, position) * 2**24),
            integer_oracle.integers_of(**settings),
        )
        if token == vocabulary.eos_id:
            break
        found.append(token)
    return found


def test_texts_are_those_of_the_definition(of_cell):
    sampler = LiteRTSampler(of_cell)
    for prompt, options in prompts():
        options = options | {"max_tokens": 30}
        assert sampler.sample(prompt, **options).token_ids == oracle_text(of_cell, prompt, **options)


def test_a_bias_and_a_change_are_those_of_the_definition(exported):
    sampler = LiteRTSampler(exported)
    options = {"max_tokens": 40, "seed": 3, "bias": {"e": -np.inf, " ": 1.5, "t": -0.3}, "temperature": 0.8}
    assert sampler.sample("To", **options).token_ids == oracle_text(exported, "To", **options)
    generation = sampler.generate("To", max_tokens=20, seed=3)
    first = [next(generation).token_id for _ in range(5)]
    generation.change(temperature=0.0)
    rest = [piece.token_id for piece in generation]
    assert first == oracle_text(exported, "To", max_tokens=5, seed=3)
    prompt = "To" + sampler.vocabulary.decode(first)
    assert rest == oracle_text(exported, prompt, max_tokens=15, seed=3, temperature=0.0)


def test_text_of_words_with_unk(small_tflite):
    path = small_tflite(level="word", units=(24,), **OPTIONS)
    sampler = LiteRTSampler(path)
    options = {"max_tokens": 30, "seed": 5, "top_p": 0.9}
    assert UNK in sampler.vocabulary.ids
    assert sampler.sample("to be", **options).token_ids == oracle_text(path, "to be", **options)


def test_logits_and_scores_are_those_of_the_integers_times_the_scale(of_cell):
    sampler, (step, states, scale) = LiteRTSampler(of_cell), raw_step(of_cell)
    ids, expected, ours = sampler.vocabulary.encode(TEXT[:60]).tolist(), [], sampler.initial_states()
    for token, target in zip([sampler.vocabulary.start_id, *ids[:-1]], ids, strict=True):
        integers, states = step(token, states)
        logits, ours = sampler(token, ours)
        assert logits.dtype == np.float32
        np.testing.assert_array_equal(logits, np.array(integers, np.float32) * np.float32(scale))
        assert [state.dtype for state in ours] == [np.int16] * len(ours)
        expected.append(log_softmax(logits)[target])
    np.testing.assert_array_equal(sampler.score(TEXT[:60]).log_probabilities, expected)
    with_logprobs = sampler.sample("To", max_tokens=20, seed=1, logprobs=True)
    assert with_logprobs.token_ids == sampler.sample("To", max_tokens=20, seed=1).token_ids
    rescored = sampler.score("To" + with_logprobs).log_probabilities[2:]
    np.testing.assert_allclose(with_logprobs.log_probabilities, rescored, rtol=1e-12)


def test_prefill_reads_each_token(exported):
    sampler = LiteRTSampler(exported)
    tokens = sampler.vocabulary.encode(TEXT[:100]).tolist()
    (logits, states), single = sampler.prefill(tokens, sampler.initial_states()), sampler.initial_states()
    for token in tokens:
        expected, single = sampler(token, single)
    np.testing.assert_array_equal(logits, expected)
    for one, other in zip(states, single, strict=True):
        np.testing.assert_array_equal(one, other)


def test_states_leave_and_come_back_without_a_change(of_cell):
    sampler = LiteRTSampler(of_cell)
    options = {"max_tokens": 40, "seed": 11}
    whole = sampler.sample("To be", **options)
    generation = sampler.generate("To be", **options)
    first = [next(generation) for _ in range(15)]
    states = generation.states
    assert all(array.dtype == np.float32 and array.shape[0] == 1 for array in states.arrays)
    assert max(np.abs(array).max() for array in states.arrays) > 0.01
    restored = sampler.states_of(states.arrays)
    for integers in restored:
        assert integers.dtype == np.int16
        assert np.abs(integers).max() > 100
    for one, other in zip(sampler.arrays_of(restored), states.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    rest = sampler.sample(states=states, max_tokens=25, temperature=0.0)
    again = "".join(first) + rest
    greedy = sampler.generate("To be" + "".join(first), max_tokens=25, temperature=0.0)
    assert "".join(greedy) == rest
    assert again.startswith("".join(first))
    assert whole.startswith("".join(first))


def test_states_of_the_model_are_rounded(exported):
    """A text goes on from the states of another runtime, as far as the integers can hold them."""
    model, vocabulary = small_model(cell="gru", weight_scale=2)
    sampler = LiteRTSampler(exported)
    states = ks.sample(model, vocabulary, "To be, or", max_tokens=5, seed=1).states
    of_model = ks.score(model, vocabulary, " not to be", states=states).log_probability
    assert sampler.score(" not to be", states=states).log_probability == pytest.approx(of_model, abs=0.05)
    with pytest.raises(ValueError, match=r"`states` must be a list of 2 arrays"):
        sampler.sample(states=[np.zeros(3)])
    far = [np.full((1, 24), 1e9), np.full((1, 16), -1e9)]
    assert [int(state[0, 0]) for state in sampler.states_of(far)] == [32767, -32768]


@pytest.mark.parametrize("level", ["char", "word"])
def test_suggestions_are_those_of_integer_costs(level, small_tflite):
    path = small_tflite(level=level, **OPTIONS)
    sampler = LiteRTSampler(path)
    found = sampler.suggest("To be, or ", count=5)
    assert found
    assert all(0 < one.probability <= 1 for one in found)
    assert found == sorted(found, key=lambda one: -one.probability)
    if level == "word":  # One look at the logits; the space is part of the tokens of words.
        vocabulary, (step, states, scale) = sampler.vocabulary, raw_step(path)
        for token in [vocabulary.start_id, *vocabulary.encode("To be, or").tolist()]:
            logits, states = step(token, states)
        pairs = zip(vocabulary.tokens, logits, strict=True)
        among = [q if token.startswith(" ") else integer_oracle.FORBIDDEN for token, q in pairs]
        costs, _ = integer_oracle.costs(among, integer_oracle.logit_step(float(np.float32(scale))))
        for one in found:
            cost = costs[vocabulary.ids[f" {one.text}"]]
            assert one.probability == pytest.approx(2.0 ** (-cost / 2**24), rel=1e-12)


def test_beams_and_evaluation(exported):
    model, vocabulary = small_model(cell="gru", weight_scale=2)
    sampler = LiteRTSampler(exported)
    assert len(sampler.sample("To", num_beams=3, max_tokens=10)) > 0
    expected = ks.score(model, vocabulary, TEXT).log_probability
    assert sampler.score(TEXT).log_probability == pytest.approx(expected, rel=1e-2)


def test_a_repetition_penalty_is_refused(exported):
    sampler = LiteRTSampler(exported)
    with pytest.raises(ValueError, match=r"`repetition_penalty` must be 1 \(off\) with a model of integers"):
        sampler.sample("To", repetition_penalty=1.2)
    generation = sampler.generate("To", max_tokens=5)
    next(generation)
    with pytest.raises(ValueError, match=r"`repetition_penalty` must be 1 \(off\)"):
        generation.change(repetition_penalty=1.2)


def test_states_that_do_not_begin_at_zero(small_tflite):
    path = small_tflite(starting=True, quantization="integer")
    sampler = LiteRTSampler(path)
    assert list(contents_of(read_bundle(path).model).signatures) == ["decode", "start"]
    arrays = sampler.arrays_of(sampler.initial_states())
    for array in arrays:
        np.testing.assert_allclose(array[0], np.linspace(-1, 1, 16), atol=2**-10)
    assert len(sampler.sample("To be", max_tokens=10, seed=1)) > 0
    assert report_of(path)["proved_steps"] > 500


# ---- frames ----


@pytest.fixture(scope="module")
def sensor(tmp_path_factory):
    frames = keras.Input((None, 3))
    keras.utils.set_random_seed(0)
    values = keras.layers.GRU(12, return_sequences=True)(frames)
    model = keras.Model(frames, keras.layers.Dense(2)(values))
    path = tmp_path_factory.mktemp("sensor") / "sensor.tflite"
    export_tflite(model, None, path, quantization="integer", frame_range=4)
    return model, path


def test_frames_are_rounded_to_the_scale_of_the_input(sensor):
    model, path = sensor
    decoder = LiteRTDecoder(path)
    scale = inspect(path)["signatures"]["decode"]["inputs"]["frame"].scale
    assert scale == 2**-11  # Numbers from -4 to 4 are those from -8192 to 8192.
    assert decoder.bundle.card["inputs"] == {"frame": "int16 [1, 3] * 0.00048828"}
    frames = np.random.default_rng(1).normal(size=(1, 20, 3)).astype(np.float32)
    rounded = np.floor(frames.astype(np.float64) / scale + 0.5) * scale
    ours = theirs = decoder.initial_states()
    for index in range(20):
        output, ours = decoder(frames[:, index], ours)
        same, theirs = decoder(rounded[:, index], theirs)
        assert output.dtype == np.float32
        np.testing.assert_array_equal(output, same)
    np.testing.assert_allclose(output[0], model(frames)[0, -1], atol=1e-2)
    last, _ = decoder.prefill(frames, decoder.initial_states())
    np.testing.assert_array_equal(last, output)
    far = np.array([[1e30, -1e30, np.inf]], np.float32)
    cut_off = np.array([[32767, -32768, 32767]]) * scale
    np.testing.assert_array_equal(*(decoder(one, decoder.initial_states())[0] for one in (far, cut_off)))
    with pytest.raises(ValueError, match=r"`frame` must be real numbers. Received: frame='NaN'"):
        decoder(np.array([[0, np.nan, 0]], np.float32), decoder.initial_states())
    with pytest.raises(ValueError, match=r"`frame` must have the shape \(1, 3\)"):
        decoder(np.zeros((1, 4), np.float32), decoder.initial_states())


# ---- damaged files ----


def change_of(change, exported, path):
    model = flatbuffer.parse(read_bundle(exported).model)
    change(model)
    return rebundled(exported, path, model=flatbuffer.pack(model))


def tensor_of(model, kind, name):
    (signature,) = model.signatureDefs
    entry = next(one for one in getattr(signature, kind) if one.name == name.encode())
    return model.subgraphs[0].tensors[entry.tensorIndex]


def set_scale(kind, name, value):
    def change(model):
        tensor_of(model, kind, name).quantization.scale = value

    return change


def set_zero_point(model):
    tensor_of(model, "outputs", "logits").quantization.zeroPoint = [5]


def set_type(model):
    tensor_of(model, "inputs", "state_0").type = 0  # float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_type, "cannot be loaded"),
        (set_scale("inputs", "state_0", [2.0**-12]), "the outputs of decode must be|cannot be loaded"),
        (set_scale("outputs", "logits", []), "logits of decode is int16|cannot be loaded"),
        (set_scale("outputs", "logits", [3.0]), "the scale of its logits is|cannot be loaded"),
        (set_zero_point, "logits of decode is int16|cannot be loaded"),
        (lambda model: setattr(model.signatureDefs[0], "signatureKey", b"prefill"), "it has no signature decode"),
    ],
)
def test_a_damaged_file_is_refused(change, words, exported, tmp_path):
    with pytest.raises(BundleError, match=words):
        LiteRTSampler(change_of(change, exported, tmp_path / "changed.tflite"))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quantization": "int8"}, "it has no signature prefill, sample"),
        ({"state": "internal"}, "is not of an integer file, which has one row, explicit states and no encoder"),
        ({"batch": 2}, "is not of an integer file"),
        ({"at_once": {"source": "length"}}, "is not of an integer file"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(config, words, exported, tmp_path):
    with pytest.raises(BundleError, match=words):
        LiteRTSampler(rebundled(exported, tmp_path / "changed.tflite", config=config))


def test_a_float32_file_that_says_integer_is_refused(small_tflite, tmp_path):
    with pytest.raises(BundleError, match=r"it has prefill, sample, write|is float32"):
        LiteRTSampler(rebundled(small_tflite(), tmp_path / "a.tflite", config={"quantization": "integer"}))


def test_inspect_shows_the_scales(exported, run_cli, tmp_path):
    shown = run_cli("inspect", exported, cwd=tmp_path).stdout
    assert "int16 [1, 24] * 0.00012207" in shown
    assert "arena_bytes" in shown
    found = json.loads(run_cli("inspect", "--json", exported, cwd=tmp_path).stdout)
    assert found["signatures"]["decode"]["inputs"]["token"] == ["int32", [1]]
    assert found["signatures"]["decode"]["inputs"]["state_0"] == ["int16", [1, 24], 2**-13]
