"""`keras-seq benchmark distribute`: the cost of communication between two workers, and a model of it for many workers.

Measured: a training step of the default model, without dropout, in one process, and in each of two processes on this
machine. Each process has one core and 64 rows.

Modelled: N workers of this speed with 64 rows each. The gradients are reduced around a ring, so that each worker sends
2 (N - 1) / N of their bytes (Patarasu & Yuan 2009). The gradients of the embeddings are gathered, N - 1 times those of one
worker. Communication does not overlap with computation.
"""

import contextlib
import functools
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_seq import require
from keras_seq.distribution.distributed_fit import distributed
from keras_seq.distribution.strategies import require_trusted_network, scope, strategy
from keras_seq.distribution.tf_config import TF_CONFIG, tf_config
from keras_seq.errors import DistributionError
from keras_seq.models.stateful import stateful_copy
from keras_seq.training.compile import compile_model
from keras_seq.training.config import TrainConfig
from keras_seq.training.train import untrained_model

CONFIG = TrainConfig(dropout=0.0)
VOCABULARY_SIZE = 65  # characters of tiny Shakespeare
WORKERS = (8, 64)
GIGABITS = (1, 10, 100)
LATENCY = 20e-6  # seconds for a message to the next worker over Ethernet in one room
_WARM_UP = 5  # steps


class Communication(NamedTuple):
    """The modelled communication of many workers.

    Attributes:
        workers: number of workers.
        gigabits: bandwidth of each worker's network, in Gbit/s.
        seconds: duration of the communication of a step.
        share: part of the step that is communication.
    """

    workers: int
    gigabits: int
    seconds: float
    share: float


class StepCost(NamedTuple):
    """What `benchmark_distribute` measures, and the model made from it.

    Attributes:
        alone_seconds: duration of a training step alone.
        together_seconds: duration of a training step with a second worker.
        reduced_bytes: bytes of one worker's gradients that are reduced in a step.
        gathered_bytes: bytes of one worker's gradients that are gathered in a step.
        modelled: the communication of many workers.
    """

    alone_seconds: float
    together_seconds: float
    reduced_bytes: int
    gathered_bytes: int
    modelled: list[Communication]


def benchmark_distribute(steps: int = 30, *, trusted_network: bool = False) -> StepCost:
    """Measures a training step alone and with a second worker, and models many workers.

    Args:
        steps: number of training steps.
        trusted_network: confirms that only trusted people can reach this machine; see `keras_seq.distribution.strategy`.

    Raises:
        ArgumentError: `steps` is not a positive integer.
        DistributionError: the network is not said to be trusted, or a worker ended with an error.
    """
    require.positive_integer("steps", steps)
    require_trusted_network(trusted_network)
    alone = _step_seconds(1, steps)
    together = _step_seconds(2, steps)
    modelled = [_modelled(workers, gigabits, alone) for workers in WORKERS for gigabits in GIGABITS]
    return StepCost(alone, together, *bytes_of_a_step(), modelled)


def table(cost: StepCost) -> Iterator[str]:
    """Yields the measurement and the table of the model as lines of text."""
    units = ", ".join(map(str, CONFIG.units))
    share = 1 - cost.alone_seconds / cost.together_seconds
    yield f"{CONFIG.batch_size} x {CONFIG.length} characters, {units} units, one core per worker:"
    yield f"a step takes {cost.alone_seconds * 1e3:.1f} ms alone"
    yield f"and {cost.together_seconds * 1e3:.1f} ms with a second worker, {share:.0%} of it for communication."
    yield (
        f"Of each worker's gradients, {cost.reduced_bytes / 1e6:.2f} MB are reduced and "
        f"{cost.gathered_bytes / 1e6:.2f} MB gathered."
    )
    yield ""
    yield f"{'workers':>8}" + "".join(f"{f'{gigabits} Gbit/s':>24}" for gigabits in GIGABITS)
    for workers in WORKERS:
        row = [one for one in cost.modelled if one.workers == workers]
        yield f"{workers:>8}" + "".join(f"{one.seconds * 1e3:>14.1f} ms, {one.share:>4.0%}" for one in row)


@functools.cache
def bytes_of_a_step() -> tuple[int, int]:
    """Returns how many bytes of one worker's gradients are reduced, and how many bytes of its embeddings are gathered.

    Example:
        >>> bytes_of_a_step()
        (2173700, 1081344)
    """
    model = untrained_model(VOCABULARY_SIZE, CONFIG)
    embeddings, *others = model.trainable_weights
    reduced = sum(math.prod(weight.shape) for weight in others)
    rows = CONFIG.batch_size * CONFIG.length
    return 4 * reduced, rows * (4 * embeddings.shape[1] + 8)


def communication(workers: int, bandwidth: float) -> float:
    """Returns the seconds that it takes to exchange the gradients of a step.

    Args:
        workers: number of workers.
        bandwidth: bandwidth of each worker's network, in bytes per second.

    Example:
        >>> communication(1, 1e9)
        0.0
    """
    reduced, gathered = bytes_of_a_step()
    sent = 2 * (workers - 1) / workers * reduced + (workers - 1) * gathered
    return sent / bandwidth + 3 * (workers - 1) * LATENCY


def _modelled(workers: int, gigabits: int, alone: float) -> Communication:
    seconds = communication(workers, gigabits * 1e9 / 8)
    return Communication(workers, gigabits, seconds, seconds / (seconds + alone))


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that no process listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _step_seconds(workers: int, steps: int) -> float:
    """Returns the median seconds per step of the first of several workers."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    running = []
    for number in range(workers):
        config = tf_config(addresses, number) if workers > 1 else {}
        environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "2", **config}
        command = [sys.executable, "-m", __name__, str(number), str(steps)]
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    answers = [(*one.communicate(), one.returncode) for one in running]
    for _, error, code in answers:
        if code:
            last_line = error.strip().splitlines()[-1] if error.strip() else "it printed nothing"
            raise DistributionError(f"a worker ended with code {code}: {last_line}")
    return float(answers[0][0])


def _print_step_seconds(number: int, steps: int) -> None:
    """Prints the median seconds per step. Each process of the measurement runs this, on a core of its own."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    workers = strategy("multi_worker", trusted_network=True) if TF_CONFIG in os.environ else None
    with contextlib.nullcontext() if workers is None else scope(workers):
        model = stateful_copy(untrained_model(VOCABULARY_SIZE, CONFIG), CONFIG.batch_size)
        if workers is not None:
            distributed(model)
        compile_model(model, CONFIG)
    rows = CONFIG.batch_size * (1 if workers is None else workers.num_replicas_in_sync)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY_SIZE, (rows, CONFIG.length + 1), np.int32)
    data = tf.data.Dataset.from_tensors((tokens[:, :-1], tokens[:, 1:])).repeat()
    ends = list[float]()
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
    model.fit(data, steps_per_epoch=_WARM_UP + steps, verbose=0, callbacks=[clock], shuffle=False)
    print(statistics.median(np.diff(ends)[_WARM_UP - 1 :]))


if __name__ == "__main__":
    _print_step_seconds(*map(int, sys.argv[1:]))
