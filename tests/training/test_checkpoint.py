"""Runs that are cut off and go on."""

import dataclasses
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq.errors import TrainingError
from keras_seq.training import checkpoint
from keras_seq.training import train as training_run
from keras_seq.training.checkpoint import Checkpoint
from keras_seq.training.compile import compile_model
from keras_seq.training.config import TrainConfig
from keras_seq.training.run_directory import load_run, read_columns
from keras_seq.training.train import train

RANDOM = np.random.default_rng(0)
TEXT = "".join(RANDOM.choice(list("abcdefgh \n"), 4000))
LINES = "\n".join("ab" * length for length in RANDOM.integers(1, 12, 300)) + "\n"
CONFIG = TrainConfig(
    corpus="memory",
    cell="simple_rnn",  # A GRU takes longer to trace; a slow test resumes a run with one.
    units=(8,),
    embedding_dim=6,
    dropout=0.2,
    batch_size=4,
    length=16,
    learning_rate=0.01,
    warmup=0.1,
    epochs=4,
    seed=3,
)


def run(directory, text=TEXT, resume=False, **changes):
    corpus = ks.Corpus(train=text, validation=text[:1000], test=text[:500], name="memory")
    return train(
        directory, corpus, ks.Vocabulary.from_text(text), dataclasses.replace(CONFIG, **changes), resume=resume
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was not interrupted."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    run(directory)
    return directory


def what_is_left(directory):
    """The weights, and the logs without what the clock decides."""
    weights = load_run(directory).model.get_weights()
    return [weight.tobytes() for weight in weights], *(
        (directory / name).read_text() for name in ("history.csv", "steps.csv")
    )


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (TEXT, {"ngrams": 3, "ngram_rows": 97, "ngram_decay": 0.5}),
        pytest.param(TEXT, {}, marks=pytest.mark.slow),
        pytest.param(
            LINES,
            {"by_line": True, "optimizer": "rmsprop", "ema_momentum": 0.9, "cell": "gru"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_resumed_run_has_the_results_of_an_uninterrupted_one(tmp_path, monkeypatch, text, changes):
    monkeypatch.setattr(training_run, "LONGEST_EPOCH", 25)  # less than a pass
    run(tmp_path / "whole", text, **changes)
    print_progress = training_run.Progress.on_train_batch_end

    def interrupt(self, batch, logs=None):
        print_progress(self, batch, logs)
        if self._name.startswith("epoch 3") and batch == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_run.Progress, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", text, **changes)
    assert (tmp_path / "cut" / "checkpoint.npz").exists()
    run(tmp_path / "cut", text, resume=True, **changes)
    assert what_is_left(tmp_path / "cut") == what_is_left(tmp_path / "whole")
    assert not (tmp_path / "cut" / "checkpoint.npz").exists()


KILLS = int(os.environ.get("KERAS_SEQ_KILLS", "2"))


@pytest.mark.slow
def test_a_run_that_is_killed_resumes_bit_for_bit(tmp_path, run_cli):
    """At random moments, over and over; KERAS_SEQ_KILLS says how often. The run without a kill is in this process."""
    (tmp_path / "text.txt").write_text(TEXT)
    program = [sys.executable, "-m", "keras_seq.cli"]
    command = [
        "train",
        f"--corpus={tmp_path / 'text.txt'}",
        "--cell=simple_rnn",
        "--units=16,8",
        "--embedding_dim=8",
        "--dropout=0.2",
        "--batch_size=4",
        "--length=8",
        f"--epochs={8 * KILLS}",
        "--seed=5",
    ]
    answer = run_cli(*command, f"--run={tmp_path / 'whole'}", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    moments, cut = random.Random(1), tmp_path / "cut"
    epochs = []
    for number in range(KILLS):
        resuming = ["train", "--resume"] if cut.exists() else command
        process = subprocess.Popen(
            [*program, *resuming, f"--run={cut}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        # Every third time from the making of the directory on, before the first checkpoint; else in a later epoch.
        while process.poll() is None and not (number % 3 == 0 and (cut / "config.json").exists()):
            if number % 3 and b"epoch" in process.stdout.readline():
                break
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 1.5))
        process.kill()
        process.wait()
        has_begun = (cut / "checkpoint.npz").exists()
        epochs.append(json.loads(str(np.load(cut / "checkpoint.npz")["about"]))["epoch"] if has_begun else 0)
    print(f"killed in epochs {epochs}")
    assert sorted(epochs) == epochs
    assert epochs[-1] > 0
    answer = run_cli("train", f"--run={cut}", "--resume", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert what_is_left(cut) == what_is_left(tmp_path / "whole")
    assert {path.name for path in cut.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "notice"),
    [
        (signal.SIGINT, "ending when this epoch is finished and saved; Ctrl-C again ends at once"),
        (
            signal.SIGTERM,
            "ending when this epoch is finished and saved, after 6 seconds at the latest; to resume: keras-seq train "
            "--run=run --resume",
        ),
    ],
)
def test_a_signal_ends_the_run_after_its_epoch_and_prints_how_to_resume(tmp_path, run_cli, number, notice):
    (tmp_path / "text.txt").write_text(TEXT)
    command = [
        *(sys.executable, "-m", "keras_seq.cli", "train"),
        "--corpus=text.txt",
        "--run=run",
        "--cell=simple_rnn",
        "--units=8",
        "--batch_size=4",
        "--length=8",
        "--epochs=10000",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "epoch 1" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert notice in printed
    assert "all finished epochs are saved; to resume: keras-seq train --run=run --resume" in printed
    metadata = json.loads(str(np.load(tmp_path / "run" / "checkpoint.npz")["about"]))
    assert metadata["epoch"] == len(read_columns(tmp_path / "run" / "history.csv")["epoch"])
    refused = run_cli("train", "--run=run", "--resume", "--units=9", cwd=tmp_path)
    assert "--resume uses the configuration of the run: leave out --units" in refused.stderr


def trained(tmp_path, units=4, vocabulary=None, **options):
    vocabulary = vocabulary or ks.Vocabulary.from_text(TEXT)
    model = ks.language_model(len(vocabulary), cell="simple_rnn", units=[units], embedding_dim=3)
    compile_model(model, TrainConfig())
    point = Checkpoint(tmp_path / "checkpoint.npz", belongs_to={"vocabulary": vocabulary.sha256})
    if options.pop("load", False):
        point.load()
    model.fit(ks.streams(TEXT, vocabulary, 4, 16), epochs=1, verbose=0, shuffle=False, callbacks=[point])
    return model


def test_a_checkpoint_of_another_model_or_vocabulary_is_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(TrainingError, match="another model or optimizer"):
        trained(tmp_path, units=5, load=True)
    with pytest.raises(TrainingError, match="another vocabulary"):
        trained(tmp_path, vocabulary=ks.Vocabulary.from_text(TEXT + "z"), load=True)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_damaged_checkpoint_is_refused(tmp_path, kept):
    trained(tmp_path)
    path = tmp_path / "checkpoint.npz"
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(TrainingError, match="is damaged"):
        trained(tmp_path, load=True)


@pytest.mark.slow
def test_a_finished_run_has_nothing_to_resume(whole):
    with pytest.raises(TrainingError, match="no checkpoint to resume from: its run is finished"):
        run(whole, resume=True)


def test_another_text_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training_run.Progress, "on_epoch_end", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run")
    with pytest.raises(TrainingError, match="another corpus"):
        run(tmp_path / "run", TEXT[::-1], resume=True)


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    model = trained(tmp_path)
    whole = (tmp_path / "checkpoint.npz").read_bytes()
    point = Checkpoint(tmp_path / "checkpoint.npz")
    point.set_model(model)

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.np, "savez", full)
    with pytest.raises(TrainingError, match=r"No space left on device.*resume the run"):
        point.save()
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert (tmp_path / "checkpoint.npz").read_bytes() == whole


def test_a_checkpoint_holds_the_random_state_of_dropout(tmp_path):
    point = Checkpoint(tmp_path / "checkpoint.npz")
    model = ks.language_model(9, units=[4], embedding_dim=3, dropout=0.5)
    compile_model(model, TrainConfig())
    point.set_model(model)
    model.optimizer.build(model.trainable_variables)
    point.save()
    first, second = (model(np.zeros((1, 5), np.int32), training=True).numpy() for _ in range(2))
    assert (first != second).any()
    point.restore()
    np.testing.assert_array_equal(model(np.zeros((1, 5), np.int32), training=True).numpy(), first)


@pytest.mark.slow
def test_a_run_that_was_killed_in_its_first_epoch_starts_again(tmp_path, whole):
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    for name in ("model.keras", "history.png", "steps.csv"):
        (cut / name).unlink()
    (cut / "history.csv").write_text("")  # as Keras leaves it
    run(cut, resume=True)
    assert what_is_left(cut) == what_is_left(whole)


@pytest.mark.slow
def test_a_run_that_was_killed_after_its_last_epoch_finishes(tmp_path, monkeypatch, whole):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "threshold_range", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut")
    run(tmp_path / "cut", resume=True)
    assert what_is_left(tmp_path / "cut") == what_is_left(whole)
    assert (tmp_path / "cut" / "history.png").exists()


def fitted(path, optimizer, callbacks=(), remembered=None, load=False):
    vocabulary = ks.Vocabulary.from_text(TEXT)
    model = ks.language_model(len(vocabulary), cell="simple_rnn", units=[4], embedding_dim=3)
    compile_model(model, TrainConfig(optimizer=optimizer))
    point = Checkpoint(path, remembered)
    if load:
        point.load()
    model.fit(
        ks.streams(TEXT, vocabulary, 4, 16),
        epochs=2,
        verbose=0,
        shuffle=False,
        callbacks=[*callbacks, point],
        initial_epoch=point.epoch,
    )
    return model, point


def test_a_second_fit_with_the_same_checkpoint_starts_from_the_models_weights(tmp_path):
    model, point = fitted(tmp_path / "checkpoint.npz", "sgd")
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda *_, **__: seen.append(model.get_weights()[0].max())
    )
    model.fit(ks.streams(TEXT, ks.Vocabulary.from_text(TEXT), 4, 16), verbose=0, shuffle=False, callbacks=[point, look])
    assert seen[0] == 1


def test_a_checkpoint_holds_the_learning_rate(tmp_path):
    def lower(epoch, rate):
        return 1e-3

    fitted(tmp_path / "checkpoint.npz", "sgd", [keras.callbacks.LearningRateScheduler(lower)])
    model, _ = fitted(tmp_path / "checkpoint.npz", "sgd", load=True)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


def test_a_checkpoint_of_another_optimizer_or_without_a_callback_is_refused(tmp_path):
    fitted(tmp_path / "checkpoint.npz", "adam")
    with pytest.raises(TrainingError, match="another model or optimizer"):
        fitted(tmp_path / "checkpoint.npz", "adamax", load=True)
    schedule = ks.CosineSchedule(epochs=2)
    with pytest.raises(TrainingError, match="has no state of schedule"):
        fitted(tmp_path / "checkpoint.npz", "adam", [schedule], {"schedule": schedule}, load=True)
