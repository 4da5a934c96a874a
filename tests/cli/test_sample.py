"""`keras-seq sample`."""

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
