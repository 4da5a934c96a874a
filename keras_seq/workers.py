"""Several workers of one training run on this machine: `keras-seq train --workers=2`."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from keras_seq.processes import cores
from keras_seq.runs import TrainingError


def run_workers(arguments: list[str], count: int, run: Path) -> None:
    """Runs `keras-seq` with these arguments as each of the workers, and ends with the last of them.

    The first one's output is this process's; that of worker K is in `<run>.worker-K.log`. When one ends with an error the
    others are ended too.

    Raises:
        ValueError: `count` is not positive.
        TrainingError: a worker ended with an error.
    """
    if count < 1:
        raise ValueError(f"--workers must be a positive number. Received: {count}")
    run.parent.mkdir(parents=True, exist_ok=True)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(count)]}
    logs = [None, *(run.with_name(f"{run.name}.worker-{number}.log") for number in range(1, count))]
    workers = []
    for number, log in enumerate(logs):
        task = {"type": "worker", "index": number}
        environment = {
            # Each has its share of the cores, unless the user says otherwise.
            "TF_NUM_INTRAOP_THREADS": str(max(1, cores() // count)),
            **os.environ,
            "TF_CONFIG": json.dumps({"cluster": cluster, "task": task}),
        }
        program = [sys.executable, "-m", "keras_seq.cli", *arguments, "--distribute=multi_worker"]
        if log is None:
            # Not file descriptor 2, which the command line has closed to TensorFlow's notices.
            workers.append(subprocess.Popen(program, env=environment, stderr=sys.stderr))
        else:
            with log.open("w", encoding="utf-8") as file:
                workers.append(subprocess.Popen(program, env=environment, stdout=file, stderr=file))
    try:
        _wait(workers, logs)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


def _wait(workers: list[subprocess.Popen[bytes]], logs: list[Path | None]) -> None:
    codes: list[int | None] = [None]
    while None in codes:
        codes = [worker.poll() for worker in workers]
        if any(codes):
            time.sleep(5)  # The others say themselves that one is missing.
            break
        time.sleep(0.2)
    failed = next((number for number, code in enumerate(codes) if code), None)
    if failed is not None:
        place = f"; {logs[failed]} has what it said" if logs[failed] else ""
        raise TrainingError(f"worker {failed} ended with code {codes[failed]}{place}")


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that nothing listens to."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
