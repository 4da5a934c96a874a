import pytest

from keras_seq.benchmarks import litert_sample as sampling_cost


def test_every_variant_is_timed_at_every_size(monkeypatch):
    monkeypatch.setattr(sampling_cost, "SIZES", {30: 2.0, 400: 3.0})
    rows = list(sampling_cost.benchmark_sample(rounds=1))
    assert [row["tokens"] for row in rows] == [30] * 6 + [400] * 6
    assert all(row["microseconds"] > 0 for row in rows)
    assert [row["decodes"] for row in rows if row["what"] == "decode"] == [1.0, 1.0]
    lines = list(sampling_cost.table(rows))
    assert len(lines) == 13
    assert "top_k=40, top_p=0.9" in lines[3]


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="`rounds` must be positive"):
        next(sampling_cost.benchmark_sample(rounds=0))
