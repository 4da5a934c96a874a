"""Starts processes that are the workers of one training run."""

import hashlib
import os
import subprocess

from keras_seq.benchmarks.distribution import free_ports
from keras_seq.distribution.tf_config import read_tf_config, tf_config


def worker_environments(count=2):
    """Returns the environment of each of several workers on this machine."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    # One thread each, as `keras-seq train --workers=2` gives them on two cores.
    return [{**os.environ, "TF_NUM_INTRAOP_THREADS": "1", **tf_config(addresses, number)} for number in range(count)]


def run_all(commands, environments, cwd=None):
    """Runs commands side by side; returns the output and the exit code of each."""
    running = [
        subprocess.Popen(command, env=own, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command, own in zip(commands, environments, strict=True)
    ]
    return [(process.communicate(timeout=240)[0], process.returncode) for process in running]


def greeting(config, number):
    """Returns what a worker sends to the first one, written down here a second time."""
    workers, _ = read_tf_config(config)
    token = hashlib.sha256("\n".join(workers).encode()).digest()
    return b"keras_seq worker 1:" + token + number.to_bytes(4, "big")
