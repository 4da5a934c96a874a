"""The likeliest next words, or endings of the word that has been begun, in any runtime.

The rule is the same in every runtime and language (docs/porting.md). At the word level one look at the logits
answers; at the character level `word_search` does.
"""

import functools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from keras_seq import require
from keras_seq.data.begun_word import begun_word
from keras_seq.data.tokens import class_of
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.decoder_step import Step, require_vocabulary
from keras_seq.generation.states import TextStates, start_of
from keras_seq.generation.word_search import require_numbers, search_words

MOST_SUGGESTIONS: Final = 100


class Suggestion(NamedTuple):
    """A word that may follow or end a text.

    Attributes:
        text: the whole word, without a space before it, to be shown.
        insert: what is missing of it at the end of the text.
        probability: the probability of this word, given the text and all that was typed of the word.
    """

    text: str
    insert: str
    probability: float


def suggest(
    step: Step, vocabulary: Vocabulary, text: str = "", count: int = 3, states: Sequence[Any] | None = None
) -> list[Suggestion]:
    """Returns the likeliest next words, or completions of the word that has been begun at the end of a text.

    After a space, an empty text or a line break the next word is suggested, after a part of a word its completions, and
    after punctuation a word, often with a space before it. Reserved tokens are never suggested.

    Args:
        step: the model.
        vocabulary: the vocabulary of the model.
        text: the text up to the caret. The model reads it from `<s>`.
        count: number of suggestions, 1 to 100. There are fewer if no other word fits, or if the search ends before.
        states: states to start from in place of the model's own, such as those of an encoder.

    Returns:
        The suggestions, the most likely first.

    Raises:
        ArgumentError: `count` is out of range, or `states` do not fit the model or are those of an earlier text.
        TextError: `text` has characters outside the vocabulary.
        ModelError: the model has another number of logits than the vocabulary has tokens, or a logit is NaN.
    """
    require_vocabulary(vocabulary, step.vocabulary_size)
    require.integer("count", count, at_least=1, at_most=MOST_SUGGESTIONS)
    is_text = isinstance(states, TextStates)
    require.that(not is_text, "states", "a list of arrays; give the whole text instead of states within it", states)
    begun = begun_word(text, vocabulary.level)
    is_char = vocabulary.level == "char"
    context = vocabulary.encode(text if is_char else text[: len(text) - len(begun)], name="text")
    first, before = start_of(step, vocabulary, states)
    logits, after = step.prefill([first, *context.tolist()], before)
    if not is_char:
        return _whole_words(logits, vocabulary, begun, count)
    found = dict[str, Suggestion]()
    for insert, log_probability in search_words(step, vocabulary, text, begun, logits, after):
        _add(found, begun + insert, insert, math.exp(log_probability))
        if len(found) == count:
            break
    return list(found.values())


class _Words(NamedTuple):
    """The tokens of a vocabulary in the order of their texts.

    Attributes:
        texts: those that can be in a text, sorted.
        ids: their ids.
        are_words: for each id, whether it can be suggested.
    """

    texts: list[str]
    ids: np.ndarray
    are_words: np.ndarray


@functools.lru_cache(maxsize=4)
def _words_of(tokens: tuple[str, ...], reserved: tuple[int, ...], is_word_level: bool) -> _Words:
    found = sorted((token, index) for index, token in enumerate(tokens) if index not in reserved)
    are_words = np.zeros(len(tokens), bool)
    for token, index in found:
        are_words[index] = not is_word_level or class_of(token[token[0] == " " and len(token) > 1]) in (
            "word",
            "single",
        )
    return _Words([token for token, _ in found], np.array([index for _, index in found], np.int64), are_words)


def _whole_words(logits: np.ndarray, vocabulary: Vocabulary, begun: str, count: int) -> list[Suggestion]:
    """Returns the most likely tokens that begin with `begun`, of which they are longer."""
    words = _words_of(vocabulary.tokens, vocabulary.reserved_ids, vocabulary.level == "word")
    first = bisect_left(words.texts, begun)
    last = bisect_right(words.texts, begun, key=lambda token: token[: len(begun)])
    matching = np.sort(words.ids[first:last])
    if not begun:
        matching = np.sort(np.append(matching, vocabulary.eos_id))
    require_numbers(logits)
    wide = logits[matching].astype(np.float64)
    if not np.isfinite(wide).any():
        return []
    weights = np.exp(wide - wide.max())
    probabilities = weights / weights.sum()
    found = dict[str, Suggestion]()
    for i in np.argsort(-wide, kind="stable"):  # The lowest id is first on a tie.
        token = vocabulary.tokens[matching[i]]
        if words.are_words[matching[i]] and token != begun and probabilities[i] > 0:
            _add(found, token, token[len(begun) :], probabilities[i])
        if len(found) == count:
            break
    return list(found.values())


def _add(found: dict[str, Suggestion], word: str, insert: str, probability: float) -> None:
    """Adds a suggestion, unless a more likely one is the same word, with a space before it or without."""
    word = word.removeprefix(" ")
    found.setdefault(word, Suggestion(word, insert, float(probability)))
