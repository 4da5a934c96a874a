"""Looks up the ids of the tokens of a text."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seq.data.tokens import (
    EOS,
    PAD,
    START,
    UNK,
    WHITE_SPACE,
    AnyLevel,
    code_points,
    split_lines,
    split_whitespace,
    split_words,
)
from keras_seq.errors import TextError


class TokenLookup:
    """Maps texts to token ids.

    Args:
        tokens: the tokens in the order of their ids.
        level: what a token is.
        reserved: the ids of the reserved tokens by name (`keras_seq.data.tokens.reserved_ids`).

    Attributes:
        text_ids: ids of the tokens that are not reserved, in ascending order, int32.
    """

    def __init__(self, tokens: Sequence[str], level: AnyLevel, reserved: Mapping[str, int]):
        self._tokens, self._level, self._reserved = tokens, level, reserved
        self._unknown = reserved.get(UNK, -1)
        self.text_ids = np.delete(np.arange(len(tokens), dtype=np.int32), sorted(reserved.values()))

    def ids_of(self, text: str, name: str) -> npt.NDArray[np.int32]:
        """Returns the token ids of a text, `(tokens,)`.

        Raises:
            TextError: see `keras_seq.Vocabulary.encode`; `name` is what it calls the text.
        """
        return self._look_up(text, self._character_ids if self._level == "char" else self._word_ids, name)

    def ids_of_lines(self, text: str, name: str) -> npt.NDArray[np.int32]:
        """Returns the token ids of each line that has tokens, each line followed by `<eos>`, which must not be missing.

        Raises:
            TextError: see `keras_seq.Vocabulary.encode`; `name` is what it calls the text.
        """
        blank = WHITE_SPACE if self._level == "whitespace" else ""  # There, a line of white space has no tokens.
        lines = "".join([line + "\n" for line in split_lines(text) if line.strip(blank)])
        return self._look_up(lines, self._line_ids, name, line_feeds=True)

    def _look_up(self, text: str, ids: Any, name: str, line_feeds: bool = False) -> npt.NDArray[np.int32]:
        """Returns the token ids of a text.

        Args:
            text: any text.
            ids: the id of each token by its string; at the character level by its code point. -1: not in any text.
            name: name of the caller's argument.
            line_feeds: whether line feeds are tokens where texts are split at white space.
        """
        if self._level == "char":
            points = code_points(text, name=name)
            found = ids[np.minimum(points, ids.size - 1)]
            if (found < 0).any():
                requirement = f"hold only characters of the vocabulary, which has {len(self.text_ids)} of them"
                raise TextError(name, requirement, _list_characters(points[found < 0]))
            return found
        if self._level == "word":
            words = split_words(text, name=name)
        else:
            words = split_whitespace(text, name=name, line_feeds=line_feeds)
        found = np.fromiter(map(ids.get, words, itertools.repeat(self._unknown)), dtype=np.int32)
        if self._level == "whitespace" and (found < 0).any():
            what = "words of the vocabulary" if self._unknown < 0 else "words that are not reserved tokens"
            foreign = dict.fromkeys(words[i] for i in np.flatnonzero(found < 0))
            raise TextError(name, f"hold only {what}", _first_ten([repr(word) for word in foreign]))
        return found

    @functools.cached_property
    def _word_ids(self) -> dict[str, int]:
        """The id of each token that a text may have, by its string; -1 for the others.

        No text has a reserved token at the word level, because `<` and `>` are tokens of their own there.
        """
        return {token: i for i, token in enumerate(self._tokens)} | {
            name: -1 for name in (PAD, START, EOS) if name in self._reserved
        }

    @functools.cached_property
    def _character_ids(self) -> npt.NDArray[np.int32]:
        """The id of each code point up to one above the largest in the vocabulary, `(code points,)`; -1 for no id."""
        known = [ord(self._tokens[i]) for i in self.text_ids.tolist()]
        ids = np.full(max(known, default=-1) + 2, self._unknown, np.int32)
        ids[known] = self.text_ids
        return ids

    @functools.cached_property
    def _line_ids(self) -> Any:
        """The table that `encode` uses, but with `<eos>` for the line feed, which is always a token of its own."""
        if self._level != "char":
            return {**self._word_ids, "\n": self._reserved[EOS]}
        known = self._character_ids
        ids = np.append(known, np.full(max(0, ord("\n") + 2 - known.size), known[-1], np.int32))
        ids[ord("\n")] = self._reserved[EOS]
        return ids


def _list_characters(points: npt.NDArray[np.uint32]) -> str:
    """Returns the first ten distinct characters by name: `'x' (U+0078), 'y' (U+0079)`."""
    distinct = dict.fromkeys(map(chr, points.tolist()))
    return _first_ten([f"{character!r} (U+{ord(character):04X})" for character in distinct])


def _first_ten(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
