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
# # 5. Exploding gradients
#
# The gradient of a recurrent network can also grow exponentially with the number of steps. One step with such a
# gradient undoes all training before it. You will see norms explode, first in a network where we can compute the
# growth, then in training. Then you will clip the gradients in the three ways that Keras offers, in one picture.

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
import math
import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

import keras_seq as ks
from keras_seq.analysis.exploding_gradients import explosions
from keras_seq.analysis.plots import cell_color, plot_explosions
from keras_seq.errors import DivergedError

ORANGE_RED = cell_color("SimpleRNN")  # All networks of this notebook are SimpleRNNs.

# %% [markdown]
# ## A network whose growth we know
#
# Without an activation, each step backwards multiplies the gradient by the transposed recurrent kernel $W$. If $W$ is
# $g$ times an orthogonal matrix, the norm grows by exactly the factor $g$ per step. After $k$ steps it is $g^k$.

# %%
LAGS = 60
tokens = np.random.default_rng(0).integers(0, 20, (16, LAGS + 2))


def linear_rnn(gain):
    """Returns a SimpleRNN without an activation, whose recurrent kernel is `gain` times an orthogonal matrix."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Embedding(20, 16),
        ks.SimpleRNN(32, None, recurrent_initializer=keras.initializers.Orthogonal(gain), return_sequences=True),
        keras.layers.Dense(20),
    ]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])


by_gain = {gain: ks.gradient_flow(linear_rnn(gain), tokens) for gain in (0.9, 1.0, 1.1)}
for gain, norms in by_gain.items():
    print(f"g = {gain}: norm at lag 0 {norms[0]:.2g}, at lag {LAGS} {norms[LAGS]:.2g}; ", end="")
    print(f"ratio {norms[LAGS] / norms[0]:.3g}, g^{LAGS} = {gain**LAGS:.3g}")

# %%
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for (gain, norms), style in zip(by_gain.items(), (":", "--", "-"), strict=True):
    axes.plot(norms, style, color=ORANGE_RED, label=f"g = {gain}")
axes.set(
    xlabel="k: age of the state (steps)",
    ylabel="norm of the gradient of the loss (nats)\nwith respect to the state k steps earlier",
    yscale="log",
    title="Linear SimpleRNN: gradients vanish (g < 1) or explode (g > 1)",
)
axes.legend()
axes.grid(alpha=0.3)

# %% [markdown]
# ## Gradients explode in training
#
# A SimpleRNN learns the agreement grammar by SGD with a large learning rate and momentum, with two activations, each
# without and with clipping. This is what `keras-seq gradients` shows. With tanh, the states stay between -1 and 1: the
# norm jumps, and so does the loss. With ReLU, the states have no bound, so the norm can end as infinity or NaN.

# %%
runs = []
for run in explosions(seed=0):
    print(run)
    runs.append(run)

# %%
picture = Path(tempfile.mkdtemp()) / "explosion.png"
plot_explosions(runs, picture)
Image(picture)

# %% [markdown]
# ## Clipping
#
# Clipping makes a gradient shorter before the optimizer uses it. Keras has three ways, and an optimizer takes one of
# them.
#
# * `clipnorm`: the gradient of *each weight array* whose norm exceeds the threshold is rescaled to the threshold.
# * `global_clipnorm`: if the norm of *all* gradients together exceeds the threshold, all are rescaled by one factor.
#   This is the rule of Pascanu, Mikolov and Bengio (2013): $g \leftarrow g\,\theta / \lVert g \rVert$ if
#   $\lVert g \rVert > \theta$. It keeps the direction of the step.
# * `clipvalue`: each *number* of a gradient is cut off at plus and minus the threshold. This changes the direction.
#
# A small example shows the difference in numbers: the gradients of two weight arrays, clipped in each way.

# %%
gradients = [np.array([3.0, 4.0], "float32"), np.array([0.6, 0.0], "float32")]


def clipped_by(**clipping):
    """Returns the step of plain SGD with learning rate 1, which is the gradient after clipping."""
    weights = [keras.Variable(np.zeros(2, "float32")) for _ in gradients]
    optimizer = keras.optimizers.SGD(1.0, **clipping)
    optimizer.apply([keras.ops.convert_to_tensor(one) for one in gradients], weights)
    return [0.0 - keras.ops.convert_to_numpy(weight) for weight in weights]


def norm(arrays):
    """Returns the common norm of arrays."""
    return math.sqrt(sum(float((one**2).sum()) for one in arrays))


for clipping in ({}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"clipvalue": 1.0}):
    after = clipped_by(**clipping)
    product = sum(float(one @ other) for one, other in zip(gradients, after, strict=True))
    cosine = product / norm(gradients) / norm(after)
    numbers = "  ".join(np.array2string(one, precision=3) for one in after)
    print(f"{clipping!s:<26} {numbers:<30} norm {norm(after):.3f}, cosine with the gradient {cosine:.3f}")

# %% [markdown]
# ## The three ways in training
#
# The same SimpleRNN trains four times: without clipping and with each way. `ks.GradientNorms` records the norm of each
# step before and after clipping. `ks.StopWhenNotFinite` ends a run that has diverged, and its message names the cause.
# How large the norms without clipping become depends on how a machine rounds. That they explode does not.

# %%
corpus = ks.agreement_corpus(sentences=8000, seed=0)
vocabulary = ks.Vocabulary.from_text(corpus.train, level="word")
data = ks.streams(corpus.train, vocabulary, batch_size=32, length=64)
CLIPPINGS = {
    "no clipping": {},
    "clipnorm = 1": {"clipnorm": 1.0},
    "global_clipnorm = 1": {"global_clipnorm": 1.0},
    "clipvalue = 0.05": {"clipvalue": 0.05},
}


# %%
class Recorder(keras.callbacks.Callback):
    """Records the norms of each step, which `ks.GradientNorms` adds to the logs, and the loss of its batch."""

    def __init__(self):
        super().__init__()
        self.before, self.after, self.losses = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        """Adds a step. The loss in the logs is the mean over the epoch so far."""
        self.before.append(logs["gradient_norm"])
        self.after.append(logs["clipped_norm"])
        self.losses.append(logs["loss"] * (batch + 1) - sum(self.losses))


# %%
def train(clipping, activation="tanh"):
    """Trains for one epoch and returns the record of its steps, and why it ended early, if it did."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Embedding(len(vocabulary), 32),
        ks.SimpleRNN(128, activation, return_sequences=True),
        keras.layers.Dense(len(vocabulary)),
    ]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5, momentum=0.9, **clipping), loss, jit_compile=False)
    record = Recorder()
    callbacks = [ks.GradientNorms(), record, ks.StopWhenNotFinite()]
    try:
        model.fit(data, shuffle=False, verbose=0, callbacks=callbacks)
    except DivergedError as diverged:
        return record, str(diverged)
    return record, ""


