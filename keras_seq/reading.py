"""One step of a recurrent language model, in whatever runtime, and reading tokens with it."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from keras_seq.sampling import log_softmax
from keras_seq.vocabulary import Vocabulary


class Step(Protocol):
    """One step of a recurrent language model, in whatever runtime.

    Attributes:
        vocabulary_size: how many logits it gives.
    """

    vocabulary_size: int

    def initial_states(self) -> list[Any]:
        """Returns the zero states, each `(1, units)`."""

    def __call__(self, token: int, states: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """Returns the logits `(vocabulary,)` after `token`, and the new states; those given stay as they are."""


def check_vocabulary(vocabulary: Vocabulary, size: int) -> None:
    """Refuses what is no vocabulary, or has another number of tokens than a model that gives `size` logits.

    Raises:
        ValueError: so it is.
    """
    if not isinstance(vocabulary, Vocabulary):
        raise ValueError(f"`vocabulary` must be a Vocabulary. Received: {vocabulary!r}")
    if size != len(vocabulary):
        raise ValueError(f"`model` must give one logit a token of the vocabulary, {len(vocabulary)}. Received: {size}")


def read(step: Step, tokens: Iterable[int]) -> Iterator[tuple[np.ndarray, list[Any]]]:
    """Yields the logits `(vocabulary,)` and the states after each of the tokens, from the zero state."""
    states = step.initial_states()
    for token in tokens:
        logits, states = step(token, states)
        yield logits, states


def read_all(step: Step, tokens: Iterable[int]) -> tuple[np.ndarray, list[Any]]:
    """Returns the logits `(vocabulary,)` and the states after the last of the tokens, at least one."""
    return collections.deque(read(step, tokens), maxlen=1).pop()


def log_probabilities(step: Step, tokens: Sequence[int]) -> Iterator[float]:
    """Yields the log-probability, in nats, of each token but the first, which is given.

    Raises:
        ValueError: the model's logits are not numbers; the token is named.
    """
    for position, ((logits, _), target) in enumerate(zip(read(step, tokens[:-1]), tokens[1:], strict=True)):
        chance = float(log_softmax(logits)[target])
        if np.isnan(chance):
            raise ValueError(f"token {position} of the text cannot be scored: the model's logits are not numbers there")
        yield chance
