"""Several workers of one training run on this machine: `keras-seq train --workers=2`."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from keras_seq.distribution.tf_config import free_ports, tf_config
from keras_seq.errors import TrainingError
from keras_seq.processes import cores

_WORKER = "KERAS_SEQ_WORKER"  # in the environment of a worker that a launcher started
_PATIENCE = 10  # seconds that the others have to end after one has


def is_worker() -> bool:
    """Returns whether this process is a worker that `run_workers` started."""
    return _WORKER in os.environ


def run_workers(arguments: list[str], count: int, run: Path) -> None:
    """Runs `keras-seq` with these arguments as each of the workers, and ends with the last of them.

    The first one's output is this process's; that of worker K goes on `<run>.worker-K.log`. Ctrl-C lets all end with their epoch, a
    second one within ten seconds. When one ends with an error the others are ended too, and all when this process ends.

    Raises:
        ValueError: `count` is not positive.
        TrainingError: a worker ended with an error.
    """
    if count < 1:
        raise ValueError(f"--workers must be a positive number. Received: {count}")
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
        deadline = time.monotonic() + _PATIENCE
        for worker in workers:
            try:
                worker.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def end_with_launcher() -> None:
    """Ends this worker when the process that started it ends: its standard input is then at its end."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _start(arguments: list[str], config: dict[str, str], count: int, log: Path | None) -> subprocess.Popen[bytes]:
    # Each has its share of the cores, unless the user says otherwise.
    own = {"TF_NUM_INTRAOP_THREADS": str(max(1, cores() // count)), **os.environ, **config, _WORKER: "1"}
    program = [sys.executable, "-m", "keras_seq.cli", *arguments]
    # In a session of its own, it gets Ctrl-C from here alone.
    if log is None:
        # Not file descriptor 2, which the command line has closed to TensorFlow's notices.
        return subprocess.Popen(program, env=own, stdin=subprocess.PIPE, stderr=sys.stderr, start_new_session=True)
    with log.open("a", encoding="utf-8") as file:
        return subprocess.Popen(
            program, env=own, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True
        )


def _wait(workers: list[subprocess.Popen[bytes]], logs: list[Path | None]) -> None:
    codes: list[int | None] = [None]
    while None in codes:
        codes = [worker.poll() for worker in workers]
        if any(codes):
            break  # The others say themselves that one is missing.
        time.sleep(0.2)
    failed = next((number for number, code in enumerate(codes) if code), None)
    if failed is not None:
        place = f"; {logs[failed]} has what it said" if logs[failed] else ""
        raise TrainingError(f"worker {failed} ended with code {codes[failed]}{place}")
