"""The log-probability of each token of a text, computed with the one-step decoder of any runtime."""

from typing import Any, NamedTuple

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ConfigError
from keras_seq.generation.decoder_step import Step, require_version, require_vocabulary
from keras_seq.generation.states import TextStates, start_of


class Score(NamedTuple):
    """The tokens of a text and the log-probability of each, given the tokens before it.

    Attributes:
        token_ids: int32 `(tokens,)`. With `by_line`, each line ends with `<eos>`.
        log_probabilities: float64 `(tokens,)`, in nats.
    """

    token_ids: np.ndarray
    log_probabilities: np.ndarray

    @property
    def log_probability(self) -> float:
        """Log-probability of the whole text, in nats."""
        return float(self.log_probabilities.sum())


def score(step: Step, vocabulary: Vocabulary, text: str, *, by_line: bool = False, states: Any = None) -> Score:
    """Returns the log-probability of each token of a text, read from `<s>` and the initial states.

    Args:
        step: the model.
        vocabulary: the vocabulary of the model.
        text: the text to score; it may be empty.
        by_line: whether to score each line as a text of its own that ends with `<eos>`.
        states: states to start from, as in `keras_seq.generation.text.Options`. With those of an earlier text, `text` is
            read as its continuation, without `<s>`.

    Raises:
        ArgumentError: `states` do not fit the model.
        TextError: `text` has characters outside the vocabulary.
        ConfigError: each line should be a text of its own, but `states` are those of an earlier text.
        ModelError: the model has another number of logits than the vocabulary has tokens, or a logit is NaN.
    """
    require_vocabulary(vocabulary, step.vocabulary_size)
    require.boolean("by_line", by_line)
    if by_line and isinstance(states, TextStates):
        message = "{} must be False when {} are those of an earlier text, which only one text can continue"
        raise ConfigError(message, "by_line", "states")
    parts = segments(text, vocabulary, by_line=by_line)
    first, before = start_of(step, vocabulary, states)
    version = step.learned_version
    log_probabilities = [
        log_probability for part in parts for log_probability in step.log_probabilities([first, *part.tolist()], before)
    ]
    require_version(step, version)
    token_ids = np.concatenate([np.zeros(0, np.int32), *parts])
    return Score(token_ids, np.array(log_probabilities, np.float64))


def segments(text: str, vocabulary: Vocabulary, *, by_line: bool, name: str = "text") -> list[np.ndarray]:
    r"""Returns the token ids of each segment of a text that the model reads from its initial states, int32 `(tokens,)`.

    The whole text is one segment. With `by_line`, each line that is not empty is a segment that ends with `<eos>`.

    Args:
        text: the text.
        vocabulary: the vocabulary.
        by_line: whether each line is a segment.
        name: name of the caller's argument, for error messages.

    Raises:
        TextError: `text` has characters outside the vocabulary.

    Example:
        >>> vocabulary = Vocabulary.from_text("ab")
        >>> [part.tolist() for part in segments("ab\nb", vocabulary, by_line=True)]
        [[3, 4, 2], [4, 2]]
    """
    if not by_line:
        return [vocabulary.encode(text, name=name)]
    ids = vocabulary.encode_lines(text, name=name)
    return np.split(ids, np.flatnonzero(ids == vocabulary.eos_id) + 1)[:-1]
