"""Training on two replicas, in one process and in two, against one."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import fits
import keras
import numpy as np
import pytest

from keras_seq import distribution
from keras_seq.distribution.collectives import require_same
from keras_seq.distribution.strategy import is_chief, worker_number
from keras_seq.distribution.tf_config import free_ports, tf_config
from keras_seq.errors import DistributionError
from keras_seq.training.run_directory import load_run

FITS = Path(fits.__file__)


def environment(cluster, index):
    return {**os.environ, **tf_config(cluster, index)}


def cluster(size=2):
    return [f"127.0.0.1:{port}" for port in free_ports(size)]


def run_all(programs, environments, cwd=None):
    """Runs programs side by side; returns their outputs."""
    running = [
        subprocess.Popen(program, env=own, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for program, own in zip(programs, environments, strict=True)
    ]
    return [(one.communicate(timeout=240)[0], one.returncode) for one in running]


@pytest.fixture(scope="module")
def one():
    return {case: fits.fit(case) for case in fits.CASES}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two replicas came to: on two devices of one process, and each of two workers."""
    folder = tmp_path_factory.mktemp("fits")
    workers = cluster()
    kinds = {"mirrored": "mirrored", "worker 0": "multi_worker", "worker 1": "multi_worker"}
    environments = [dict(os.environ), environment(workers, 0), environment(workers, 1)]
    programs = [[sys.executable, FITS, kind, folder / f"{name}.npz"] for name, kind in kinds.items()]
    for output, code in run_all(programs, environments):
        assert code == 0, output[-3000:]
    return {name: np.load(folder / f"{name}.npz") for name in kinds}


@pytest.mark.parametrize("name", ["mirrored", "worker 0", "worker 1"])
@pytest.mark.parametrize("case", fits.CASES)
def test_two_replicas_train_as_one(one, two, name, case):
    assert len(one[case]["losses"]) == fits.STEPS
    assert one[case]["losses"][-1] < one[case]["losses"][0]
    for what, expected in one[case].items():
        found = two[name][f"{case}/{what}"]
        if what == "losses":
            np.testing.assert_allclose(found, expected, atol=1e-4)
        else:  # Weights, norms before clipping, and the states of all rows.
            np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=what)


@pytest.mark.parametrize("name", ["mirrored", "worker 0", "worker 1"])
def test_sample_weights_count_as_in_one(two, name):
    for what, expected in fits.fit_weighted().items():
        np.testing.assert_allclose(two[name][f"weighted/{what}"], expected, atol=1e-6, err_msg=what)


KNOWN = "with an unsupported type (<class 'tensorflow.python.distribute.values.PerReplica'>) to a Tensor"
STOCK = """
import numpy as np, tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras
with strategy.scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(np.zeros((8, 3), "float32"), np.zeros((8, 1), "float32"), batch_size=4, verbose=0)
"""


