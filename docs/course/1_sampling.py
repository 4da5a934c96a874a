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
# # 1. Sampling a novel sequence
#
# A small GRU learns weather reports and then writes reports of its own. You will see the loop that writes a text: the
# model starts from a zero state, the first token is drawn from the model's own distribution, and each drawn token is
# the next input, until `<eos>`. You will see with numbers that redrawing `<unk>` is the same as forbidding it. At the
# end, a temperature changes how bold the model is.

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
import random

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_seq as ks
from keras_seq.analysis.plots import cell_color
from keras_seq.generation.threefry import uniform

# %% [markdown]
# ## A corpus whose distribution we know
#
# Each report is one line. We choose how often each kind of weather begins a report, so we can check later what the
# model has learned. A few towns are frequent and many are rare, as words are in every language.

# %%
WEATHER = {"rain": 5, "sun": 3, "wind": 2, "snow": 1}
TOWNS = ["Oslo", "Bergen", "Lima", "Paris", "Quito", "Cairo", "Delhi", "Turin", "Porto", "Kyiv", "Seoul", "Tunis"]
RARE_TOWNS = ["Riga", "Bern", "Minsk", "Accra", "Hanoi", "Lund", "Leeds", "Ghent", "Basel", "Split", "Varna", "Utrecht"]


def report(rng):
    """Draws one report."""
    weather = rng.choices(list(WEATHER), list(WEATHER.values()))[0]
    towns = TOWNS + RARE_TOWNS
    named = rng.choices(towns, [1 / rank for rank in range(1, len(towns) + 1)], k=rng.choice((1, 1, 2, 3)))
    when = rng.choice(("today", "tonight", "tomorrow"))
    return f"{weather} {rng.choice(('reaches', 'leaves'))} {' and '.join(dict.fromkeys(named))} {when}"


rng = random.Random(0)
reports = [report(rng) for _ in range(4000)]
text = "\n".join(reports) + "\n"
print("\n".join(reports[:5]))

# %% [markdown]
# ## The vocabulary
#
# A vocabulary of words has a limited size. The most frequent words are in it. All other words share the token `<unk>`.
# `<eos>` ends each line. `<s>` stands before each line, and `<pad>` fills short lines of a batch.

# %%
vocabulary = ks.Vocabulary.from_text(text, level="word", max_size=27)
ids = vocabulary.encode_lines(text)
unknown = [town for town in TOWNS + RARE_TOWNS if f" {town}" not in vocabulary.ids]
print(vocabulary.tokens)
print(f"{(ids == vocabulary.unk_id).mean():.1%} of the tokens are <unk>; {len(unknown)} towns share it: {unknown}")

# %% [markdown]
# ## The model
#
# The model reads one token after the other and predicts the next one. Training is plain `model.fit`.

# %%
keras.utils.set_random_seed(0)
UNITS = 48
model = ks.language_model(len(vocabulary), cell="gru", units=[UNITS], embedding_dim=16)
model.compile(
    keras.optimizers.Adam(1e-2, clipnorm=1.0),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
    weighted_metrics=[ks.NatsPerToken()],
    jit_compile=False,
)
history = model.fit(ks.lines(text, vocabulary, batch_size=64), epochs=4, shuffle=False, verbose=2)

# %% [markdown]
# ## The first token
#
# `ks.step_model` returns the same model for one step: a token and the state in, logits and the new state out. The text
# begins with the zero state. There is no token before the first one. Textbooks therefore often use a zero vector as
# the first input $x^{\langle 1 \rangle}$. keras_seq uses `<s>`, which says as little, because every report begins with
# it: its vector is learned, so the first input is a constant instead of zero. The first distribution is that of the
# first words of all reports, and the first token is drawn from it.

# %%
decoder = ks.step_model(model)
print("inputs:", [tensor.name for tensor in decoder.inputs], "outputs:", [tensor.shape for tensor in decoder.outputs])

zero_state = np.zeros((1, UNITS), "float32")


def step(token, state):
    """Returns the logits `(vocabulary,)` after a token, and the new state."""
    logits, state = decoder([np.array([token]), state])
    return np.asarray(logits[0]), np.asarray(state)


def softmax(logits, temperature=1.0):
    """Returns the probabilities of logits `(vocabulary,)`."""
    scaled = np.asarray(logits, "float64") / temperature
    weights = np.exp(scaled - scaled.max())
    return weights / weights.sum()


logits, state = step(vocabulary.start_id, zero_state)
first = softmax(logits)
print("first word   model   corpus")
for weather, weight in WEATHER.items():
    print(f"{weather:<10} {first[vocabulary.ids[weather]]:>7.3f} {weight / sum(WEATHER.values()):>8.3f}")

# %% [markdown]
# ## Draw, feed back, stop at `<eos>`
#
# A token is drawn with one uniform number $u$ in $[0, 1)$: take the first token whose cumulative probability exceeds
# $u$. The drawn token is the next input.


# %%
def draw(probabilities, uniform):
    """Returns the first token id whose cumulative probability exceeds `uniform` in [0, 1)."""
    cumulative = np.cumsum(probabilities)
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))


uniforms = np.random.default_rng(3)
token, state, written = vocabulary.start_id, zero_state, []
while token != vocabulary.eos_id and len(written) < 30:
    logits, state = step(token, state)
    token = draw(softmax(logits), uniforms.random())
    written.append(vocabulary.tokens[token])
print(written)

