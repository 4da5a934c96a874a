"""`keras-seq evaluate`."""

import pytest


def test_run_and_tflite_evaluate_alike(folder, run_cli):
    answers = [
        run_cli("evaluate", source, "--corpus=fox.txt", cwd=folder).stdout
        for source in ("--run=fox", "--model=fox/export/fox.tflite")
    ]
    figures = [float(answer.split(": ")[1].split()[0]) for answer in answers]
    afresh = [float(answer.split("zero state: ")[1].split()[0]) for answer in answers]
    assert afresh[0] == pytest.approx(afresh[1], abs=5e-4)
    assert figures[0] == pytest.approx(figures[1], abs=5e-4)
    (folder / "three.txt").write_text("a\nb\nc\n")
    empty = run_cli("evaluate", "--run=fox", "--corpus=three.txt", cwd=folder)
    assert empty.stderr == (
        "keras-seq: the held-out part of three must not be empty; name a longer --corpus or another --split\n"
    )
    assert 0 < figures[0] < 1  # the text repeats itself; a uniform guess costs ln 30 = 3.4
