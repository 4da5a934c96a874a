"""The demo as a user runs it, whole, and the accuracy that it reports against a loop over single sentences."""

import re
import subprocess
import sys

import keras
import numpy as np

import keras_seq as ks
from keras_seq.agreement import agreement_corpus, agreement_probes
from keras_seq.demo import right_verbs


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


def test_the_demo_shows_what_the_plain_rnn_forgets(tmp_path):
    command = [sys.executable, "-X", "utf8", "-m", "keras_seq.cli", "demo", "--run=shown", "--seed=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    by_distance, by_attractors = done.stdout.split("by attractors")
    accuracy = {name: float(re.search(rf"{name} .* ([\d.]+)%$", by_distance, re.M)[1]) for name in ("SimpleRNN", "GRU")}
    assert accuracy["GRU"] >= 95
    assert accuracy["SimpleRNN"] < accuracy["GRU"] - 10
    assert re.search(r"attractors +0 +1 +2 .*8\+\n +SimpleRNN( +\d+%){9}\n +GRU( +\d+%){9}", by_attractors)
    assert "The same text from both." in done.stdout
    made = {path.name for path in (tmp_path / "shown").iterdir()}
    assert made >= {"simple_rnn", "gru", "agreement.png", "gates.png", "agreement.tflite", "serving"}
    assert not [path for path in (tmp_path / "shown").rglob("*") if "partial" in path.name]
