"""`keras-seq gradients`: what exploding gradients do to a plain RNN, and what clipping does against it.

Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063: the gradient of a recurrent net can grow exponentially with the number of
steps; one such step undoes the training before it. With tanh the loss is thrown up and stays there; with ReLU, whose
states have no bound, it ends in numbers that are none.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_seq.analysis.plots import _figure, _save
from keras_seq.data.agreement import agreement_corpus
from keras_seq.data.streams import streams
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import DivergedError
from keras_seq.training.callbacks import StopWhenNotFinite
from keras_seq.training.gradient_norms import GradientNorms

SENTENCES, BATCH_SIZE, LENGTH, UNITS = 8000, 32, 64, 128
LEARNING_RATE, MOMENTUM, THRESHOLD = 0.5, 0.9, 1.0


class Explosion(NamedTuple):
    """A short training run of a SimpleRNN, by plain descent with momentum.

    Attributes:
        activation: of the SimpleRNN.
        clipping: what clips its gradients; empty where nothing does.
        norms: of the gradient before clipping, each step.
        nats: the loss of the last ten batches, nats a token; NaN where the run ended in no number.
        end: what ended it; empty where it went through.
    """

    activation: str
    clipping: dict[str, float]
    norms: list[float]
    nats: float
    end: str

    def __str__(self) -> str:
        clipping = ", ".join(f"{name}={value:g}" for name, value in self.clipping.items()) or "nothing clipped"
        finite = [norm for norm in self.norms if math.isfinite(norm)]
        went = f"{self.nats:.2f} nats a token at its end" if not self.end else self.end.partition(":")[0]
        return f"SimpleRNN, {self.activation}, {clipping}: largest gradient norm {max(finite):.3g}; {went}"


def explosions(seed: int = 0) -> Iterator[Explosion]:
    """Trains a SimpleRNN on the agreement grammar with tanh and with ReLU, each without clipping and with it."""
    corpus = agreement_corpus(SENTENCES, seed)
    vocabulary = Vocabulary.from_text(corpus.text("train"), level="word")
    data = streams(corpus.train, vocabulary, BATCH_SIZE, LENGTH)
    for activation in ("tanh", "relu"):
        for clipping in ({}, {"global_clipnorm": THRESHOLD}):
            yield _train(data, len(vocabulary), activation, clipping, seed)


def _train(data: Any, vocabulary_size: int, activation: str, clipping: dict[str, float], seed: int) -> Explosion:
    keras.utils.set_random_seed(seed % 2**32)
    layers = [
        keras.layers.Embedding(vocabulary_size, 32),
        keras.layers.SimpleRNN(UNITS, activation=activation, return_sequences=True),
        keras.layers.Dense(vocabulary_size),
    ]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, **clipping)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    norms, losses, end = GradientNorms(), _Losses(), ""
    try:
        model.fit(data, shuffle=False, verbose=0, callbacks=[norms, losses, StopWhenNotFinite()])
    except DivergedError as diverged:
        end = str(diverged)
    return Explosion(activation, clipping, norms.norms, float(np.mean(losses.by_batch[-10:])), end)


class _Losses(keras.callbacks.Callback):
    """The loss of each batch by itself; `fit` gives the mean of the epoch so far."""

    def __init__(self) -> None:
        super().__init__()
        self.by_batch: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        mean = (logs or {})["loss"]
        self.by_batch.append(mean * (batch + 1) - sum(self.by_batch))


def plot_explosions(runs: Sequence[Explosion], picture: Path) -> None:
    """Draws the gradient's norm by step, with and without clipping.

    Args:
        runs: from `explosions`.
        picture: the `.png` to write.
    """
    figure, axes = _figure(8, 5)
    for run in runs:
        label = f"{run.activation}, {', '.join(run.clipping) or 'nothing clipped'}"
        (line,) = axes.plot(run.norms, label=label, linestyle="-" if run.clipping else "--")
        if run.end:
            last = [place for place, norm in enumerate(run.norms) if np.isfinite(norm)][-1]
            axes.plot(last, run.norms[last], marker="x", markersize=10, color=line.get_color())
    axes.set(
        xlabel="step",
        ylabel="norm of the gradient, before clipping",
        yscale="log",
        title="SimpleRNN: exploding gradients (x: no number any more), and the cure",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, picture)
