import pytest

from keras_seq.benchmarks import litert_sample, timing


@pytest.mark.slow
def test_every_variant_is_timed_at_every_size(monkeypatch):
    monkeypatch.setattr(litert_sample, "SIZES", {30: 2.0, 400: 3.0})
    monkeypatch.setattr(timing, "UNITS", 64)  # Tests do not judge speed: a small model is exported sooner.
    monkeypatch.setattr(timing, "EMBEDDING_DIM", 32)
    rows = list(litert_sample.benchmark_sample(rounds=1))
    assert [row.tokens for row in rows] == [30] * 6 + [400] * 6
    assert all(row.microseconds > 0 for row in rows)
    assert [row.decodes for row in rows if row.what == "decode"] == [1.0, 1.0]
    lines = list(litert_sample.table(rows))
    assert len(lines) == 13
    assert "top_k=40, top_p=0.9" in lines[3]


def test_rounds_must_be_positive():
    with pytest.raises(ValueError, match="`rounds` must be a positive integer"):
        next(litert_sample.benchmark_sample(rounds=0))
