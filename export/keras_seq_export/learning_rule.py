"""How a .tflite learns from a text: the rule in NumPy, which the signatures of the file are compared with.

The logits of a model that learns are those of the model plus a * (W f):

* f = [P h, 0.55] are *features* of the states h after the token, all states in one vector. P, computed at export
  (`tflite.learning.projection`), makes a few numbers of them, and the last feature stands for a bias.
* W `(vocabulary, features)` are the *weights*, zeros at first. They learn by gradient descent on the cross-entropy, with
  logits whose a is 1: W <- (1 - DECAY n) W - rate / 64 * (p - onehot)^T f, summed over a *block* of n <= 64 tokens. The decay
  and a bound on the norm of W keep the model sound however long it learns.
* a is the mean of the `CANDIDATES` 0, 1/2 and 1 by their *shares*. A candidate's share grows with the probability that it gave
  the text so far. A part of the shares is divided evenly after each block, so that an earlier candidate comes back when
  the writer changes: the fixed share rule (Herbster and Warmuth 1998, "Tracking the best expert", Machine Learning 32). On a
  text for which W is wrong, a falls to 0.01 within a few blocks, and the model is almost what it was.

This is the output layer's part of dynamic evaluation (Krause et al. 2018, arXiv 1709.07432). Learning all weights of a GRU gains
about half as much again, but takes ten times the operators and the time.

Imports neither TensorFlow nor Keras.
"""

import math
from typing import Final, NamedTuple

import numpy as np

from keras_seq.generation.sampling import log_softmax
from keras_seq_export.signatures import LEARN_STEPS

RATE: Final = 12.0  # for features with a mean square of 1; right for characters and words alike
LARGEST_RATE: Final = 1e6  # learning diverges far below it; above it, the squares of weights could exceed float32
DECAY: Final = 1e-5  # per token: half of what was learned is gone after 69,000 tokens
LARGEST_NORM: Final = 100.0  # of W
CANDIDATES: Final = (0.0, 0.5, 1.0)
SWITCH: Final = 0.02  # the part of the shares that is divided evenly after each block
BIAS: Final = math.sqrt(0.3)  # the last feature: biases learn at 0.3 times the rate
_MOST_FEATURES, _FEWEST_FEATURES = 64, 16
_MOST_WEIGHTS = 64_000  # READ_VARIABLE copies them in each call of the runtime


class Learned(NamedTuple):
    """What a model has learned.

    Attributes:
        weights: W, float32 `(vocabulary, features)`.
        log_shares: the logarithm of the share of each candidate, float32 `(3,)`.
    """

    weights: np.ndarray
    log_shares: np.ndarray

    @property
    def weight(self) -> float:
        """The weight a of what was learned."""
        return float(np.exp(log_softmax(self.log_shares.astype(np.float64))) @ CANDIDATES)


def nothing_learned(vocabulary_size: int, features: int) -> Learned:
    """Returns what a model has learned at first."""
    shares = np.full(len(CANDIDATES), 1 / len(CANDIDATES))
    return Learned(np.zeros((vocabulary_size, features), np.float32), np.log(shares).astype(np.float32))


def projected_size(vocabulary_size: int, units: int) -> int:
    """Returns the number of rows of P: fewer for a large vocabulary, because W has a column for each.

    Args:
        vocabulary_size: number of tokens.
        units: size of all states together.

    Example:
        >>> projected_size(68, 256), projected_size(2_000, 256), projected_size(50_000, 256), projected_size(68, 8)
        (64, 31, 16, 8)
    """
    fitting = _MOST_WEIGHTS // vocabulary_size - 1
    return min(units, _MOST_FEATURES, max(_FEWEST_FEATURES, fitting))


def features_of(states: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Returns f `(tokens, features)` for states `(tokens, units)` and P `(features - 1, units)`."""
    projected = states @ projection.T
    return np.concatenate([projected, np.full((len(projected), 1), BIAS)], axis=1)


def learn_block(
    logits: np.ndarray, features: np.ndarray, next_tokens: np.ndarray, rate: float, learned: Learned
) -> tuple[np.ndarray, np.ndarray, Learned]:
    """Learns from a block of a text, as the signature `learn` does.

    Args:
        logits: the model's own, after each token of the block, `(tokens, vocabulary)`.
        features: f after each token, `(tokens, features)`.
        next_tokens: the token that follows each, `(tokens,)`.
        rate: the learning rate.
        learned: what was learned before.

    Returns:
        The log-probability of each next token before this block was learned, `(tokens,)`; that of the model alone; and what is
        learned now.
    """
    count, delta = len(next_tokens), features @ learned.weights.T
    every = [log_softmax(logits + weight * delta) for weight in (learned.weight, *CANDIDATES)]
    log_probabilities = np.stack([one[np.arange(count), next_tokens] for one in every])
    error = np.exp(every[-1])
    error[np.arange(count), next_tokens] -= 1
    weights = (1 - DECAY * count) * learned.weights - rate / LEARN_STEPS * (error.T @ features)
    weights *= LARGEST_NORM / max(LARGEST_NORM, float(np.linalg.norm(weights)))
    shares = np.exp(log_softmax(learned.log_shares + log_probabilities[1:].sum(axis=1)))
    log_shares = np.log((1 - SWITCH) * shares + SWITCH / len(CANDIDATES))
    now = Learned(weights.astype(np.float32), log_shares.astype(np.float32))
    return log_probabilities[0], log_probabilities[1], now
