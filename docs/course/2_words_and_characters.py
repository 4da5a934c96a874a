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
# # 2. Words and characters
#
# A language model reads words or characters. You will see what each choice costs on the same text: the size of the
# vocabulary, the length of the sequences, `<unk>`, the steps of the model, and its parameters. Then two models of
# characters learn Shakespeare and the news. Their samples keep the style of their corpus, and a number shows it.

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
import time
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter, ScalarFormatter

import keras_seq as ks
from keras_seq.data.agreement import agreement_probes

# %% [markdown]
# ## Two short texts
#
# The first text is by Shakespeare. If there is a file `shakespeare.txt` in the current folder, we use its first 200,000
# characters instead, and the samples become better.

# %%
SHAKESPEARE = """\
To be, or not to be, that is the question:
Whether 'tis nobler in the mind to suffer
The slings and arrows of outrageous fortune,
Or to take arms against a sea of troubles
And by opposing end them. To die: to sleep;
No more; and by a sleep to say we end
The heart-ache and the thousand natural shocks
That flesh is heir to, 'tis a consummation
Devoutly to be wish'd. To die, to sleep;
To sleep: perchance to dream: ay, there's the rub;
For in that sleep of death what dreams may come
When we have shuffled off this mortal coil,
Must give us pause: there's the respect
That makes calamity of so long life;
For who would bear the whips and scorns of time,
The oppressor's wrong, the proud man's contumely,
The pangs of despised love, the law's delay,
The insolence of office and the spurns
That patient merit of the unworthy takes,
When he himself might his quietus make
With a bare bodkin? who would fardels bear,
To grunt and sweat under a weary life,
But that the dread of something after death,
The undiscover'd country from whose bourn
No traveller returns, puzzles the will
And makes us rather bear those ills we have
Than fly to others that we know not of?
Thus conscience does make cowards of us all;

Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance, or nature's changing course, untrimm'd;
But thy eternal summer shall not fade
Nor lose possession of that fair thou ow'st;
Nor shall Death brag thou wander'st in his shade,
When in eternal lines to time thou grow'st;
So long as men can breathe or eyes can see,
So long lives this, and this gives life to thee.

Let me not to the marriage of true minds
Admit impediments. Love is not love
Which alters when it alteration finds,
Or bends with the remover to remove:
O, no! it is an ever-fixed mark,
That looks on tempests and is never shaken;
It is the star to every wandering bark,
Whose worth's unknown, although his height be taken.
Love's not Time's fool, though rosy lips and cheeks
Within his bending sickle's compass come;
Love alters not with his brief hours and weeks,
But bears it out even to the edge of doom.
If this be error and upon me proved,
I never writ, nor no man ever loved.

To-morrow, and to-morrow, and to-morrow,
Creeps in this petty pace from day to day
To the last syllable of recorded time,
And all our yesterdays have lighted fools
The way to dusty death. Out, out, brief candle!
Life's but a walking shadow, a poor player
That struts and frets his hour upon the stage
And then is heard no more: it is a tale
Told by an idiot, full of sound and fury,
Signifying nothing.

That time of year thou mayst in me behold
When yellow leaves, or none, or few, do hang
Upon those boughs which shake against the cold,
Bare ruin'd choirs, where late the sweet birds sang.
In me thou see'st the twilight of such day
As after sunset fadeth in the west,
Which by and by black night doth take away,
Death's second self, that seals up all in rest.
In me thou see'st the glowing of such fire
That on the ashes of his youth doth lie,
As the death-bed whereon it must expire
Consumed with that which it was nourish'd by.
This thou perceivest, which makes thy love more strong,
To love that well which thou must leave ere long.
"""
if Path("shakespeare.txt").exists():
    SHAKESPEARE = Path("shakespeare.txt").read_text(encoding="utf-8")[:200_000]

# %% [markdown]
# The news is made up.

