"""The exporter's check that `decode` uses what was learned, also in a quantized file of a model that is sure of its text."""

import hamlet
import numpy as np
import pytest

from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export import ExportError, LiteRTDecoder
from keras_seq_export.tflite.learning import proof
from keras_seq_export.tflite.parity import Reading


def logits_of(decoder, tokens):
    """Returns the logits of `decode` after each token, `(tokens, vocabulary)`."""
    states, found = decoder.initial_states(), []
    for token in tokens:
        logits, states = decoder(np.int32([token]), states)
        found.append(logits[0])
    return np.stack(found)


def features_of(decoder, tokens, alone):
    """Returns the features after each token: what weights of 1 add to the logits of as many tokens of the vocabulary."""
    rows, columns = decoder.weights_shape
    found = []
    for start in range(0, columns, rows):
        weights = np.eye(rows, columns, start, dtype=np.float32)
        decoder.call("set_weights", {"weights": weights, "log_shares": np.float32([-100, -100, 0])})
        found.append((logits_of(decoder, tokens) - alone)[:, : columns - start])
    decoder.call("reset_weights", {})
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_a_file_whose_decode_does_not_use_what_was_learned_is_refused(quantization, small_tflite, monkeypatch):
    path = small_tflite(learn=True, quantization=quantization)
    decoder, other = LiteRTDecoder(path), LiteRTDecoder(path)
    vocabulary = decoder.bundle.vocabulary
    tokens = [vocabulary.start_id, *vocabulary.encode(hamlet.TEXT[:40]).tolist()]
    alone = logits_of(decoder, tokens)
    reading = Reading([np.int32([tokens])], [alone[None]], [], [])
    tolerance = proof._TOLERANCE if quantization == "none" else proof._QUANTIZED_TOLERANCE
    given = reading, features_of(decoder, tokens, alone), logit_bias(vocabulary, SamplingSettings()), tolerance
    proof._compare_use(decoder, *given)
    right = LiteRTDecoder.run
    monkeypatch.setattr(
        LiteRTDecoder, "run", lambda self, name, *values: right(other if name == "decode" else self, name, *values)
    )
    with pytest.raises(ExportError, match=r"^decode after set_weights"):
        proof._compare_use(decoder, *given)


def test_a_model_sure_of_its_text_may_learn_nothing_from_it():
    """Relative to weights of 1e-9, rounding errors are large; relative to the logits, they are nothing."""
    shares = np.log(np.float32([1, 1, 1]) / 3)
    for size in (0, 1e-9):
        expected, found = (proof.Learned(np.full((5, 3), one, np.float32), shares) for one in (size, 2 * size))
        assert proof._compare_learned(expected, found, 1e-3) < 1e-6
    expected, found = (proof.Learned(np.full((4, 4), one, np.float32), shares) for one in (1, 1.5))
    with pytest.raises(ExportError, match=r"the weights of the file differ by 50\.0% of their size"):
        proof._compare_learned(expected, found, 0.3)
