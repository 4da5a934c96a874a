"""The likeliest next words, or endings of the word that has been begun, in any runtime.

The rule is the same in every runtime and language (docs/porting.md). At the word level one look at the logits
answers; at the character level `word_search` does. The words that the user has written (`own_words`) are mixed in.
"""

import functools
import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from keras_seq import require
from keras_seq.data.begun_word import begun_word, word_before
from keras_seq.data.tokens import AnyLevel, begins_word, class_of, split_text
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.arithmetic import Arithmetic
from keras_seq.generation.decoder_step import Step, require_version, require_vocabulary
from keras_seq.generation.own_words import LONGEST_WORD, OwnWords
from keras_seq.generation.states import TextStates, start_of
from keras_seq.generation.word_search import require_numbers, search_words

MOST_SUGGESTIONS: Final = 100
TEXT_BEFORE: Final = LONGEST_WORD + 2  # characters before the begun word: a space, the word before, and one more
_MIXED: Final = 8  # at least so many suggestions of the model are mixed with own words
_FEW: Final = 16  # usual suggestions, each with a space before it and without, and some more


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
    after punctuation a word, often with a space before it. Reserved tokens are never suggested. The words that the user
    has written, `step.own_words`, become more likely, and are suggested even if the model does not know them.

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
    context = vocabulary.encode(text[: context_end(len(text), begun, vocabulary.level)], name="text")
    first, before = start_of(step, vocabulary, states)
    version = step.learned_version
    logits, after = step.prefill([first, *context.tolist()], before)
    found = suggestions_after(step, vocabulary, text, begun, logits, after, count)
    suggestions = list(itertools.islice(found, count))
    require_version(step, version)
    return suggestions


def context_end(length: int, begun: str, level: AnyLevel) -> int:
    """Returns how many characters of a text the model reads before `suggestions_after`.

    Tokens of several characters cannot be read before they are whole.

    Args:
        length: number of characters of the text.
        begun: the part of a word at its end (`begun_word`).
        level: the level of the vocabulary.
    """
    return length if level == "char" else length - len(begun)


def suggestions_after(
    step: Step, vocabulary: Vocabulary, text: str, begun: str, logits: np.ndarray, states: Any, count: int
) -> Iterator[Suggestion]:
    """Yields the suggestions of `suggest`, the most likely first, given what the model returned after the context.

    A character model without own words searches only as far as suggestions are taken.

    Args:
        step: the model.
        vocabulary: its vocabulary.
        text: the text up to the caret. Its end suffices: `begun` and the `TEXT_BEFORE` characters before.
        begun: the part of a word at its end (`begun_word`).
        logits: the logits after the context (`context_end`), `(vocabulary,)`.
        states: the states after it.
        count: how many suggestions will be taken at most.

    Raises:
        ModelError: the logits are not finite.
    """
    found = _suggestions_of_model(step, vocabulary, text, begun, logits, states)
    word = begun_word(text, "char")
    # Where texts are split at white space, `begun` may have a punctuation mark, which no own word has.
    if not step.own_words or word != begun.removeprefix(" "):
        return found
    likeliest = itertools.islice(found, max(count, _MIXED))
    return iter(_mixed(likeliest, step.own_words, vocabulary, text, word))


def _suggestions_of_model(
    step: Step, vocabulary: Vocabulary, text: str, begun: str, logits: np.ndarray, states: Any
) -> Iterator[Suggestion]:
    """Yields the suggestions of the model alone; the arguments are those of `suggestions_after`."""
    words: Iterator[tuple[str, str, float]]
    if vocabulary.level == "char":
        found = search_words(step, vocabulary, text, begun, logits, states)
        words = ((begun + insert, insert, step.arithmetic.probability(logarithm)) for insert, logarithm in found)
    else:
        words = _whole_words(logits, vocabulary, begun, step.arithmetic)
    shown = set[str]()
    for word, insert, probability in words:
        word = word.removeprefix(" ")
        # A more likely one may be the same word, with a space before it or without.
        if word not in shown:
            shown.add(word)
            yield Suggestion(word, insert, float(probability))


def _mixed(
    likeliest: Iterable[Suggestion], own_words: OwnWords, vocabulary: Vocabulary, text: str, begun: str
) -> list[Suggestion]:
    """Returns suggestions of the model and own words, the most likely first.

    Of equal ones the model's are first, in their order, and then the own words in theirs. After punctuation, and after a
    character of a script without spaces, the model alone says which words follow, because it says whether a space does.

    Args:
        likeliest: the likeliest suggestions of the model.
        own_words: the own words.
        vocabulary: the vocabulary of the model.
        text: the text up to the caret, or its end.
        begun: the word that has been begun, without a space before it.
    """
    shares = own_words.shares(begun, word_before(text, begun), lambda word: _can_read(vocabulary, word))
    mixed = {one.text: one._replace(probability=shares.probability(one.text, one.probability)) for one in likeliest}
    if begun or not text or class_of(text[-1]) == "space":
        for word in shares.added:
            mixed.setdefault(word, Suggestion(word, word[len(begun) :], shares.probability(word, 0.0)))
    return sorted(mixed.values(), key=lambda one: -one.probability)


def _can_read(vocabulary: Vocabulary, word: str) -> bool:
    return vocabulary.unk_id is not None or all(map(vocabulary.ids.__contains__, split_text(word, vocabulary.level)))


class _Words(NamedTuple):
    """The tokens of a vocabulary in the order of their texts.

    Attributes:
        texts: those that can be in a text, sorted.
        ids: their ids.
        are_words: whether each can be suggested.
    """

    texts: list[str]
    ids: np.ndarray
    are_words: np.ndarray


@functools.lru_cache(maxsize=4)
def _words_of(vocabulary: Vocabulary) -> _Words:
    found = sorted((vocabulary.tokens[index], index) for index in vocabulary.text_ids.tolist())
    is_word_level = vocabulary.level == "word"
    are_words = [not is_word_level or begins_word(token) for token, _ in found]
    return _Words([token for token, _ in found], np.array([index for _, index in found], np.int64), np.array(are_words))


def _whole_words(
    logits: np.ndarray, vocabulary: Vocabulary, begun: str, arithmetic: Arithmetic
) -> Iterator[tuple[str, str, float]]:
    """Yields the tokens that begin with `begun`, of which they are longer: the text, its rest and the probability."""
    words = _words_of(vocabulary)
    require_numbers(logits)
    first = bisect_left(words.texts, begun)
    last = bisect_right(words.texts, begun, key=lambda token: token[: len(begun)])
    ids = words.ids[first:last]
    probabilities = arithmetic.probabilities(logits, ids if begun else np.append(ids, vocabulary.eos_id))
    shown = np.flatnonzero(words.are_words[first:last])
    for index in _descending(logits[ids[shown]].astype(np.float64), ids[shown]):
        token, probability = words.texts[first + shown[index]], probabilities[shown[index]]
        if token != begun and probability > 0:
            yield token, token[len(begun) :], probability


def _descending(values: np.ndarray, ids: np.ndarray) -> Iterator[int]:
    """Yields the indices of values, the largest first, and of equal values the one of the lowest id.

    The first few are found without sorting the others.
    """
    threshold = np.partition(values, -_FEW)[-_FEW] if len(values) > _FEW else -np.inf
    for part in (np.flatnonzero(values >= threshold), np.flatnonzero(values < threshold)):
        yield from part[np.lexsort((ids[part], -values[part]))].tolist()