# %%
NEWS = """\
The city council voted on Tuesday to close the old bridge for six months. Repairs will cost 4 million dollars.
Shares of the largest shipping company fell 3 percent on Monday after it reported lower profits for the quarter.
The central bank left its main interest rate at 2 percent. Analysts had expected a small increase before the summer.
Police said on Friday that two men were arrested after a robbery at a bank in the north of the city.
The minister said the new law would protect 12,000 jobs. The opposition said it would cost the country too much.
Heavy rain closed three roads in the valley on Sunday. The weather service expects more storms this week.
The team won its fourth game in a row on Saturday, beating its rivals 3 to 1 in front of 40,000 people.
Scientists reported on Thursday that the lake has lost a third of its water in the last 20 years.
The company plans to build a factory with 800 workers near the port. Production will begin in the spring.
Oil prices rose 2 percent on Wednesday after producers said they would cut exports from next month.
A fire destroyed a market in the old town on Monday night. No one was injured, the police said.
The president will meet the leaders of four countries next week to talk about trade and the price of grain.
Unemployment fell to 5 percent in March, the government said on Friday, the lowest level in ten years.
The airline cancelled 120 flights on Sunday after its pilots went on strike for higher pay.
The museum said a painting that was stolen in 1987 was found in a house in the south of the country.
Voters in two states will decide in November whether to raise the minimum wage to 15 dollars an hour.
The bank said its profits rose 8 percent in the last quarter, more than analysts had expected.
The court ruled on Wednesday that the city must pay 2 million dollars to the owners of the land.
Farmers expect a small harvest this year after a dry spring. The price of wheat rose 4 percent in a month.
The new train will run between the two cities in less than 3 hours, the minister of transport said on Tuesday.
The champion withdrew from the race on Thursday with an injury to his knee. He will not run before the summer.
Exports fell 6 percent in April, the government reported on Monday. Imports did not change.
The company said it would close two of its five factories by the end of the year and cut 1,500 jobs.
Snow is expected in the mountains on Saturday. The weather service warned drivers to stay at home.
"""


def parts(text):
    """Returns the first nine tenths of a text, which the model learns, and the last tenth, which it does not see."""
    cut = len(text) * 9 // 10
    return text[:cut], text[cut:]


training, held_out = parts(SHAKESPEARE)
print(f"Shakespeare {len(SHAKESPEARE):,} characters, news {len(NEWS):,}")

# %% [markdown]
# ## One text in both kinds of tokens
#
# A word token includes the space before it. Nothing of the text is lost: the tokens joined are the text.

# %%
characters = ks.Vocabulary.from_text(SHAKESPEARE + NEWS, level="char")
words = ks.Vocabulary.from_text(training, level="word", min_count=2)
line = SHAKESPEARE.splitlines()[0]
for vocabulary in (characters, words):
    print(f"{vocabulary.level}: {[vocabulary.tokens[one] for one in vocabulary.encode(line)]}")
assert characters.decode(characters.encode(SHAKESPEARE)) == SHAKESPEARE

# %% [markdown]
# `min_count=2` leaves out the words that occur once in the training text. They become `<unk>`, so the model learns
# where rare words stand. The vocabulary of characters has every character and needs no `<unk>`.
#
# ## The vocabulary grows with the text
#
# Soon all characters have occurred. New words keep coming.

# %%
sizes = np.unique(np.geomspace(100, len(SHAKESPEARE), 30).astype(int))
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for level, style in (("word", "-"), ("char", "--")):
    counts = [len(ks.Vocabulary.from_text(SHAKESPEARE[:size], level=level).text_ids) for size in sizes]
    axes.plot(sizes, counts, style, color="black", label="words" if level == "word" else "characters")
axes.set(
    xlabel="text read (characters)", ylabel="different tokens (count)", xscale="log", yscale="log", title="Vocabulary"
)
for formatted in (axes.xaxis, axes.yaxis):
    formatted.set_major_formatter(ScalarFormatter())
    formatted.set_minor_formatter(NullFormatter())
axes.legend()
axes.grid(alpha=0.3)

# %% [markdown]
# ## Train both
#
# Both models have one GRU of the same size. An epoch reads the training text once.

# %%
UNITS, EMBEDDING_DIM, BATCH_SIZE = 128, 32, 8


def train(text, vocabulary, length, epochs):
    """Returns a trained model, and the seconds of an epoch. `length` is the number of tokens of a training sequence."""
    keras.utils.set_random_seed(0)
    model = ks.language_model(len(vocabulary), units=[UNITS], embedding_dim=EMBEDDING_DIM, dropout=0.2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3, clipnorm=1.0), loss, jit_compile=False)
    data = ks.streams(text, vocabulary, BATCH_SIZE, length)
    model.fit(data, epochs=1, shuffle=False, verbose=0)  # TensorFlow compiles in the first epoch.
    start = time.perf_counter()
    model.fit(data, epochs=epochs - 1, shuffle=False, verbose=0)
    return model, (time.perf_counter() - start) / (epochs - 1)


