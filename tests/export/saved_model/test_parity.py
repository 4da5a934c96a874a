import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from hamlet import tiny_model

import keras_seq as ks
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.sampling import SamplingSettings, log_softmax
from keras_seq.generation.threefry import uniform
from keras_seq_export import ExportError, export_saved_model
from keras_seq_export.requests import GenerateRequest
from keras_seq_export.saved_model import export as saved_model
from keras_seq_export.saved_model import parity as saved_model_parity

VOCABULARY = ks.Vocabulary.from_text("the cats were full")


def test_a_file_with_other_weights_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    model, write = tiny_model(VOCABULARY), saved_model._write
    bias = model.get_layer("logits").bias

    def sabotaged(*arguments):
        honest = bias.numpy()
        bias.assign_add(np.eye(len(honest), dtype=np.float32)[5] * 0.25)
        write(*arguments)
        bias.assign(honest)

    monkeypatch.setattr(saved_model, "_write", sabotaged)
    with pytest.raises(ExportError, match=r"decode.*0\.25"):
        export_saved_model(model, VOCABULARY, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_another_vocabulary_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    turned = ks.Vocabulary([*VOCABULARY.tokens[:3], *VOCABULARY.tokens[:2:-1]])
    write = saved_model._write
    monkeypatch.setattr(saved_model, "_write", lambda decoder, _, *arguments: write(decoder, turned, *arguments))
    with pytest.raises(ExportError, match="serving_default must write what the model writes"):
        export_saved_model(tiny_model(VOCABULARY), VOCABULARY, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_an_operation_that_needs_python_is_refused(tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    values = ks.GRU(4, return_sequences=True)(keras.layers.Embedding(len(VOCABULARY), 4)(tokens))
    in_python = keras.layers.Lambda(
        lambda x: tf.ensure_shape(tf.numpy_function(np.tanh, [x], tf.float32), x.shape),
        output_shape=lambda shape: shape,
    )
    model = keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(in_python(values)))
    with pytest.raises(ExportError, match=r"does not run in TensorFlow's C\+\+ session: .*PyFunc"):
        export_saved_model(model, VOCABULARY, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A model, and each request of its verification with what the file answered."""
    model, run, told = tiny_model(VOCABULARY), saved_model_parity.run_in_cpp_session, []

    def listening(directory, requests):
        answers = run(directory, requests)
        told.extend(zip((request.signature for request in requests), answers, strict=True))
        return answers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model_parity, "run_in_cpp_session", listening)
        export_saved_model(model, VOCABULARY, tmp_path_factory.mktemp("honest") / "1")
    return model, told


def other_number(values):
    return values - 0.1 if values.dtype.kind == "f" else np.maximum(values - 1, 0)


@pytest.mark.parametrize(
    ("signature", "output", "wrong"),
    [
        ("serving_default", "text", lambda texts: texts + b"s"),
        ("serving_default", "length", other_number),
        ("serving_default", "token_ids", lambda ids: ids[:, ::-1]),
        ("serving_default", "log_probability", other_number),
        ("serving_default", "finish_reason", lambda reasons: np.where(reasons == b"eos", b"length", b"eos")),
        ("score", "log_probability", other_number),
        ("score", "log_probabilities", other_number),
        ("score", "length", other_number),
        ("score", "token_ids", lambda ids: ids + 1),
        ("decode", "logits", other_number),
        ("prefill", "logits", other_number),
        ("sample", "next_token", lambda drawn: (drawn + 1) % len(VOCABULARY)),
        ("sample", "log_probability", other_number),
        ("prefill", "state_0", other_number),
        ("sample", "state_0", other_number),
        ("start", "state_0", other_number),
        ("start", "max_tokens", other_number),
        ("start", "vocabulary_bytes", lambda content: content + b"\n"),
    ],
)
def test_one_wrong_output_is_found_out(signature, output, wrong, honest, monkeypatch, tmp_path):
    model, told = honest
    answers = copy.deepcopy([answer for _, answer in told])
    first = next(answer for (name, _), answer in zip(told, answers, strict=True) if name == signature)
    first[output] = wrong(first[output])
    monkeypatch.setattr(saved_model_parity, "run_in_cpp_session", lambda *_: answers)
    with pytest.raises(ExportError, match=signature):
        saved_model_parity.verify(model, VOCABULARY, tmp_path, [16], 10_000)


def test_only_rounding_excuses_another_text():
    vocabulary = ks.Vocabulary.from_text("abc")
    seed = next(seed for seed in range(100) if 0.4 < uniform(seed, 0) < 0.6)
    edge = float(uniform(seed, 0)) + 5e-6  # of a and b: the number draws a, and hardly a larger one b

    class ThreeTokens(Step):
        vocabulary_size = len(vocabulary)

        def initial_states(self):
            return []

        def __call__(self, token, states):  # <pad> and <s>, which are forbidden, then <eos>, a, b, c
            return np.log(np.array([1, 1, 0.1, edge - 0.1, 0.8 - edge, 0.2], np.float32)), states

    text = GenerateRequest("", 1, seed, SamplingSettings())

    def compared(token):
        log_probability = log_softmax(ThreeTokens()(0, [])[0])[vocabulary.encode(token)[0]]
        answer = {"text": token.encode(), "token_ids": vocabulary.encode(token), "length": 1}
        answer |= {"finish_reason": b"length", "log_probability": log_probability}
        return saved_model_parity._compare_text(ThreeTokens(), vocabulary, text, answer)

    assert compared("a") == compared("b") == 1
    with pytest.raises(ExportError, match=r"token 0 must be one of \[3, 4\]"):
        compared("c")
