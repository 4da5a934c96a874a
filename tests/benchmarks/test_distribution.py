import pytest

from keras_seq.benchmarks.distribution import benchmark_distribute, bytes_of_a_step, communication, table


@pytest.mark.slow
def test_both_steps_are_measured_and_the_table_is_complete():
    cost = benchmark_distribute(steps=2, trusted_network=True)
    assert cost.alone_seconds > 0
    assert [(one.workers, one.gigabits) for one in cost.modelled] == [(n, g) for n in (8, 64) for g in (1, 10, 100)]
    for one in cost.modelled:
        assert one.share == pytest.approx(one.seconds / (cost.alone_seconds + one.seconds))
    measured, *rest = "\n".join(table(cost)).split("\n\n")
    assert "ms alone" in measured
    assert "ms with a second worker" in measured
    assert [line.split()[0] for line in rest[0].splitlines()] == ["workers", "8", "64"]
    assert "2.17 MB are reduced and 1.08 MB gathered" in measured


def test_the_model_of_communication_equals_a_calculation_by_hand():
    reduced, gathered = bytes_of_a_step()
    # Two workers at 1 MB/s: each sends all of its gradients and embedding rows once, in three messages.
    assert communication(2, 1e6) == pytest.approx((reduced + gathered) / 1e6 + 3 * 20e-6)


def test_steps_must_be_positive():
    with pytest.raises(ValueError, match="`steps` must be a positive integer"):
        benchmark_distribute(0)


def test_the_network_must_be_trusted():
    with pytest.raises(ValueError, match="confirm it with `trusted_network`"):
        benchmark_distribute()
