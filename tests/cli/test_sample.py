"""`keras-seq sample`."""

import signal
import subprocess
import sys
import time

import pytest
from bundles import with_endless_prefill

from keras_seq import signals
from keras_seq.cli.sample import _copies, _lines_of


def test_run_and_tflite_write_the_same_text(folder, run_cli):
    options = ("--prompt=the ", "--max_tokens=50", "--seed=7", "--temperature=0.8")
    texts = [
        run_cli("sample", source, *options, cwd=folder).stdout
        for source in ("--run=fox", "--model=fox/export/fox.tflite")
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 20
    assert texts[0].startswith("the ")


def test_the_random_seed_is_printed_and_gives_the_same_text(folder, run_cli):
    source, *options = "--model=fox/export/fox.tflite", "--prompt=the ", "--max_tokens=30"
    first = run_cli("sample", source, *options, cwd=folder)
    seed = first.stderr.strip().removeprefix("keras-seq: ")
    assert run_cli("sample", source, *options, seed, cwd=folder).stdout == first.stdout


def test_several_texts_stops_and_beams(folder, run_cli):
    source, *options = "--model=fox/export/fox.tflite", "--prompt=the ", "--max_tokens=30"
    together = run_cli("sample", source, *options, "--seed=3", "--num_samples=2", "--stop=o", "--stop=z", cwd=folder)
    alone = [
        run_cli("sample", source, *options, f"--seed={seed}", "--stop=o", "--stop=z", cwd=folder).stdout
        for seed in (3, 4)
    ]
    assert together.stdout == "\n".join(alone)
    assert not {"o", "z"} & set(together.stdout)
    beams = run_cli("sample", source, *options, "--num_beams=3", "--length_penalty=0.5", cwd=folder)
    assert beams.stdout.startswith("the ")


def test_texts_that_are_lines_of_a_corpus_are_counted(folder, monkeypatch, capsys, run_cli):
    (folder / "names.txt").write_text("Ann\nBob\nthe Cid\n")
    monkeypatch.chdir(folder)
    reported = _copies(["Ann", "An", "the Cid\n", "Dan"], *_lines_of(["names.txt"]))
    assert reported == "2 of 4 texts are lines of names; 50% are new"
    # The lines are those that the model was trained on: only a line feed ends one.
    lines = ["a\u2028b", "c\x0bd", "e\x85f", "g\rh", "i"]
    (folder / "odd.csv").write_bytes(("id;name\r\n" + "".join(f'1;"{line}"\r\n' for line in lines)).encode())
    capsys.readouterr()
    known = _lines_of(["odd.csv:name"])
    assert capsys.readouterr().err == "keras-seq: odd.csv: semicolon-separated, header id, name, text from name\n"
    (folder / "odd.txt").write_bytes("\r\n\r\n".join(lines).encode())
    assert known == ("odd", set(lines)) == _lines_of(["odd.txt"])
    assert _copies([*lines, "i\r\n", "b", "d", "f", "h", ""], *known).startswith("6 of 11 texts")
    options = ["--seed=1", "--max_tokens=1", "--num_samples=2", "--corpus=names.txt"]
    answer = run_cli("sample", "--model=fox/export/fox.tflite", *options, cwd=folder)
    assert (answer.returncode, answer.stderr) == (0, "keras-seq: 0 of 2 texts are lines of names; 100% are new\n")


def sampling_endlessly(small_tflite, tmp_path, before="pass"):
    """Starts `keras-seq sample` with a forged file, whose `prefill` never returns."""
    path = with_endless_prefill(small_tflite(), tmp_path / "endless.tflite")
    code = f"from keras_seq.cli import __main__, watched; {before}; __main__.run()"
    command = [sys.executable, "-c", code, "sample", f"--model={path}", "--prompt=To", "--seed=1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_call_that_does_not_return_ends_the_program(small_tflite, tmp_path):
    process = sampling_endlessly(small_tflite, tmp_path, before="watched.SECONDS = 0.5")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "To")
    assert "endless.tflite did not return from one call within 0.5 seconds: it is damaged or forged" in err
    assert err.count("\n") == 2
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_program_while_a_call_does_not_return(number, small_tflite, tmp_path):
    process = sampling_endlessly(small_tflite, tmp_path)
    assert process.stdout.read(2) == "To"
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < signals.SECONDS_TO_END + 2
    assert process.returncode == 128 + number
    assert "Traceback" not in err
