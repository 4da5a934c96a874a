"""Runs that are cut off and go on."""

import errno
import json
import os
import random
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq import checkpoint, training_run
from keras_seq.checkpoint import Checkpoint
from keras_seq.runs import TrainingError, load_run
from keras_seq.training import compile_model
from keras_seq.training_run import train

RANDOM = np.random.default_rng(0)
TEXT = "".join(RANDOM.choice(list("abcdefgh \n"), 4000))
LINES = "\n".join("ab" * length for length in RANDOM.integers(1, 12, 300)) + "\n"
CONFIG = {
    "corpus": "memory",
    "by_line": False,
    "cell": "gru",
    "units": [8, 6],
    "embedding_dim": 6,
    "dropout": 0.2,
    "batch_size": 4,
    "length": 16,
    "learning_rate": 0.01,
    "clipping": {"clipnorm": 1.0},
    "epochs": 4,
    "minutes": None,
    "seed": 3,
    "warmup": 0.1,
}


def run(directory, text=TEXT, resume=False, **changes):
    corpus = ks.Corpus(train=text, validation=text[:1000], test=text[:500], name="memory")
    return train(directory, corpus, ks.Vocabulary.from_text(text), {**CONFIG, **changes}, resume=resume)


def what_is_left(directory):
    """The weights, and the logs without what the clock decides."""
    weights = load_run(directory).model.get_weights()
    return [weight.tobytes() for weight in weights], *(
        (directory / name).read_text() for name in ("history.csv", "steps.csv")
    )


@pytest.mark.parametrize(
    ("text", "changes"),
    [(TEXT, {}), (TEXT, {"ema_momentum": 0.9, "cell": "lstm"}), (LINES, {"by_line": True, "optimizer": "rmsprop"})],
)
def test_a_run_that_goes_on_ends_as_if_it_had_not_been_interrupted(tmp_path, monkeypatch, text, changes):
    monkeypatch.setattr(training_run, "LONGEST_EPOCH", 25)  # less than a pass
    run(tmp_path / "whole", text, **changes)
    told = training_run.Progress.on_train_batch_end

    def interrupt(self, batch, logs=None):
        told(self, batch, logs)
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


KILLS = int(os.environ.get("KERAS_SEQ_KILLS", "3"))


def test_a_run_that_is_killed_goes_on_bit_for_bit(tmp_path):
    """At random moments, over and over; KERAS_SEQ_KILLS says how often."""
    (tmp_path / "text.txt").write_text(TEXT * 2)
    command = [sys.executable, "-m", "keras_seq.cli", "train", f"--corpus={tmp_path / 'text.txt'}", "--units=16,8"]
    command += [
        "--embedding_dim=8",
        "--dropout=0.2",
        "--batch_size=4",
        "--length=8",
        f"--epochs={6 * KILLS}",
        "--seed=5",
    ]
    subprocess.run([*command, f"--run={tmp_path / 'whole'}"], check=True, capture_output=True)
    moments, cut = random.Random(1), tmp_path / "cut"
    epochs = []
    for _ in range(KILLS):
        resume = ["--resume"] if (cut / "checkpoint.npz").exists() else []
        process = subprocess.Popen(
            [*command, f"--run={cut}", *resume], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        while process.poll() is None and b"epoch" not in process.stdout.readline():
            pass
        time.sleep(moments.uniform(0, 1.5))
        process.kill()
        process.wait()
        epochs.append(json.loads(str(np.load(cut / "checkpoint.npz")["about"]))["epoch"])
    print(f"killed in the middle of epochs {epochs}")
    assert sorted(epochs) == epochs
    subprocess.run([*command, f"--run={cut}", "--resume"], check=True, capture_output=True)
    assert what_is_left(cut) == what_is_left(tmp_path / "whole")
    assert {path.name for path in cut.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


def trained(tmp_path, units=4, vocabulary=None, **options):
    vocabulary = vocabulary or ks.Vocabulary.from_text(TEXT)
    model = ks.language_model(len(vocabulary), units=[units], embedding_dim=3)
    compile_model(model)
    point = Checkpoint(tmp_path / "checkpoint.npz", belongs_to={"vocabulary": vocabulary.sha256})
    if options.pop("load", False):
        point.load()
    model.fit(ks.streams(TEXT, vocabulary, 4, 16), epochs=1, verbose=0, shuffle=False, callbacks=[point])
    return model


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
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


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(tmp_path):
    run(tmp_path / "run", epochs=1)
    with pytest.raises(TrainingError, match="no checkpoint to go on from: its run is over"):
        run(tmp_path / "run", resume=True, epochs=1)


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
    with pytest.raises(TrainingError, match=r"No space left on device.*the one before it is still there"):
        point.save()
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert (tmp_path / "checkpoint.npz").read_bytes() == whole


def test_the_random_state_of_dropout_is_in_it(tmp_path):
    point = Checkpoint(tmp_path / "checkpoint.npz")
    model = ks.language_model(9, units=[4], embedding_dim=3, dropout=0.5)
    compile_model(model)
    point.set_model(model)
    model.optimizer.build(model.trainable_variables)
    point.save()
    first, second = (model(np.zeros((1, 5), np.int32), training=True).numpy() for _ in range(2))
    assert (first != second).any()
    point.restore()
    np.testing.assert_array_equal(model(np.zeros((1, 5), np.int32), training=True).numpy(), first)
    assert isinstance(model, keras.Model)
