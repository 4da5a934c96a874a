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
# # 6. The GRU
#
# The equations of the GRU stand here beside the code that computes them. You will compute a step by hand in NumPy and
# get the numbers of the layer. Then you will look into a trained GRU: which units keep the subject of a sentence until
# the verb, and what their gates do meanwhile. At the end, the simplified GRU, which has no relevance gate, is compared
# with the full one in numbers.

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
import inspect
import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

import keras_seq as ks
from keras_seq.analysis.agreement_accuracy import DISTANCES, PROBES, accuracy_table, right_verbs
from keras_seq.analysis.plots import cell_color, plot_gates
from keras_seq.data.agreement import ANIMALS, agreement_probes
from keras_seq.layers import gru_step
from keras_seq.layers.gru_cell import Gates

# %% [markdown]
# ## The equations
#
# The memory cell is $c$. In the GRU it is also the activation that the next layer reads: $a = c$. A step takes the
# memory $c$ and the input $x$, and computes
#
# $$\Gamma_u = \sigma(W_u [c, x] + b_u) \qquad \text{update gate}$$
# $$\Gamma_r = \sigma(W_r [c, x] + b_r) \qquad \text{relevance (reset) gate}$$
# $$\tilde c = \tanh(W_c [\Gamma_r * c, x] + b_c) \qquad \text{candidate}$$
# $$c' = \Gamma_u * \tilde c + (1 - \Gamma_u) * c \qquad \text{new memory}$$
#
# The gates are vectors as long as the memory, and $*$ is element by element. A unit whose $\Gamma_u$ stays at 0 keeps
# its memory for any number of steps (Cho et al. 2014, arXiv 1406.1078; Chung et al. 2014, arXiv 1412.3555).
#
# ## The code
#
# `keras_seq.layers.gru_step` has these equations as pure functions. Two things differ from the equations above. Keras writes
# $z = 1 - \Gamma_u$, which the code calls `keep`. And the product with $[c, x]$ is written as two products, one with
# the input and one with the memory: `x_...` and `c_...`.

# %%
print(inspect.getsource(gru_step.step_with_reset_before))

# %% [markdown]
# The last line of the step, $c' = \Gamma_u * \tilde c + (1 - \Gamma_u) * c$, is in the cell:

# %%
print(inspect.getsource(ks.GRUCell.call))

# %% [markdown]
# By default, Keras and cuDNN use another form: $\Gamma_r$ scales the *product* of the memory, so that one matrix
# product serves both gates and the candidate. In the notation above,
# $\tilde c = \tanh(W_{cx}\, x + b_c + \Gamma_r * (W_{cc}\, c + b'_c))$.

# %%
print(inspect.getsource(gru_step.step_with_reset_after))

# %% [markdown]
# ## A step by hand
#
# We take the weights of a `ks.GRU` and compute its steps in NumPy, in the notation above. The blocks of a
# kernel are, in this order, `keep`, relevance and candidate. Since $\Gamma_u = 1 - \sigma(a) = \sigma(-a)$, the weights
# of $\Gamma_u$ are those of `keep` with the other sign.

# %%
UNITS, FEATURES, STEPS = 5, 3, 7
keras.utils.set_random_seed(0)
layer = ks.GRU(UNITS, reset_after=False, bias_initializer="random_normal", return_sequences=True)
x = np.random.default_rng(0).normal(size=(1, STEPS, FEATURES)).astype("float32")
memories = np.asarray(layer(x))

kernel, recurrent_kernel, bias = (np.asarray(weight, "float64") for weight in layer.get_weights())
# W [c, x]: the rows for the memory c first, then those for the input x. One block of columns for each of u, r and c.
W_z, W_r, W_c = np.split(np.concatenate([recurrent_kernel, kernel]), 3, axis=1)
b_z, b_r, b_c = np.split(bias, 3)
W_u, b_u = -W_z, -b_z


def sigmoid(values):
    """Returns the logistic function of an array."""
    return 1 / (1 + np.exp(-values))


