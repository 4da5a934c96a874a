"""Learning from texts with a .tflite, in LiteRT. Imports neither TensorFlow nor Keras."""

import collections
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ModelError
from keras_seq.generation.own_words import OwnWords
from keras_seq.generation.score import segments
from keras_seq_export.errors import BundleError
from keras_seq_export.learning_rule import CANDIDATES, LARGEST_RATE, Learned
from keras_seq_export.signatures import LEARN_STEPS, RESET_WEIGHTS
from keras_seq_export.tflite.decoder import LiteRTDecoder
from keras_seq_export.tflite.learning.calls import get_learned, run_learn, set_learned
from keras_seq_export.tflite.learning.file import MOST_TOKENS, LearnedState, read_learned, write_learned

_MOST_WORSE: Final = 1.0  # nats per token by which what was just learned may be worse than without it
_WHOLE: Final = np.where(np.array(CANDIDATES) == 1, 0, -100).astype(np.float32)  # log_shares for a weight of 1


@dataclass(frozen=True)
class LearningReport:
    """How well a model predicted a text while it learned from it. Each token was predicted before it was learned.

    Attributes:
        tokens: number of tokens of the text.
        nats_per_token: mean cross-entropy of the model that learns.
        model_nats_per_token: mean cross-entropy of the same model without all that it has ever learned.
        weight: the weight, 0 to 1, that what was learned has after the text. It is low where it does not help.
    """

    tokens: int
    nats_per_token: float
    model_nats_per_token: float
    weight: float

    def __str__(self) -> str:
        return (
            f"{self.nats_per_token:.4f} nats per token while learning, {self.model_nats_per_token:.4f} without learning, "
            f"over {self.tokens:,} tokens"
        )


class _Block(NamedTuple):
    """A part of a text that one call of `learn` reads.

    Attributes:
        tokens: `(tokens,)`, at most `LEARN_STEPS`.
        next_tokens: the token after each.
        states: those before the first.
    """

    tokens: np.ndarray
    next_tokens: np.ndarray
    states: Any