tokens = len(characters.encode(training))
EPOCHS = max(3, 240_000 // tokens)  # A short text is read more often.
char_model, char_seconds = train(training, characters, 60, EPOCHS)
word_model, word_seconds = train(training, words, 15, EPOCHS)

# %% [markdown]
# ## What each costs

# %%
rows = []
for model, vocabulary, seconds in ((char_model, characters, char_seconds), (word_model, words, word_seconds)):
    count, unseen = len(vocabulary.encode(training)), vocabulary.encode(held_out)
    rows.append(
        {
            "tokens in the vocabulary": f"{len(vocabulary):,}",
            "tokens of the training text": f"{count:,}",
            "characters per token": f"{len(training) / count:.2f}",
            "steps to write 1,000 characters": f"{1000 * count / len(training):,.0f}",
            "parameters of the model": f"{model.count_params():,}",
            "parameters in embedding and logits": f"{len(vocabulary) * (EMBEDDING_DIM + UNITS + 1):,}",
            "seconds per epoch": f"{seconds:.2f}",
            "<unk> in the last tenth": f"{np.mean(unseen == vocabulary.unk_id):.1%}",
        }
    )
print(f"{'':<38}{'characters':>12}{'words':>12}")
for name in rows[0]:
    print(f"{name:<38}{rows[0][name]:>12}{rows[1][name]:>12}")

# %% [markdown]
# The model of words takes fewer steps for the same text. It pays with `<unk>`, and with parameters for each word of the
# vocabulary: a row of the embedding and a column of the logits. Mind `<unk>` when you compare losses. All unknown words
# share this one token, which is easy to predict, because the model need not spell them.
#
# ## The same distance has more steps in characters
#
# In "the cat, which already ate, was full", the verb must agree with a noun some words before it. A model of characters
# needs to remember the noun for several times as many steps. We count this with the project's grammar of such
# sentences, which the next notebook uses.

# %%
DISTANCES = (5, 10, 20, 40)
for distance, probe in zip(DISTANCES, agreement_probes(1, DISTANCES), strict=True):
    vocabulary = ks.Vocabulary.from_text(probe.text, level="word")
    between = vocabulary.decode(vocabulary.encode(probe.prefix)[1 - distance :])
    print(f"distance {distance:>2} words, {len(between):>3} characters in between: {between.strip()}")

# %% [markdown]
# ## Samples keep the style of the corpus
#
# A second model of characters learns the news, with the same vocabulary and the same settings.

# %%
news_model, _ = train(parts(NEWS)[0], characters, 60, max(3, 240_000 // len(NEWS)))
models = {"Shakespeare": char_model, "news": news_model}
samples = {
    name: ks.sample(model, characters, max_tokens=300, temperature=0.8, seed=1) for name, model in models.items()
}
for name, sample in samples.items():
    print(f"--- {name}\n{sample}\n")

# %% [markdown]
# Which model would have written each sample? The table has the nats per character of both samples under both models.
# A smaller number means a likelier text. Each sample is likelier under the model of its own corpus.

# %%
print(f"{'nats per character':<22}" + "".join(f"{f'model of {name}':>22}" for name in models))
nats = {}
for written_by, sample in samples.items():
    for name, model in models.items():
        nats[written_by, name] = -ks.score(model, characters, sample).log_probability / len(sample)
    print(f"{f'sample of {written_by}':<22}" + "".join(f"{nats[written_by, name]:>22.2f}" for name in models))
assert nats["Shakespeare", "Shakespeare"] < nats["Shakespeare", "news"]
assert nats["news", "news"] < nats["news", "Shakespeare"]

# %% [markdown]
# The model of words writes whole words from the first epoch on, but only words that it knows.

# %%
print(ks.sample(word_model, words, max_tokens=60, temperature=0.8, seed=1))

# %% [markdown]
# ## New text, or copied text?
#
# A model of a short text learns parts of it by heart. The longest passage of a sample that also stands in the corpus
# shows how long these parts are.


# %%
def longest_copy(sample, corpus):
    """Returns the longest passage of a sample that stands in the corpus."""
    longest = ""
    for begin in range(len(sample)):
        while begin + len(longest) < len(sample) and sample[begin : begin + len(longest) + 1] in corpus:
            longest = sample[begin : begin + len(longest) + 1]
    return longest


for name, corpus in (("Shakespeare", SHAKESPEARE), ("news", NEWS)):
    copied = longest_copy(samples[name], corpus)
    print(f"{name}: {len(copied)} of {len(samples[name])} characters in one piece: {copied!r}")

# %% [markdown]
# ## Try it
#
# 1. Set `min_count=1`. How large does the model of words become, and is the last tenth still full of `<unk>`?
# 2. Use a text of your own in place of the news, in another language or a program. What does the model learn first?
# 3. Set the temperature to 0.3 and to 1.2. How long are the copied passages?
