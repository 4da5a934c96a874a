"""`keras-seq benchmark layer --first_fit`: the first `model.fit` of a process, with our GRU and with `keras.layers.GRU`.

A layer that is fast once it is compiled can still make a short fit slow. Each fit has a process of its own, in which
nothing is compiled yet, and both layers take turns.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_seq import require
from keras_seq.errors import ProcessEndedError
from keras_seq.layers.gru import GRU

BATCH = 32
ROWS = 320


class FirstFit(NamedTuple):
    """The first fit of a model.

    Attributes:
        model: the model and its data.
        stock: median seconds with `keras.layers.GRU`, from the call of `fit` to its end. Imports and `compile` are not
            included.
        ours: median seconds with `keras_seq.GRU`.
        ratio: `ours` divided by `stock`.
    """

    model: str
    stock: float
    ours: float
    ratio: float


class Fit(NamedTuple):
    """A model and what it is fitted on.

    Attributes:
        model: the model, not compiled.
        data: the inputs, and the targets unless the inputs are a dataset with both.
        batch_size: the batch size, or None for a dataset of batches.
    """

    model: keras.Model
    data: tuple[Any, ...]
    batch_size: int | None = BATCH


def benchmark_first_fit(models: Iterable[str] | None = None, rounds: int = 5) -> Iterator[FirstFit]:
    """Times the first fit of each model.

    Args:
        models: keys of `MODELS`; all of them if None.
        rounds: number of fits with either layer.

    Yields:
        A row for each model.

    Raises:
        ArgumentError: `rounds` is not a positive integer, or there is no such model.
        ProcessEndedError: the process of a fit ended.
    """
    require.positive_integer("rounds", rounds)
    models = list(MODELS if models is None else models)
    for model in models:
        require.one_of("models", model, MODELS)
    for model in models:
        seconds: dict[str, list[float]] = {"stock": [], "ours": []}
        for _ in range(rounds):
            for layer, measured in seconds.items():
                measured.append(_in_new_process(model, layer))
        stock, ours = map(statistics.median, seconds.values())
        yield FirstFit(model, stock, ours, ours / stock)


def table(rows: Iterable[FirstFit]) -> Iterator[str]:
    """Yields the lines of a table of the rows, each as soon as its row is there."""
    layout = "{:<52}{:>9}{:>9}{:>8}"
    yield layout.format("first fit", "stock s", "ours s", "ratio")
    for row in rows:
        yield layout.format(row.model, f"{row.stock:.2f}", f"{row.ours:.2f}", f"{row.ratio:.2f}x")


def _in_new_process(model: str, layer: str) -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(_first_fit, model, layer).result()
        except BrokenProcessPool:
            raise ProcessEndedError(f"the process of the fit of {model!r} ended before the fit did") from None


def _first_fit(model: str, layer: str) -> float:
    """Returns the seconds of the first fit. It must be the first in its process."""
    keras.utils.set_random_seed(0)
    fit = MODELS[model](keras.layers.GRU if layer == "stock" else GRU, np.random.default_rng(0))
    fit.model.compile(keras.optimizers.Adam(clipnorm=1.0), "mse")
    start = time.perf_counter()
    fit.model.fit(*fit.data, batch_size=fit.batch_size, verbose=0)
    return time.perf_counter() - start


def _targets(rows: int, random: np.random.Generator) -> np.ndarray:
    return random.normal(size=(rows, 1)).astype("float32")


def _series(shape: tuple[int, ...], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs of a shape, and their targets."""
    return random.normal(size=shape).astype("float32"), _targets(shape[0], random)


def _one_layer(gru: Any, random: np.random.Generator) -> Fit:
    model = keras.Sequential([keras.Input((40, 32)), gru(64), layers.Dense(1)])
    return Fit(model, _series((ROWS, 40, 32), random))


def _stacked(gru: Any, random: np.random.Generator) -> Fit:
    stack = [*(gru(32, return_sequences=True) for _ in range(3)), gru(32)]
    model = keras.Sequential([keras.Input((40, 32)), *stack, layers.Dense(1)])
    return Fit(model, _series((ROWS, 40, 32), random))


def _bidirectional(gru: Any, random: np.random.Generator) -> Fit:
    stack = [layers.Bidirectional(gru(32, return_sequences=True)), layers.Bidirectional(gru(32))]
    model = keras.Sequential([keras.Input((40, 32)), *stack, layers.Dense(1)])
    return Fit(model, _series((89, 40, 32), random))


def _time_distributed(gru: Any, random: np.random.Generator) -> Fit:
    stack = [layers.TimeDistributed(gru(32)), gru(32)]
    model = keras.Sequential([keras.Input((5, 20, 16)), *stack, layers.Dense(1)])
    return Fit(model, _series((ROWS, 5, 20, 16), random))


def _hierarchical_attention(gru: Any, random: np.random.Generator) -> Fit:
    """Yang et al. 2016: words are read into sentences, and sentences into a document, both with attention."""

    def read(sequence: Any) -> Any:
        memories = layers.Bidirectional(gru(32, return_sequences=True))(sequence)
        scores = layers.Dense(1)(layers.Dense(32, activation="tanh")(memories))
        return layers.Flatten()(layers.Dot(1)([layers.Softmax(1)(scores), memories]))

    words = keras.Input((20,), dtype="int32")
    sentence = keras.Model(words, read(layers.Embedding(100, 32)(words)))
    document = keras.Input((10, 20), dtype="int32")
    model = keras.Model(document, layers.Dense(1)(read(layers.TimeDistributed(sentence)(document))))
    return Fit(model, (random.integers(0, 100, (ROWS, 10, 20)), _targets(ROWS, random)))


def _twenty_lengths(gru: Any, random: np.random.Generator) -> Fit:
    model = keras.Sequential([keras.Input((None, 16)), gru(32), layers.Dense(1)])

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for length in range(20, 60, 2):
            yield _series((BATCH, length, 16), random)

    signature = (tf.TensorSpec((None, None, 16)), tf.TensorSpec((None, 1)))
    return Fit(model, (tf.data.Dataset.from_generator(batches, output_signature=signature),), batch_size=None)


MODELS: dict[str, Callable[[Any, np.random.Generator], Fit]] = {
    "one GRU(64), 40x32": _one_layer,
    "4 stacked GRU(32)": _stacked,
    "2 Bidirectional(GRU(32)), 89 rows in batches of 32": _bidirectional,
    "TimeDistributed(GRU(32)) over 5x20, and a GRU": _time_distributed,
    "hierarchical attention, 10 sentences of 20 words": _hierarchical_attention,
    "20 batches of 20 lengths": _twenty_lengths,
}
