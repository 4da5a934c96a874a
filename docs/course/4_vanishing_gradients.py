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
# # 4. Vanishing gradients
#
# Training can teach a model only what the gradient of its loss reaches. You will measure the norm of this gradient with
# respect to the state $k$ steps earlier, for a SimpleRNN, an LSTM and a GRU, before and after training. Before
# training, the norm falls exponentially with $k$ in all three. The LSTM and the GRU soon learn to let it through. The
# SimpleRNN needs more sentences.

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
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

import keras_seq as ks
from keras_seq.analysis.agreement_accuracy import right_verbs
from keras_seq.analysis.gradient_flow import FlowCurve
from keras_seq.analysis.plots import cell_color, plot_gradient_flow
from keras_seq.data.agreement import agreement_probes

# %% [markdown]
# ## The chain of derivatives
#
# A SimpleRNN computes $h_t = \tanh(W h_{t-1} + U x_t + b)$. The gradient of the loss at step $T$ with respect to the
# state $k$ steps earlier is a product of $k$ matrices, one for each step:
#
# $$\frac{\partial L_T}{\partial h_{T-k}} = \frac{\partial L_T}{\partial h_T}\; \prod_{t=T-k+1}^{T}
# \mathrm{diag}(1 - h_t^2)\, W .$$
#
# Where each factor shrinks a vector on average, the product vanishes exponentially (Hochreiter 1991; Bengio, Simard and
# Frasconi 1994; Pascanu, Mikolov and Bengio 2013).
#
# ## The sentences
#
# We use the sentences of notebook 3, where the verb must agree with a noun far behind it. First, all models learn from
# the same half of them.

