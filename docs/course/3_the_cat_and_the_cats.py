# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. The cat and the cats
#
# "The cat, which already ate the apple, **was** full." "The cats, which already ate the apple, **were** full." The verb
# agrees with a noun that may stand many words before it. You will train a SimpleRNN and a GRU on the same sentences,
# once through, and count how often each chooses the right verb. A picture shows the accuracy by the distance between
# noun and verb.

# %% [markdown]
# [Open in Colab](https://colab.research.google.com/) and upload this notebook. The next cell needs the wheel of
# keras_seq beside the notebook; README.md of the course says how to get it. Where keras_seq is installed, the cell does
# nothing.

# %%
import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec("keras_seq") is None:
    wheels = [str(wheel) for wheel in pathlib.Path().glob("keras_seq-*.whl")]
    if not wheels:
        raise FileNotFoundError("keras_seq is missing: put its wheel, keras_seq-*.whl, beside this notebook")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", wheels[0]], check=True)

# %%
import tempfile
from pathlib import Path

import keras
import numpy as np
from IPython.display import Image

import keras_seq as ks
from keras_seq.analysis.agreement_accuracy import DISTANCES, PROBES, accuracy_table, by_distance, right_verbs
from keras_seq.analysis.plots import plot_agreement
from keras_seq.data.agreement import agreement_probes

# %% [markdown]
# ## The sentences
#
# A small grammar writes the sentences. Only the noun of the subject shows whether the verb is `was` or `were`. Most of
# the nouns in between have the other number. They are called attractors, because they mislead a model that looks back
# only a few words.

# %%
corpus = ks.agreement_corpus(sentences=30_000, seed=0)
vocabulary = ks.Vocabulary.from_text(corpus.train, level="word")
lines = corpus.train.splitlines()
print(f"{len(lines):,} sentences to learn from, {len(vocabulary)} tokens in the vocabulary\n")
print("\n".join(lines[:4]))

# %% [markdown]
# ## The test
#
# Each probe is a sentence up to its verb. No probe begins like a sentence that the models learn from. A model is right
# if the right verb has a larger logit than the wrong one. A random guess is right half of the time.

# %%
probes = agreement_probes(PROBES, DISTANCES, seed=0)
probe = next(one for one in probes if one.distance == 12)
print(f"{probe.prefix} ... {probe.verb.strip()} or {probe.wrong_verb.strip()}?")
print(f"distance {probe.distance} words, {probe.attractors} attractors, right: {probe.verb.strip()}")

# %% [markdown]
# ## Two models, one difference
#
# Both models have the same embeddings, the same number of units, the same sentences in the same order, and the same
# optimizer. Only the recurrent cell differs. A GRU has three times the recurrent weights of a SimpleRNN, for its two
# gates and its candidate.

# %%
CELLS = {"SimpleRNN": "simple_rnn", "GRU": "gru"}
counts = np.bincount(vocabulary.encode_lines(corpus.train), minlength=len(vocabulary))


def train(cell):
    """Returns a model after one pass over the sentences."""
    keras.utils.set_random_seed(0)
    model = ks.language_model(len(vocabulary), cell=cell, units=[128], embedding_dim=32, token_counts=counts)
    model.compile(
        keras.optimizers.Adam(8e-3, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
        weighted_metrics=[ks.NatsPerToken()],
        jit_compile=False,
    )
    sentences = ks.lines(corpus.train, vocabulary, batch_size=64)
    model.fit(sentences, shuffle=False, verbose=2, callbacks=[ks.CosineSchedule(epochs=1)])
    return model


models = {name: train(cell) for name, cell in CELLS.items()}
for name, model in models.items():
    print(f"{name}: {model.count_params():,} parameters")

# %% [markdown]
# ## Agreement by distance

# %%
right = {name: right_verbs(model, vocabulary, probes) for name, model in models.items()}
print("\n".join(accuracy_table(probes, right)))

# %%
picture = Path(tempfile.mkdtemp()) / "agreement.png"
plot_agreement(DISTANCES, by_distance(probes, right), picture)
Image(picture)

# %% [markdown]
# The largest distance at which a model makes no mistake at all depends on the seed and on the machine. So we compute
# it instead of typing it.

# %%
for name, accuracies in by_distance(probes, right).items():
    perfect = [distance for distance, accuracy in zip(DISTANCES, accuracies, strict=True) if accuracy == 1]
    far = right[name][[one.distance >= 20 for one in probes]]
    print(f"{name}: every verb right at the distances {perfect}; {far.mean():.0%} right at distances 20 to 40")

# %% [markdown]
# ## One sentence
#
# `ks.score` gives the log-probability of each token. We let both models read one long sentence, once with the noun in
# singular and once in plural, and compare the probabilities of the two verbs. A model that remembers the noun changes
# its answer. A model that has forgotten it gives the same answer twice.

# %%
sentence = "the {}, which followed the old horses near the rivers, saw the birds under the trees and ate the apples,"
for name, model in models.items():
    for noun in ("cat", "cats"):
        begin = sentence.format(noun)
        scores = [ks.score(model, vocabulary, begin + verb) for verb in (" was", " were")]
        was, were = (np.exp(one.log_probabilities[-1]) for one in scores)
        print(f"{name:<10} the {noun}, ... P(was) = {was:.4f}  P(were) = {were:.4f}")

# %% [markdown]
# ## What this does not say
#
# A SimpleRNN *can* represent the number of a noun over many words: one unit that stays positive or negative is enough.
# The question is how soon training finds it. On this grammar, with more sentences, the SimpleRNN learns it too. The
# next notebook shows why it takes longer: at first, the gradient of the verb hardly reaches the noun.
#
# ## Try it
#
# 1. Train the SimpleRNN twice as long: repeat `model.fit` with new sentences from `seed=1`. Which distance does it
#    reach?
# 2. Train `cell="lstm"` with the same settings. Where does its curve lie?
# 3. Use `max_distance=10` for the corpus and test at distance 40. Does the GRU generalize to distances it never saw?
