"""The interface of a one-step decoder, which every runtime implements."""

import collections
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ArgumentError, ModelError
from keras_seq.generation.arithmetic import Arithmetic
from keras_seq.generation.own_words import OwnWords
from keras_seq.generation.sampling import SamplingSettings, log_softmax


class Step(ABC):
    """One step of a recurrent language model: a token and the states in, logits and new states out.

    Keras, LiteRT and TensorFlow Serving each have a subclass. The type of the states is the subclass's own; `states_of`
    and `arrays_of` convert them. Batch size is 1.

    Attributes:
        vocabulary_size: number of logits.
        arithmetic: how tokens are drawn from the logits, and words measured by them. A subclass whose logits are integers
            times a scale sets its own.
    """

    vocabulary_size: int
    arithmetic: Arithmetic = Arithmetic()

    @property
    def own_words(self) -> OwnWords | None:
        """The words that the user of the model has written, for `suggest`; None if they are not counted."""
        return None

    @property
    def learned_version(self) -> int:
        """How often what the model has learned was changed (`LiteRTSampler.learn`). A text is written by one version."""
        return 0

    @abstractmethod
    def initial_states(self) -> Any:
        """Returns the states at the start of a text."""

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
        """Returns the token drawn after `token`, and the new states; see `Arithmetic.next_token`."""
        logits, states = self(token, states)
        return self.arithmetic.next_token(logits, uniform, settings, logit_bias, history), states

    def draws(
        self,
        token: int,
        states: Any,
        uniforms: np.ndarray,
        settings: SamplingSettings,
        logit_bias: np.ndarray,
        history: Sequence[int],
        logprobs: bool = False,
    ) -> Iterator[tuple[int, Any, float | None]]:
        """Yields the tokens drawn after `token` with each of `uniforms`, and the states before the model reads each.

        The third value is the log-probability of the token in nats, before all settings; None without `logprobs`. A
        runtime may draw several tokens ahead. The caller stops at `<eos>`, or when the settings change, and adds each
        token to `history`.
        """
        for number in uniforms:
            if logprobs:
                logits, states = self(token, states)
                token = self.arithmetic.next_token(logits, number, settings, logit_bias, history)
                yield token, states, float(log_softmax(logits)[token])
            else:
                token, states = self.draw(token, states, number, settings, logit_bias, history)
                yield token, states, None

    def states_of(self, arrays: Any) -> Any:
        """Returns the states that a list of arrays stands for, one `(1, units)` or `(units,)` for each state.

        Raises:
            ArgumentError: the arrays do not fit the states; see `keras_seq.generation.states.checked_arrays`.
            ModelError: the runtime cannot be given states.
        """
        raise ModelError(f"{type(self).__name__} cannot start from `states`")

    def arrays_of(self, states: Any) -> list[np.ndarray]:
        """Returns states as new float32 arrays, one `(1, units)` for each, the same in every runtime.

        Raises:
            ModelError: the runtime cannot return its states.
        """
        raise ModelError(f"{type(self).__name__} cannot return its states")

    def log_probabilities(self, tokens: Sequence[int], states: Any = None) -> Iterator[float]:
        """Yields the log-probability, in nats, of each token except the first, which is the first input.

        The model starts from `states`, or from its initial states.

        Raises:
            ModelError: a logit is NaN; the message has the position of the token in the text.
        """
        steps = self.read(tokens[:-1], self.initial_states() if states is None else states)
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


def token_ids(values: Any, name: str = "token") -> np.ndarray:
    """Returns token ids as an int32 array of the same shape.

    A conversion alone would cut the fraction off a float, read True as token 1, and wrap a large integer.

    Args:
        values: one token id or an array of them.
        name: name of the caller's argument, for error messages.

    Raises:
        ArgumentError: the values are not integers, or an id does not fit int32.

    Example:
        >>> token_ids([3, 4]).dtype
        dtype('int32')
        >>> token_ids(0.9)
        Traceback (most recent call last):
        keras_seq.errors.ArgumentError: `token` must be integers, the ids of tokens. Received: token=0.9
    """
    if type(values) is int and -(2**31) <= values < 2**31:  # The token loops call this once a token.
        return np.array(values, np.int32)
    array = np.asarray(values)
    if array.dtype == np.int32 or not array.size:
        return array.astype(np.int32, copy=False)
    require.that(array.dtype.kind in "iu", name, "integers, the ids of tokens", values)
    ids = array.astype(np.int32)
    if (wrapped := ids != array).any():
        raise ArgumentError(name, "ids of tokens, which fit int32", array[wrapped].tolist()[:1])
    return ids


def require_version(step: Step, version: int) -> None:
    """Requires that a model has learned nothing since it had a `learned_version`, so that an answer is of one model.

    Raises:
        ModelError: another thread has changed it.
    """
    if step.learned_version != version:
        raise ModelError("the model has learned or forgotten something since this text was begun; begin it again")


def require_vocabulary(vocabulary: Vocabulary, logits: int) -> None:
    """Requires a vocabulary with as many tokens as the model has logits, and with the tokens that generation needs.

    Raises:
        ArgumentError: `vocabulary` is not a Vocabulary, or lacks `<pad>`, `<s>` or `<eos>`.
        ModelError: the numbers differ.
    """
    require.that(isinstance(vocabulary, Vocabulary), "vocabulary", "a Vocabulary", vocabulary)
    if logits != len(vocabulary):
        raise ModelError(
            f"`model` must give one logit per token of the vocabulary, {len(vocabulary)}. Received: {logits} logits"
        )
    vocabulary.require_reserved()