# %% [markdown]
# ## What to do with `<unk>`
#
# `<unk>` is a word that the model cannot spell. There are two ways to avoid it.
#
# * **Redraw**: if `<unk>` is drawn, draw again until another token comes.
# * **Forbid**: set the probability of `<unk>` to zero and divide the others by their sum.
#
# Both give the same distribution. Let $p$ be the probability of `<unk>` and $p_w$ that of the word $w$. Redrawing ends
# with $w$ after $k$ rejected draws with probability $p^k p_w$, so
#
# $$P(w) = \sum_{k=0}^{\infty} p^k\, p_w = \frac{p_w}{1 - p},$$
#
# which is $p_w$ divided by the sum of the probabilities of all other tokens. We check this after "rain reaches", where
# a town comes next.

# %%
state = zero_state
for token in [vocabulary.start_id, *vocabulary.encode("rain reaches")]:
    logits, state = step(token, state)
model_says = softmax(logits)
p_unknown = model_says[vocabulary.unk_id]

forbidden = model_says.copy()
forbidden[vocabulary.unk_id] = 0
forbidden /= forbidden.sum()

# %%
DRAWS = 200_000
random_numbers = np.random.default_rng(0)
cumulative = np.cumsum(model_says)
redrawn = np.full(DRAWS, vocabulary.unk_id)
draws = 0
while (again := redrawn == vocabulary.unk_id).any():
    draws += again.sum()
    redrawn[again] = np.searchsorted(cumulative, random_numbers.random(again.sum()) * cumulative[-1], side="right")
frequency = np.bincount(redrawn, minlength=len(vocabulary)) / DRAWS

print(f"{'token':<9}{'model':>8}{'redrawn':>9}{'forbidden':>11}")
for token in np.argsort(-model_says)[:7]:
    name, numbers = vocabulary.tokens[token].strip(), (model_says[token], frequency[token], forbidden[token])
    print(f"{name:<9}{numbers[0]:>8.4f}{numbers[1]:>9.4f}{numbers[2]:>11.4f}")

# %%
difference = np.abs(frequency - forbidden).max()
standard_error = np.sqrt(forbidden * (1 - forbidden) / DRAWS).max()
print(f"largest difference {difference:.4f}, largest standard error of {DRAWS:,} draws {standard_error:.4f}")
print(f"draws per token: {draws / DRAWS:.4f}; 1 / (1 - p) = {1 / (1 - p_unknown):.4f}")
assert difference < 5 * standard_error

# %% [markdown]
# Forbidding needs one draw per token, so this is what keras_seq does. `<pad>` and `<s>` are inputs only: they are
# always forbidden. Our loop now writes exactly the texts of `ks.sample`, if it takes the same uniform numbers: number
# $i$ of a seed for token $i$.

# %%
NEVER = [vocabulary.pad_id, vocabulary.start_id, vocabulary.unk_id]


def write(seed, max_tokens=30):
    """Returns the text of a seed."""
    token, state, tokens = vocabulary.start_id, zero_state, []
    for position in range(max_tokens):
        logits, state = step(token, state)
        probabilities = softmax(logits)
        probabilities[NEVER] = 0
        token = draw(probabilities, uniform(seed, position))
        if token == vocabulary.eos_id:
            break
        tokens.append(token)
    return vocabulary.decode(tokens)


for seed in range(4):
    text_of_seed = write(seed)
    assert text_of_seed == ks.sample(model, vocabulary, seed=seed, max_tokens=30)
    print(f"seed {seed}: {text_of_seed}")

# %% [markdown]
# `allow_unk=True` keeps `<unk>` instead. The text then shows where a rare word would stand.

# %%
kept = ks.sample(model, vocabulary, seed=0, num_samples=100, max_tokens=30, allow_unk=True)
print(f"{sum('<unk>' in one for one in kept)} of {len(kept)} texts have <unk>, such as: ", end="")
print(next(one for one in kept if "<unk>" in one))

# %% [markdown]
# ## Temperature
#
# The temperature $T$ divides the logits before the softmax. Below 1, likely tokens become more likely. Above 1, the
# distribution becomes flatter. $T = 0$ always takes the most likely token.

# %%
TEMPERATURES = (0.5, 1.0, 2.0)
shown = np.argsort(-forbidden)[:10]
allowed_logits = logits.copy()
allowed_logits[NEVER] = -np.inf

figure, panels = plt.subplots(1, len(TEMPERATURES), figsize=(10, 3.5), sharey=True, layout="constrained")
figure.suptitle("GRU: the temperature changes how even the distribution is")
panels[0].set_ylabel("probability")
for axes, temperature in zip(panels, TEMPERATURES, strict=True):
    names = [vocabulary.tokens[one].strip() for one in shown]
    axes.bar(names, softmax(allowed_logits, temperature)[shown], color=cell_color("GRU"))
    axes.set(title=f"T = {temperature:g}", xlabel='next word after "rain reaches"')
    axes.tick_params(axis="x", rotation=70)

# %% [markdown]
# The entropy says how even a distribution is, in nats. A novel report is one that is not in the training text.

# %%
known = set(reports)
print("  T   entropy, nats   different texts of 200   novel texts of 200")
for temperature in (0.1, *TEMPERATURES):
    p = softmax(allowed_logits, temperature)
    entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
    texts = ks.sample(model, vocabulary, seed=0, num_samples=200, max_tokens=30, temperature=temperature)
    novel = sum(one not in known for one in texts)
    print(f"{temperature:>4} {entropy:>13.2f} {len(set(texts)):>22} {novel:>21}")

# %% [markdown]
# ## Try it
#
# 1. Set `max_size=39`. How many tokens are `<unk>` now, and what does redrawing cost per token?
# 2. Start the loop from another state, such as `np.ones((1, UNITS), "float32")`. Which words begin a report then?
# 3. Print ten texts at temperature 5. Which rule of the reports breaks first?
