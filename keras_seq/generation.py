"""The one token loop of every Python runtime: feed a token, draw the next from the logits, feed it back."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from keras_seq.sampling import SamplingSettings, log_softmax, next_token
from keras_seq.threefry import seed_words, uniform
from keras_seq.vocabulary import Vocabulary

_BLOCK = 256  # uniforms at a time: one by one they cost more than a small model's step


class Step(Protocol):
    """One step of a recurrent language model, in whatever runtime.

    Attributes:
        vocabulary_size: how many logits it gives.
    """

    vocabulary_size: int

    def initial_states(self) -> list[Any]:
        """Returns the zero states, each `(1, units)`."""

    def __call__(self, token: int, states: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """Returns the logits `(vocabulary,)` after `token`, and the new states."""


def check_vocabulary_size(size: int, vocabulary: Vocabulary) -> None:
    """Raises ValueError where a model gives `size` logits and the vocabulary has another number of tokens."""
    if size != len(vocabulary):
        raise ValueError(f"`model` must give one logit a token of the vocabulary, {len(vocabulary)}. Received: {size}")


def generate(
    step: Step,
    vocabulary: Vocabulary,
    prompt: str = "",
    *,
    max_tokens: int = 200,
    seed: int | None = None,
    **settings: Any,
) -> Iterator[str]:
    """Returns an iterator over the pieces of a continuation of `prompt`; arguments are checked at once.

    The model reads `<s>` and the prompt; token `i` of the continuation is drawn with `uniform(seed, i)`. `<eos>` ends the text and
    is not given out. Arguments as in `keras_seq.generate`.

    Raises:
        TypeError: a setting has a name that `SamplingSettings` does not know.
        ValueError: an argument is out of range, or the prompt has characters that the vocabulary lacks. While drawing: a logit is
            not a number; the step is named.
    """
    check_vocabulary_size(step.vocabulary_size, vocabulary)
    drawing = SamplingSettings(**settings)
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int | np.integer) or max_tokens < 1:
        raise ValueError(f"`max_tokens` must be a positive integer. Received: max_tokens={max_tokens!r}")
    if seed is None:
        seed = secrets.randbits(63)
    seed_words(seed)
    return _pieces(step, vocabulary, vocabulary.encode(prompt).tolist(), max_tokens, seed, drawing)


def _pieces(
    step: Step, vocabulary: Vocabulary, history: list[int], max_tokens: int, seed: int, settings: SamplingSettings
) -> Iterator[str]:
    forbidden = forbidden_ids(vocabulary, settings.allow_unk)
    states = step.initial_states()
    for token in [vocabulary.start_id, *history]:
        logits, states = step(token, states)
    for position in range(max_tokens):
        if position % _BLOCK == 0:
            uniforms = uniform(seed, position + np.arange(_BLOCK))
        try:
            token = next_token(logits, uniforms[position % _BLOCK], settings, forbidden, history)
        except ValueError as error:
            raise ValueError(f"token {position} of the continuation cannot be drawn: {error}") from error
        if token == vocabulary.eos_id:
            return
        yield vocabulary.decode([token])
        history.append(token)
        if position + 1 < max_tokens:
            logits, states = step(token, states)


def forbidden_ids(vocabulary: Vocabulary, allow_unk: bool = False) -> list[int]:
    """Returns the ids that are never drawn: `<pad>`, `<s>` and, unless allowed, `<unk>`."""
    ids = [vocabulary.pad_id, vocabulary.start_id]
    return ids if allow_unk or vocabulary.unk_id is None else [*ids, vocabulary.unk_id]


def segments(text: str, vocabulary: Vocabulary, *, by_line: bool) -> list[np.ndarray]:
    """Returns token ids of the whole text as one segment; or, `by_line`, of each line that is not empty, with its `<eos>`."""
    if not by_line:
        return [vocabulary.encode(text)]
    return [np.append(vocabulary.encode(line), np.int32(vocabulary.eos_id)) for line in _lines(text) if line]


def _lines(text: str) -> list[str]:
    r"""Lines as a text file has them, ended by \n or \r\n; Python's splitlines knows a dozen other ends."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def score(step: Step, vocabulary: Vocabulary, parts: Iterable[Sequence[int] | np.ndarray]) -> tuple[float, int]:
    """Returns the negative log-likelihood in nats and the number of tokens; each part is read from `<s>` and the zero state."""
    check_vocabulary_size(step.vocabulary_size, vocabulary)
    nats, tokens = 0.0, 0
    for part in parts:
        states, token = step.initial_states(), vocabulary.start_id
        for target in np.asarray(part).tolist():
            logits, states = step(token, states)
            nats -= log_softmax(logits)[target]
            token = target
            tokens += 1
    return float(nats), tokens
