"""`keras-seq benchmark distribute`: what two workers pay for talking to each other, and a model of it for many.

Measured: a step of the model of `keras-seq train` in one process, and in each of two on this machine, with a core and 64 rows
each. Modelled, for N workers of that speed that keep 64 rows each: gradients go round a ring (2 (N - 1) / N of their bytes leave
each worker; Patarasu & Yuan 2009), the embedding's looked-up rows are gathered (N - 1 times one worker's), and nothing overlaps
with computing.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_seq.distribution.distributed_fit import distributed
from keras_seq.distribution.strategy import scope, strategy
from keras_seq.distribution.tf_config import TF_CONFIG, free_ports, tf_config
from keras_seq.models.language_model import language_model
from keras_seq.models.stateful import stateful_copy
from keras_seq.training.compile import compile_model

BATCH_SIZE, LENGTH, UNITS, EMBEDDING, TOKENS = 64, 64, 384, 64, 65  # those of `keras-seq train`, by characters
WORKERS = (8, 64)
GIGABITS = (1, 10, 100)
LATENCY = 20e-6  # seconds for a message to the next worker, of Ethernet in one room
_WARM_UP = 5  # steps


def benchmark_distribute(steps: int = 30) -> Iterator[str]:
    """Yields the measurement, and the model's table, as lines of text.

    Raises:
        ValueError: `steps` is not positive, or a worker ended with an error.
    """
    if steps < 1:
        raise ValueError(f"`steps` must be positive. Received: steps={steps!r}")
    alone = _step_seconds(1, steps)
    together = _step_seconds(2, steps)
    reduced, gathered = bytes_of_a_step()
    yield f"{BATCH_SIZE} x {LENGTH} characters, {UNITS} units, one core each: a step takes {alone * 1e3:.1f} ms alone, "
    yield f"{together * 1e3:.1f} ms with a second worker, {1 - alone / together:.0%} of it for talking;"
    yield f"of each worker {reduced / 1e6:.2f} MB are added up, {gathered / 1e6:.2f} MB gathered"
    yield ""
    yield f"{'workers':>8}" + "".join(f"{f'{gigabits} Gbit/s':>24}" for gigabits in GIGABITS)
    for workers in WORKERS:
        times = [communication(workers, gigabits * 1e9 / 8) for gigabits in GIGABITS]
        yield f"{workers:>8}" + "".join(
            f"{seconds * 1e3:>14.1f} ms, {seconds / (seconds + alone):>4.0%}" for seconds in times
        )


def bytes_of_a_step() -> tuple[int, int]:
    """Returns how many bytes of one worker's gradients are added up, and how many of its embedding's rows are gathered.

    Example:
        >>> bytes_of_a_step()
        (2173700, 1081344)
    """
    dense = EMBEDDING * 3 * UNITS + UNITS * 3 * UNITS + 2 * 3 * UNITS + UNITS * TOKENS + TOKENS
    rows = BATCH_SIZE * LENGTH
    return 4 * dense, rows * (4 * EMBEDDING + 8)


def communication(workers: int, bandwidth: float) -> float:
    """Returns the seconds for which a step's gradients are under way.

    Args:
        workers: how many.
        bandwidth: of each one's network, in bytes a second.

    Example:
        >>> communication(1, 1e9)
        0.0
    """
    reduced, gathered = bytes_of_a_step()
    sent = 2 * (workers - 1) / workers * reduced + (workers - 1) * gathered
    return sent / bandwidth + 3 * (workers - 1) * LATENCY


def _step_seconds(workers: int, steps: int) -> float:
    """Returns the median seconds of a step in the first of some workers."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    running = []
    for number in range(workers):
        program = [
            sys.executable,
            "-c",
            f"from keras_seq.benchmarks.distribution import worker; worker({number}, {steps})",
        ]
        config = tf_config(addresses, number) if workers > 1 else {}
        environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "2", **config}
        running.append(
            subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    answers = [(*one.communicate(), one.returncode) for one in running]
    for _, error, code in answers:
        if code:
            raise ValueError(
                f"a worker ended with code {code}: {error.strip().splitlines()[-1] if error.strip() else 'it said nothing'}"
            )
    return float(answers[0][0])


def worker(number: int, steps: int) -> None:
    """Prints the median seconds of a step: what each process of the measurement runs, each on a core of its own."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    workers = strategy("multi_worker") if TF_CONFIG in os.environ else None
    with contextlib.nullcontext() if workers is None else scope(workers):
        model = stateful_copy(language_model(TOKENS, units=[UNITS], embedding_dim=EMBEDDING), BATCH_SIZE)
        if workers is not None:
            distributed(model)
        compile_model(model, clipnorm=1.0)
    rows = BATCH_SIZE * (1 if workers is None else workers.num_replicas_in_sync)
    tokens = np.random.default_rng(0).integers(0, TOKENS, (rows, LENGTH + 1), np.int32)
    data = tf.data.Dataset.from_tensors((tokens[:, :-1], tokens[:, 1:])).repeat()
    ends = list[float]()
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
    model.fit(data, steps_per_epoch=_WARM_UP + steps, verbose=0, callbacks=[clock], shuffle=False)
    print(statistics.median(np.diff(ends)[_WARM_UP - 1 :]))
