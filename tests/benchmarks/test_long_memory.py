import functools

import pytest

from keras_seq.benchmarks import long_memory
from keras_seq.benchmarks.long_memory import RANDOM_ACCURACY, recall_accuracy


@pytest.mark.slow
def test_a_chrono_bias_remembers_over_distances_at_which_a_zero_bias_has_no_gradient(run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr(long_memory, "recall_accuracy", functools.partial(recall_accuracy, batches=100))
    answer = run_cli("benchmark", "memory", "--distances=3,60", cwd=tmp_path)
    assert answer.returncode == 0
    header, *rows, footer = answer.stdout.splitlines()
    assert header.split() == ["distance", "zeros", "chrono"]
    assert [row.split()[0] for row in rows] == ["3", "60"]
    assert footer == "a random guess has 12.5%"
    (zeros_near, _), (zeros_far, chrono_far) = (
        [float(share.removesuffix("%")) / 100 for share in row.split()[1:]] for row in rows
    )
    # With zeros, 2**-60 of the gradient is left after 60 steps. The accuracy has a standard error of 1 %.
    assert zeros_near > 0.9
    assert zeros_far < RANDOM_ACCURACY + 0.05
    assert chrono_far > 0.9


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