# %%
corpus = ks.agreement_corpus(sentences=30_000, seed=0)
sentences = corpus.train.splitlines(keepends=True)
half = "".join(sentences[: len(sentences) // 2])
print(f"{half.count('.'):,} sentences in the first half")
vocabulary = ks.Vocabulary.from_text(corpus.train, level="word")
counts = np.bincount(vocabulary.encode_lines(corpus.train), minlength=len(vocabulary))

CELLS = {"SimpleRNN": "simple_rnn", "LSTM": "lstm", "GRU": "gru"}
UNITS, LAGS, EXCERPTS = 128, 30, 64

# %% [markdown]
# ## What is measured
#
# Each excerpt is the beginning of a held-out sentence. The model reads it from the zero state, and the loss is that of
# the last token only. `ks.gradient_flow` returns the norm of its gradient with respect to the states that enter the
# step $k$ steps before the last one. The norms are means over the excerpts.

# %%
encoded = [vocabulary.encode(line) for line in (corpus.validation + corpus.test).splitlines()]
long_enough = [line[: LAGS + 1] for line in encoded if len(line) > LAGS][:EXCERPTS]
excerpts = np.array([[vocabulary.start_id, *line] for line in long_enough])
print(f"{len(excerpts)} excerpts of {excerpts.shape[1]} tokens, such as: {vocabulary.decode(excerpts[0])}")

# %% [markdown]
# ## Before and after training


# %%
def new_model(cell):
    """Returns a model before its first step."""
    keras.utils.set_random_seed(0)
    return ks.language_model(len(vocabulary), cell=cell, units=[UNITS], embedding_dim=32, token_counts=counts)


def train(model, text):
    """Trains a model on one pass over the sentences of a text."""
    model.compile(
        keras.optimizers.Adam(8e-3, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
        weighted_metrics=[ks.NatsPerToken()],
        jit_compile=False,
    )
    data = ks.lines(text, vocabulary, batch_size=64)
    model.fit(data, shuffle=False, verbose=2, callbacks=[ks.CosineSchedule(epochs=1)])


norms, models = {}, {}
for name, cell in CELLS.items():
    models[name] = new_model(cell)
    norms[name, "untrained"] = ks.gradient_flow(models[name], excerpts)
    train(models[name], half)
    norms[name, "trained"] = ks.gradient_flow(models[name], excerpts)

# %%
SHOWN = (0, 1, 2, 5, 10, 20, 25)
print(f"{'k':<22}" + "".join(f"{lag:>9}" for lag in SHOWN))
for (name, when), by_lag in norms.items():
    print(f"{name + ', ' + when:<22}" + "".join(f"{by_lag[lag]:>9.1e}" for lag in SHOWN))

# %% [markdown]
# The picture has a logarithmic axis. A straight line down is an exponential decay. The dashed curves are the models
# before training. At the largest lags, the state is from before the noun of the subject. There is nothing to remember
# yet, so the solid curves of the models that remember fall there.

# %%
picture = Path(tempfile.mkdtemp()) / "gradient_flow.png"
curves = [FlowCurve(name, CELLS[name], when == "trained", by_lag) for (name, when), by_lag in norms.items()]
plot_gradient_flow(curves, picture)
Image(picture)

# %% [markdown]
# ## The factor per step
#
# On an exponential curve, each step multiplies the norm by the same factor. We compute its mean between lags 5 and 25.
# After 20 such steps, the power of it remains.

# %%
print(f"{'factor per step':<22}{'untrained':>12}{'trained':>12}{'trained, after 20 steps':>26}")
factors = {}
for name in CELLS:
    for when in ("untrained", "trained"):
        by_lag = norms[name, when]
        factors[name, when] = (by_lag[25] / by_lag[5]) ** (1 / 20)
    untrained, trained = factors[name, "untrained"], factors[name, "trained"]
    print(f"{name:<22}{untrained:>12.3f}{trained:>12.3f}{trained**20:>26.1e}")

# %%
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
positions = np.arange(len(CELLS))
for offset, when in ((-0.2, "untrained"), (0.2, "trained")):
    heights = [factors[name, when] for name in CELLS]
    look = {"alpha": 0.45, "hatch": "//"} if when == "untrained" else {}
    axes.bar(positions + offset, heights, 0.38, color=[cell_color(name) for name in CELLS], label=when, **look)
axes.axhline(1, color="0.4", linestyle="--")
axes.set(xlabel="cell", ylabel="factor of the norm per step", title="1 keeps the gradient, less makes it vanish")
axes.set_xticks(positions, CELLS)
axes.legend(loc="lower left")
axes.grid(axis="y", alpha=0.3)

# %% [markdown]
# ## A model learns what its gradient reaches
#
# Which models have learned the agreement? We count the right verbs 20 words after the noun. A random guess is right
# half of the time.

# %%
probes = agreement_probes(200, [20], seed=0)
for name, model in models.items():
    right = right_verbs(model, vocabulary, probes).mean()
    print(f"{name:<10} {right:>6.1%} of the verbs right, norm at lag 20: {norms[name, 'trained'][20]:.1e}")

# %% [markdown]
# A vanishing gradient makes learning slow, not impossible. With all sentences, once through, the SimpleRNN begins to
# learn the agreement, too. Its gradient then reaches further.

# %%
longer = new_model("simple_rnn")
train(longer, corpus.train)
right, by_lag = right_verbs(longer, vocabulary, probes).mean(), ks.gradient_flow(longer, excerpts)
print(f"SimpleRNN, twice the sentences: {right:.1%} of the verbs right, norm at lag 20: {by_lag[20]:.1e}")

# %% [markdown]
# ## Why the GRU's gradient survives
#
# The memory of a GRU is $c' = \Gamma_u * \tilde c + (1 - \Gamma_u) * c$. Where $\Gamma_u$ is near 0, the derivative of
# $c'$ with respect to $c$ is near 1, whatever the weights are. A product of such factors does not vanish. At first the
# gates are half open, so the untrained GRU is no better than the others. Training closes the gates of the units that
# need to remember; notebook 6 shows them.
#
# ## Try it
#
# 1. Give the GRU `bias_initializer=ks.ChronoInitializer(longest=40)`. You need a model of your own: an `Embedding`, a
#    `ks.GRU` and a `Dense` layer. Does the gradient of the *untrained* GRU reach further?
# 2. Train the SimpleRNN on all sentences twice. Does it reach every noun? What happens to its factor per step?
# 3. `LAGS = 30` reads the first 31 words of long sentences. Why must all excerpts begin with `<s>`?
