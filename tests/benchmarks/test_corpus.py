import sys

import pytest

from keras_seq.benchmarks import corpus
from keras_seq.benchmarks.corpus import benchmark_corpus, table
from keras_seq.training.config import TrainConfig


@pytest.mark.slow
def test_a_text_is_encoded_and_trained_on(monkeypatch):
    assert len(corpus.KINDS) == 3
    # The other kinds differ only in the arguments of encode_corpus, which its own tests cover.
    monkeypatch.setattr(corpus, "KINDS", {"by line": {"by_line": True}})
    # Tests do not judge speed: a small model trains sooner.
    monkeypatch.setattr(corpus, "_CONFIG", TrainConfig(units=(16,), dropout=0.0))
    rows = list(benchmark_corpus(None, megabytes=1, steps=2))
    assert len(rows) == 1
    for row in rows:
        assert row.kind == "by line"
        assert row.megabytes > 1
        assert row.megabytes_a_second > 0
        assert 1 <= row.bytes_a_token < 1.1
        assert 0 <= row.waiting <= 1
        assert row.memory_mib > 20 or sys.platform != "linux"
    assert len(list(table(rows))) == 2


def test_bad_numbers_and_texts_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="`megabytes` must be a positive integer"):
        list(benchmark_corpus(None, megabytes=0, steps=1))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match=r"the corpus must hold text, but .* is empty"):
        list(benchmark_corpus([str(tmp_path / "empty.txt")], megabytes=1, steps=1))
