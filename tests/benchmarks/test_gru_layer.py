"""The benchmark's own arithmetic and report. Speed is no matter for a test."""

import importlib.util
import json

import pytest

from keras_seq.benchmarks import gru_layer as benchmark
from keras_seq.benchmarks.gru_layer import Size
from keras_seq.cli.main import build_parser, main


def keras_seq_benchmark(*options):
    return main(build_parser().parse_args(["benchmark", "layer", *options]))


TINY = Size(2, 3, 4, 5)


def test_operations_are_those_of_all_products_forward_and_backward():
    count = 0
    for _ in range(TINY.length):
        for _ in range(TINY.batch):
            for _gate in range(3):
                for _unit in range(TINY.units):
                    count += 2 * (TINY.features + TINY.units)  # forward: a multiplication and an addition each
                    count += 2 * 2 * (TINY.features + TINY.units)  # backward: as many for either factor's gradient
    assert TINY.operations() == count


def test_sizes_read_back():
    assert [Size.parse(str(size)) for size in benchmark.SIZES] == list(benchmark.SIZES)


def test_the_program_reports_each_contender_at_each_size(capsys):
    assert keras_seq_benchmark("--sizes=2x3x4x5", "--rounds=2", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    contenders = [benchmark.OURS, benchmark.KERAS]
    if importlib.util.find_spec("torch"):
        contenders.append(benchmark.TORCH)
    assert [(row["size"], row["contender"]) for row in rows] == [("2x3x4x5", name) for name in contenders]
    for row in rows:
        assert row["milliseconds"] > 0
        assert row["gflops"] == pytest.approx(
            Size.parse(row["size"]).operations() / row["milliseconds"] / 1e6, rel=1e-9
        )
        assert 0 < row["share"] < 1
        assert (row["speedup"] == 1) == (row["contender"] == benchmark.KERAS)
    lines = list(benchmark.table(rows))
    assert len(lines) == 1 + len(rows)
    assert sum("2x3x4x5" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--sizes=2x3x4", "a size is BATCHxLENGTHxFEATURESxUNITS, such as 32x64x64x128. Received: '2x3x4'"),
        ("--sizes=2x3x4x0", "Received: '2x3x4x0'"),
        ("--rounds=0", "`rounds` must be positive. Received: rounds=0"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(option, message, capsys):
    assert keras_seq_benchmark(option) == 1
    error = capsys.readouterr().err
    assert error.startswith("keras-seq: ")
    assert message in error
    assert error.count("\n") == 1
