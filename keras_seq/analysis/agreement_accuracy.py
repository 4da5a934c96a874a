"""How often a model has the verb right, by the distance from its subject, and by the nouns between that mislead it."""

from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np

from keras_seq.data.agreement import AgreementSentence
from keras_seq.data.vocabulary import Vocabulary

DISTANCES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40)
PROBES = 60  # a distance, half of them plural
MANY_ATTRACTORS = 8  # sentences with more are counted with these


def right_verbs(model: keras.Model, vocabulary: Vocabulary, probes: Sequence[AgreementSentence]) -> np.ndarray:
    """Returns for each probe, in order, whether the right verb gets the larger logit of the two: `(probes,)` bool."""
    prefixes = [np.array([vocabulary.start_id, *vocabulary.encode(probe.prefix)], np.int32) for probe in probes]
    lengths = np.array([len(prefix) for prefix in prefixes])
    right = np.zeros(len(probes), bool)
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        last = model.predict_on_batch(np.stack([prefixes[place] for place in places]))[:, -1]
        for place, logits in zip(places.tolist(), last, strict=True):
            verb, wrong = (vocabulary.ids[word] for word in (probes[place].verb, probes[place].wrong_verb))
            right[place] = logits[verb] > logits[wrong]
    return right


def by_distance(probes: Sequence[AgreementSentence], right: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns each model's share of right verbs at each of `DISTANCES`, `(distances,)`.

    Args:
        probes: sentences of these distances.
        right: for each model its answers to them, from `right_verbs`.
    """
    distance = np.array([probe.distance for probe in probes])
    return {name: np.array([answers[distance == one].mean() for one in DISTANCES]) for name, answers in right.items()}


def accuracy_table(probes: Sequence[AgreementSentence], right: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yields the lines of a table: the share of right verbs by distance, and by attractors.

    Args:
        probes: sentences of `DISTANCES`.
        right: for each model its answers to them, from `right_verbs`.
    """
    far = np.array([probe.distance >= 20 for probe in probes])
    attractors = np.array([probe.attractors for probe in probes])
    yield f"was or were? Right verbs by distance, {PROBES} sentences each; chance is 50 %\n"
    yield "  distance   " + "".join(f"{one:>6}" for one in DISTANCES) + "   20-40"
    for name, shares in by_distance(probes, right).items():
        yield f"  {name:<11}" + "".join(f"{share:>6.0%}" for share in shares) + f"{right[name][far].mean():>8.1%}"
    counts = range(min(MANY_ATTRACTORS, attractors.max()) + 1)
    yield "\nby attractors: nouns of the other number between subject and verb\n"
    yield "  attractors " + "".join(f"{count:>6}" for count in counts[:-1]) + f"{counts[-1]:>5}+"
    for name, answers in right.items():
        by_count = [answers[np.minimum(attractors, counts[-1]) == count].mean() for count in counts]
        yield f"  {name:<11}" + "".join(f"{share:>6.0%}" for share in by_count)
