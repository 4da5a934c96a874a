"""The signature `write`: 32 tokens in one call, and the same text as without it."""

import contextlib

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from bundles import rebundled
from changed_models import with_nan_after, without_write
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq.errors import ModelError
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export import LiteRTDecoder, LiteRTSampler
from keras_seq_export.errors import ExportError
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.conversion import signature_endpoints
from keras_seq_export.tflite.draw_parity import _compare_write


@pytest.fixture(scope="module")
def two_samplers(exported, tmp_path_factory):
    """The sampler of a file, and that of the same file without `write`."""
    path = without_write(exported, tmp_path_factory.mktemp("files") / "without.tflite")
    return LiteRTSampler(exported), LiteRTSampler(path)


def signatures_used(sampler, monkeypatch):
    """Returns a list to which the name of each signature that runs is added."""
    run, used = sampler.decoder.run, []

    def counting(signature, *arguments):
        used.append(signature)
        return run(signature, *arguments)

    monkeypatch.setattr(sampler.decoder, "run", counting)
    return used


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**64 - 1),
    max_tokens=st.integers(1, 150),
    stop=st.lists(st.text("eot ,", min_size=1, max_size=3), max_size=2),
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    filters=st.sampled_from([{}, {"top_k": 5}, {"top_p": 0.8, "min_p": 0.01}]),
)
def test_a_text_is_the_same_without_write(two_samplers, seed, max_tokens, stop, temperature, filters):
    options = {"seed": seed, "max_tokens": max_tokens, "stop": stop, "temperature": temperature, **filters}
    one, other = (sampler.sample("To ", **options) for sampler in two_samplers)
    assert (one, one.token_ids, one.finish_reason) == (other, other.token_ids, other.finish_reason)
    for state, expected in zip(one.states.arrays, other.states.arrays, strict=True):
        np.testing.assert_array_equal(state, expected)


@settings(max_examples=30)
@given(
    changes=st.dictionaries(st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0, 2.5]), max_size=4),
    seed=st.integers(0, 1000),
)
def test_a_change_takes_effect_from_the_next_token(two_samplers, changes, seed):
    texts = []
    for sampler in two_samplers:
        generation, pieces = sampler.generate("To ", max_tokens=100, seed=seed), []
        for position, piece in enumerate(generation):
            pieces.append(piece)
            if position in changes:
                generation.change(temperature=changes[position])
        texts.append((pieces, generation.finish_reasons))
    assert texts[0] == texts[1]


def test_states_within_a_call_continue_the_text(two_samplers):
    whole = two_samplers[1].sample("To ", max_tokens=70, seed=3)
    for sampler in two_samplers:
        generation = sampler.generate("To ", max_tokens=70, seed=3)
        for count, _ in enumerate(generation, 1):
            if count in (1, 5, 31, 32, 33, 40):
                states = generation.states
                rest = two_samplers[1].sample(states=states, max_tokens=5, temperature=0)
                expected = two_samplers[1].sample(whole_prompt(whole, count), max_tokens=5, temperature=0)
                assert rest == expected


def whole_prompt(text, count):
    return "To " + "".join(text[:count])


