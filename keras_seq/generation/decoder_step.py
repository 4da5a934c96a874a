"""One step of a recurrent language model, in whatever runtime, and what is made of it."""

import collections
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.sampling import SamplingSettings, log_softmax, next_token


class Step(ABC):
    """One step of a recurrent language model, in whatever runtime.

    Attributes:
        vocabulary_size: how many logits it gives.
    """

    vocabulary_size: int

    @abstractmethod
    def initial_states(self) -> Any:
        """Returns the zero states."""

    @abstractmethod
    def __call__(self, token: int, states: Any) -> tuple[np.ndarray, Any]:
        """Returns the logits `(vocabulary,)` after `token`, and the new states; those given stay as they are."""

    def prefill(self, tokens: Sequence[int], states: Any) -> tuple[np.ndarray, Any]:
        """Returns the logits `(vocabulary,)` and the states after the last of the tokens, at least one."""
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
        """Yields the log-probability, in nats, of each token but the first, which is given, from the zero state.

        Raises:
            ValueError: the model's logits are not numbers; the token is named.
        """
        read = self.read(tokens[:-1], self.initial_states())
        for position, ((logits, _), target) in enumerate(zip(read, tokens[1:], strict=True)):
            chance = float(log_softmax(logits)[target])
            if np.isnan(chance):
                raise ValueError(
                    f"token {position} of the text cannot be scored: the model's logits are not numbers there"
                )
            yield chance

    def read(self, tokens: Iterable[int], states: Any) -> Iterator[tuple[np.ndarray, Any]]:
        """Yields the logits `(vocabulary,)` and the states after each of the tokens."""
        for token in tokens:
            logits, states = self(token, states)
            yield logits, states


def check_vocabulary(vocabulary: Vocabulary, size: int) -> None:
    """Refuses what is no vocabulary, or has another number of tokens than a model that gives `size` logits.

    Raises:
        ValueError: so it is.
    """
    if not isinstance(vocabulary, Vocabulary):
        raise ValueError(f"`vocabulary` must be a Vocabulary. Received: {vocabulary!r}")
    if size != len(vocabulary):
        raise ValueError(f"`model` must give one logit a token of the vocabulary, {len(vocabulary)}. Received: {size}")
