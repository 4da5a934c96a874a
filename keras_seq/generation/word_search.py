"""The likeliest words of a model of characters: a best-first search from character to character.

The rule is the same in every runtime and language (docs/porting.md).
"""

import functools
import heapq
import itertools
import math
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from keras_seq.data.tokens import APOSTROPHE, class_of
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ModelError
from keras_seq.generation.arithmetic import Arithmetic
from keras_seq.generation.decoder_step import Step

MOST_STEPS: Final = 64  # calls of the model in one search
_MOST_CHILDREN: Final = 32  # characters that are tried after one
_LONGEST: Final = 32  # characters after the text
_WHOLE: Final = -1  # in the queue, in place of the rank of a child: the word ends

# Where in a word a node of the search is: nothing of it yet; only the space before it; after a character of it; after an
# apostrophe, which another character must follow; at its end.
_Place = Literal["open", "spaced", "inside", "joined", "complete"]
_Kind = Literal["word", "apostrophe", "space", "single", "other"]
_NEXT: Final[dict[_Place, dict[_Kind, _Place]]] = {
    "open": {"space": "spaced", "word": "inside", "single": "complete"},
    "spaced": {"word": "inside", "single": "complete"},
    "inside": {"word": "inside", "apostrophe": "joined"},
    "joined": {"word": "inside"},
}


class _Node(NamedTuple):
    """A beginning of a word, which the model has read.

    Attributes:
        insert: what follows the text.
        place: where in the word it ends.
        states: the states after it.
        whole: the log-probability that the word ends here, as all here in the unit of the step's arithmetic; -inf if it
            cannot.
        children: the log-probabilities with one more character, in descending order.
        tokens: these characters.
    """

    insert: str
    place: _Place
    states: Any
    whole: float
    children: list[float]
    tokens: list[int]


def _beginning(text: str, begun: str) -> _Place:
    """Returns where in a word a text ends."""
    if begun:
        return "joined" if begun[-1] in APOSTROPHE else "inside"
    return "spaced" if not text or class_of(text[-1]) == "space" else "open"


class _Characters(NamedTuple):
    """The ids of the characters of a vocabulary by what they do in a word.

    Attributes:
        allowed: all that can be in a text, and `<eos>`.
        ends: those of them that end a word.
        following: for each place, the ids of those that may follow, in ascending order.
        after: for each place, the place after each of these.
    """

    allowed: np.ndarray
    ends: np.ndarray
    following: dict[_Place, np.ndarray]
    after: dict[_Place, dict[int, _Place]]


@functools.lru_cache(maxsize=4)
def _characters_of(vocabulary: Vocabulary) -> _Characters:
    # The other reserved tokens are neither part of a word nor its end.
    allowed = sorted([*vocabulary.text_ids.tolist(), vocabulary.eos_id])
    kinds = {index: _kind_of(vocabulary.tokens[index]) for index in allowed}
    ends = [index for index, kind in kinds.items() if kind not in ("word", "apostrophe")]
    after = {
        place: {index: places[kind] for index, kind in kinds.items() if kind in places}
        for place, places in _NEXT.items()
    }
    following = {place: np.array(list(places), np.int64) for place, places in after.items()}
    return _Characters(np.array(allowed, np.int64), np.array(ends, np.int64), following, after)


def _kind_of(token: str) -> _Kind:
    if len(token) > 1:
        return "other"  # <eos>
    if token in APOSTROPHE:
        return "apostrophe"
    if token == " ":
        return "space"
    found = class_of(token)
    return found if found in ("word", "single") else "other"


def search_words(
    step: Step, vocabulary: Vocabulary, text: str, begun: str, logits: np.ndarray, states: Any
) -> Iterator[tuple[str, float]]:
    """Yields what follows a text up to the end of a word, and its log-probability; the most likely first.

    `step.arithmetic.probability` converts it.

    Args:
        step: the model.
        vocabulary: its characters.
        text: the text.
        begun: the part of a word at its end (`begun_word`).
        logits: the logits after the text, `(vocabulary,)`.
        states: the states after it.

    Raises:
        ModelError: the logits are not finite.
    """
    characters, tokens = _characters_of(vocabulary), vocabulary.tokens
    # Of the children of a node, which are sorted, only the next is in the queue. On a tie, the one of the earlier node is
    # first, and of one node the whole word.
    queue, numbers, steps = list[tuple[float, int, int, _Node]](), itertools.count(), 0

    def add(node: _Node) -> None:
        number = next(numbers)
        if node.whole > -math.inf:
            heapq.heappush(queue, (-node.whole, number, _WHOLE, node))
        if node.children:
            heapq.heappush(queue, (-node.children[0], number, 0, node))

    add(_node_of(0.0, "", _beginning(text, begun), logits, states, characters, step.arithmetic))
    while queue:
        negative, number, rank, before = heapq.heappop(queue)
        if rank == _WHOLE:
            yield before.insert, -negative
            continue
        if rank + 1 < len(before.children):
            heapq.heappush(queue, (-before.children[rank + 1], number, rank + 1, before))
        token, place = before.tokens[rank], characters.after[before.place][before.tokens[rank]]
        insert = before.insert + tokens[token]
        if place == "complete":
            yield insert, -negative
        elif steps < MOST_STEPS:  # After them, whole words that are in the queue still count.
            steps += 1
            add(_node_of(-negative, insert, place, *step(token, before.states), characters, step.arithmetic))


def _node_of(
    log_probability: float,
    insert: str,
    place: _Place,
    logits: np.ndarray,
    states: Any,
    characters: _Characters,
    arithmetic: Arithmetic,
) -> _Node:
    """Returns a node, given the logits and the states after it."""
    require_numbers(logits)
    ends = characters.ends if place == "inside" and insert else characters.ends[:0]
    log_probabilities, ending = arithmetic.log_probabilities(logits, characters.allowed, ends)
    following = characters.following[place]
    values = log_probabilities[following]
    likeliest = np.argsort(-values, kind="stable")[: _MOST_CHILDREN if len(insert) < _LONGEST else 0]
    likeliest = likeliest[values[likeliest] > -math.inf]
    children = (log_probability + values[likeliest]).tolist()
    return _Node(insert, place, states, log_probability + ending, children, following[likeliest].tolist())


def require_numbers(logits: np.ndarray) -> None:
    """Raises ModelError if a logit is NaN or the largest is infinite."""
    if not np.isfinite(logits.max()):
        raise ModelError(
            "no word can be suggested: the model's logits must be numbers, not NaN, and the largest finite"
        )
