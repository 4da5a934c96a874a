"""`keras-seq gradients`: what exploding gradients do to a SimpleRNN, and how clipping prevents it.

The gradient of a recurrent network can grow exponentially with the number of steps (Pascanu, Mikolov & Bengio 2013,
arXiv 1211.5063). One step with such a gradient undoes all training before it. With tanh the loss jumps and stays high. With
ReLU, whose states are unbounded, it ends as NaN.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_seq.data.agreement import agreement_corpus
from keras_seq.data.streams import streams
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import DivergedError
from keras_seq.training.callbacks import StopWhenNotFinite
from keras_seq.training.config import Clipping
from keras_seq.training.gradient_norms import GradientNorms

SENTENCES, BATCH_SIZE, LENGTH, UNITS, EMBEDDING_DIM = 8000, 32, 64, 128, 32
LEARNING_RATE, MOMENTUM = 0.5, 0.9
CLIPPING = Clipping("global_clipnorm", 1.0)
_LAST_BATCHES = 10


class Explosion(NamedTuple):
    """A short training run of a SimpleRNN by SGD with momentum.

    Attributes:
        activation: activation of the SimpleRNN.
        clipping: how the gradients are clipped; None does not clip.
        norms: norm of the gradient before clipping, at each step.
        nats_per_token: mean loss of the last ten batches; NaN if the run diverged to NaN.
        error: message of the error that ended the run; empty if it finished.
    """

    activation: str
    clipping: Clipping | None
    norms: list[float]
    nats_per_token: float
    error: str

    def __str__(self) -> str:
        largest = max(norm for norm in self.norms if math.isfinite(norm))
        result = self.error.partition(":")[0] or f"{self.nats_per_token:.2f} nats per token at the end"
        clipping = self.clipping or "no clipping"
        return f"SimpleRNN, {self.activation}, {clipping}: largest gradient norm {largest:.3g}; {result}"


def explosions(seed: int = 0) -> Iterator[Explosion]:
    """Trains a SimpleRNN on the agreement grammar: with tanh and with ReLU, each without and with clipping.

    Args:
        seed: seed of the sentences and of the weights.
    """
    corpus = agreement_corpus(SENTENCES, seed)
    vocabulary = Vocabulary.from_text(corpus.text("train"), level="word")
    data = streams(corpus.train, vocabulary, BATCH_SIZE, LENGTH)
    for activation in ("tanh", "relu"):
        for clipping in (None, CLIPPING):
            yield _train(data, len(vocabulary), activation, clipping, seed)


def _train(data: Any, vocabulary_size: int, activation: str, clipping: Clipping | None, seed: int) -> Explosion:
    keras.utils.set_random_seed(seed % 2**32)
    layers = [
        keras.layers.Embedding(vocabulary_size, EMBEDDING_DIM),
        keras.layers.SimpleRNN(UNITS, activation=activation, return_sequences=True),
        keras.layers.Dense(vocabulary_size),
    ]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    clipping_arguments = {} if clipping is None else clipping.optimizer_arguments
    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, **clipping_arguments)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    norms, losses, error = GradientNorms(), _BatchLosses(), ""
    try:
        model.fit(data, shuffle=False, verbose=0, callbacks=[norms, losses, StopWhenNotFinite()])
    except DivergedError as diverged:
        error = str(diverged)
    return Explosion(activation, clipping, norms.norms, float(np.mean(losses.losses[-_LAST_BATCHES:])), error)


class _BatchLosses(keras.callbacks.Callback):
    """Records the loss of each batch. The logs of `fit` have the mean over the epoch so far instead."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        mean_so_far = (logs or {})["loss"]
        self.losses.append(mean_so_far * (batch + 1) - sum(self.losses))