def gru(c, x):
    """Returns Γu, Γr, c~ and c' of one step, each `(units,)`."""
    update = sigmoid(np.concatenate([c, x]) @ W_u + b_u)
    relevance = sigmoid(np.concatenate([c, x]) @ W_r + b_r)
    candidate = np.tanh(np.concatenate([relevance * c, x]) @ W_c + b_c)
    return update, relevance, candidate, update * candidate + (1 - update) * c


# %%
gates = layer.gates(x)
c, largest = np.zeros(UNITS), 0.0
for step in range(STEPS):
    update, relevance, candidate, c = gru(c, x[0, step])
    by_layer = (gates.update, gates.relevance, gates.candidate, memories)
    for ours, theirs in zip((update, relevance, candidate, c), by_layer, strict=True):
        largest = max(largest, np.abs(ours - np.asarray(theirs)[0, step]).max())
print(f"c' after {STEPS} steps, by hand {c.round(4)}, by ks.GRU {memories[0, -1].round(4)}")
print(f"largest difference of any gate, candidate or memory: {largest:.1e}")
assert largest < 1e-6

# %% [markdown]
# ## Two models to look into
#
# Both learn the agreement grammar of notebook 3, once through. The only difference is the relevance gate: the
# *simplified* GRU has none, so $\tilde c = \tanh(W_c [c, x] + b_c)$. While they learn, we count the right verbs 20
# words after the noun.

# %%
print(inspect.getsource(gru_step.step_without_reset))

# %%
corpus = ks.agreement_corpus(sentences=30_000, seed=0)
vocabulary = ks.Vocabulary.from_text(corpus.train, level="word")
far_probes = agreement_probes(100, [20], seed=0)
BATCH_SIZE = 64


# %%
class RightVerbs(keras.callbacks.Callback):
    """Records the accuracy of the verb every 20 batches."""

    def __init__(self):
        super().__init__()
        self.sentences, self.accuracies = [], []

    def on_train_batch_end(self, batch, logs=None):
        """Measures the model after the batch."""
        if (batch + 1) % 20 == 0:
            self.sentences.append(BATCH_SIZE * (batch + 1))
            self.accuracies.append(right_verbs(self.model, vocabulary, far_probes).mean())


