"""The interface of a one-step decoder, which every runtime implements."""

import collections
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ModelError
from keras_seq.generation.sampling import SamplingSettings, log_softmax, next_token


class Step(ABC):
    """One step of a recurrent language model: a token and the states in, logits and new states out.

    Keras, LiteRT and TensorFlow Serving each have a subclass. The type of the states is the subclass's own. Batch size
    is 1.

    Attributes:
        vocabulary_size: number of logits.
    """

    vocabulary_size: int

    @abstractmethod
    def initial_states(self) -> Any:
        """Returns the zero states."""

    @abstractmethod
    def __call__(self, token: int, states: Any) -> tuple[np.ndarray, Any]:
        """Returns the logits `(vocabulary,)` after `token`, and the new states. `states` is not modified."""

    def prefill(self, tokens: Sequence[int], states: Any) -> tuple[np.ndarray, Any]:
        """Returns the logits `(vocabulary,)` and the states after the last of `tokens`, which must not be empty."""
        return collections.deque(self.read(tokens, states), maxlen=1).pop()

    def draw(
        self,
        token: int,
        states: Any,
        uniform: float,
        settings: SamplingSettings,
        logit_bias: np.ndarray,
        history: Sequence[int],
    ) -> tuple[int, Any]:
        """Returns the token drawn after `token`, and the new states; see `keras_seq.generation.sampling.next_token`."""
        logits, states = self(token, states)
        return next_token(logits, uniform, settings, logit_bias, history), states

    def log_probabilities(self, tokens: Sequence[int]) -> Iterator[float]:
        """Yields the log-probability, in nats, of each token except the first, which is the first input.

        The model starts from the zero state.

        Raises:
            ModelError: a logit is NaN; the message has the position of the token in the text.
        """
        steps = self.read(tokens[:-1], self.initial_states())
        for position, ((logits, _), target) in enumerate(zip(steps, tokens[1:], strict=True)):
            log_probability = float(log_softmax(logits)[target])
            if np.isnan(log_probability):
                raise ModelError(f"token {position} of the text cannot be scored: the model's logits there are NaN")
            yield log_probability

    def read(self, tokens: Iterable[int], states: Any) -> Iterator[tuple[np.ndarray, Any]]:
        """Yields the logits `(vocabulary,)` and the states after each token."""
        for token in tokens:
            logits, states = self(token, states)
            yield logits, states


def require_vocabulary(vocabulary: Vocabulary, logits: int) -> None:
    """Requires a vocabulary with as many tokens as the model has logits.

    Raises:
        ArgumentError: `vocabulary` is not a Vocabulary.
        ModelError: the numbers differ.
    """
    require.that(isinstance(vocabulary, Vocabulary), "vocabulary", "a Vocabulary", vocabulary)
    if logits != len(vocabulary):
        raise ModelError(
            f"`model` must give one logit per token of the vocabulary, {len(vocabulary)}. Received: {logits} logits"
        )
