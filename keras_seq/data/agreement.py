"""Sentences whose verb agrees with a noun far behind it: "the cats, which already ate the apple, were full".

Only the subject's noun shows whether the verb must be `was` or `were`: `the` serves both numbers, the verbs between
are in the past tense, and most nouns between are of the *other* number (attractors), so that a model which looks back
a few words only is led astray. The distance from the noun to the verb is under control, which makes accuracy by
distance a measure of memory. After Linzen, Dupoux and Goldberg, "Assessing the Ability of LSTMs to Learn
Syntax-Sensitive Dependencies", 2016 (arXiv 1611.01368).
"""

import dataclasses
import hashlib
import itertools
import numbers
import random
from collections.abc import Sequence

from keras_seq.data.corpus import Corpus, require_shares

ANIMALS = {"cat": "cats", "dog": "dogs", "bird": "birds", "horse": "horses", "duck": "ducks", "boy": "boys"}
FOODS = {"apple": "apples", "cake": "cakes", "nut": "nuts"}
PLACES = {"tree": "trees", "river": "rivers", "house": "houses", "table": "tables"}
SUBJECTS = ANIMALS
ADJECTIVES = ("old", "small", "red", "young", "big")
PREPOSITIONS = ("near", "under", "behind", "beside")
SUBJECT_ADVERBS = ("already", "often", "once")
VERB_ADVERBS = (*SUBJECT_ADVERBS, "slowly", "quietly", "soon")
WHEREABOUTS = tuple(itertools.product(("over", "down"), ("there", "here")))
VERBS_OF_ANIMALS = ("saw", "heard", "liked", "followed", "found")
VERBS_OF_FOODS = ("ate", "stole", "saw", "liked", "found")
VERBS_ALONE = ("slept", "waited", "played", "ran")
PREDICATES = ("full", "happy", "tired", "hungry", "late", "cold")

_PLURAL_OF = ANIMALS | FOODS | PLACES
_SINGULAR = frozenset(_PLURAL_OF)
_PLURAL = frozenset(_PLURAL_OF.values())
_ATTRACTION = 0.8  # share of the nouns in between that are of the other number than the subject
_TRIES = 20_000  # draws of one held-out sentence; a share of 0.05 needs 20 on average
_MODIFIER_SIZES = (3, 4, 5)  # tokens of one modifier of a noun; their sums are 0 and every number from 3 up


@dataclasses.dataclass(frozen=True)
class AgreementSentence:
    """A sentence of the grammar and what is to be known about its verb.

    Attributes:
        text: The sentence, without a line break.
        subject_is_plural: Whether the right verb is `were`.
        distance: Word tokens from the subject's noun to the verb (commas count); 1 where the verb follows at once.
        attractors: Nouns between the two that are of the other number than the subject.
    """

    text: str
    subject_is_plural: bool
    distance: int
    attractors: int

    @property
    def prefix(self) -> str:
        """The sentence up to but without its verb and the space before it."""
        return _opening(self.text)

    @property
    def verb(self) -> str:
        """The verb that agrees with the subject, as a word token: `" was"` or `" were"`."""
        return " were" if self.subject_is_plural else " was"

    @property
    def wrong_verb(self) -> str:
        """The verb of the other number, as a word token."""
        return " was" if self.subject_is_plural else " were"


def sentence(rng: random.Random, distance: int, plural: bool | None = None) -> AgreementSentence:
    """Draws one sentence.

    >>> made = sentence(random.Random(0), distance=12)
    >>> made.text.startswith(made.prefix + made.verb), made.distance
    (True, 12)

    Args:
        rng: Source of every choice.
        distance: Word tokens from the subject's noun to its verb, 1 or more.
        plural: Number of the subject; None draws it.

    Raises:
        ValueError: `distance` is not a positive integer.
    """
    _require_positive("distance", distance)
    is_plural = rng.random() < 0.5 if plural is None else plural
    grammar = _Grammar(rng, is_plural)
    between = grammar.between(distance - 1)
    attracting = _SINGULAR if is_plural else _PLURAL
    subject = rng.choice(tuple(SUBJECTS))
    words = [
        *grammar.noun_phrase_opening(rng.choices((0, 1, 2), (50, 35, 15))[0]),
        SUBJECTS[subject] if is_plural else subject,
        *between,
        "were" if is_plural else "was",
        *grammar.predicate(),
    ]
    return AgreementSentence(
        text=" ".join(words).replace(" ,", ",") + ".",
        subject_is_plural=is_plural,
        distance=distance,
        attractors=sum(word in attracting for word in between),
    )


