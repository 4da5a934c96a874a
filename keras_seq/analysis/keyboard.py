r"""How many keystrokes the suggestions of a model save on a phone's keyboard, and how often they are right.

The rule:

* The user types a text exactly, from its first character to its last. Before each keystroke, a row shows the first
  suggestions (`SHOWN`) of `suggest` for the text up to the caret. A model that was trained by line gets the line up to
  the caret.
* A *word* is a run of letters, digits and other characters of words, with the apostrophes between them, or a character
  of a script without spaces. This is the rule of word tokens (`keras_seq.data.tokens`), at every level of vocabulary.
* A suggestion is *right* if the text goes on with exactly what it inserts, upper and lower case and the space before it
  included, and if this does not end within a word. Part of a word is never right, because a tap ends a word.
* The user taps the first suggestion that is right, as soon as there is one. A tap is one keystroke. It types the rest
  of the word and a space. If the next character of the text is not a space, it takes the place of this space: it costs
  its own keystroke, the space none, and no row is looked at between them.
* Every other character is one keystroke, also a space, a line break and each character of a word that is never
  suggested, such as those outside the vocabulary. No key changes to capital letters or to digits, here or there. After
  a word that was typed, not tapped, the user types the space, or what else follows.
* *Saved* is 1 - keystrokes / characters. The characters are all those of the text. Where lines end in `\r\n` and the
  model reads line by line, both are one character.
* The *next word* is right if its suggestion is right before any character of it is typed, with all before it typed, also
  the space. Every word of the text counts, whether it is in the vocabulary or not.

Reading the row costs nothing here, and the user makes no mistakes. Both are better than in life.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from keras_seq import require
from keras_seq.analysis.kneser_ney import KneserNey
from keras_seq.data.begun_word import begun_word
from keras_seq.data.tokens import begins_word, split_lines, split_text, split_words
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError
from keras_seq.generation.decoder_step import Step, require_version, require_vocabulary
from keras_seq.generation.own_words import OwnWords
from keras_seq.generation.suggest import TEXT_BEFORE, Suggestion, context_end, suggestions_after

SHOWN: Final = 3  # suggestions in the row, as on most keyboards


@dataclass(frozen=True)
class KeyboardUse:
    """What a row of suggestions did for the user who typed a text; the rule is at the top of this module.

    Attributes:
        count: number of suggestions in the row.
        characters: number of characters of the text.
        keystrokes: number of keystrokes.
        taps: number of keystrokes that were taps on a suggestion.
        words: number of words.
        unknown: number of words that the model reads as the unknown token.
        first: number of words that were the first suggestion before any of their characters was typed.
        shown: number of words that were one of the suggestions then.
    """

    count: int
    characters: int
    keystrokes: int
    taps: int
    words: int
    unknown: int
    first: int
    shown: int

    @property
    def saved(self) -> float:
        """Part of the keystrokes that the suggestions saved: at least 0 and below 1."""
        return 1 - self.keystrokes / self.characters


def use_keyboard(
    step: Step,
    vocabulary: Vocabulary,
    text: str,
    by_line: bool = False,
    count: int = SHOWN,
    progress: Callable[[int], Any] = lambda characters: None,
) -> KeyboardUse:
    """Types a text with a model's suggestions; the rule is at the top of this module.

    The model reads the text once. At the character level, it also searches before each keystroke.

    Args:
        step: the model.
        vocabulary: its vocabulary.
        text: the text to type.
        by_line: whether the model reads each line from its initial states.
        count: number of suggestions in the row.
        progress: called with a number of further characters that were typed.

    Raises:
        ArgumentError: `count` is not a positive integer.
        CorpusError: the text is empty.
        TextError: the text has characters outside the vocabulary.
        ModelError: the model has another number of logits than the vocabulary has tokens, or a logit is not finite.
    """
    require.positive_integer("count", count)
    require_vocabulary(vocabulary, step.vocabulary_size)
    lines = split_lines(text) if by_line else [text]
    breaks = len(lines) - 1
    characters = sum(map(len, lines)) + breaks
    if not characters:
        raise CorpusError("the text to type must not be empty")
    for line in lines:
        vocabulary.encode(line)  # Raises its error before the first minute is spent.
    typist, version = _Typist(count, progress), step.learned_version
    for line in lines:
        typist.type(SuggestionRow(step, vocabulary, line, count), line)
    require_version(step, version)
    return KeyboardUse(
        count=count,
        characters=characters,
        keystrokes=typist.keystrokes + breaks,
        taps=typist.taps,
        words=typist.words,
        unknown=sum(_unknown_words(line, vocabulary) for line in lines),
        first=typist.first,
        shown=typist.shown,
    )


def baseline(vocabulary: Vocabulary, text: str, by_line: bool = False) -> tuple[KneserNey, Vocabulary]:
    """Returns a Kneser-Ney model of words with its vocabulary, to be compared with a model.

    Args:
        vocabulary: the vocabulary of the model. A character model is compared with all words of the text.
        text: the training text.
        by_line: whether each line is a text of its own.
    """
    words = Vocabulary.from_text(text, level="word") if vocabulary.level == "char" else vocabulary
    return KneserNey(words, text, by_line), words


def keyboard_table(uses: Mapping[str, KeyboardUse]) -> Iterator[str]:
    """Yields the lines of a table, a row for each model.

    Args:
        uses: for each model, by its name, what its suggestions did, for the same text and number of suggestions.
    """
    one = next(iter(uses.values()))
    width = max(len("model"), *map(len, uses))
    yield f"  {'model':<{width}}   next word: first{f'first {one.count}':>10}   keystrokes saved   unknown words"
    for name, use in uses.items():
        first, shown, unknown = (count / max(1, use.words) for count in (use.first, use.shown, use.unknown))
        yield f"  {name:<{width}}{first:>19.1%}{shown:>10.1%}{use.saved:>19.1%}{unknown:>16.1%}"
    yield f"\n{one.characters:,} characters, {one.words:,} words"


class _Typist:
    """Types texts and counts; the attributes are those of `KeyboardUse`."""

    def __init__(self, count: int, progress: Callable[[int], Any]):
        self._count, self._progress = count, progress
        self.keystrokes = self.taps = self.words = self.first = self.shown = 0

    def type(self, row: "SuggestionRow", text: str) -> None:
        """Types a text from its beginning to its end."""
        starts, inside = _words(text)
        typed = 0  # how far the user has come; other carets are looked at for the next word only
        for caret in range(len(text)):
            is_start = caret in starts
            if caret == typed or is_start:
                rank, end = self._right(row.at(caret), text, caret, inside)
                self.words += is_start
                self.first += is_start and rank == 0
                self.shown += is_start and rank is not None
                if caret == typed:
                    typed = self._press(text, caret, end)
            self._progress(1)

    def _right(
        self, suggestions: Iterator[Suggestion], text: str, caret: int, inside: set[int]
    ) -> tuple[int | None, int]:
        """Returns the place of the first suggestion in the row that is right, and where it ends; (None, caret): none."""
        for rank, one in enumerate(itertools.islice(suggestions, self._count)):
            end = caret + len(one.insert)
            if end not in inside and text.startswith(one.insert, caret):
                return rank, end
        return None, caret

    def _press(self, text: str, caret: int, end: int) -> int:
        """Counts the next keystrokes, a tap up to `end` or a character; returns how far they come."""
        self.keystrokes += 1
        if end == caret:
            return caret + 1
        self.taps += 1
        self.keystrokes += end < len(text) and text[end] != " "  # It takes the place of the space that the tap typed.
        return end + 1


class SuggestionRow:
    """The suggestions at the carets of a text, which the model reads once. Carets must not go back.

    Args:
        step: the model.
        vocabulary: its vocabulary.
        text: the text, read from `<s>`.
        count: number of suggestions in the row.
    """

    def __init__(self, step: Step, vocabulary: Vocabulary, text: str, count: int = SHOWN):
        self._step = _RecallingStep(step) if vocabulary.level == "char" else step
        self._vocabulary, self._text, self._count = vocabulary, text, count
        self._begins = 0  # where the word that has been begun does
        self._read = 0  # how many characters the model has read
        self._logits, self._states = self._step(vocabulary.start_id, self._step.initial_states())

    def at(self, caret: int) -> Iterator[Suggestion]:
        """Yields what `suggest` returns for the text up to a caret; a character model searches as far as they are taken."""
        level = self._vocabulary.level
        # A begun word never begins before the one of an earlier caret, so little text before that is looked at.
        tail = self._text[max(0, self._begins - TEXT_BEFORE) : caret]
        begun = begun_word(tail, level)
        self._begins, end = caret - len(begun), context_end(caret, begun, level)
        if not begun and isinstance(self._step, _RecallingStep):
            self._step.forget()
        for token in self._vocabulary.encode(self._text[self._read : end]).tolist():
            self._logits, self._states = self._step(token, self._states)
        self._read = end
        return suggestions_after(self._step, self._vocabulary, tail, begun, self._logits, self._states, self._count)


class _RecallingStep(Step):
    """Remembers the steps of a model: the searches of two keystrokes in one word have many of them in common."""

    def __init__(self, step: Step):
        self._step, self.vocabulary_size, self.arithmetic = step, step.vocabulary_size, step.arithmetic
        self._known: dict[tuple[int, int], tuple[Any, tuple[np.ndarray, Any]]] = {}

    @property
    def own_words(self) -> OwnWords | None:
        return self._step.own_words

    def initial_states(self) -> Any:
        """Returns the states at the start of a text."""
        return self._step.initial_states()

    def __call__(self, token: int, states: Any) -> tuple[np.ndarray, Any]:
        """Returns the logits after `token` and the new states; the same objects for the same token and states."""
        key = id(states), token
        if key not in self._known:
            self._known[key] = states, self._step(token, states)  # `states` are kept, so no others get their id.
        return self._known[key][1]

    def forget(self) -> None:
        """Forgets all steps."""
        self._known.clear()


def _words(text: str) -> tuple[set[int], set[int]]:
    """Returns where the words of a text begin, and all places within one."""
    starts, inside, end = set[int](), set[int](), 0
    for token in split_words(text):
        begin, end = end, end + len(token)
        if begins_word(token):
            begin += token[0] == " "
            starts.add(begin)
            inside.update(range(begin + 1, end))
    return starts, inside


def _unknown_words(text: str, vocabulary: Vocabulary) -> int:
    """Returns the number of words in tokens that a vocabulary lacks."""
    lacking = (token for token in split_text(text, vocabulary.level) if token not in vocabulary.ids)
    return sum(begins_word(word) for token in lacking for word in split_words(token))