records = {name: train(clipping) for name, clipping in CLIPPINGS.items()}

# %%
print(f"a uniform guess has {math.log(len(vocabulary)):.2f} nats per token\n")
print(f"{'':<22}{'largest norm':>13}{'after clipping':>16}{'nats, last 10 batches':>23}")
for name, (record, message) in records.items():
    largest = [np.nanmax(norms) for norms in (record.before, record.after)]
    print(f"{name:<22}{largest[0]:>13.3g}{largest[1]:>16.3g}{np.mean(record.losses[-10:]):>23.2f}  {message}")

# %% [markdown]
# Left: the norms before clipping, step by step. Clipping does not only shorten the steps. It also keeps training where
# the norms are small. Right: each step of the clipped runs as a point, its norm before and after clipping. A point on
# the dotted line was not clipped.

# %%
LOOKS = {
    "no clipping": ("--", ""),
    "clipnorm = 1": ("-", "o"),
    "global_clipnorm = 1": ("-.", "s"),
    "clipvalue = 0.05": (":", "^"),
}
figure, (by_step, pairs) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
for name, (record, _) in records.items():
    line, marker = LOOKS[name]
    by_step.plot(record.before, line, color=ORANGE_RED, linewidth=1.2, label=name)
    if name != "no clipping":
        pairs.plot(record.before, record.after, marker, color=ORANGE_RED, markersize=6, fillstyle="none", label=name)
clipped = [one for name, (record, _) in records.items() if name != "no clipping" for one in record.before]
ends = [min(clipped), max(clipped)]
pairs.plot(ends, ends, ":", color="0.4", label="not clipped")
by_step.set(xlabel="step", ylabel="norm of the gradient, before clipping (nats)", yscale="log")
pairs.set(xlabel="norm before clipping (nats)", ylabel="norm after clipping (nats)")
figure.suptitle("SimpleRNN with tanh: gradients explode unless they are clipped")
for axes in (by_step, pairs):
    axes.legend()
    axes.grid(alpha=0.3)

# %% [markdown]
# With `global_clipnorm`, the norm after clipping is at most the threshold, up to a percent: Keras takes the norm of an
# embedding's gradient before it adds the rows of the same token. The thresholds of the other two are for one weight
# array and for one number, so the common norm can be larger.

# %%
for name, (record, _) in records.items():
    changed = np.mean(np.array(record.after) < np.array(record.before) * (1 - 1e-5))
    print(f"{name:<22} clipped {changed:>6.1%} of the steps; largest norm after clipping {max(record.after):.3g}")
assert max(records["global_clipnorm = 1"][0].after) <= 1.01

# %% [markdown]
# ## Try it
#
# 1. Call `train(clipping, activation="relu")` for each way. Which runs end early, and what does the message say?
# 2. Multiply all thresholds by 100. From which threshold on does clipping no longer help?
# 3. Replace `ks.SimpleRNN` by `ks.GRU`, whose state is always between -1 and 1. Does it still explode with the same
#    learning rate?