def agreement_corpus(
    sentences: int = 20000, seed: int = 0, max_distance: int = 40, validation: float = 0.05, test: float = 0.05
) -> Corpus:
    """Draws a corpus of agreement sentences, one a line.

    Half of the distances are uniform from 1 to `max_distance`, half are short ones (geometric, about 4 on average).
    Which part a sentence goes to is a pure function of its words before the verb (a hash of them), so that no part
    holds an opening that another part holds too, whatever the seeds.

    Args:
        sentences: Number of sentences in all three parts together.
        seed: Seed of every choice: the same corpus in any process.
        max_distance: Largest distance between noun and verb, in word tokens.
        validation: Share of the openings that go to the validation part, about; at least 0.
        test: Share of the openings that go to the test part, about; at least 0, and below 1 with `validation`.

    Returns:
        A `Corpus` with `by_line=True`.

    Raises:
        ValueError: An argument is out of range.
    """
    _require_positive("sentences", sentences)
    _require_positive("max_distance", max_distance)
    _require_integer("seed", seed)
    require_shares(validation, test)
    rng = random.Random(int(seed))
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for _ in range(sentences):
        text = sentence(rng, _distance(rng, max_distance)).text
        parts[_part(text, validation, test)].append(text + "\n")
    return Corpus(
        train="".join(parts["train"]),
        validation="".join(parts["validation"]),
        test="".join(parts["test"]),
        name="agreement",
        by_line=True,
    )


def agreement_probes(
    count_per_distance: int, distances: Sequence[int], seed: int = 0, test: float = 0.05
) -> list[AgreementSentence]:
    """Draws sentences to measure accuracy on: all of the test part, as many singular as plural (to one) a distance.

    No corpus of `agreement_corpus` with the same `test` share, whatever its seed, has a probe's opening in its training
    or validation part. Short distances have few openings, so that probes recur there.

    Args:
        count_per_distance: Probes for each distance.
        distances: Word tokens from noun to verb, each 1 or more.
        seed: Seed of every choice.
        test: The share of openings held out for testing, as given to `agreement_corpus`; above 0 and at most 1.

    Returns:
        The probes, distance after distance in the order given.

    Raises:
        ValueError: An argument is out of range.
    """
    _require_positive("count_per_distance", count_per_distance)
    _require_integer("seed", seed)
    if not len(distances):
        raise ValueError("`distances` must hold at least one distance. Received: distances=[]")
    for distance in distances:
        _require_positive("distances", distance)
    if isinstance(test, bool) or not isinstance(test, int | float) or not 0 < test <= 1:
        raise ValueError(f"`test` must be above 0 and at most 1. Received: test={test!r}")
    rng = random.Random(int(seed))
    return [
        _held_out(rng, distance, plural=bool(number % 2), test=test)
        for distance in distances
        for number in range(count_per_distance)
    ]


