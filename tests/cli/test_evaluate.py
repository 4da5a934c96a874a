"""`keras-seq evaluate`."""

import hamlet
import pytest

import keras_seq as ks
from keras_seq.analysis.keyboard import baseline, keyboard_table, use_keyboard
from keras_seq.training.run_directory import load_run
from keras_seq_export import LiteRTSampler


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
    assert size.endswith(" words")


@pytest.mark.slow
def test_the_keyboard_of_a_model_by_line(small_tflite, tmp_path, run_cli):
    # With larger weights, the model suggests the same words whatever it has read.
    file, corpus = small_tflite(level="word", by_line=True, weight_scale=2), tmp_path / "hamlet.txt"
    corpus.write_text(hamlet.TEXT * 4)
    sampler = LiteRTSampler(file)
    tables = []
    for by_line in (True, False):
        parts = ks.load_corpus(str(corpus), by_line=True)
        counted, words = baseline(sampler.vocabulary, parts.text("train"), by_line)
        text = parts.validation + parts.test
        uses = {file.name: use_keyboard(sampler, sampler.vocabulary, text, by_line)}
        uses[counted.name] = use_keyboard(counted, words, text, by_line)
        tables.append("\n".join(keyboard_table(uses)).splitlines())
    answer = run_cli("evaluate", f"--model={file}", f"--corpus={corpus}", "--keyboard", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    found = answer.stdout.splitlines()[2:]
    assert found == tables[0]
    assert all(one != other for one, other in zip(found[1:3], tables[1][1:3], strict=True))


def test_a_run_learns_from_the_text(folder, run_cli):
    static, dynamic = (
        run_cli("evaluate", "--run=fox", *options, cwd=folder).stdout.splitlines() for options in ((), ("--dynamic",))
    )
    run, corpus = load_run(folder / "fox"), ks.load_corpus(str(folder / "fox.txt"))
    held_out = corpus.validation + corpus.test
    expected = ks.evaluate(run.model, run.vocabulary, held_out, dynamic=True, training_text=corpus.train)
    assert dynamic[:-1] == static
    assert dynamic[-1] == f"fox, held_out, dynamic evaluation: {expected}"


@pytest.mark.slow
def test_another_text_has_no_training_part_of_this_model(folder, run_cli):
    run, corpus = load_run(folder / "fox"), ks.load_corpus(str(folder / "fox.txt"))
    (folder / "foreign.txt").write_text("αβγ δεζ\n" * 100 + corpus.validation + corpus.test)
    options = ("--corpus=foreign.txt", "--split=test", "--dynamic")
    answer = run_cli("evaluate", "--run=fox", *options, cwd=folder)
    text = ks.load_corpus(str(folder / "foreign.txt")).test
    assert answer.stdout.splitlines()[-1].endswith(f": {ks.evaluate(run.model, run.vocabulary, text, dynamic=True)}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model=fox/export/fox.tflite"],
            "--dynamic needs the weights of a run: give it with --run; a .tflite learns with",
        ),
        (["--run=fox", "--window=8"], "--dynamic reads the text as a whole, so it has no windows: leave --window out"),
        (["--run=fox", "--keyboard"], "--dynamic and --keyboard cannot be combined"),
    ],
)
def test_what_dynamic_evaluation_refuses(folder, run_cli, arguments, message):
    answer = run_cli("evaluate", "--dynamic", *arguments, cwd=folder)
    assert answer.returncode == 1
    assert message in answer.stderr


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
