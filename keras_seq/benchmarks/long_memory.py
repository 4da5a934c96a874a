"""`keras-seq benchmark memory`: over how many steps a new GRU learns to remember, by how its bias starts.

The task: read one of 8 symbols, then noise, and name the symbol at the end. With the stock bias of zeros every gate starts
half open, so that about 2^-k of the memory, and of the gradient, is left after k steps, and there is nothing to learn
from. `ChronoInitializer` starts with units that last.
"""

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from keras_seq.layers.chrono_initializer import ChronoInitializer
from keras_seq.layers.gru import GRU

SYMBOLS = 8
CHANCE = 1 / SYMBOLS
DISTANCES = (10, 25, 50, 100, 200)
STARTS = ("zeros", "chrono")


def recall_accuracy(distance: int, start: str, units: int = 64, batches: int = 200, seed: int = 0) -> float:
    """Trains a GRU to name the first of `distance` + 1 symbols after the last, and returns how often it does.

    Args:
        distance: how many symbols of noise follow, 1 or more.
        start: `"zeros"`, or `"chrono"` for `ChronoInitializer(longest=distance + 1)`.
        units: length of the GRU's memory.
        batches: how many batches of 64 sequences it learns from.
        seed: of the weights and of the sequences.

    Returns:
        The share of right answers to 1,000 new sequences; chance is `CHANCE`.

    Raises:
        ValueError: `distance` is not positive, or `start` is neither.
    """
    if distance < 1:
        raise ValueError(f"a distance must be 1 step or more. Received: {distance!r}")
    if start not in STARTS:
        raise ValueError(f"`start` must be one of {', '.join(STARTS)}. Received: start={start!r}")
    keras.utils.set_random_seed(seed)
    bias = "zeros" if start == "zeros" else ChronoInitializer(longest=distance + 1, seed=seed)
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


def recall_table(distances: Sequence[int] = DISTANCES, seed: int = 0) -> Iterator[str]:
    """Gives the accuracy of both starts at each distance as the lines of a table, each as soon as it is known."""
    yield "distance" + "".join(f"{start:>9}" for start in STARTS)
    for distance in distances:
        shares = (recall_accuracy(distance, start, seed=seed) for start in STARTS)
        yield f"{distance:>8}" + "".join(f"{share:>9.1%}" for share in shares)
    yield f"chance is {CHANCE:.1%}"


def _sequences(count: int, distance: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns sequences `(count, distance + 1)` of token ids, noise from other symbols, and their first ids `(count,)`."""
    sequences = generator.integers(SYMBOLS, 2 * SYMBOLS, (count, distance + 1), dtype=np.int32)
    sequences[:, 0] = generator.integers(0, SYMBOLS, count)
    return sequences, sequences[:, 0]