# %%
def train(reset_gate):
    """Returns a model with one GRU after one pass over the sentences, and the record of its accuracy."""
    keras.utils.set_random_seed(0)
    tokens = keras.Input((None,), dtype="int32")
    normal = keras.initializers.RandomNormal(stddev=1.0)
    embedding = keras.layers.Embedding(len(vocabulary), 32, normal, name="embedding")
    memories = ks.GRU(128, reset_gate=reset_gate, return_sequences=True, name="gru")(embedding(tokens))
    model = keras.Model(tokens, keras.layers.Dense(len(vocabulary))(memories))
    model.compile(
        keras.optimizers.Adam(8e-3, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
        weighted_metrics=[ks.NatsPerToken()],
        jit_compile=False,
    )
    sentences, record = ks.lines(corpus.train, vocabulary, BATCH_SIZE), RightVerbs()
    model.fit(sentences, shuffle=False, verbose=2, callbacks=[ks.CosineSchedule(epochs=1), record])
    return model, record


trained = {"GRU": train(reset_gate=True), "simplified": train(reset_gate=False)}
models = {name: model for name, (model, _) in trained.items()}

# %% [markdown]
# ## The gates over a sentence
#
# The picture shows the units that keep their memory longest. Dark cells of $\Gamma_u$ keep the memory, bright cells
# replace it by the candidate $\tilde c$.

# %%
probe = next(one for one in far_probes if one.subject_is_plural)
words = ["<s>", *(vocabulary.tokens[one] for one in vocabulary.encode(probe.text))]


def read(model, text):
    """Returns the gates of each step, and the memory after it, each `(time, units)`."""
    tokens = np.array([[vocabulary.start_id, *vocabulary.encode(text)]])
    embedded, layer = model.get_layer("embedding")(tokens), model.get_layer("gru")
    return Gates(*(np.asarray(values[0]) for values in layer.gates(embedded))), np.asarray(layer(embedded)[0])


gates, memories = read(models["GRU"], probe.text)
picture = Path(tempfile.mkdtemp()) / "gates.png"
plot_gates(words, gates, picture)
Image(picture)

# %% [markdown]
# ## Which unit remembers the subject?
#
# Between noun and verb, each step multiplies what a unit had by $1 - \Gamma_u$. The product of these factors is the
# fraction of the memory that survives until the verb. We read the sentence twice, with the subject in plural and in
# singular. A unit remembers the subject if its memory differs between the two, and if enough of it survives.

# %%
subject = len(vocabulary.encode(probe.prefix)) + 1 - probe.distance  # its position; <s> is at 0
verb = subject + probe.distance
print(f"{words[subject].strip()} ... {words[verb].strip()}, distance {probe.distance}")

singular = {f" {plural}": f" {one}" for one, plural in ANIMALS.items()}
other_text = vocabulary.decode(
    [vocabulary.ids[singular[word] if at == subject else word] for at, word in enumerate(words) if 0 < at < verb]
)
_, other_memories = read(models["GRU"], other_text)
kept = np.prod(1 - gates.update[subject + 1 : verb], axis=0)
apart = np.abs(memories[verb - 1] - other_memories[verb - 1])
print("unit   memory that survives until the verb   difference between plural and singular before the verb")
for unit in np.argsort(-apart)[:6]:
    print(f"{unit:>4}{kept[unit]:>34.1%}{apart[unit]:>49.3f}")

# %%
best = int(np.argmax(apart))
figure, axes = plt.subplots(figsize=(10, 3.8), layout="constrained")
axes.plot(memories[:verb, best], "-", color=cell_color("GRU"), label=f"memory c, subject {words[subject].strip()}")
axes.plot(other_memories[:verb, best], "--", color=cell_color("GRU"), label="memory c, the same sentence in singular")
axes.plot(gates.update[:verb, best], ":", color="0.4", label="update gate Γu")
axes.axvline(subject, color="0.7", linewidth=1)
axes.set(xlabel="word", ylabel="value (no unit)", ylim=(-1.05, 1.05), title=f"GRU: unit {best} keeps the subject")
axes.set_xticks(range(verb), [word.strip() for word in words[:verb]], rotation=70, ha="right", fontsize=8)
axes.legend(loc="lower left", fontsize=8)
axes.grid(alpha=0.3)

# %% [markdown]
# ## The full GRU beside the simplified one

# %%
probes = agreement_probes(PROBES, DISTANCES, seed=0)
right = {name: right_verbs(model, vocabulary, probes) for name, model in models.items()}
print("\n".join(accuracy_table(probes, right)))

# %%
print(f"\n{'':<12}{'weights of the GRU':>20}{'nats per token, held out':>26}{'verbs right':>13}")
for name, model in models.items():
    weights = model.get_layer("gru").count_params()
    nats = ks.evaluate(model, vocabulary, corpus.test, by_line=True).nats_per_token
    print(f"{name:<12}{weights:>20,}{nats:>26.4f}{right[name].mean():>13.1%}")

# %% [markdown]
# Which one learns sooner? Both curves belong to a GRU, so both have its colour. The dashed one is the simplified GRU.

# %%
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for (name, (_, record)), style in zip(trained.items(), ("-", "--"), strict=True):
    axes.plot(record.sentences, record.accuracies, style, color=cell_color("GRU"), marker="o", markersize=3, label=name)
    done = next((read for read, one in zip(record.sentences, record.accuracies, strict=True) if one >= 0.95), None)
    print(f"{name}: 95 % of the verbs right after {done} sentences")
axes.axhline(0.5, color="0.4", linestyle="--", label="random guess")
axes.set(
    xlabel="sentences read (count)",
    ylabel="accuracy (fraction of the verbs)",
    ylim=(0, 1.03),
    title="was or were? 20 words after the noun, with and without the relevance gate",
)
axes.legend(loc="lower right")
axes.grid(alpha=0.3)

# %% [markdown]
# ## Try it
#
# 1. Set all biases of `keep` to 5 before training, or use `bias_initializer=ks.ChronoInitializer(longest=40)`. How do
#    the gates of the untrained layer change?
# 2. Print $\Gamma_r$ of the unit that keeps the subject. Does the candidate see the memory of this unit?
# 3. Train both models on 4,000 sentences. Which one learns sooner?
