"""The comparison that an export makes before it publishes a file that learns: it finds each kind of mistake."""

import numpy as np
import pytest
from hamlet import TEXT, small_model
from learning_oracle import decoded, projection_of_file

from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export import ExportError, LiteRTDecoder, LiteRTSampler, export_tflite, learning_rule
from keras_seq_export.tflite.learning import proof
from keras_seq_export.tflite.parity import Reading


@pytest.fixture(scope="module")
def proven(learning_file):
    """`proven(**changes)` runs the comparison of a file; the projection is found from what the file computes."""
    path, _ = learning_file("stack")
    sampler = LiteRTSampler(path)
    tokens = [sampler.vocabulary.start_id, *sampler.vocabulary.encode(TEXT[:200]).tolist()]
    logits, _ = decoded(sampler.decoder, tokens)
    projection, _ = projection_of_file(sampler.decoder, tokens)
    bias = logit_bias(sampler.vocabulary, SamplingSettings())

    def run(projection=projection, logits=logits, is_quantized=False):
        decoder = LiteRTDecoder(path)
        reading = Reading([np.int32([tokens])], [logits[None]], [], [])
        return proof.prove_learning(decoder, reading, projection, bias, is_quantized), decoder

    return run, projection, logits


def test_a_right_file_has_learned_nothing_afterwards(proven):
    difference, decoder = proven[0]()
    assert 0 < difference < 1e-4
    assert not decoder.call("get_weights", {})["weights"].any()


def test_another_projection_is_found(proven):
    run, projection, _ = proven
    for wrong in (1.01 * projection, projection[::-1]):
        with pytest.raises(ExportError, match=r"^learn"):
            run(projection=wrong)
    assert run(projection=1.01 * projection, is_quantized=True)[0] > 1e-3  # P is rounded in such a file.
    with pytest.raises(ExportError, match=r"^learn"):
        run(projection=projection[::-1], is_quantized=True)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SWITCH", 0.05, "learn, log_shares: the file differs from the model by up to"),
        ("CANDIDATES", (0.0, 0.4, 1.0), "learn, log_probabilities: the file differs from the model by up to"),
        ("BIAS", 0.6, "learn"),
        ("LARGEST_NORM", 1.0, r"learn: the weights of the file differ by \d+\.\d% of their size from the rule's"),
        ("LEARN_STEPS", 60, r"learn: the weights of the file differ by \d\.\d% of their size from the rule's"),
    ],
)
def test_another_rule_is_found(name, value, words, proven, monkeypatch):
    monkeypatch.setattr(learning_rule, name, value)
    with pytest.raises(ExportError, match=f"^{words}"):
        proven[0]()


def test_other_logits_are_found(proven):
    with pytest.raises(ExportError, match=r"^learn, log_probabilities: the file differs from the model by up to"):
        proven[0](logits=1.01 * proven[2])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reset_weights", "reset_weights: the logits must be what they were, bit for bit; they differ by"),
        ("set_weights", "decode after set_weights: the file differs from the model by up to"),
    ],
)
def test_weights_that_are_not_stored_are_found(name, words, proven, monkeypatch):
    right = LiteRTDecoder.call
    monkeypatch.setattr(
        LiteRTDecoder, "call", lambda decoder, one, given: {} if one == name else right(decoder, one, given)
    )
    with pytest.raises(ExportError, match=f"^{words}"):
        proven[0]()


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ("prefill", "prefill"),
        ("sample", "sample"),
        ("write", "write"),
    ],
)
def test_a_signature_that_does_not_use_what_was_learned_is_found(signature, words, proven, learning_file, monkeypatch):
    """It runs in a file that has learned nothing."""
    other, right = LiteRTDecoder(learning_file("stack")[0]), LiteRTDecoder.run

    def run(decoder, one, *given):
        return right(other if one == signature else decoder, one, *given)

    monkeypatch.setattr(LiteRTDecoder, "run", run)
    with pytest.raises(ExportError, match=words):
        proven[0]()


def test_a_file_that_learns_something_else_is_not_published(learning_file, take_converted, tmp_path, monkeypatch):
    path, model = learning_file("stack")
    take_converted(path)
    monkeypatch.setattr(learning_rule, "SWITCH", 0.05)
    with pytest.raises(ExportError, match="learn, log_shares"):
        export_tflite(model, small_model()[1], tmp_path / "wrong.tflite", learn=True)
    assert list(tmp_path.iterdir()) == []
