"""The arithmetic and the report of the benchmark. Tests do not judge speed."""

import importlib.util
import json

import pytest

from keras_seq.benchmarks.gru_layer import KERAS, OURS, SIZES, TORCH, LayerTime, Size, table

TINY = Size(2, 3, 4, 5)


def test_operations_count_all_products_forward_and_backward():
    count = 0
    for _ in range(TINY.length):
        for _ in range(TINY.batch):
            for _gate in range(3):
                for _unit in range(TINY.units):
                    count += 2 * (TINY.features + TINY.units)  # forward: one multiplication and one addition each
                    count += 2 * 2 * (TINY.features + TINY.units)  # backward: as many for the gradient of either factor
    assert TINY.operations() == count


def test_sizes_are_parsed():
    assert [Size.parse(str(size)) for size in SIZES] == list(SIZES)


@pytest.mark.slow
def test_the_program_reports_each_contender_at_each_size(run_cli, tmp_path):
    answer = run_cli("benchmark", "layer", "--sizes=2x3x4x5", "--rounds=2", "--json", cwd=tmp_path)
    assert answer.returncode == 0
    rows = [LayerTime(**row) for row in json.loads(answer.stdout)]
    contenders = [OURS, KERAS]
    if importlib.util.find_spec("torch"):
        contenders.append(TORCH)
    assert [(row.size, row.contender) for row in rows] == [("2x3x4x5", name) for name in contenders]
    for row in rows:
        assert row.milliseconds > 0
        assert row.gflops == pytest.approx(Size.parse(row.size).operations() / row.milliseconds / 1e6, rel=1e-9)
        assert 0 < row.share < 1
        assert (row.speedup == 1) == (row.contender == KERAS)
    lines = list(table(rows))
    assert len(lines) == 1 + len(rows)
    assert sum("2x3x4x5" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--sizes=2x3x4",
            "--sizes must be of the form BATCHxLENGTHxFEATURESxUNITS, such as 32x64x64x128. Received: --sizes=2x3x4",
        ),
        ("--sizes=2x3x4x0", "Received: --sizes=2x3x4x0"),
        ("--rounds=0", "--rounds must be a positive integer. Received: --rounds=0"),
    ],
)
def test_bad_options_are_rejected_in_one_sentence(option, message, run_cli, tmp_path):
    answer = run_cli("benchmark", "layer", option, cwd=tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.startswith("keras-seq: ")
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1
