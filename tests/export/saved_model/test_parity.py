"""The verification of a SavedModel: it refuses a file that differs from its model in any output."""

import copy
import shutil
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from hamlet import CATS

import keras_seq as ks
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.keras_step import KerasStep
from keras_seq.generation.sampling import SamplingSettings, log_softmax
from keras_seq.generation.threefry import uniform
from keras_seq_export import ExportError, export_saved_model
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.requests import GenerateRequest
from keras_seq_export.saved_model import export, parity

VOCABULARY = CATS  # That of `small_saved_model`.


@pytest.mark.slow
def test_a_python_operation_is_refused(tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.SimpleRNN(4, return_sequences=True)(keras.layers.Embedding(len(VOCABULARY), 4)(tokens))
    in_python = keras.layers.Lambda(
        lambda x: tf.ensure_shape(tf.numpy_function(np.tanh, [x], tf.float32), x.shape),
        output_shape=lambda shape: shape,
    )
    model = keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(in_python(values)))
    with pytest.raises(ExportError, match=r"does not run in TensorFlow's C\+\+ session: .*PyFunc"):
        export_saved_model(model, VOCABULARY, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


class Verified(NamedTuple):
    """A verified file: the model, what the comparison needs of it, and the file's answer to each request."""

    model: keras.Model
    step: KerasStep
    logits: list[np.ndarray]
    answers: list[tuple[str, dict[str, np.ndarray]]]


def verify(model, directory):
    return parity.verify(model, model, GraphStep(model, VOCABULARY), VOCABULARY, directory, 10_000)


@pytest.fixture(scope="module")
def verified(small_saved_model, tiny_model):
    model, run, outputs_of, answers, logits = tiny_model(VOCABULARY), parity.run_all, parity.reference_logits, [], []

    def recording_run(directory, requests, warm_up):
        outputs = run(directory, requests, warm_up)
        answers.extend(zip((request.signature for request in requests), outputs, strict=True))
        return outputs

    def recording_reference(*arguments):
        logits.extend(outputs_of(*arguments))
        return logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "run_all", recording_run)
        patch.setattr(parity, "reference_logits", recording_reference)
        verify(model, small_saved_model)
    return Verified(model, KerasStep(model), logits, answers)


@pytest.fixture
def exports_write_the_small_saved_model(small_saved_model, monkeypatch):
    """Exports write the signatures of `small_saved_model`, whatever their model and vocabulary are."""

    def write(step, vocabulary, directory, max_length):
        shutil.copytree(small_saved_model, directory, dirs_exist_ok=True)

    monkeypatch.setattr(export, "write_signatures", write)


@pytest.mark.slow
@pytest.mark.usefixtures("exports_write_the_small_saved_model")
def test_a_file_with_other_weights_is_refused_and_nothing_is_left(tmp_path, tiny_model):
    model = tiny_model(VOCABULARY)
    bias = model.get_layer("logits").bias
    bias.assign_add(np.eye(len(VOCABULARY), dtype=np.float32)[5] * 0.25)
    with pytest.raises(ExportError, match=r"decode.*0\.25"):
        export_saved_model(model, VOCABULARY, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("exports_write_the_small_saved_model")
def test_a_file_with_another_vocabulary_is_refused_and_nothing_is_left(tmp_path, tiny_model):
    reversed_order = ks.Vocabulary([*VOCABULARY.tokens[:3], *VOCABULARY.tokens[:2:-1]])
    with pytest.raises(ExportError, match="serving_default must generate the model's text"):
        export_saved_model(tiny_model(VOCABULARY), reversed_order, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


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
        ("decode", "model_id", lambda ids: ids + b"0"),
    ],
)
def test_one_wrong_output_is_refused(signature, output, wrong, verified, monkeypatch, tmp_path):
    answers = copy.deepcopy([answer for _, answer in verified.answers])
    first = next(answer for (name, _), answer in zip(verified.answers, answers, strict=True) if name == signature)
    first[output] = wrong(first[output])
    monkeypatch.setattr(parity, "run_all", lambda *_: answers)
    # The model's side of the comparison is computed once for all cases.
    monkeypatch.setattr(parity, "reference_logits", lambda *_: verified.logits)
    monkeypatch.setattr(parity, "KerasStep", lambda _: verified.step)
    with pytest.raises(ExportError, match=signature):
        verify(verified.model, tmp_path)


def test_right_outputs_are_accepted(verified, monkeypatch, tmp_path):
    monkeypatch.setattr(parity, "run_all", lambda *_: [answer for _, answer in verified.answers])
    monkeypatch.setattr(parity, "reference_logits", lambda *_: verified.logits)
    monkeypatch.setattr(parity, "KerasStep", lambda _: verified.step)
    assert set(verify(verified.model, tmp_path)) == {"serving_default", "score", "decode", "prefill", "start", "sample"}


def test_only_a_near_tie_allows_another_token():
    vocabulary = ks.Vocabulary.from_text("abc")
    seed = next(seed for seed in range(100) if 0.4 < uniform(seed, 0) < 0.6)
    edge = float(uniform(seed, 0)) + 5e-6  # between a and b: this uniform draws a, a slightly larger one b

    class ThreeTokens(Step):
        vocabulary_size = len(vocabulary)

        def initial_states(self):
            return []

        def states_of(self, arrays):
            return arrays

        def __call__(self, token, states):  # <pad> and <s>, which are forbidden, then <eos>, a, b, c
            return np.log(np.array([1, 1, 0.1, edge - 0.1, 0.8 - edge, 0.2], np.float32)), states

    text = GenerateRequest("", 1, seed, SamplingSettings())

    def compared(token):
        log_probability = log_softmax(ThreeTokens()(0, [])[0])[vocabulary.encode(token)[0]]
        answer = {"text": token.encode(), "token_ids": vocabulary.encode(token), "length": 1}
        answer |= {"finish_reason": b"length", "log_probability": log_probability}
        return parity._compare_text(ThreeTokens(), [], vocabulary, text, answer)

    assert compared("a") == compared("b") == 1
    with pytest.raises(ExportError, match=r"token 0 must be one of \[3, 4\]"):
        compared("c")
