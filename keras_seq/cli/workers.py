"""Several workers of one training run on this machine: `keras-seq train --workers=2`."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from keras_seq import require
from keras_seq.distribution.rendezvous import free_ports
from keras_seq.distribution.tf_config import tf_config
from keras_seq.errors import TrainingError
from keras_seq.processes import cores

_WORKER = "KERAS_SEQ_WORKER"  # set in the environment of the workers
_SECONDS_TO_END = 10  # that the other workers have after one has ended


def is_worker() -> bool:
    """Returns whether this process is a worker that `run_workers` started."""
    return _WORKER in os.environ


def run_workers(arguments: list[str], count: int, run: Path) -> None:
    """Runs `keras-seq` with these arguments once in each worker, and returns when all have ended.

    The first worker prints to the output of this process, worker K to `<run>.worker-K.log`. Ctrl-C ends all workers after
    their current epoch, a second Ctrl-C within ten seconds. If one worker fails, the others are ended too. All workers end
    when this process ends.

    Args:
        arguments: the arguments of the program.
        count: number of workers.
        run: the run directory that they share.

    Raises:
        ArgumentError: `count` is not positive.
        TrainingError: a worker failed.
    """
    require.positive_integer("workers", count)
    run.parent.mkdir(parents=True, exist_ok=True)
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    logs = [None, *(run.with_name(f"{run.name}.worker-{number}.log") for number in range(1, count))]
    workers = [_start(arguments, tf_config(addresses, number), count, log) for number, log in enumerate(logs)]
    try:
        _wait(workers, logs)
    except KeyboardInterrupt:
        for worker in workers:
            worker.send_signal(signal.SIGINT)
        workers[0].wait()
        raise
    finally:
        deadline = time.monotonic() + _SECONDS_TO_END
        for worker in workers:
            try:
                worker.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def end_with_launcher() -> None:
    """Ends this worker when the process that started it ends, which closes the worker's standard input."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _start(arguments: list[str], config: dict[str, str], count: int, log: Path | None) -> subprocess.Popen[bytes]:
    # Each worker gets an equal share of the cores, unless the user's environment says otherwise.
    environment = {"TF_NUM_INTRAOP_THREADS": str(max(1, cores() // count)), **os.environ, **config, _WORKER: "1"}
    program = [sys.executable, "-m", __package__, *arguments]
    # In a session of its own, a worker receives Ctrl-C only from this process.
    if log is None:
        # sys.stderr, because the program has redirected file descriptor 2 to silence TensorFlow's notices.
        return subprocess.Popen(
            program, env=environment, stdin=subprocess.PIPE, stderr=sys.stderr, start_new_session=True
        )
    with log.open("a", encoding="utf-8") as file:
        return subprocess.Popen(
            program, env=environment, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True
        )


def _wait(workers: list[subprocess.Popen[bytes]], logs: list[Path | None]) -> None:
    codes: list[int | None] = [None]
    while None in codes:
        codes = [worker.poll() for worker in workers]
        if any(codes):
            break  # The other workers notice by themselves that one is missing.
        time.sleep(0.2)
    failed = next((number for number, code in enumerate(codes) if code), None)
    if failed is not None:
        where = f"; see {logs[failed]}" if logs[failed] else ""
        raise TrainingError(f"worker {failed} ended with code {codes[failed]}{where}")
