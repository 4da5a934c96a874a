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


def test_the_keyboard_beside_words_that_are_counted(folder, run_cli):
    answer = run_cli("evaluate", "--model=fox/export/fox.tflite", "--corpus=fox.txt", "--keyboard", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    title, _, head, model, counted, _, size = answer.stdout.splitlines()
    assert (title, head.split()[0]) == ("fox, held_out: typed with 3 suggestions", "model")
    assert (model.split()[0], counted.split()[0]) == ("fox.tflite", "3-gram,")
    assert 0.5 < float(counted.split()[-2].rstrip("%")) / 100 < 1  # The text repeats itself.
    assert 0 <= float(model.split()[-2].rstrip("%")) / 100 < 1
    assert size.endswith(" words")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run=fox"], "export the run with `keras-seq export`, and give the .tflite with --model"),
        (["--model=fox/export/fox.tflite", "--window=8"], "--keyboard has no windows: leave --window out"),
        (["--model=fox/export/fox.tflite", "--split=train"], "--split=train cannot be combined with --keyboard"),
        (["--model=fox/export/fox.tflite"], "a .tflite does not name its training text"),
    ],
)
def test_what_the_keyboard_refuses(folder, run_cli, arguments, message):
    corpus = [] if "training text" in message else ["--corpus=fox.txt"]
    answer = run_cli("evaluate", "--keyboard", *arguments, *corpus, cwd=folder)
    assert answer.returncode == 1
    assert message in answer.stderr
