"""What a .tflite that learns must compute, written from the formula in its documentation, one token at a time in float64."""

from typing import NamedTuple

import numpy as np

from keras_seq_export.learning_rule import BIAS

RATE = 12.0
WHOLE = np.float32([-100, -100, 0])  # log_shares with which what was learned has the whole weight


class Step(NamedTuple):
    """What was learned, and how the tokens were predicted before it was: `(tokens,)` each."""

    weights: np.ndarray
    shares: np.ndarray
    log_probabilities: np.ndarray
    of_model: np.ndarray

    @property
    def weight(self):
        return float(self.shares @ (0, 0.5, 1))


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def learned_by_hand(segments, rate=RATE):
    """Learns from segments, each of logits `(tokens, vocabulary)`, features `(tokens, features)` and next tokens."""
    shares, found, of_model = np.full(3, 1 / 3), [], []
    weights = np.zeros((segments[0][0].shape[1], segments[0][1].shape[1]))
    for logits, values, next_tokens in segments:
        for start in range(0, len(next_tokens), 64):
            block = range(start, min(start + 64, len(next_tokens)))
            weight, gradient, likelihoods = shares @ (0, 0.5, 1), np.zeros_like(weights), np.zeros(3)
            for position in block:
                model, f, target = logits[position].astype(np.float64), values[position], next_tokens[position]
                at = {a: softmax(model + a * (weights @ f)) for a in (weight, 0.0, 0.5, 1.0)}
                found.append(np.log(at[weight][target]))
                of_model.append(np.log(at[0.0][target]))
                likelihoods += [np.log(at[a][target]) for a in (0.0, 0.5, 1.0)]
                error = at[1.0].copy()
                error[target] -= 1
                gradient += np.outer(error, f)
            weights = (1 - 1e-5 * len(block)) * weights - rate / 64 * gradient
            weights *= min(1, 100 / max(np.linalg.norm(weights), 1e-30))
            shares = 0.98 * softmax(np.log(shares) + likelihoods) + 0.02 / 3
    return Step(weights, shares, np.array(found), np.array(of_model))


def decoded(decoder, tokens, states=None):
    """Returns the logits after each token `(tokens, vocabulary)`, and all new states in one row `(tokens, units)`."""
    states, logits, rows = decoder.initial_states() if states is None else states, [], []
    for token in tokens:
        one, states = decoder(np.int32([token]), states)
        logits.append(one[0])
        rows.append(np.concatenate(states, axis=1)[0])
    return np.stack(logits), np.stack(rows)


def features_of_file(decoder, tokens):
    """Returns f `(tokens, features)` after each token, found with weights that show a feature in each logit.

    What was learned is forgotten.
    """
    vocabulary_size, features = decoder.weights_shape
    decoder.call("reset_weights", {})
    alone, found = decoded(decoder, tokens)[0], np.zeros((len(tokens), features))
    for first in range(0, features, vocabulary_size):
        shown = min(vocabulary_size, features - first)
        weights = np.zeros((vocabulary_size, features), np.float32)
        weights[np.arange(shown), first + np.arange(shown)] = 1
        decoder.call("set_weights", {"weights": weights, "log_shares": WHOLE})
        found[:, first : first + shown] = (decoded(decoder, tokens)[0] - alone)[:, :shown]
    decoder.call("reset_weights", {})
    return found


def projection_of_file(decoder, tokens):
    """Returns P `(features - 1, units)`, and how far f is from [P h, BIAS] at the worst, for a file in float32."""
    _, states = decoded(decoder, tokens)
    found = features_of_file(decoder, tokens)
    transposed, *_ = np.linalg.lstsq(states, found[:, :-1], rcond=None)
    expected = np.concatenate([states @ transposed, np.full((len(states), 1), BIAS)], axis=1)
    return transposed.T, float(np.abs(expected - found).max())
