"""Runs on a disk that becomes full at each of their stages: a sentence says so, and the run resumes when there is space.

Only root can mount a small disk; elsewhere these tests pass without one.
"""

import os
import subprocess

import pytest

import keras_seq as ks
from keras_seq.errors import RunError, TrainingError
from keras_seq.training.config import TrainConfig
from keras_seq.training.train import train

TEXT = "abcdefgh \n" * 200
CORPUS = ks.Corpus(train=TEXT, validation=TEXT[:1000], test=TEXT[:500], name="memory")
CONFIG = TrainConfig(
    corpus="memory", cell="simple_rnn", units=(8,), embedding_dim=6, batch_size=4, length=16, epochs=2, tensorboard=True
)
FILES = ["steps.csv", "checkpoint.npz", "model.keras", "history.csv", "history.png", "tensorboard"]


def run(directory, resume=False):
    return train(directory, CORPUS, ks.Vocabulary.from_text(TEXT), CONFIG, resume=resume)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_disk_that_becomes_full_at_each_stage(tmp_path):
    named = set()
    for kilobytes in (8, 16, 32, 36, 56, 172):
        disk = tmp_path / f"disk{kilobytes}"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk], check=True)
        try:
            try:
                run(disk / "run")
            except (RunError, TrainingError) as error:
                message = str(error)
                assert "cannot be written: No space left on device. Free some space there, then " in message
                named |= {name for name in FILES if f"/run/{name} cannot" in message}
                assert not list(disk.rglob(".partial-*"))
                subprocess.run(["mount", "-o", "remount,size=9m", disk], check=True)
                run(disk / "run", resume=(disk / "run" / "config.json").exists())
            assert {path.name for path in (disk / "run").iterdir()} == {
                *("config.json", "history.csv", "history.png", "model.keras", "steps.csv", "tensorboard", "vocab.txt")
            }
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)  # Keras leaves a file open.
    assert named >= {"steps.csv", "checkpoint.npz", "model.keras", "history.png", "tensorboard"}, named
