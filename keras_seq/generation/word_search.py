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


def _kinds_of(vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """Returns the ids of the tokens of each kind; "allowed" are all of them, and "end" those that end a word."""
    # The other reserved tokens are neither part of a word nor its end.
    forbidden = tuple(index for index in vocabulary.reserved_ids if index != vocabulary.eos_id)
    return _ids_by_kind(vocabulary.tokens, forbidden)


@functools.lru_cache(maxsize=4)
def _ids_by_kind(tokens: tuple[str, ...], forbidden: tuple[int, ...]) -> dict[str, np.ndarray]:
    kinds = {index: _kind_of(token) for index, token in enumerate(tokens) if index not in forbidden}
    parts: dict[str, list[int]] = {kind: [] for kind in ("word", "apostrophe", "space", "single", "other")}
    for index, kind in kinds.items():
        parts[kind].append(index)
    ends = [index for index, kind in kinds.items() if kind not in ("word", "apostrophe")]
    return {kind: np.array(ids, np.int64) for kind, ids in {**parts, "allowed": list(kinds), "end": ends}.items()}


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
    kinds = _kinds_of(vocabulary)
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
        log_probabilities = _log_probabilities(node, kinds["allowed"])
        children = [_ended(node, log_probabilities[kinds["end"]])]
        if len(node.insert) < _LONGEST:
            children += _continued(node, log_probabilities, kinds, vocabulary.tokens)
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
    node: _Node, log_probabilities: np.ndarray, kinds: dict[str, np.ndarray], tokens: Sequence[str]
) -> Iterator[_Node]:
    """Yields a node with one more of the likeliest characters that may follow."""
    places = {index: place for kind, place in _NEXT[node.place].items() for index in kinds[kind].tolist()}
    following = np.array(sorted(places), np.int64)
    for index in following[np.argsort(-log_probabilities[following], kind="stable")[:_MOST_CHILDREN]].tolist():
        total = node.log_probability + float(log_probabilities[index])
        yield _Node(total, node.insert + tokens[index], places[index], index, states=node.states)


def require_numbers(logits: np.ndarray) -> None:
    """Raises ModelError if a logit is NaN or the largest is infinite."""
    if not np.isfinite(logits.max()):
        raise ModelError(
            "no word can be suggested: the model's logits must be numbers, not NaN, and the largest finite"
        )
