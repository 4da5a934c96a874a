import pytest

from keras_seq.benchmarks.serving import CLIENTS, REQUESTS, benchmark_serve, table


@pytest.mark.slow
def test_many_clients_get_the_answers_that_each_gets_alone(small_saved_model):
    rows, concurrency = benchmark_serve(small_saved_model, rounds=1, batches=(1, 3))
    assert (CLIENTS, REQUESTS) == (24, 50)
    assert concurrency.equal == CLIENTS * REQUESTS
    assert [row.batch for row in rows] == [1, 3]
    assert all(row.generate > 0 and row.decode > 0 for row in rows)
    assert len(list(table(rows))) == 3
    assert "1200 of 1200" in str(concurrency)


def test_rounds_must_be_positive():
    with pytest.raises(ValueError, match="`rounds` must be a positive integer"):
        benchmark_serve(rounds=0)
