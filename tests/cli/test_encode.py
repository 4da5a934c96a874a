"""`keras-seq encode`, and `keras-seq train` on its output."""

import json

import pytest

SMALL = ("--cell=simple_rnn", "--units=8", "--embedding_dim=4", "--batch_size=4", "--length=16", "--epochs=1")


@pytest.fixture(scope="module")
def encoded(folder, run_cli):
    """The directory `words`, encoded at word level, and what the program printed."""
    answer = run_cli("encode", "--corpus=fox.txt", "--output=words", "--level=word", "--max_size=12", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return folder / "words", answer.stdout


def test_the_size_and_the_next_command_are_printed(encoded):
    _, printed = encoded
    size, _, following = printed.partition("\n\n")
    assert size.startswith("words: ")
    assert "tokens on disk to train on, a vocabulary of 12 tokens, 4 of them reserved, " in size
    assert size.endswith("% of the text is <unk>")
    assert following == "Next:\n  keras-seq train --corpus=words\n"


def test_tables_are_reported_as_they_were_read(folder, run_cli):
    lines = (folder / "fox.txt").read_text().splitlines()
    (folder / "fox.csv").write_text("id;body\n" + "".join(f"{number};{line}\n" for number, line in enumerate(lines)))
    read = "fox.csv: semicolon-separated, header id, body, text from body"
    options = ("--corpus=fox.csv:body", "--output=of_table", "--by_line")
    encoded = run_cli("encode", *options, cwd=folder).stdout.splitlines()
    assert encoded[0] == read
    assert encoded[1].startswith("of_table: ")
    refused = run_cli("encode", "--corpus=fox.csv", "--output=of_rows", cwd=folder)
    assert refused.returncode == 1
    assert "fox.csv:FIELD, because only its name shows that the first row is a header" in refused.stderr


def test_the_same_command_finds_the_corpus_complete(encoded, folder, run_cli):
    directory, printed = encoded
    files = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    answer = run_cli("encode", "--corpus=fox.txt", "--output=words", "--level=word", "--max_size=12", cwd=folder)
    assert (answer.returncode, answer.stdout) == (0, printed)
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == files


def test_a_run_on_the_encoded_corpus_has_its_vocabulary(encoded, folder, run_cli):
    directory, _ = encoded
    answer = run_cli("train", "--corpus=words", "--run=of_words", *SMALL, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    config = json.loads((folder / "of_words" / "config.json").read_text())
    assert config["level"] == "word"
    vocabularies = [(at / "vocab.txt").read_text() for at in (directory, folder / "of_words")]
    assert vocabularies[0] == vocabularies[1]


@pytest.mark.parametrize("option", ["--level=char", "--max_size=9", "--coverage=0.5", "--by_line"])
def test_an_encoded_corpus_keeps_its_vocabulary_and_lines(option, encoded, folder, run_cli):
    answer = run_cli("train", "--corpus=words", "--run=new", option, *SMALL, cwd=folder)
    assert answer.returncode == 1
    name = option.partition("=")[0]
    assert answer.stderr == (f"keras-seq: an encoded corpus has its own vocabulary and lines: leave out {name}\n")
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--output=new", "--level=char", "--max_size=9"], "--max_size"),
        (["--output=new", "--level=word", "--coverage=2"], "--coverage must be"),
        (["--output=words", "--by_line"], "words has a corpus of other files, "),
    ],
)
def test_a_wrong_option_is_one_sentence(options, words, encoded, folder, run_cli):
    answer = run_cli("encode", "--corpus=fox.txt", *options, cwd=folder)
    assert answer.returncode == 1
    (message,) = answer.stderr.splitlines()
    assert message.startswith("keras-seq: ")
    assert words in message
    assert not (folder / "new").exists()
