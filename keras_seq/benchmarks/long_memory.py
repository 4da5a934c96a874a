"""`keras-seq benchmark memory`: over how many steps a new GRU learns to remember, by the initial value of its bias.

The task: read one of 8 symbols, then noise, and name the symbol at the end. With the default bias of zeros, every gate
starts half open. After k steps about 2^-k of the memory, and of the gradient, is left, which is too little to learn from.
`ChronoInitializer` gives some units a long memory from the start.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_seq import require
from keras_seq.layers.chrono_initializer import ChronoInitializer
from keras_seq.layers.gru import GRU

SYMBOLS = 8
RANDOM_ACCURACY = 1 / SYMBOLS  # accuracy of a random guess
DISTANCES = (10, 25, 50, 100, 200)
INITIAL_BIASES = ("zeros", "chrono")


class RecallAccuracies(NamedTuple):
    """How well a GRU remembers over a distance.

    Attributes:
        distance: number of noise symbols after the first symbol.
        zeros: accuracy with an initial bias of zeros.
        chrono: accuracy with `ChronoInitializer(longest=distance + 1)`.
    """

    distance: int
    zeros: float
    chrono: float


def recall_accuracy(distance: int, initial_bias: str, units: int = 64, batches: int = 200, seed: int = 0) -> float:
    """Trains a GRU to name the first of `distance` + 1 symbols after the last one, and returns its accuracy.

    Args:
        distance: number of noise symbols after the first symbol.
        initial_bias: `"zeros"`, or `"chrono"` for `ChronoInitializer(longest=distance + 1)`.
        units: state size of the GRU.
        batches: number of training batches of 64 sequences.
        seed: seed of the weights and of the sequences.

    Returns:
        Accuracy on 1,000 new sequences; a random guess has `RANDOM_ACCURACY`.

    Raises:
        ArgumentError: `distance` is not a positive integer, or `initial_bias` is unknown.
    """
    require.positive_integer("distance", distance)
    require.one_of("initial_bias", initial_bias, INITIAL_BIASES)
    keras.utils.set_random_seed(seed)
    bias = "zeros" if initial_bias == "zeros" else ChronoInitializer(longest=distance + 1, seed=seed)
    model = keras.Sequential(
        [
            keras.Input((distance + 1,), dtype="int32"),
            keras.layers.Embedding(2 * SYMBOLS, 32),
            GRU(units, bias_initializer=bias),
            keras.layers.Dense(SYMBOLS),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3, clipnorm=1.0), loss, jit_compile=False)
    generator = np.random.default_rng(seed)
    model.fit(*_sequences(64 * batches, distance, generator), batch_size=64, verbose=0)
    questions, answers = _sequences(1000, distance, generator)
    return float(np.mean(model.predict(questions, verbose=0).argmax(axis=-1) == answers))


def benchmark_memory(distances: Sequence[int] = DISTANCES, seed: int = 0) -> Iterator[RecallAccuracies]:
    """Yields the accuracies at each distance, as soon as they are known.

    Args:
        distances: the distances.
        seed: seed of the weights and of the sequences.

    Raises:
        ArgumentError: a distance is not a positive integer.
    """
    are_positive = all(require.is_integer(distance) and distance >= 1 for distance in distances)
    require.that(are_positive, "distances", "positive integers", list(distances))
    for distance in distances:
        zeros, chrono = (recall_accuracy(distance, initial_bias, seed=seed) for initial_bias in INITIAL_BIASES)
        yield RecallAccuracies(distance, zeros, chrono)


def table(rows: Iterable[RecallAccuracies]) -> Iterator[str]:
    """Yields the lines of a table of the rows."""
    yield "distance" + "".join(f"{initial_bias:>9}" for initial_bias in INITIAL_BIASES)
    for row in rows:
        yield f"{row.distance:>8}{row.zeros:>9.1%}{row.chrono:>9.1%}"
    yield f"a random guess has {RANDOM_ACCURACY:.1%}"


def _sequences(count: int, distance: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns sequences of symbol ids and the first symbol of each: int32 `(count, distance + 1)` and `(count,)`.

    The noise consists of 8 other symbols.
    """
    sequences = generator.integers(SYMBOLS, 2 * SYMBOLS, (count, distance + 1), dtype=np.int32)
    sequences[:, 0] = generator.integers(0, SYMBOLS, count)
    return sequences, sequences[:, 0]
