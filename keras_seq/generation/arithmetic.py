"""How the logits of a step become tokens and probabilities: the interface, which is itself that of float logits."""

import math
from collections.abc import Sequence

import numpy as np

from keras_seq.generation import sampling
from keras_seq.generation.sampling import SamplingSettings, log_softmax


class Arithmetic:
    """Draws tokens and measures probabilities in floating point, for all logits `(vocabulary,)` that a step returns.

    `keras_seq.generation.integer_sampling.IntegerArithmetic` does the same with integers only.

    Example:
        >>> Arithmetic().probabilities(np.float32([0, 0, 9]), np.array([0, 1])).tolist()
        [0.5, 0.5]
    """

    def require_settings(self, settings: SamplingSettings) -> None:
        """Raises ArgumentError if a token cannot be drawn with these settings."""

    def next_token(
        self,
        logits: np.ndarray,
        uniform: float,
        settings: SamplingSettings,
        logit_bias: np.ndarray,
        history: Sequence[int] = (),
    ) -> int:
        """Draws a token id; see `keras_seq.generation.sampling.next_token`."""
        return sampling.next_token(logits, uniform, settings, logit_bias, history)

    def probabilities(self, logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Returns the probability of each of some tokens among them, `(tokens,)` float64; 0 if it is impossible.

        Args:
            logits: the model's logits, `(vocabulary,)`, of which the largest is finite.
            tokens: ids, `(tokens,)`.
        """
        wide = logits[tokens].astype(np.float64)
        if not np.isfinite(wide).any():
            return np.zeros(len(wide))
        weights = np.exp(wide - wide.max())
        return weights / weights.sum()

    def log_probabilities(self, logits: np.ndarray, tokens: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns the log-probability of each of some tokens among them, and that of a group of them together.

        Log-probabilities of one text may be added; `probability` converts the sum.

        Args:
            logits: the model's logits, `(vocabulary,)`, of which the largest is finite.
            tokens: ids, at least one.
            group: ids among `tokens`, any number.

        Returns:
            Float64 `(vocabulary,)`, -inf for all tokens that are not among `tokens` or impossible; and the logarithm of
            the sum of the probabilities of the group, -inf if it is 0.
        """
        found = np.full(len(logits), -np.inf)
        if logits[tokens].max() > -np.inf:
            found[tokens] = log_softmax(logits[tokens])
        together = float(np.exp(found[group]).sum())
        return found, math.log(together) if together else -math.inf

    def probability(self, log_probability: float) -> float:
        """Returns the probability whose logarithm is a sum of numbers from `log_probabilities`."""
        return math.exp(log_probability)
