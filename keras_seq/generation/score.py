"""How likely a text is, token by token, through the one-step decoder of any runtime."""

from typing import NamedTuple

import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.decoder_step import Step, check_vocabulary


class Score(NamedTuple):
    """A text's tokens and how likely the model found each, after those before it.

    Attributes:
        token_ids: int32 `(tokens,)`; where the text was read line by line, `<eos>` after each line.
        log_probabilities: in nats, float64 `(tokens,)`.
    """

    token_ids: np.ndarray
    log_probabilities: np.ndarray

    @property
    def log_probability(self) -> float:
        """Of the whole text, in nats."""
        return float(self.log_probabilities.sum())


def score(step: Step, vocabulary: Vocabulary, text: str, *, by_line: bool = False) -> Score:
    """Returns the log-probability of each token of a text, read from `<s>` and the zero state.

    Args:
        step: the model.
        vocabulary: its vocabulary.
        text: what to score; it may be empty.
        by_line: whether each line is a text of its own, ended by `<eos>`.

    Raises:
        ValueError: the text has characters that the vocabulary lacks, or the model is of another vocabulary.
    """
    check_vocabulary(vocabulary, step.vocabulary_size)
    if not isinstance(by_line, bool):
        raise ValueError(f"`by_line` must be True or False. Received: by_line={by_line!r}")
    parts = segments(text, vocabulary, by_line=by_line)
    chances = [chance for part in parts for chance in step.log_probabilities([vocabulary.start_id, *part.tolist()])]
    ids = np.concatenate([np.zeros(0, np.int32), *parts])
    return Score(ids, np.array(chances, np.float64))


def segments(text: str, vocabulary: Vocabulary, *, by_line: bool) -> list[np.ndarray]:
    """Returns token ids of the whole text as one segment; or, `by_line`, of each line that is not empty, with its `<eos>`."""
    if not by_line:
        return [vocabulary.encode(text)]
    ids = vocabulary.encode_lines(text)
    return np.split(ids, np.flatnonzero(ids == vocabulary.eos_id) + 1)[:-1]
