"""Values that the workers of a strategy exchange."""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_seq.errors import DistributionError, TrainingError

_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


@contextlib.contextmanager
def reporting_lost_workers() -> Iterator[None]:
    """Turns TensorFlow's errors about a lost worker into one that says how to resume.

    Raises:
        TrainingError: another worker ended or cannot be reached.
    """
    try:
        yield
    except _LOST_WORKER as error:
        raise TrainingError(
            "another worker ended or cannot be reached. All finished epochs are saved: start any number of workers again with --resume"
        ) from error


def require_same(strategy: tf.distribute.Strategy, parts: Mapping[str, str]) -> None:
    """Checks that all workers have equal values. Every worker must call this; it waits for all of them.

    Args:
        strategy: the strategy of the workers.
        parts: values that must be equal, such as hashes, by what they describe, such as "vocabulary".

    Raises:
        DistributionError: a value differs between workers.
    """
    own = [int(hashlib.sha256(value.encode()).hexdigest()[:15], 16) for value in parts.values()]
    rows = _gather(strategy, own)
    different = [name for name, column in zip(parts, rows.T, strict=True) if len(set(column.tolist())) > 1]
    if different:
        raise DistributionError(
            f"all workers must have the same {' and '.join(different)}, but they do not. Start them with the same files, command "
            "and version of keras_seq"
        )


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns once every worker has called this."""
    _gather(strategy, [0])


def any_worker(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Returns whether `flag` is True on any worker. Every worker must call this."""
    return bool(_gather(strategy, [int(flag)]).any())


def _gather(strategy: tf.distribute.Strategy, numbers: Sequence[int]) -> np.ndarray:
    """Returns the numbers of all replicas, int64 `(replicas, numbers)`."""

    def gather() -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(tf.constant([numbers], tf.int64), axis=0)

    with reporting_lost_workers():
        rows = tf.function(lambda: strategy.run(gather), autograph=False).get_concrete_function()()
        return strategy.experimental_local_results(rows)[0].numpy()


@functools.cache
def code_sha256() -> str:
    """Returns the SHA-256 of the source code of keras_seq."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
