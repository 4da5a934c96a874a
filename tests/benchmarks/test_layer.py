"""The arithmetic and the report of the benchmark. Tests do not judge speed."""

import json

import pytest

from keras_seq.benchmarks import layer_cases
from keras_seq.benchmarks.layer import LayerTime, table
from keras_seq.benchmarks.layer_cases import Case, Size
from keras_seq.benchmarks.layer_contenders import (
    KERAS,
    OURS,
    PREDICT_BATCHES,
    calls_of_a_pass,
    contenders_of,
    layer_name,
)

TINY = Size(2, 3, 4, 5)
ROW = LayerTime("2x3x4x5", "", OURS, 12.34, 1.5, 56.7, 0.5, 1.25, 123.4)


@pytest.mark.slow
def test_the_program_reports_each_contender_in_each_case(run_cli, tmp_path, monkeypatch):
    cases = [
        Case("", TINY, {"reset_gate": False}),
        Case("right padding, both unknown", TINY, {}, unknown=("batch", "length"), masked=True),
    ]
    monkeypatch.setattr(layer_cases, "ALL_CASES", cases)
    answer = run_cli("benchmark", "layer", "--all", "--rounds=1", "--json", cwd=tmp_path)
    assert answer.returncode == 0
    rows = [LayerTime(**row) for row in json.loads(answer.stdout)]
    expected = [("2x3x4x5", case.name, layer_name(name, case)) for case in cases for name in contenders_of(case)]
    assert [(row.size, row.case, row.contender) for row in rows] == expected
    for row in rows:
        operations = TINY.operations(3) * (2 if (row.case, row.contender) == ("", "keras_seq.GRU") else 3) // 3
        assert row.gflops == pytest.approx(operations / row.milliseconds / 1e6, rel=1e-9)
        assert row.first_seconds * 1e3 > row.milliseconds > 0
        assert 0 < row.share < 1
        assert (row.speedup == 1) == (row.contender == "keras.layers.GRU")


def test_a_table_names_each_case_once():
    rows = [
        ROW,
        ROW._replace(contender=KERAS, speedup=1.0, peak_mib=None),
        ROW._replace(case="dropout=0.3"),
        ROW._replace(case="dropout=0.3", contender=KERAS),
    ]
    header, first, second, third, fourth = table(rows)
    assert "MiB" in header
    assert first.split() == ["2x3x4x5", OURS, "12.3", "1.25x", "1.50", "57", "50%", "123"]
    assert second.split() == [KERAS, "12.3", "1.00x", "1.50", "57", "50%"]
    assert third.startswith("2x3x4x5 dropout=0.3 ")
    assert fourth.startswith("  ")


def test_the_columns_of_the_table_hold_each_case():
    for case in layer_cases.ALL_CASES:
        (_, line) = table([ROW._replace(size=str(case.size), case=case.name)])
        assert line.startswith(f"{case.size} {case.name}".strip() + " ")
        assert len(line) == len(next(table([])))


def test_predict_runs_several_batches():
    assert calls_of_a_pass(Case("predict", TINY, {}, call="predict")) == PREDICT_BATCHES
    assert calls_of_a_pass(Case("", TINY, {})) == 1


@pytest.mark.parametrize(
    ("option", "code", "message"),
    [
        (
            "--sizes=2x3x4",
            1,
            "--sizes must be of the form BATCHxLENGTHxFEATURESxUNITS, such as 32x64x64x128. Received: --sizes=2x3x4",
        ),
        ("--sizes=2x3x4x0", 1, "Received: --sizes=2x3x4x0"),
        ("--rounds=0", 1, "--rounds must be a positive integer. Received: --rounds=0"),
        ("--all --sizes=2x3x4x5", 2, "argument --sizes: not allowed with argument --all"),
        ("--first_fit --all", 2, "argument --all: not allowed with argument --first_fit"),
    ],
)
def test_bad_options_are_rejected_in_one_sentence(option, code, message, run_cli, tmp_path):
    answer = run_cli("benchmark", "layer", *option.split(), cwd=tmp_path)
    assert answer.returncode == code
    assert answer.stderr.startswith("keras-seq")
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1
