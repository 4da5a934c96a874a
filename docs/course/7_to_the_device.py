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
# # 7. To the device
#
# A small GRU leaves Keras. You will export one step of it to a `.tflite` file, read the file back in LiteRT, and run it
# token by token, as a phone does. The logits are those of Keras up to rounding, and the same seed gives the same text,
# token for token. Then the weights become 8-bit and 4-bit numbers, and you will see what this saves and what it costs.

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
import time
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_seq as ks
from keras_seq.analysis.plots import cell_color
from keras_seq_export import LiteRTDecoder, LiteRTSampler, export_tflite

# %% [markdown]
# ## A small model

# %%
corpus = ks.agreement_corpus(sentences=20_000, seed=0)
vocabulary = ks.Vocabulary.from_text(corpus.train, level="word")
keras.utils.set_random_seed(0)
model = ks.language_model(len(vocabulary), cell="gru", units=[96], embedding_dim=32)
model.compile(
    keras.optimizers.Adam(8e-3, clipnorm=1.0),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
    weighted_metrics=[ks.NatsPerToken()],
    jit_compile=False,
)
sentences = ks.lines(corpus.train, vocabulary, batch_size=64)
model.fit(sentences, shuffle=False, verbose=2, callbacks=[ks.CosineSchedule(epochs=1)])
print(f"{model.count_params():,} parameters")

# %% [markdown]
# ## From a sequence to a step
#
# In training, the model reads whole sentences. On a device, it reads one token at a time, and the state carries what it
# has read. `export_tflite` writes this one step. Before the file is published, it runs the file in LiteRT and compares
# it with the trained model. The report has the result.

# %%
folder = Path(tempfile.mkdtemp())
report = export_tflite(model, vocabulary, folder / "float32.tflite", by_line=True)
print(f"{report['bytes']:,} bytes")
print(f"{report['steps_compared']:,} steps compared, largest difference of a logit {report['largest_difference']:.1e}")
print("operators of one step:", report["operators"]["decode"])

# %% [markdown]
# All operators are builtin ones, which every LiteRT runtime has.
#
# ## Read it back
#
# `LiteRTDecoder` needs neither TensorFlow nor Keras. We read a sentence token by token with the file and with the
# one-step model of Keras, and compare the logits after each token.

# %%
decoder, keras_step = LiteRTDecoder(folder / "float32.tflite"), ks.step_model(model)
prompt = "the cats, which already ate the apple,"
states, keras_states = decoder.initial_states(), [np.zeros((1, 96), "float32")]
assert vocabulary == decoder.bundle.vocabulary  # The vocabulary is inside the file.

print(f"{'token':<10}{'likeliest next':<16}{'difference of the logits':>26}")
for token in [vocabulary.start_id, *vocabulary.encode(prompt)]:
    logits, states = decoder(np.array([token], "int32"), states)
    expected, *keras_states = keras_step([np.array([token]), *map(np.asarray, keras_states)])
    difference = np.abs(logits - np.asarray(expected)).max()
    assert difference < 1e-4
    likeliest = vocabulary.tokens[int(logits[0].argmax())]
    print(f"{vocabulary.tokens[token].strip():<10}{likeliest.strip():<16}{difference:>26.1e}")

# %% [markdown]
# ## Sample from it
#
# `LiteRTSampler` has the functions of keras_seq: `generate`, `sample`, `score` and `suggest`. Token $i$ of a text is
# drawn with number $i$ of the seed, in every runtime. So the same seed gives the same text.

# %%
sampler = LiteRTSampler(folder / "float32.tflite")
for piece in sampler.generate("the cats, which", max_tokens=40, seed=7):
    print(piece, end="|")
print()

# %%
TEXTS = 50
equal = 0
for seed in range(TEXTS):
    from_keras = ks.sample(model, vocabulary, max_tokens=60, seed=seed)
    from_file = sampler.sample(max_tokens=60, seed=seed)
    equal += from_keras == from_file and from_keras.token_ids == from_file.token_ids
    if seed < 3:
        print(f"seed {seed}\n  Keras   {from_keras}\n  .tflite {from_file}")
print(f"{equal} of {TEXTS} texts are equal")
assert equal == TEXTS

# %% [markdown]
# ## Smaller weights
#
# With `quantization="int8"`, each weight is an 8-bit number times the scale of its array. With `"int4"`, the weights of
# dense layers have 4 bits. This changes the logits slightly, so another token may be drawn. The export measures the
# cost on held-out text, and refuses a file that costs more than `max_loss` nats per token.

# %%
held_out = corpus.validation + corpus.test
reports = {"float32": report}
for quantization in ("int8", "int4"):
    reports[quantization] = export_tflite(
        model,
        vocabulary,
        folder / f"{quantization}.tflite",
        quantization,
        by_line=True,
        held_out=held_out,
        max_loss=0.05,
    )

texts = [ks.sample(model, vocabulary, max_tokens=60, seed=seed) for seed in range(TEXTS)]
print(f"{'':<9}{'bytes':>9}{'nats lost per token':>21}{'same likeliest token':>22}{f'same text, of {TEXTS}':>20}")
for name, one in reports.items():
    file = LiteRTSampler(folder / f"{name}.tflite")
    same = sum(file.sample(max_tokens=60, seed=seed) == text for seed, text in enumerate(texts))
    quality = one["quality"] if name != "float32" else {"nats_lost": 0.0, "greedy_agreement": 1.0}
    print(f"{name:<9}{one['bytes']:>9,}{quality['nats_lost']:>21.4f}{quality['greedy_agreement']:>22.1%}{same:>20}")

# %% [markdown]
# ## The time of a token
#
# On this machine, one thread:


# %%
def microseconds_per_token(write):
    """Returns the time of a token, in microseconds: the median of 39 texts. `<eos>` is a token, too."""
    write(seed=0)  # The first call prepares the runtime.
    of_texts = []
    for seed in range(1, 40):
        start = time.perf_counter()
        text = write(seed=seed)
        of_texts.append(1e6 * (time.perf_counter() - start) / (len(text.token_ids) + 1))
    return np.median(of_texts)


times = {"Keras": microseconds_per_token(lambda seed: ks.sample(model, vocabulary, max_tokens=60, seed=seed))}
for name in reports:
    file = LiteRTSampler(folder / f"{name}.tflite")
    times[f".tflite, {name}"] = microseconds_per_token(lambda seed, file=file: file.sample(max_tokens=60, seed=seed))
for name, microseconds in times.items():
    print(f"{name:<18}{microseconds:>9.1f} µs per token")

# %%
figure, (sizes, speeds) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
sizes.barh(list(reports), [one["bytes"] / 1000 for one in reports.values()], color=cell_color("GRU"))
sizes.set(xlabel="size of the file (kB)", ylabel="weights", title="GRU: bytes")
speeds.barh(list(times), list(times.values()), color=cell_color("GRU"))
speeds.set(xlabel="time per token (µs)", ylabel="runtime", title="GRU: time of a token")
for axes in (sizes, speeds):
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)

# %% [markdown]
# ## Try it
#
# 1. Print `folder`, and open its `int8.tflite` in the browser: `keras-seq web --model=PATH` (it needs LiteRT.js, and says
#    how to install it). Write with seed 7 and compare the text.
# 2. Export with `learn=True`, and let the sampler learn a text with `sampler.learn(text)`. How do its suggestions
#    change?
# 3. Export a SimpleRNN with the same number of units. How much smaller and faster is it, and what does it forget?
