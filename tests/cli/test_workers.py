"""Several workers of one run: `keras-seq train --workers=2` and `--distribute=multi_worker`."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import fits
import numpy as np
import pytest
from workers import run_all, worker_environments

import keras_seq
from keras_seq.training.run_directory import load_run

PROGRAM = [sys.executable, "-m", "keras_seq.cli"]
# A SimpleRNN takes less time to trace in each process. One test compares weights, those of a GRU.
SETTINGS = ("--cell=simple_rnn", "--units=16", "--batch_size=8", "--length=16", "--dropout=0")
TRAIN = [*PROGRAM, "train", *SETTINGS]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cats.txt").write_text(fits.TEXT * 4)
    (tmp_path / "dogs.txt").write_text(fits.TEXT.replace("cat", "dog") * 4)
    return tmp_path


def children(process):
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def worker_of(log, launcher):
    """Returns the process of the worker whose output a launcher writes to a log."""
    return next(child for child in children(launcher) if os.path.realpath(f"/proc/{child}/fd/1") == str(log))


def test_workers_with_different_code_and_texts_are_rejected(folder):
    package = Path(keras_seq.__file__).parent
    shutil.copytree(package, folder / "other" / "keras_seq", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "other" / "keras_seq" / "layers" / "gru.py").open("a") as file:
        file.write("# Different code.\n")
    environments = worker_environments()
    environments[1]["PYTHONPATH"] = f"{folder / 'other'}:{os.environ.get('PYTHONPATH', '')}"
    options = ("--distribute=multi_worker", "--epochs=1", "--run=run")
    commands = [[*TRAIN, *options, f"--corpus={name}"] for name in ("cats.txt", "dogs.txt")]
    for output, code in run_all(commands, environments, cwd=folder):
        assert code == 1
        assert "all workers must have the same vocabulary and corpus and code, but they do not" in output
        assert "Traceback" not in output
    assert not (folder / "run").exists()


@pytest.mark.slow
def test_a_launcher_reports_the_error_of_a_worker(folder):
    command = [*TRAIN, "--corpus=cats.txt", "--run=run", "--workers=2", "--epochs=1", "--batch_size=9"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "--batch_size must be a multiple of 2, the number of replicas. Received: 9" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [("--workers=0", "--workers must be a positive"), ("--distribute=mirrored", "leave out --distribute")],
)
def test_bad_options_are_rejected_before_a_worker_starts(folder, run_cli, option, message):
    options = ("--corpus=cats.txt", "--run=run", "--workers=2", "--epochs=1", option)
    answer = run_cli("train", *SETTINGS, *options, cwd=folder)
    assert answer.returncode == 1
    assert message in answer.stderr
    assert not (folder / "run").exists()


def test_workers_need_epochs_instead_of_minutes(folder, run_cli, monkeypatch):
    workers = SimpleNamespace(num_replicas_in_sync=2, cluster_resolver=object())
    monkeypatch.setattr("keras_seq.cli.train._strategy", lambda kind: workers)
    options = ("--corpus=cats.txt", "--run=run", "--distribute=multi_worker", "--minutes=1")
    answer = run_cli("train", *SETTINGS, *options, cwd=folder)
    assert answer.returncode == 1
    assert "give --epochs instead of --minutes" in answer.stderr
    assert not (folder / "run").exists()


@pytest.mark.slow
def test_a_run_whose_worker_was_killed_resumes_with_one_worker(folder, run_cli):
    train = ["train", *SETTINGS, "--cell=gru", "--corpus=cats.txt", "--epochs=6"]
    whole = run_cli(*train, "--run=whole", cwd=folder)
    assert "epoch 6/6" in whole.stdout
    launcher = subprocess.Popen(
        [*PROGRAM, *train, "--run=cut", "--workers=2"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in launcher.stdout:
        lines.append(line)
        if line.startswith("epoch 3/6"):
            os.kill(worker_of(folder / "cut.worker-1.log", launcher.pid), signal.SIGKILL)
    assert launcher.wait(timeout=60) == 1, "".join(lines)
    assert "keras-seq: worker 1 ended with code -9" in "".join(lines)
    assert "epoch 6/6" not in "".join(lines)
    resumed = run_cli("train", "--resume", "--run=cut", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    weights = (load_run(folder / run).model.get_weights() for run in ("whole", "cut"))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    assert (folder / "cut" / "worker-1" / "steps.csv").exists()


@pytest.mark.slow
def test_a_waiting_worker_says_so_and_can_be_ended(folder):
    command = [*TRAIN, "--distribute=multi_worker", "--epochs=1", "--run=run", "--corpus=cats.txt"]
    waiting = subprocess.Popen(command, cwd=folder, env=worker_environments()[0], stdout=subprocess.PIPE, text=True)
    assert waiting.stdout.readline() == "waiting for the other workers\n"
    time.sleep(2)
    assert waiting.poll() is None
    waiting.terminate()
    assert waiting.wait(timeout=20) == -signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_launcher(folder, how):
    launcher = subprocess.Popen(
        [*TRAIN, "--corpus=cats.txt", "--epochs=900", "--run=run", "--workers", "2"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A background job of a shell, which these tests may be, ignores SIGINT, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not launcher.stdout.readline().startswith("epoch 2/900"):
        assert launcher.poll() is None
    workers = children(launcher.pid)
    assert len(workers) == 2
    launcher.send_signal(how)
    assert launcher.wait(timeout=60) == {signal.SIGINT: 130, signal.SIGKILL: -9}[how]
    if how == signal.SIGINT:
        assert "to resume: keras-seq train --run=run --resume" in launcher.stdout.read()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}/cwd").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
