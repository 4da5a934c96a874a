"""Several workers of one run: `keras-seq train --workers=2` and `--distribute=multi_worker`."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import fits
import numpy as np
import pytest
import tensorflow as tf
from open_ports import listening
from workers import greeting, run_all, worker_environments

import keras_seq
from keras_seq.training.run_directory import exclusive_run, load_run

PROGRAM = [sys.executable, "-m", "keras_seq.cli"]
# A SimpleRNN takes less time to trace in each process. One test compares weights, those of a GRU.
SETTINGS = ("--cell=simple_rnn", "--units=16", "--batch_size=8", "--length=16", "--dropout=0")
TRAIN = [*PROGRAM, "train", *SETTINGS]
MULTI_WORKER = ("--distribute=multi_worker", "--trusted_network")
LOOPBACK = "0100007F"  # as Linux writes 127.0.0.1


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cats.txt").write_text(fits.TEXT * 4)
    (tmp_path / "dogs.txt").write_text(fits.TEXT.replace("cat", "dog") * 4)
    return tmp_path


def start(command, **options):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


@pytest.mark.slow
def test_workers_with_different_code_and_texts_are_rejected(folder):
    package = Path(keras_seq.__file__).parent
    shutil.copytree(package, folder / "other" / "keras_seq", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "other" / "keras_seq" / "layers" / "gru.py").open("a") as file:
        file.write("# Different code.\n")
    environments = worker_environments()
    environments[1]["PYTHONPATH"] = f"{folder / 'other'}:{os.environ.get('PYTHONPATH', '')}"
    options = (*MULTI_WORKER, "--epochs=1", "--run=run")
    commands = [[*TRAIN, *options, f"--corpus={name}"] for name in ("cats.txt", "dogs.txt")]
    for output, code in run_all(commands, environments, cwd=folder):
        assert code == 1
        assert "all workers must have the same vocabulary and corpus and code, but they do not" in output
        assert "Traceback" not in output
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers=0"], "--workers must be a positive integer"),
        (["--workers=2", "--distribute=mirrored"], "only one of --workers and --distribute can be given"),
        (
            ["--distribute=multi_worker"],
            "read and write its files. If the network is closed to strangers, confirm it with",
        ),
        (["--workers=2", "--trusted_network"], "--trusted_network is only for --distribute=multi_worker"),
    ],
)
def test_bad_options_are_rejected_before_anything_is_trained(folder, run_cli, options, message):
    answer = run_cli("train", *SETTINGS, "--corpus=cats.txt", "--run=run", "--epochs=1", *options, cwd=folder)
    assert answer.returncode == 1
    assert message in answer.stderr
    assert not (folder / "run").exists()


def test_only_the_chief_refuses_a_run_that_exists_and_workers_need_epochs(folder, run_cli, monkeypatch):
    def answer(worker):
        cluster = tf.train.ClusterSpec({"worker": ["localhost:1", "localhost:2"]})
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, task_type="worker", task_id=worker)
        strategy = SimpleNamespace(num_replicas_in_sync=2, cluster_resolver=resolver)
        monkeypatch.setattr("keras_seq.cli.train._strategy", lambda arguments: strategy)
        options = ("--corpus=cats.txt", "--run=run", "--distribute=multi_worker", "--minutes=1")
        answer = run_cli("train", *SETTINGS, *options, cwd=folder)
        assert answer.returncode == 1
        return answer.stderr

    with exclusive_run(folder / "run"):  # as the chief does while it trains
        assert "run is in use: another process trains this run" in answer(0)
        assert "give --epochs instead of --minutes" in answer(1)
    assert "give --epochs instead of --minutes" in answer(0)
    assert not (folder / "run").exists()


@pytest.mark.slow
def test_workers_of_this_machine_open_no_port_and_a_killed_run_resumes_with_one(folder, run_cli):
    train = ["train", *SETTINGS, "--cell=gru", "--corpus=cats.txt", "--epochs=6"]
    whole = run_cli(*train, "--run=whole", cwd=folder)
    assert "epoch 6/6" in whole.stdout
    with start([*PROGRAM, *train, "--run=cut", "--workers=2"], cwd=folder) as two:
        lines = []
        for line in two.stdout:
            lines.append(line)
            if line.startswith("epoch 3/6"):
                assert listening(two.pid) == []
                two.kill()
    assert two.returncode == -signal.SIGKILL, "".join(lines)
    assert "epoch 6/6" not in "".join(lines)
    resumed = run_cli("train", "--resume", "--run=cut", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    weights = (load_run(folder / run).model.get_weights() for run in ("whole", "cut"))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "how"),
    [("here", signal.SIGTERM), ("in TensorFlow", signal.SIGINT), ("in TensorFlow", signal.SIGTERM)],
)
def test_a_waiting_worker_listens_at_its_address_only_and_ends_on_both_signals(folder, how, where):
    command = [*TRAIN, *MULTI_WORKER, "--epochs=1", "--run=run", "--corpus=cats.txt"]
    environment = worker_environments()[0]
    with start(command, cwd=folder, env=environment) as waiting:
        assert waiting.stdout.readline() == "waiting for the other workers\n"
        while not (ports := listening(waiting.pid)):
            time.sleep(0.1)
        assert [port.split(":")[0] for port in ports] == [LOOPBACK]
        if where == "in TensorFlow":  # A worker that is present and then ends.
            address = ("127.0.0.1", int(ports[0].split(":")[1], 16))
            with socket.create_connection(address) as other:
                other.sendall(greeting(environment["TF_CONFIG"], 1))
                assert other.recv(200) == b"keras_seq: all present\n"
            time.sleep(3)
        assert waiting.poll() is None
        waiting.send_signal(how)
        try:
            output, _ = waiting.communicate(timeout=10)
        finally:
            waiting.kill()
    # While TensorFlow waits, the operating system ends the process.
    assert waiting.returncode == (-how if where == "in TensorFlow" else 128 + how), output
    assert "Traceback" not in output
