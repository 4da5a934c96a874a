"""Sentences whose verb agrees with a noun far behind it: "the cats, which already ate the apple, were full".

Only the noun of the subject shows whether the verb must be `was` or `were`: `the` is the same in singular and plural,
the verbs in between are in the past tense, and most nouns in between have the *other* number (attractors), which
misleads a model that looks back only a few words. The distance from the noun to the verb is a parameter, so accuracy by
distance measures memory. After Linzen, Dupoux and Goldberg, "Assessing the Ability of LSTMs to Learn Syntax-Sensitive
Dependencies", 2016 (arXiv 1611.01368).
"""

import dataclasses
import hashlib
import itertools
import random
from collections.abc import Sequence

from keras_seq import require
from keras_seq.data.corpus import Corpus, require_fractions
from keras_seq.errors import ArgumentError

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
_ATTRACTION = 0.8  # fraction of the nouns in between that have the other number than the subject
_TRIES = 20_000  # draws per held-out sentence; a fraction of 0.05 needs 20 on average
_MODIFIER_SIZES = (3, 4, 5)  # tokens per modifier of a noun; sums of these are 0 and every number from 3 on


@dataclasses.dataclass(frozen=True)
class AgreementSentence:
    """A sentence of the grammar, with the properties of its verb.

    Attributes:
        text: the sentence, without a line break.
        subject_is_plural: whether the correct verb is `were`.
        distance: word tokens from the noun of the subject to the verb, including commas; 1 if the verb follows
            directly.
        attractors: number of nouns in between that have the other number than the subject.
    """

    text: str
    subject_is_plural: bool
    distance: int
    attractors: int

    @property
    def prefix(self) -> str:
        """The sentence up to its verb, without the space before the verb."""
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

    Args:
        rng: random number generator.
        distance: word tokens from the noun of the subject to its verb, 1 or more.
        plural: whether the subject is plural; None draws it.

    Raises:
        ArgumentError: `distance` is not a positive integer.

    Example:
        >>> drawn = sentence(random.Random(0), distance=12)
        >>> drawn.text.startswith(drawn.prefix + drawn.verb), drawn.distance
        (True, 12)
    """
    require.positive_integer("distance", distance)
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
    """Draws a corpus of agreement sentences, one per line.

    Half of the distances are uniform from 1 to `max_distance`; the other half are short (geometric, about 4 on
    average). A hash of the words before the verb decides which part a sentence belongs to, so no two parts share the
    words before a verb, not even with different seeds.

    Args:
        sentences: number of sentences in all three parts together.
        seed: random seed; the same seed gives the same corpus in any process.
        max_distance: largest distance between noun and verb, in word tokens.
        validation: approximate fraction of the sentences in the validation part; at least 0.
        test: approximate fraction of the sentences in the test part; at least 0, and below 1 together with
            `validation`.

    Returns:
        A `Corpus` with `by_line=True`.

    Raises:
        ArgumentError: an argument is out of range.
        ConfigError: the fractions add up to 1 or more.
    """
    require.positive_integer("sentences", sentences)
    require.positive_integer("max_distance", max_distance)
    _require_seed(seed)
    require_fractions(validation, test)
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
    """Draws test sentences to measure accuracy on, half with singular and half with plural subjects per distance.

    The words before the verb of a probe never occur in the training or validation part of an `agreement_corpus` with
    the same `test`, whatever its seed. Few sentences have a short distance, so their probes repeat.

    Args:
        count_per_distance: number of probes for each distance.
        distances: word tokens from noun to verb, each 1 or more.
        seed: random seed.
        test: fraction of the test part of the `agreement_corpus`; above 0 and at most 1.

    Returns:
        The probes, one distance after another in the given order.

    Raises:
        ArgumentError: an argument is out of range.
    """
    require.positive_integer("count_per_distance", count_per_distance)
    _require_seed(seed)
    require.that(len(distances) > 0, "distances", "a sequence of at least one distance", distances)
    for distance in distances:
        require.positive_integer("distances", distance)
    require.positive_fraction("test", test)
    rng = random.Random(int(seed))
    return [
        _held_out(rng, distance, plural=bool(number % 2), test=test)
        for distance in distances
        for number in range(count_per_distance)
    ]


class _Grammar:
    """Draws the phrases of one sentence, each with an exact number of word tokens."""

    def __init__(self, rng: random.Random, subject_is_plural: bool):
        self.rng = rng
        self.subject_is_plural = subject_is_plural

    def between(self, size: int) -> list[str]:
        """Draws the words between the noun of the subject and its verb, `size` tokens."""
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
        """Draws coordinated verb phrases, `size` tokens: `ate ..., saw ... and slept`."""
        phrases = [self.verb_phrase(part) for part in self.split(size)]
        words = phrases[0]
        for number, phrase in enumerate(phrases[1:], start=2):
            words += ["and" if number == len(phrases) else ",", *phrase]
        return words

    def split(self, size: int) -> list[int]:
        """Draws sizes of verb phrases that fill `size` tokens, with one token between neighbours."""
        sizes = []
        while size > 0:
            # A remainder of one token would be a comma or `and` without a phrase.
            fitting = [part for part in range(1, min(size, 10) + 1) if part == size or size - part >= 2]
            part = self.rng.choices(fitting, [3 if part > 2 else 1 for part in fitting])[0]
            sizes.append(part)
            size -= part + 1
        return sizes

    def verb_phrase(self, size: int) -> list[str]:
        """Draws a verb phrase of `size` tokens, such as `slept` or `slowly ate the red apple near the dogs`."""
        if size == 1:
            return [self.rng.choice(VERBS_ALONE)]
        # The tokens that remain for modifiers must be 0 or at least the size of the shortest modifier.
        openings = [
            (adverbs, objects)
            for adverbs in (0, 1)
            for objects in (0, 2, 3)  # none, `the dog`, `the old dog`
            if (rest := size - adverbs - 1 - objects) == 0 or rest >= _MODIFIER_SIZES[0]
        ]
        # Objects are more likely than none, because more nouns are more attractors.
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
        """Draws modifiers of `size` tokens (0 or at least 3), such as `near the old dog` or `that saw the birds`."""
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
        """Draws a noun phrase of `size` tokens (`the old dogs`), mostly with the other number than the subject."""
        noun = self.rng.choice(tuple(nouns))
        is_plural = self.subject_is_plural != (self.rng.random() < _ATTRACTION)
        return [*self.noun_phrase_opening(size - 2), nouns[noun] if is_plural else noun]

    def noun_phrase_opening(self, adjectives: int) -> list[str]:
        return ["the", *self.rng.sample(ADJECTIVES, adjectives)]

    def predicate(self) -> list[str]:
        """Draws what follows the verb: `full`, or `full and tired`."""
        first, second = self.rng.sample(PREDICATES, 2)
        return [first, "and", second] if self.rng.random() < 0.2 else [first]


def _opening(text: str) -> str:
    """Returns the words of a sentence before its only `was` or `were`."""
    for verb in (" was ", " were "):
        opening, found, _ = text.partition(verb)
        if found:
            return opening
    raise ArgumentError("text", "a sentence of the grammar", text)


def _part(text: str, validation: float, test: float) -> str:
    """Returns the part of a corpus that a sentence belongs to: "train", "validation" or "test"."""
    digest = hashlib.sha256(_opening(text).encode("utf-8")).digest()
    uniform = int.from_bytes(digest[:8], "big") / 2**64  # from 0 to 1
    if uniform < test:
        return "test"
    return "validation" if uniform < test + validation else "train"


def _held_out(rng: random.Random, distance: int, plural: bool, test: float) -> AgreementSentence:
    """Draws sentences until one belongs to the test part; returns it."""
    for _ in range(_TRIES):
        drawn = sentence(rng, distance, plural)
        if _part(drawn.text, validation=0.0, test=test) == "test":
            return drawn
    expected = f"large enough that one of {_TRIES:,} sentences with distance {distance} belongs to the test part"
    raise ArgumentError("test", expected, test)


def _distance(rng: random.Random, max_distance: int) -> int:
    """Draws a distance: half of the time uniformly, else a short one."""
    if rng.random() < 0.5:
        return rng.randint(1, max_distance)
    distance = 1
    while distance < max_distance and rng.random() < 0.75:
        distance += 1
    return distance


def _require_seed(seed: object) -> None:
    require.that(require.is_integer(seed), "seed", "an integer", seed)