def test_keras_alone_does_not_train_in_several_workers():
    """When this fails, Keras's own `fit` does it: take `BuildsFromOneReplica` and the functions for a step out of `DistributedFit`."""
    workers = cluster()
    answers = run_all([[sys.executable, "-c", STOCK]] * 2, [environment(workers, index) for index in range(2)])
    assert all(code != 0 and KNOWN in output for output, code in answers), answers


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "TF_CONFIG to name the workers, but it is not set"),
        ("{", "but it is no JSON (Expecting property name"),
        ("[]", "but list indices must be integers"),
        ('{"task": {}}', "but it has no 'cluster'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "there is no worker 1 in it"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "there is no chief 0 in it"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', "'a' is no host:port"),
    ],
)
def test_a_configuration_that_is_malformed_is_refused(monkeypatch, config, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(DistributionError, match=re.escape(message)):
        distribution.strategy("multi_worker")


def test_a_port_in_use_is_refused(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("TF_CONFIG", environment([address, "127.0.0.1:1"], 0)["TF_CONFIG"])
        with pytest.raises(
            DistributionError, match=f"the port of this worker, {address}, must be free, but it is in use"
        ):
            distribution.strategy("multi_worker")


def dense(**options):
    """A model of a user's own, under a strategy of one device."""
    with distribution.scope(distribution.strategy("mirrored", ["CPU:0"])):
        model = distribution.distributed(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
        model.compile(**{"optimizer": "sgd", "loss": "mse"} | options)
    return model


def test_what_only_one_device_can_do_is_refused():
    with pytest.raises(DistributionError, match=r"`kind` must be one of mirrored, multi_worker. Received: kind='tpu'"):
        distribution.strategy("tpu")
    with pytest.raises(DistributionError, match="must be in float32 or bfloat16"):
        dense(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()))
    for options in (
        {"run_eagerly": True},
        {"steps_per_execution": 2},
        {"optimizer": keras.optimizers.SGD(gradient_accumulation_steps=2)},
    ):
        with pytest.raises(DistributionError, match="must be step by step in a graph"):
            dense(**options)
    compiled = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    compiled.compile("sgd", "mse")
    with pytest.raises(DistributionError, match="must come before `compile`"):
        distribution.distributed(compiled)


def test_a_distributed_model_is_saved_and_loaded_as_what_it_is(tmp_path):
    model = dense()
    assert distribution.distributed(model) is model
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    model.save(tmp_path / "dense.keras")
    loaded = keras.saving.load_model(tmp_path / "dense.keras")
    assert type(loaded) is keras.Sequential
    assert type(loaded.optimizer) is keras.optimizers.SGD
    np.testing.assert_array_equal(loaded.predict(np.ones((2, 3)), verbose=0), model.predict(np.ones((2, 3)), verbose=0))


def test_a_mirrored_strategy_has_a_chief():
    strategy = distribution.strategy("mirrored", ["CPU:0"])
    assert is_chief(strategy)
    assert worker_number(strategy) == 0
    assert is_chief(None)
    require_same(strategy, {"vocabulary": "x"})


PROGRAM = [sys.executable, "-m", "keras_seq.cli", "train"]
SETTINGS = ("--units=16", "--batch_size=8", "--length=16", "--dropout=0")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cats.txt").write_text(fits.TEXT * 4)
    (tmp_path / "dogs.txt").write_text(fits.TEXT.replace("cat", "dog") * 4)
    return tmp_path


def test_workers_of_different_code_are_refused(folder):
    package = Path(distribution.__file__).parent
    shutil.copytree(package, folder / "other" / "keras_seq", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "other" / "keras_seq" / "gru.py").open("a") as file:
        file.write("# Not the same.\n")
    workers = cluster()
    program = [*PROGRAM, *SETTINGS, "--distribute=multi_worker", "--epochs=1", f"--run={folder / 'run'}"]
    program.append(f"--corpus={folder / 'cats.txt'}")
    environments = [environment(workers, index) for index in range(2)]
    environments[1]["PYTHONPATH"] = f"{folder / 'other'}:{os.environ.get('PYTHONPATH', '')}"
    for output, code in run_all([program] * 2, environments, cwd=folder):
        assert code == 1
        assert "all workers must have the same code, but they do not" in output
    assert not (folder / "run").exists()


def test_workers_of_different_texts_are_refused(folder):
    workers = cluster()
    programs = [
        [
            *PROGRAM,
            *SETTINGS,
            "--distribute=multi_worker",
            "--epochs=1",
            f"--run={folder / 'run'}",
            f"--corpus={folder / name}",
        ]
        for name in ("cats.txt", "dogs.txt")
    ]
    for output, code in run_all(programs, [environment(workers, index) for index in range(2)]):
        assert code == 1
        assert "all workers must have the same vocabulary and corpus, but they do not" in output
        assert "Traceback" not in output
    assert not (folder / "run").exists()


def test_a_run_whose_worker_was_killed_goes_on_with_one_or_two(folder):
    train = [*PROGRAM, *SETTINGS, "--corpus=cats.txt", "--epochs=12"]
    whole = subprocess.run([*train, "--run=whole"], cwd=folder, capture_output=True, text=True, check=True)
    assert "epoch 12/12" in whole.stdout
    launcher = subprocess.Popen(
        [*train, "--run=cut", "--workers=2"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    for line in launcher.stdout:
        lines.append(line)
        if line.startswith("epoch 3/12"):
            os.kill(worker_of(folder / "cut.worker-1.log", launcher.pid), signal.SIGKILL)
    assert launcher.wait(timeout=60) == 1, "".join(lines)
    assert "keras-seq: worker 1 ended with code -9" in "".join(lines)
    assert "epoch 12/12" not in "".join(lines)
    shutil.copytree(folder / "cut", folder / "alone")
    alone = subprocess.Popen([*PROGRAM, "--run=alone", "--resume"], cwd=folder, stdout=subprocess.PIPE)
    subprocess.run(
        [*PROGRAM, "--run=cut", "--resume", "--workers=2"], cwd=folder, check=True, capture_output=True, timeout=120
    )
    assert alone.wait(timeout=100) == 0
    whole_weights = load_run(folder / "whole").model.get_weights()
    for run in ("cut", "alone"):
        for one, other in zip(whole_weights, load_run(folder / run).model.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)
    assert (folder / "cut" / "worker-1" / "steps.csv").exists()


def children(process):
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def worker_of(log, launcher):
    """Returns the process of a launcher's worker whose output goes to a log."""
    return next(child for child in children(launcher) if os.path.realpath(f"/proc/{child}/fd/1") == str(log))


def test_a_worker_that_waits_says_so_and_can_be_ended(folder):
    program = [*PROGRAM, *SETTINGS, "--distribute=multi_worker", "--epochs=1", "--run=run", "--corpus=cats.txt"]
    own = environment(cluster(), 0)
    waiting = subprocess.Popen(program, cwd=folder, env=own, stdout=subprocess.PIPE, text=True)
    assert waiting.stdout.readline() == "waiting for the other workers\n"
    time.sleep(5)
    assert waiting.poll() is None
    waiting.terminate()
    assert waiting.wait(timeout=20) == -signal.SIGTERM


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_launcher(folder, how):
    train = [*PROGRAM, *SETTINGS, "--corpus=cats.txt", "--epochs=900", "--run=run", "--workers", "2"]
    launcher = subprocess.Popen(
        train,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background job, as these tests may be, ignores it, and its children do.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not launcher.stdout.readline().startswith("epoch 2/900"):
        assert launcher.poll() is None
    workers = children(launcher.pid)
    assert len(workers) == 2
    launcher.send_signal(how)
    assert launcher.wait(timeout=60) == {signal.SIGINT: 130, signal.SIGKILL: -9}[how]
    if how == signal.SIGINT:
        assert "to go on: keras-seq train --run=run --resume" in launcher.stdout.read()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}/cwd").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--epochs=1", "--batch_size=9"],
            "the batch must divide evenly among the 2 replicas, but --batch_size=9 does not",
        ),
        (["--minutes=1"], "give --epochs in place of --minutes"),
        (["--epochs=1", "--workers=0"], "--workers must be a positive number. Received: 0"),
        (["--epochs=1", "--distribute=mirrored"], "leave out --distribute"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, options, message):
    train = [*PROGRAM, *SETTINGS, "--corpus=cats.txt", "--run=run", "--workers=2", *options]
    done = subprocess.run(train, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (folder / "run").exists()