class Learner:
    """What a .tflite has learned, and how it learns more.

    Args:
        decoder: a file with `learn`.
        vocabulary: its vocabulary.

    Attributes:
        tokens: number of tokens that it has learned from.
        words: the words in the texts that it has learned from. They are replaced, never changed: another thread may read
            them.
    """

    def __init__(self, decoder: LiteRTDecoder, vocabulary: Vocabulary):
        self._decoder, self._vocabulary = decoder, vocabulary
        self.tokens, self.words = 0, OwnWords()

    def learn(self, text: str, rate: float | None, by_line: bool | None) -> LearningReport:
        """Learns from a text; see `LiteRTSampler.learn`."""
        config = self._decoder.bundle.config
        rate = config["learning"]["rate"] if rate is None else rate
        in_range = require.is_number(rate) and 0 < rate <= LARGEST_RATE
        require.that(in_range, "rate", f"a positive number, at most {LARGEST_RATE:,.0f}", rate)
        by_line = config.get("by_line", False) if by_line is None else by_line
        require.boolean("by_line", by_line)
        parts = segments(text, self._vocabulary, by_line=by_line)
        count = sum(map(len, parts))
        require.that(count > 0, "text", "a text that is not empty", text)
        with self._decoder.lock:
            words = self.words.copy()
            words.learn(text)
            before = get_learned(self._decoder)
            try:
                sums, last = self._learn(parts, rate)
                learned = get_learned(self._decoder)
                self._require_improvement(last, before, learned, rate)
                set_learned(self._decoder, learned)  # Reading the last blocks again has changed it.
                self._changed(min(self.tokens + count, MOST_TOKENS), words)
            except BaseException:
                set_learned(self._decoder, before)
                raise
        nats, nats_of_model = (-sums / count).tolist()
        return LearningReport(count, nats, nats_of_model, learned.weight)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what was learned to a file."""
        with self._decoder.lock:
            state = LearnedState(get_learned(self._decoder), self.tokens, self.words)
        write_learned(path, self._decoder.bundle.config["model_sha256"], state)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replaces what was learned by what a file holds."""
        shape = self._decoder.weights_shape
        state = read_learned(path, self._decoder.bundle.config["model_sha256"], shape)
        with self._decoder.lock:
            set_learned(self._decoder, state.learned)
            self._changed(state.tokens, state.words)

    def forget(self) -> None:
        """Forgets what was learned: the model is again what it was when it was exported."""
        with self._decoder.lock:
            self._decoder.call(RESET_WEIGHTS, {})
            self._changed(0, OwnWords())

    def _changed(self, tokens: int, words: OwnWords) -> None:
        """Notes what the model has now learned beside its weights, and that texts that were begun cannot go on."""
        # First: a thread that reads the new words under the old version must not pass the check of the version.
        self._decoder.learned_version += 1
        self.tokens, self.words = tokens, words

    def _learn(self, parts: list[np.ndarray], rate: float) -> tuple[np.ndarray, list[_Block]]:
        """Learns from the segments of a text.

        Returns:
            The sums of both log-probabilities over its tokens, `(2,)`; and its last blocks, which have at least `LEARN_STEPS`
            tokens together, or all blocks of a shorter text.

        Raises:
            ModelError: the rate is too large.
        """
        sums, last = np.zeros(2), collections.deque[_Block]()
        for part in parts:
            states = self._decoder.initial_states()
            for tokens, next_tokens in self._blocks(part):
                last.append(_Block(tokens, next_tokens, states))
                log_probabilities, states = self._read(last[-1], rate)
                sums += log_probabilities.sum(axis=1)
                while sum(len(block.tokens) for block in last) - len(last[0].tokens) >= LEARN_STEPS:
                    last.popleft()
        return sums, list(last)

    def _blocks(self, part: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the tokens of each block of a segment, and the token after each."""
        tokens = np.concatenate([[self._vocabulary.start_id], part])
        for start in range(0, len(part), LEARN_STEPS):
            end = min(start + LEARN_STEPS, len(part))
            yield tokens[start:end], tokens[start + 1 : end + 1]

    def _read(self, block: _Block, rate: float) -> tuple[np.ndarray, Any]:
        """Returns the log-probabilities of the model that learns and of the model alone, `(2, tokens)`, and the new states.

        Raises:
            ModelError: they are not finite.
        """
        found, states = run_learn(self._decoder, block.tokens, block.next_tokens, rate, block.states)
        if not np.isfinite(found[1]).all():
            raise BundleError("the model in the file, or what it has learned, is damaged: its logits are not finite")
        if not np.isfinite(found[0]).all():
            raise _too_large(rate)
        return found.astype(np.float64), states

    def _require_improvement(self, blocks: list[_Block], before: Learned, learned: Learned, rate: float) -> None:
        """Requires what was learned to fit the last blocks that it was learned from, when it has the whole weight.

        A rate that is too large leaves weights that fit nothing. Their share is then small, so that the text looks no worse
        than without them, and what was learned before is lost. Weights that were right for other texts may be worse than the
        model alone on a short one, but a step of the right size makes them better than they were before.
        """
        now, alone = self._fit(blocks, learned)
        earlier, _ = self._fit(blocks, before)
        if not min(alone, earlier) - now <= _MOST_WORSE:
            raise _too_large(rate)

    def _fit(self, blocks: list[_Block], learned: Learned) -> np.ndarray:
        """Returns the means of both log-probabilities over the tokens of blocks, when what was learned has the whole weight."""
        found = []
        for block in blocks:
            set_learned(self._decoder, Learned(learned.weights, _WHOLE))
            found.append(self._read(block, 0.0)[0])
        return np.concatenate(found, axis=1).mean(axis=1)


def _too_large(rate: float) -> ModelError:
    return ModelError(
        f"{{}} is too large: learning diverged, and what was learned before is kept. Received: rate={rate:g}", "rate"
    )