@pytest.mark.parametrize(
    ("options", "signature"),
    [
        ({}, "write"),
        ({"top_k": 3, "top_p": 0.9, "min_p": 0.1, "temperature": 0.0}, "write"),
        ({"repetition_penalty": 1.2}, "decode"),
        ({"bias": {"t": 1.0}}, "decode"),
        ({"logprobs": True}, "decode"),
    ],
)
def test_the_file_draws_unless_an_option_needs_the_host(exported, monkeypatch, options, signature):
    sampler = LiteRTSampler(exported)
    used = signatures_used(sampler, monkeypatch)
    text = sampler.sample("To", max_tokens=40, seed=1, **options)
    assert set(used[1:]) == {signature}
    assert len(used[1:]) == (-(-len(text) // 32) if signature == "write" else len(text))


@pytest.mark.parametrize("use", ["change", "states"])
def test_what_is_drawn_in_vain_is_bounded(exported, monkeypatch, use):
    """A text whose settings or states are used after each token takes one short call for each, not many long ones."""
    sampler = LiteRTSampler(exported)
    generation = sampler.generate("To ", max_tokens=100, seed=1)
    lengths, run = [], sampler.decoder.run

    def counting(signature, inputs, states):
        lengths.extend(inputs["length"].tolist() if signature == "write" else [1])
        return run(signature, inputs, states)

    monkeypatch.setattr(sampler.decoder, "run", counting)
    for position, _ in enumerate(generation):
        if use == "change":
            generation.change(temperature=1 + position / 100)
        else:
            assert len(generation.states.arrays) == 2
    assert sum(lengths) <= 100 + 32 + 100


def raw_call(path):
    """Returns the signatures of a file of three rows, and inputs that do not change."""
    interpreter = Interpreter(str(path), num_threads=1)
    fixed = {"temperature": np.ones(3, np.float32), "top_k": np.zeros(3, np.int32)}
    fixed |= {"top_p": np.ones(3, np.float32), "min_p": np.zeros(3, np.float32)}
    return interpreter.get_signature_runner("write"), interpreter.get_signature_runner("sample"), fixed


@pytest.mark.slow
def test_rows_that_end_apart(small_tflite):
    """Each row has the tokens, numbers and states of as many calls of `sample`, and zeros after its last token."""
    write, sample, fixed = raw_call(small_tflite(batch=3))
    random, ended = np.random.default_rng(1), 0
    zeros = {"state_0": np.zeros((3, 24), np.float32), "state_1": np.zeros((3, 16), np.float32)}
    for _ in range(80):
        uniforms = random.random((3, 32), np.float32)
        token, lengths = random.integers(3, 20, 3, np.int32), random.integers(1, 33, 3, np.int32)
        written = write(token=token, uniforms=uniforms, length=lengths, **fixed, **zeros)
        counts, states = written["count"], zeros
        for step in range(32):
            drawn = sample(token=token, uniform=np.ascontiguousarray(uniforms[:, step]), **fixed, **states)
            token, states = drawn["next_token"], {name: drawn[name] for name in zeros}
            for row in range(3):
                is_drawn = step < counts[row]
                assert written["tokens"][row, step] == (token[row] if is_drawn else 0)
                assert written["log_probabilities"][row, step] == (drawn["log_probability"][row] if is_drawn else 0)
                if step == counts[row] - 1:
                    assert counts[row] == lengths[row] or token[row] == 2  # <eos>
                    assert all((states[name][row] == written[name][row]).all() for name in zeros)
                    ended += token[row] == 2
    assert ended > 3


def test_a_write_that_differs_from_sample_is_refused(exported, tmp_path):
    """The inputs `temperature` and `min_p` of `write` are exchanged."""
    model = flatbuffer.parse(read_bundle(exported).model)
    write = next(one for one in model.signatureDefs if one.signatureKey == b"write")
    one, other = (next(tensor for tensor in write.inputs if tensor.name == name) for name in (b"temperature", b"min_p"))
    one.tensorIndex, other.tensorIndex = other.tensorIndex, one.tensorIndex
    rebundled(exported, tmp_path / "changed.tflite", model=flatbuffer.pack(model))
    settings = SamplingSettings(temperature=0.8, min_p=0.02)
    for path, differs in ((exported, False), (tmp_path / "changed.tflite", True)):
        decoder = LiteRTDecoder(path)
        given = (decoder, np.array([1], np.int32), decoder.initial_states(), settings, 2)
        with pytest.raises(ExportError, match="write: `tokens`") if differs else contextlib.nullcontext():
            _compare_write(*given)


def test_the_step_at_which_the_logits_are_not_finite_is_named(two_samplers, exported, tmp_path):
    """The embedding of one character is NaN: the text is right up to the step that reads it."""
    sampler = LiteRTSampler(with_nan_after(exported, tmp_path / "nan.tflite", "e"))
    seed = next(seed for seed in range(99) if 33 < two_samplers[1].sample("To ", seed=seed).find("e") < 60)
    expected = two_samplers[1].sample("To ", seed=seed)
    position, found = expected.find("e") + 1, []
    with pytest.raises(ModelError, match=f"token {position} of the continuation cannot be drawn: .* must be numbers"):
        found.extend(sampler.generate("To ", seed=seed))
    assert "".join(found) == expected[:position]


def test_a_count_that_is_too_large_is_refused(exported, tmp_path):
    """The output `count` is the input `top_k`."""
    model = flatbuffer.parse(read_bundle(exported).model)
    write = next(one for one in model.signatureDefs if one.signatureKey == b"write")
    count = next(one for one in write.outputs if one.name == b"count")
    count.tensorIndex = next(one for one in write.inputs if one.name == b"top_k").tensorIndex
    sampler = LiteRTSampler(rebundled(exported, tmp_path / "changed.tflite", model=flatbuffer.pack(model)))
    for top_k, received in ((20, 20), (0, 0)):
        with pytest.raises(ModelError, match=f"the file has a damaged model: `write` drew {received} of 10 tokens"):
            sampler.sample("To", max_tokens=10, top_k=top_k)


@pytest.mark.parametrize(
    ("characters", "state", "has_write"),
    [
        (253, "explicit", True),
        (254, "explicit", False),
        (9, "internal", False),
    ],
)
def test_which_files_have_write(characters, state, has_write):
    """256 tokens at most, three of them reserved; and states that the host keeps."""
    vocabulary = ks.Vocabulary.from_text("".join(map(chr, range(0x4E00, 0x4E00 + characters))))
    step = GraphStep(ks.language_model(len(vocabulary), units=[4], embedding_dim=4), vocabulary)
    endpoints = signature_endpoints(step, vocabulary, logit_bias(vocabulary, SamplingSettings()), state, 1, 64)
    assert ("write" in endpoints) == has_write
