r"""The words that the user of a keyboard writes, so that its suggestions learn them.

The rule is the same in every runtime and language (docs/porting.md):

* A *word* is that of word tokens (`keras_seq.data.tokens`), at every level of vocabulary: letters, digits and other
  characters of words with the apostrophes between them, or one character of a script without spaces. It is counted as
  it is spelled. A word of more than `LONGEST_WORD` characters is not counted.
* Two words are a *pair* if nothing is between them, or one space. Line breaks, punctuation marks, other white space and
  words that are not counted separate them.
* Before a new word is added to `MOST_WORDS`, all counts of words and pairs are halved and rounded down, once or more
  often, until there is room. What reaches 0 is dropped, and so are the pairs of a dropped word. Before a new pair is
  added to `MOST_PAIRS`, the counts of the pairs are halved in the same way.
* What is counted for the first time, or again after it was dropped, is last in the order.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from keras_seq import require
from keras_seq.data.tokens import begins_word, split_words
from keras_seq.errors import OwnWordsError, TextError, shortened

MOST_WORDS: Final = 2048
MOST_PAIRS: Final = 8192
LONGEST_WORD: Final = 64  # characters
LARGEST_COUNT: Final = 2**31 - 1  # A count stays there.

WORD_SHARE: Final = 0.3  # of the probabilities, at most, for the words
WORD_DOUBT: Final = 30  # so many words make half of WORD_SHARE where nothing is begun
PAIR_SHARE: Final = 0.4  # and at most for the pairs
PAIR_DOUBT: Final = 3  # so many pairs make half of PAIR_SHARE

_COUNT: Final = re.compile("[1-9][0-9]{0,9}")
_INDEX: Final = re.compile("0|[1-9][0-9]{0,3}")


class Shares(NamedTuple):
    """How the probability of a word is mixed from a model's and from what its user wrote.

    Attributes:
        model: what the model's probability is multiplied with, above 0 and at most 1.
        added: what is added to it, by word, for each word that fits, in their order.
    """

    model: float
    added: dict[str, float]

    def probability(self, word: str, of_model: float) -> float:
        """Returns the probability of a word, given the model's."""
        return self.model * of_model + self.added.get(word, 0.0)


