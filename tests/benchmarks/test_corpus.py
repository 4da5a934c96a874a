import sys

import pytest

from keras_seq.benchmarks import corpus as corpus_cost
from keras_seq.benchmarks.corpus import benchmark_corpus, table


def test_a_text_is_encoded_and_learned_from(monkeypatch):
    assert len(corpus_cost.KINDS) == 3
    monkeypatch.setattr(
        corpus_cost, "KINDS", {"by line": ["--by_line"]}
    )  # The others are its options, tried elsewhere.
    rows = list(benchmark_corpus(None, megabytes=1, steps=2))
    for row in rows:
        assert row["kind"] == "by line"
        assert row["megabytes"] > 1
        assert row["megabytes_a_second"] > 0
        assert 1 <= row["bytes_a_token"] < 1.1
        assert 0 <= row["waiting"] <= 1
        assert row["memory_mib"] > 20 or sys.platform != "linux"
    assert len(list(table(rows))) == 2


def test_numbers_must_be_positive_and_texts_there(tmp_path):
    with pytest.raises(ValueError, match="`megabytes` must be positive"):
        list(benchmark_corpus(None, megabytes=0, steps=1))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match=r"The corpus must hold text, but .* is empty"):
        list(benchmark_corpus([str(tmp_path / "empty.txt")], megabytes=1, steps=1))
