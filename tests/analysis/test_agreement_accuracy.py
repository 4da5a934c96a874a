"""The accuracy of verbs against a loop over single sentences."""

import keras
import numpy as np

import keras_seq as ks
from keras_seq.analysis.agreement_accuracy import DISTANCES, PROBES, accuracy_table, right_verbs
from keras_seq.data.agreement import agreement_corpus, agreement_probes


def test_a_verb_is_right_where_its_logit_is_the_larger_of_the_two():
    vocabulary = ks.Vocabulary.from_text(agreement_corpus(500).train, level="word")
    keras.utils.set_random_seed(3)
    model = ks.language_model(len(vocabulary), units=[8], embedding_dim=8)
    probes = agreement_probes(10, (2, 5, 11), seed=1)
    right = []
    for probe in probes:
        logits = model(np.array([[vocabulary.start_id, *vocabulary.encode(probe.prefix)]]))[0, -1].numpy()
        verb, wrong = vocabulary.encode(probe.verb)[0], vocabulary.encode(probe.wrong_verb)[0]
        right.append(bool(logits[verb] > logits[wrong]))
    assert right_verbs(model, vocabulary, probes).tolist() == right


def test_the_table_counts_by_distance_and_by_attractors():
    probes = agreement_probes(PROBES, DISTANCES, seed=2)
    near = np.array([probe.distance <= 3 for probe in probes])
    lines = list(accuracy_table(probes, {"near": near}))
    assert lines[2].split() == ["near", *["100%"] * 3, *["0%"] * 12, "0.0%"]
    for count, share in enumerate(lines[-1].split()[1:-1]):
        ours = [one for one, probe in zip(near, probes, strict=True) if probe.attractors == count]
        assert share == f"{np.mean(ours):.0%}"
