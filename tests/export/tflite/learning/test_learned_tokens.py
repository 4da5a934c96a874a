"""What changes with the weights of a file that learns: the number of tokens, the own words and the version."""

import hamlet
import learned_files
import numpy as np
import pytest

from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite.learning.learner import Learner


@pytest.fixture
def sampler(small_tflite):
    return LiteRTSampler(small_tflite(learn=True))


def test_tokens_are_counted_as_far_as_the_file_can_hold(sampler, tmp_path):
    """A forged file must not make every later `save_learned` fail."""
    rows, columns = sampler.decoder.weights_shape
    sha256 = bytes.fromhex(sampler.config["model_sha256"])
    weights, path = np.zeros(rows * columns), tmp_path / "me.learned"
    path.write_bytes(learned_files.learned_file(rows, columns, sha256=sha256, tokens=2**64 - 3, weights=weights))
    sampler.load_learned(path)
    assert sampler.learned_tokens == 2**64 - 3
    sampler.learn(hamlet.TEXT[:40])
    assert sampler.learned_tokens == 2**64 - 1
    sampler.save_learned(path)
    sampler.load_learned(path)
    assert sampler.learned_tokens == 2**64 - 1


def test_the_version_changes_before_the_own_words(sampler, monkeypatch, tmp_path):
    """A thread that suggests reads the version first, then the words: it must not mix new words with the old model."""
    seen = []
    monkeypatch.setattr(
        Learner,
        "__setattr__",
        lambda self, name, value: (
            seen.append((name, sampler.learned_version)) if name == "words" else None,
            object.__setattr__(self, name, value),
        )[0],
    )
    sampler.learn(hamlet.TEXT[:40])
    sampler.save_learned(tmp_path / "me.learned")
    sampler.load_learned(tmp_path / "me.learned")
    sampler.forget()
    assert seen == [("words", 1), ("words", 2), ("words", 3)]
