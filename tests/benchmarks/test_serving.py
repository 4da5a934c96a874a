import pytest

from keras_seq.benchmarks.serving import CLIENTS, REQUESTS, benchmark_serve, table


@pytest.mark.slow
def test_many_clients_get_the_answers_that_each_gets_alone(small_saved_model):
    serving = benchmark_serve(small_saved_model, rounds=1, batches=(1, 3))
    assert (CLIENTS, REQUESTS) == (24, 50)
    assert serving.concurrency.equal == serving.concurrency.requests == CLIENTS * REQUESTS
    assert [row.batch for row in serving.batches] == [1, 3]
    assert all(row.generate > 0 and row.decode > 0 for row in serving.batches)
    *rows, _, clients = table(serving)
    assert len(rows) == 3
    assert clients.startswith("24 clients x 50 requests of 20 tokens: 1200 of 1200 answers")


def test_rounds_must_be_positive():
    with pytest.raises(ValueError, match="`rounds` must be a positive integer"):
        benchmark_serve(rounds=0)
