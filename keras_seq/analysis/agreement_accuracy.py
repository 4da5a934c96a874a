"""How often a model predicts the right verb, by the distance from its subject and by the number of attractors between them."""

from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np

from keras_seq.data.agreement import AgreementSentence
from keras_seq.data.vocabulary import Vocabulary

DISTANCES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40)
PROBES = 60  # sentences for each distance, half of them plural
MOST_ATTRACTORS = 8  # the last column also counts the sentences with more attractors than this
_FAR = 20  # the column "20-40" averages over the distances from here on


def right_verbs(model: keras.Model, vocabulary: Vocabulary, probes: Sequence[AgreementSentence]) -> np.ndarray:
    """Returns for each probe whether the right verb has a larger logit than the wrong one.

    Args:
        model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary.
        probes: the sentences.

    Returns:
        bool `(probes,)`, in the order of `probes`.
    """
    prefixes = [np.array([vocabulary.start_id, *vocabulary.encode(probe.prefix)], np.int32) for probe in probes]
    lengths = np.array([len(prefix) for prefix in prefixes])
    right = np.zeros(len(probes), bool)
    for length in np.unique(lengths):
        of_this_length = np.flatnonzero(lengths == length).tolist()
        last_logits = model.predict_on_batch(np.stack([prefixes[index] for index in of_this_length]))[:, -1]
        for index, logits in zip(of_this_length, last_logits, strict=True):
            verb, wrong_verb = (vocabulary.ids[word] for word in (probes[index].verb, probes[index].wrong_verb))
            right[index] = logits[verb] > logits[wrong_verb]
    return right


def by_distance(probes: Sequence[AgreementSentence], right: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns each model's accuracy at each of `DISTANCES`, `(distances,)`.

    Args:
        probes: sentences of these distances.
        right: for each model, the result of `right_verbs`.
    """
    distance = np.array([probe.distance for probe in probes])
    return {name: np.array([answers[distance == one].mean() for one in DISTANCES]) for name, answers in right.items()}


def accuracy_table(probes: Sequence[AgreementSentence], right: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yields the lines of a table of accuracies, by distance and by the number of attractors.

    Args:
        probes: sentences of `DISTANCES`.
        right: for each model, the result of `right_verbs`.
    """
    far = np.array([probe.distance >= _FAR for probe in probes])
    attractors = np.array([probe.attractors for probe in probes])
    yield f"was or were? Accuracy by distance, {PROBES} sentences each; a random guess has 50 %\n"
    yield "  distance   " + "".join(f"{one:>6}" for one in DISTANCES) + f"   {_FAR}-{DISTANCES[-1]}"
    for name, accuracies in by_distance(probes, right).items():
        yield f"  {name:<11}" + "".join(f"{one:>6.0%}" for one in accuracies) + f"{right[name][far].mean():>8.1%}"
    counts = range(min(MOST_ATTRACTORS, attractors.max()) + 1)
    yield "\nby attractors: nouns of the other number between subject and verb\n"
    yield "  attractors " + "".join(f"{count:>6}" for count in counts[:-1]) + f"{counts[-1]:>5}+"
    for name, answers in right.items():
        by_count = [answers[np.minimum(attractors, counts[-1]) == count].mean() for count in counts]
        yield f"  {name:<11}" + "".join(f"{one:>6.0%}" for one in by_count)