class _Grammar:
    """The phrases of one sentence, each in an exact number of word tokens."""

    def __init__(self, rng: random.Random, subject_is_plural: bool):
        self.rng = rng
        self.subject_is_plural = subject_is_plural

    def between(self, size: int) -> list[str]:
        """What stands between the subject's noun and its verb, `size` tokens."""
        if size == 0:
            return []
        if size == 1:
            return [self.rng.choice(SUBJECT_ADVERBS)]
        if size == 2:
            return list(self.rng.choice(WHEREABOUTS))
        if size == 3 or (size <= 10 and self.rng.random() < 0.3):
            return self.modifiers(size, of_animal=True)
        return [",", "which", *self.coordination(size - 3), ","]

    def coordination(self, size: int) -> list[str]:
        """Verb phrases in a row, `size` tokens: `ate ..., saw ... and slept`."""
        phrases = [self.verb_phrase(part) for part in self.split(size)]
        words = phrases[0]
        for number, phrase in enumerate(phrases[1:], start=2):
            words += ["and" if number == len(phrases) else ",", *phrase]
        return words

    def split(self, size: int) -> list[int]:
        """Sizes of verb phrases that fill `size` tokens with one token between each two."""
        sizes = []
        while size > 0:
            # A rest of one token would be a lone comma or `and`.
            fitting = [part for part in range(1, min(size, 10) + 1) if part == size or size - part >= 2]
            part = self.rng.choices(fitting, [3 if part > 2 else 1 for part in fitting])[0]
            sizes.append(part)
            size -= part + 1
        return sizes

    def verb_phrase(self, size: int) -> list[str]:
        """`slept`, `slowly ate the red apple near the dogs`, ...: `size` tokens."""
        if size == 1:
            return [self.rng.choice(VERBS_ALONE)]
        # The tokens left for modifiers must be none or at least the shortest modifier's.
        openings = [
            (adverbs, objects)
            for adverbs in (0, 1)
            for objects in (0, 2, 3)  # none, `the dog`, `the old dog`
            if (rest := size - adverbs - 1 - objects) == 0 or rest >= _MODIFIER_SIZES[0]
        ]
        # Objects are favoured: the more nouns, the more attractors.
        adverbs, objects = self.rng.choices(openings, [3 if objects else 1 for _, objects in openings])[0]
        words = [self.rng.choice(VERB_ADVERBS) for _ in range(adverbs)]
        of_animal = False
        if not objects:
            words.append(self.rng.choice(VERBS_ALONE))
        else:
            of_animal = self.rng.random() < 0.5
            words.append(self.rng.choice(VERBS_OF_ANIMALS if of_animal else VERBS_OF_FOODS))
            words += self.noun_phrase(objects, ANIMALS if of_animal else FOODS)
        return words + self.modifiers(size - len(words), of_animal)

    def modifiers(self, size: int, of_animal: bool) -> list[str]:
        """`near the old dog`, `that saw the birds`, ...: `size` tokens, none or at least three."""
        words: list[str] = []
        while size:
            part = self.rng.choice([part for part in _MODIFIER_SIZES if size == part or size - part >= 3])
            if of_animal and part > 3 and self.rng.random() < 0.5:
                words += ["that", self.rng.choice(VERBS_OF_ANIMALS), *self.noun_phrase(part - 2, ANIMALS)]
            else:
                of_animal = self.rng.random() < 0.5
                words += [self.rng.choice(PREPOSITIONS), *self.noun_phrase(part - 1, ANIMALS if of_animal else PLACES)]
            size -= part
        return words

    def noun_phrase(self, size: int, nouns: dict[str, str]) -> list[str]:
        """`the dogs`, `the old red dogs`, ...: `size` tokens, mostly of the other number than the subject."""
        noun = self.rng.choice(tuple(nouns))
        is_plural = self.subject_is_plural != (self.rng.random() < _ATTRACTION)
        return [*self.noun_phrase_opening(size - 2), nouns[noun] if is_plural else noun]

    def noun_phrase_opening(self, adjectives: int) -> list[str]:
        return ["the", *self.rng.sample(ADJECTIVES, adjectives)]

    def predicate(self) -> list[str]:
        """`full`, `full and tired`."""
        first, second = self.rng.sample(PREDICATES, 2)
        return [first, "and", second] if self.rng.random() < 0.2 else [first]


def _opening(text: str) -> str:
    """The sentence before its only `was` or `were`."""
    for verb in (" was ", " were "):
        opening, found, _ = text.partition(verb)
        if found:
            return opening
    raise ValueError(f"`text` must be a sentence of the grammar. Received: text={text!r}")


def _part(text: str, validation: float, test: float) -> str:
    """The part of a corpus that a sentence belongs to: "train", "validation" or "test"."""
    digest = hashlib.sha256(_opening(text).encode("utf-8")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64  # evenly spread over [0, 1]
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


def _held_out(rng: random.Random, distance: int, plural: bool, test: float) -> AgreementSentence:
    """A sentence of the test part, drawn again until it is one."""
    for _ in range(_TRIES):
        drawn = sentence(rng, distance, plural)
        if _part(drawn.text, validation=0.0, test=test) == "test":
            return drawn
    raise ValueError(
        f"`test` must be large enough to hold out a sentence of distance {distance}: none came in {_TRIES} draws. "
        f"Received: test={test!r}"
    )


def _distance(rng: random.Random, max_distance: int) -> int:
    if rng.random() < 0.5:
        return rng.randint(1, max_distance)
    distance = 1
    while distance < max_distance and rng.random() < 0.75:
        distance += 1
    return distance


def _require_integer(name: str, value: object) -> None:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise ValueError(f"`{name}` must be an integer. Received: {name}={value!r}")


def _require_positive(name: str, value: object) -> None:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or int(value) < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
