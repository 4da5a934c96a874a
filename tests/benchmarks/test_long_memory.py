"""What a GRU learns to recall, and over how many steps."""

import pytest

from keras_seq.benchmarks import long_memory as recall
from keras_seq.cli.main import build_parser, main


def test_a_chrono_start_remembers_where_the_stock_start_has_no_gradient_to_learn_from():
    # 60 steps leave the stock start 2**-60 of the gradient. Chance is 1/8; 1,000 answers have a standard error of 1 %.
    assert recall.recall_accuracy(60, "zeros", batches=100) < recall.CHANCE + 0.05
    assert recall.recall_accuracy(60, "chrono", batches=100) > 0.9


def test_the_stock_start_remembers_over_a_few_steps():
    assert recall.recall_accuracy(3, "zeros", batches=100) > 0.9


def test_the_program_prints_a_row_for_each_distance(capsys):
    assert main(build_parser().parse_args(["benchmark", "memory", "--distances=1"])) == 0
    header, *rows, chance = capsys.readouterr().out.splitlines()
    assert header.split() == ["distance", "zeros", "chrono"]
    assert [row.split()[0] for row in rows] == ["1"]
    assert chance == "chance is 12.5%"


@pytest.mark.parametrize(
    ("option", "message"),
    [("--distances=0", "1 step or more"), ("--distances=ten", "--distances must be whole numbers")],
)
def test_bad_options_are_refused_in_a_sentence(option, message, capsys):
    assert main(build_parser().parse_args(["benchmark", "memory", option])) == 1
    assert message in capsys.readouterr().err


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="`start` must be one of zeros, chrono"):
        recall.recall_accuracy(5, "ones")
