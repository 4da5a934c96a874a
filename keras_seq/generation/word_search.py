"""The likeliest words of a model of characters: a best-first search from character to character.

The rule is the same in every runtime and language (docs/porting.md).
"""

import functools
import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from keras_seq.data.tokens import APOSTROPHE, class_of
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ModelError
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.sampling import log_softmax

MOST_STEPS: Final = 64  # calls of the model in one search
_MOST_CHILDREN: Final = 32  # characters that are tried after one
_LONGEST: Final = 32  # characters after the text

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
    """A beginning of a word, or a whole one.

    Attributes:
        log_probability: that of `insert`, in nats.
        insert: what follows the text.
        place: where in the word it ends.
        token: the last character, which the model has not read.
        logits: the logits after it; None before the model reads it.
        states: the states before `token`; of a node with logits, after all.
    """

    log_probability: float
    insert: str
    place: _Place
    token: int = -1
    logits: np.ndarray | None = None
    states: Any = None


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
        following: for each place, the ids of those that may follow, in ascending order, and the place after each.
    """

    allowed: np.ndarray
    ends: np.ndarray
    following: dict[_Place, tuple[np.ndarray, list[_Place]]]


@functools.lru_cache(maxsize=4)
def _characters_of(vocabulary: Vocabulary) -> _Characters:
    # The other reserved tokens are neither part of a word nor its end.
    allowed = sorted([*vocabulary.text_ids.tolist(), vocabulary.eos_id])
    kinds = {index: _kind_of(vocabulary.tokens[index]) for index in allowed}
    ends = [index for index, kind in kinds.items() if kind not in ("word", "apostrophe")]
    following = dict[_Place, tuple[np.ndarray, list[_Place]]]()
    for place, places in _NEXT.items():
        ids = [index for index, kind in kinds.items() if kind in places]
        following[place] = np.array(ids, np.int64), [places[kinds[index]] for index in ids]
    return _Characters(np.array(allowed, np.int64), np.array(ends, np.int64), following)


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
    """Yields what follows a text up to the end of a word, and its log-probability in nats; the most likely first.

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
    characters = _characters_of(vocabulary)
    order, steps = itertools.count(), 0
    queue = [(0.0, next(order), _Node(0.0, "", _beginning(text, begun), logits=logits, states=states))]
    while queue:
        _, _, node = heapq.heappop(queue)
        if node.place == "complete":
            yield node.insert, node.log_probability
            continue
        if node.logits is None:
            if steps == MOST_STEPS:
                continue  # Whole words that are in the queue still count.
            steps += 1
            logits, states = step(node.token, node.states)
            node = node._replace(logits=logits, states=states)
        log_probabilities = _log_probabilities(node, characters.allowed)
        children = [_ended(node, log_probabilities[characters.ends])]
        if len(node.insert) < _LONGEST:
            children += _continued(node, log_probabilities, *characters.following[node.place], vocabulary.tokens)
        for child in children:
            if child.log_probability > -math.inf:
                heapq.heappush(queue, (-child.log_probability, next(order), child))


def _log_probabilities(node: _Node, allowed: np.ndarray) -> np.ndarray:
    """Returns the log-probabilities after a node, among the allowed tokens; -inf for the others, `(vocabulary,)`."""
    logits = node.logits
    assert logits is not None
    require_numbers(logits)
    found = np.full(len(logits), -np.inf)
    if np.isfinite(logits[allowed]).any():
        found[allowed] = log_softmax(logits[allowed])
    return found


def _ended(node: _Node, ends: np.ndarray) -> _Node:
    """Returns the whole word that a node is, given the log-probabilities of what may follow a word; -inf: it is none."""
    total = float(np.exp(ends).sum()) if node.place == "inside" and node.insert else 0.0
    return _Node(node.log_probability + math.log(total) if total else -math.inf, node.insert, "complete")


def _continued(
    node: _Node, log_probabilities: np.ndarray, ids: np.ndarray, places: Sequence[_Place], tokens: Sequence[str]
) -> Iterator[_Node]:
    """Yields a node with one more of the likeliest of the characters that may follow, given their ids and places."""
    values = log_probabilities[ids]
    for index in np.argsort(-values, kind="stable")[:_MOST_CHILDREN].tolist():
        total, token = node.log_probability + float(values[index]), int(ids[index])
        yield _Node(total, node.insert + tokens[token], places[index], token, states=node.states)


def require_numbers(logits: np.ndarray) -> None:
    """Raises ModelError if a logit is NaN or the largest is infinite."""
    if not np.isfinite(logits.max()):
        raise ModelError(
            "no word can be suggested: the model's logits must be numbers, not NaN, and the largest finite"
        )
