"""What the workers of a strategy tell each other."""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_seq.errors import DistributionError, TrainingError


@contextlib.contextmanager
def others_lost() -> Iterator[None]:
    """Says what became of a run one of whose workers ended.

    Raises:
        TrainingError: so it is.
    """
    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    )
    try:
        yield
    except (*lost, tf.errors.InternalError) as error:
        raise TrainingError(
            "another worker ended, or cannot be reached: all finished epochs are saved; start the workers again, as many as you like, "
            "with --resume"
        ) from error


def require_same(strategy: tf.distribute.Strategy, parts: Mapping[str, str]) -> None:
    """Refuses workers that differ in what they must have alike; waits for all of them.

    Args:
        strategy: of all workers, each of which calls this.
        parts: hashes by the name of what they are of, such as the vocabulary's.

    Raises:
        DistributionError: a worker has another.
    """
    own = [int(hashlib.sha256(value.encode()).hexdigest()[:15], 16) for value in parts.values()]
    rows = _gathered(strategy, own)
    different = [name for name, column in zip(parts, rows.T, strict=True) if len(set(column.tolist())) > 1]
    if different:
        raise DistributionError(
            f"all workers must have the same {' and '.join(different)}, but they do not; start them from the same files, with the "
            "same command and version of keras_seq"
        )


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns when every worker has called this."""
    _gathered(strategy, [0])


def any_worker(strategy: tf.distribute.Strategy, says: bool) -> bool:
    """Returns whether any worker says so; all call it."""
    return bool(_gathered(strategy, [int(says)]).any())


def _gathered(strategy: tf.distribute.Strategy, numbers: Sequence[int]) -> np.ndarray:
    """Returns the numbers of every replica, int64 `(replicas, numbers)`."""

    def gather() -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(tf.constant([numbers], tf.int64), axis=0)

    with others_lost():
        rows = tf.function(lambda: strategy.run(gather), autograph=False).get_concrete_function()()
        return strategy.experimental_local_results(rows)[0].numpy()


@functools.cache
def code_sha256() -> str:
    """Returns the hash of this package's code."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