class OwnWords:
    """Counts the words and the pairs of words that a user writes; the rule is at the top of this module.

    Example:
        >>> own = OwnWords()
        >>> own.learn("Mr. Darcy danced. Mr. Darcy sat.")
        >>> dict(own.words), dict(own.pairs)
        ({'Mr': 2, 'Darcy': 2, 'danced': 1, 'sat': 1}, {('Darcy', 'danced'): 1, ('Darcy', 'sat'): 1})
        >>> own.shares("Da", before="Mr").added
        {'Darcy': 0.3}
        >>> OwnWords.from_text(own.to_text()) == own
        True
    """

    def __init__(self) -> None:
        self._words, self._pairs = dict[str, int](), dict[tuple[str, str], int]()

    @property
    def words(self) -> Mapping[str, int]:
        """How often each word was written, in the order of their first use."""
        return MappingProxyType(self._words)

    @property
    def pairs(self) -> Mapping[tuple[str, str], int]:
        """How often the second word of a pair was written right after the first, in the order of their first use."""
        return MappingProxyType(self._pairs)

    def __bool__(self) -> bool:
        return bool(self._words)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OwnWords):
            return NotImplemented
        return [*self._words.items(), *self._pairs.items()] == [*other._words.items(), *other._pairs.items()]

    __hash__ = None  # type: ignore[assignment]  # It changes.

    def __repr__(self) -> str:
        return f"<OwnWords words={len(self._words)} pairs={len(self._pairs)}>"

    def copy(self) -> "OwnWords":
        """Returns a copy, which can learn without changing this one."""
        copied = OwnWords()
        copied._words, copied._pairs = dict(self._words), dict(self._pairs)
        return copied

    def learn(self, text: str) -> None:
        """Counts the words of a text and their pairs. The text begins and ends at the ends of words.

        Raises:
            ArgumentError: `text` is not a string.
            TextError: the text has a lone surrogate. Nothing is counted then.
        """
        require.that(isinstance(text, str), "text", "a string", text)
        before = None
        for token in split_words(text):
            word = token.removeprefix(" ")
            if not begins_word(token) or len(word) > LONGEST_WORD:
                before = None
                continue
            self._add_word(word)
            if before is not None and before in self._words:  # It may have been dropped.
                self._add_pair(before, word)
            before = word

    def shares(self, begun: str, before: str = "", can_read: Callable[[str], bool] = lambda word: True) -> Shares:
        """Returns how to mix the probabilities of the words that complete what was begun.

        Those words *fit* that begin with what was begun, are longer and can be read. With n, the sum of their counts,
        and m, the sum of the counts of their pairs with the word before: a word has u * its count / n + v * the count of
        its pair / m, where u is `WORD_SHARE` * n / (n + `WORD_DOUBT`), without the doubt if something is begun, and v is
        `PAIR_SHARE` * m / (m + `PAIR_DOUBT`). The model has the rest, 1 - u - v. Even one word that completes what was
        begun is probably meant; where nothing is begun, a few words say little about the next one.

        Args:
            begun: what was typed of the word, without a space before it; may be empty.
            before: the word before it (`keras_seq.data.begun_word.word_before`), or nothing.
            can_read: whether the model can read a word.
        """
        fitting = [word for word in self._words if word.startswith(begun) and len(word) > len(begun) and can_read(word)]
        if not fitting:
            return Shares(1.0, {})
        words = [self._words[word] for word in fitting]
        pairs = [self._pairs.get((before, word), 0) for word in fitting]
        n, m = sum(words), sum(pairs)
        u, v = WORD_SHARE * n / (n + (0 if begun else WORD_DOUBT)), PAIR_SHARE * m / (m + PAIR_DOUBT)
        parts = zip(fitting, words, pairs, strict=True)
        return Shares(1 - u - v, {word: u * one / n + (v * two / m if two else 0.0) for word, one, two in parts})

    def to_text(self) -> str:
        r"""Returns the counts as text, which `from_text` reads.

        One line `COUNT WORD` for each word, an empty line, and one line `COUNT I J` for each pair: word I is before word
        J, counted from 0. Both are in the order of their first use. Each line ends in `\n`.

        Example:
            >>> own = OwnWords()
            >>> own.learn("to be or not to be")
            >>> own.to_text()
            '2 to\n2 be\n1 or\n1 not\n\n2 0 1\n1 1 2\n1 2 3\n1 3 0\n'
        """
        indices = {word: index for index, word in enumerate(self._words)}
        words = [f"{count} {word}\n" for word, count in self._words.items()]
        pairs = [f"{count} {indices[one]} {indices[two]}\n" for (one, two), count in self._pairs.items()]
        return "".join([*words, "\n", *pairs])

    @classmethod
    def from_text(cls, text: str) -> "OwnWords":
        r"""Reads what `to_text` returned.

        Raises:
            OwnWordsError: the text is malformed; the message names the line.

        Example:
            >>> OwnWords.from_text("2 to\n0 be\n\n")
            Traceback (most recent call last):
            keras_seq.errors.OwnWordsError: own words, line 2: a count must be 1 to 2,147,483,647. Received: '0'
        """
        own, lines = cls(), text.split("\n")
        if lines.pop():
            raise _malformed(len(lines) + 1, "the last line must end in a line feed", text[-40:])
        if "" not in lines:
            raise _malformed(len(lines) + 1, "an empty line must follow the words", "the end of the text")
        middle = lines.index("")
        for number, line in enumerate(lines[:middle], start=1):
            own._read_word(number, line)
        known = list(own._words)
        for number, line in enumerate(lines[middle + 1 :], start=middle + 2):
            own._read_pair(number, line, known)
        return own

    def _add_word(self, word: str) -> None:
        while word not in self._words and len(self._words) >= MOST_WORDS:
            self._words = _halved(self._words)
            self._halve_pairs()
        self._words[word] = min(self._words.get(word, 0) + 1, LARGEST_COUNT)

    def _add_pair(self, before: str, word: str) -> None:
        while (before, word) not in self._pairs and len(self._pairs) >= MOST_PAIRS:
            self._halve_pairs()
        self._pairs[before, word] = min(self._pairs.get((before, word), 0) + 1, LARGEST_COUNT)

    def _halve_pairs(self) -> None:
        halved = _halved(self._pairs)
        self._pairs = {pair: count for pair, count in halved.items() if all(word in self._words for word in pair)}

    def _read_word(self, number: int, line: str) -> None:
        """Reads a line `COUNT WORD`."""
        count, _, word = line.partition(" ")
        if len(self._words) >= MOST_WORDS:
            raise _malformed(number, f"there must be at most {MOST_WORDS:,} words", line)
        counted = _read_count(number, count)
        if not _is_word(word):
            raise _malformed(number, f"a word of at most {LONGEST_WORD} characters must follow the count", word)
        if word in self._words:
            raise _malformed(number, "a word must not occur twice", word)
        self._words[word] = counted

    def _read_pair(self, number: int, line: str, known: list[str]) -> None:
        """Reads a line `COUNT I J`."""
        count, *indices = line.split(" ")
        if len(self._pairs) >= MOST_PAIRS:
            raise _malformed(number, f"there must be at most {MOST_PAIRS:,} pairs", line)
        counted = _read_count(number, count)
        if len(indices) != 2 or not all(_INDEX.fullmatch(index) and int(index) < len(known) for index in indices):
            expected = f"two indices of words, below {len(known)}, must follow the count of a pair"
            raise _malformed(number, expected, " ".join(indices))
        pair = known[int(indices[0])], known[int(indices[1])]
        if pair in self._pairs:
            raise _malformed(number, "a pair must not occur twice", " ".join(indices))
        self._pairs[pair] = counted


Key = TypeVar("Key")


def _halved(counts: dict[Key, int]) -> dict[Key, int]:
    """Returns half of each count, rounded down, without those that are 0."""
    return {key: count // 2 for key, count in counts.items() if count > 1}


def _is_word(text: str) -> bool:
    try:
        return len(text) <= LONGEST_WORD and split_words(text) == [text] and text[0] != " " and begins_word(text)
    except TextError:  # a lone surrogate
        return False


def _read_count(number: int, count: str) -> int:
    if not _COUNT.fullmatch(count) or int(count) > LARGEST_COUNT:
        raise _malformed(number, f"a count must be 1 to {LARGEST_COUNT:,}", count)
    return int(count)


def _malformed(number: int, expected: str, received: str) -> OwnWordsError:
    return OwnWordsError(f"own words, line {number}: {expected}. Received: {shortened(received, most=80)!r}")
