import functools

import pytest

from keras_seq.benchmarks import long_memory
from keras_seq.benchmarks.long_memory import RANDOM_ACCURACY, recall_accuracy


def test_a_chrono_bias_remembers_over_distances_at_which_a_zero_bias_has_no_gradient():
    # With zeros, 2**-60 of the gradient is left after 60 steps. The accuracy has a standard error of 1 %.
    assert recall_accuracy(60, "zeros", batches=100) < RANDOM_ACCURACY + 0.05
    assert recall_accuracy(60, "chrono", batches=100) > 0.9


def test_a_zero_bias_remembers_over_a_few_steps():
    assert recall_accuracy(3, "zeros", batches=100) > 0.9


def test_the_program_prints_a_row_for_each_distance(run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr(long_memory, "recall_accuracy", functools.partial(recall_accuracy, batches=2))
    answer = run_cli("benchmark", "memory", "--distances=1", cwd=tmp_path)
    assert answer.returncode == 0
    header, *rows, footer = answer.stdout.splitlines()
    assert header.split() == ["distance", "zeros", "chrono"]
    assert [row.split()[0] for row in rows] == ["1"]
    assert footer == "a random guess has 12.5%"


@pytest.mark.parametrize(
    ("option", "code", "message"),
    [
        ("--distances=0", 1, "--distances must be positive integers. Received: --distances=0"),
        ("--distances=ten", 2, "--distances: "),
    ],
)
def test_bad_options_are_rejected_in_one_sentence(option, code, message, run_cli, tmp_path):
    answer = run_cli("benchmark", "memory", option, cwd=tmp_path)
    assert answer.returncode == code
    assert message in answer.stderr


def test_an_unknown_bias_is_rejected():
    with pytest.raises(ValueError, match="`initial_bias` must be one of zeros, chrono"):
        recall_accuracy(5, "ones")
