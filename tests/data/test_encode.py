"""Corpora encoded on disk, against `load_corpus` and `Vocabulary` on the whole text."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq.data import encode as encoding
from keras_seq.data import text_files
from keras_seq.data.load import load_corpus
from keras_seq.data.vocabulary import split_words
from keras_seq.errors import CorpusError

TEXTS = st.text(st.sampled_from("ab \n'’.x中ب👍\t") | st.characters(exclude_categories=["Cs"]), max_size=200)


@given(st.lists(TEXTS, max_size=8), st.sampled_from(["char", "word", "line"]), st.integers(8, 60))
def test_tokens_of_the_chunks_are_those_of_the_text(pieces, kind, size):
    settings = {"level": "word" if kind == "word" else "char", "by_line": kind == "line"}
    text = "".join(pieces)
    tokens = {"char": list, "word": split_words, "line": lambda text: [line for line in text.split("\n") if line]}[kind]
    with mock.patch.object(encoding, "CHUNK", size):
        if kind != "char" and max(map(len, tokens(text)), default=0) >= size / 3:  # two tokens wait for what comes
            return
        chunks = list(encoding._chunks(pieces, settings))
    assert "".join(chunks) == text
    assert list(itertools.chain.from_iterable(map(tokens, chunks))) == tokens(text)


LINES = [f"The cat, which ate {number} apples, was full. 猫は満腹だ。 القطة" for number in range(300)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "a.txt").write_text("\n".join(LINES[:100]), encoding="utf-8")
    (folder / "b.txt").write_text("\n".join(LINES[100:]) + "\n", encoding="utf-16")
    return [folder / "a.txt", folder / "b.txt"]


@pytest.fixture
def small():
    """Chunks, files and held-out parts of a small size, so that a short text has many."""
    with (
        mock.patch.object(text_files, "_BLOCK", 500),
        mock.patch.object(encoding, "CHUNK", 700),
        mock.patch.object(encoding, "_CHUNKS_OF_A_FILE", 3),
    ):
        yield


@pytest.mark.parametrize(
    ("level", "by_line", "options"),
    [("char", False, {}), ("char", True, {}), ("word", False, {"max_size": 60}), ("word", True, {"coverage": 0.9})],
)
def test_a_corpus_on_disk_is_that_in_memory(files, small, tmp_path, level, by_line, options):
    # Parts of words and lines begin with a line in both.
    corpus = ks.encode_corpus(files, tmp_path / "on_disk", level=level, by_line=by_line, processes=2, **options)
    whole = load_corpus(files, by_line=by_line or level == "word")
    assert (corpus.validation, corpus.test, corpus.name) == (whole.validation, whole.test, "on_disk")
    text = whole.train + whole.validation + whole.test if level == "char" else whole.train
    vocabulary = ks.Vocabulary.from_text(text, level=level, **options)
    assert corpus.train.vocabulary == vocabulary
    expected = vocabulary.encode_lines(whole.train) if by_line else vocabulary.encode(whole.train)
    np.testing.assert_array_equal(corpus.train[0 : len(corpus.train)], expected)
    assert len(list((tmp_path / "on_disk").glob("*.tfrecord"))) > 5
    opened = load_corpus(tmp_path / "on_disk")
    assert (opened.by_line, opened.validation, len(opened.train)) == (by_line, whole.validation, len(expected))


def test_the_files_are_read_by_tensorflow(files, small, tmp_path):
    corpus = ks.encode_corpus(files, tmp_path / "on_disk", processes=1)
    records = tf.data.TFRecordDataset(sorted(map(str, (tmp_path / "on_disk").glob("*.tfrecord"))))
    ids = np.concatenate([tf.io.decode_raw(record, tf.uint8).numpy() for record in records])
    np.testing.assert_array_equal(ids, corpus.train[0 : len(ids)])


def test_an_interrupted_call_goes_on_where_it_was(files, small, tmp_path):
    write, finished = encoding._write_records, []

    def interrupted(path, blocks, dtype):
        if len(finished) == 3:
            raise KeyboardInterrupt
        write(path, blocks, dtype)
        finished.append((path, path.stat().st_mtime_ns))

    with mock.patch.object(encoding, "_write_records", interrupted), pytest.raises(KeyboardInterrupt):
        ks.encode_corpus(files, tmp_path / "cut", processes=1)
    with pytest.raises(CorpusError, match=r"must be finished, but .*cut is not; encode it again to go on"):
        load_corpus(tmp_path / "cut")
    corpus = ks.encode_corpus(files, tmp_path / "cut", processes=1)
    assert [(path, path.stat().st_mtime_ns) for path, _ in finished] == finished
    whole = ks.encode_corpus(files, tmp_path / "whole", processes=1)
    np.testing.assert_array_equal(corpus.train[0 : len(corpus.train)], whole.train[0 : len(whole.train)])
    with mock.patch.object(encoding, "process_pool", side_effect=AssertionError("nothing is left to do")):
        assert len(ks.encode_corpus(files, tmp_path / "cut").train) == len(whole.train)


def test_a_call_that_was_killed_goes_on(tmp_path):
    (tmp_path / "long.txt").write_text("".join(f"{number} is a number.\n" for number in range(800_000)))
    program = [sys.executable, "-m", "keras_seq.cli.main", "encode", "--corpus=long.txt", "--output=encoded"]
    running = subprocess.Popen(program, cwd=tmp_path, start_new_session=True)
    first = tmp_path / "encoded" / "train-00000.tfrecord"
    while not first.exists():
        assert running.poll() is None
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert "files" not in (tmp_path / "encoded" / "encoded_corpus.json").read_text()
    written = first.stat().st_mtime_ns
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "keras-seq train --corpus=encoded" in done.stdout
    assert first.stat().st_mtime_ns == written
    corpus = load_corpus(tmp_path / "encoded")
    text = corpus.train.vocabulary.decode(corpus.train[0 : len(corpus.train)]) + corpus.validation + corpus.test
    assert text == (tmp_path / "long.txt").read_text()
    assert not list((tmp_path / "encoded").glob(".partial*"))


def test_held_out_parts_stay_small(files, small, tmp_path):
    with mock.patch.object(encoding, "LONGEST_HELD_OUT", 500):
        corpus = ks.encode_corpus(files, tmp_path / "on_disk", validation=0.2, test=0.3, processes=1)
    assert (len(corpus.validation), len(corpus.test)) == (500, 500)
    text = "".join(path.read_text(encoding=name) for path, name in zip(files, ("utf-8", "utf-16"), strict=True))
    assert corpus.validation + corpus.test == text[-1000:]


def test_rare_words_beyond_a_number_are_forgotten(files, small, tmp_path):
    with mock.patch.object(encoding, "_MOST_WORDS", 40):
        corpus = ks.encode_corpus(files, tmp_path / "on_disk", level="word", max_size=15, processes=1)
    whole = ks.Vocabulary.from_text(load_corpus(files, by_line=True).train, level="word", max_size=15)
    assert set(corpus.train.vocabulary.tokens) == set(whole.tokens)
    with mock.patch.object(encoding, "_MOST_WORDS", 40):
        corpus = ks.encode_corpus(files, tmp_path / "all", level="word", processes=1)
    assert " 3" not in corpus.train.vocabulary.tokens  # a word of the beginning, seen once
    assert len(corpus.train.vocabulary) <= 45


def test_a_directory_of_something_else_is_refused(files, small, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    with pytest.raises(CorpusError, match=r"must be new, but .*mine is not; choose another"):
        ks.encode_corpus(files, tmp_path / "mine")
    ks.encode_corpus(files, tmp_path / "on_disk", processes=1)
    for others, options in ((files[:1], {}), (files, {"level": "word"}), (files, {"validation": 0.1})):
        with pytest.raises(CorpusError, match=r"has one of other files, .* or with other settings; choose another"):
            ks.encode_corpus(others, tmp_path / "on_disk", **options)
    with pytest.raises(CorpusError, match="came with others"):
        load_corpus([tmp_path / "on_disk", files[0]])
    with pytest.raises(CorpusError, match="is encoded already; train on it as it is"):
        ks.encode_corpus(tmp_path / "on_disk", tmp_path / "again")


def test_files_that_change_are_noticed(files, small, tmp_path):
    path = tmp_path / "growing.txt"
    path.write_text("to be\n" * 500)
    for phase in ("_counted", "_encoded"):
        directory, work = tmp_path / phase, getattr(encoding, phase)

        def while_it_grows(*arguments, work=work):
            with path.open("a") as file:
                file.write("or not\n")
            return work(*arguments)

        with mock.patch.object(encoding, phase, while_it_grows), pytest.raises(CorpusError, match="it changed while"):
            ks.encode_corpus(path, directory, processes=1)
        assert directory.exists() == (phase == "_encoded")
    with pytest.raises(CorpusError, match="of files as they were before"):
        ks.encode_corpus(path, directory, processes=1)


def test_what_cannot_be_encoded_is_refused_and_leaves_nothing(tmp_path, small):
    (tmp_path / "giant.txt").write_text("x" * 2000)
    for options, message in (
        ({"by_line": True}, "no line of 700 characters, but one of 1,000 or more came"),
        ({"level": "word"}, "no word of 700 characters"),
    ):
        with pytest.raises(CorpusError, match=message):
            ks.encode_corpus(tmp_path / "giant.txt", tmp_path / "on_disk", processes=1, **options)
    with pytest.raises(CorpusError, match=r"absent\.txt does not exist"):
        ks.encode_corpus(tmp_path / "absent.txt", tmp_path / "on_disk", processes=1)
    with pytest.raises(CorpusError, match="read twice, which standard input cannot be"):
        ks.encode_corpus("-", tmp_path / "on_disk")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorpusError, match=r"must not be part of it, but .*folder/new is in .*folder"):
        ks.encode_corpus(tmp_path / "folder", tmp_path / "folder" / "new")
    with pytest.raises(ValueError, match="`validation` must be a number"):
        ks.encode_corpus(tmp_path / "giant.txt", tmp_path / "on_disk", validation=-1)
    assert not (tmp_path / "on_disk").exists()
    assert len(ks.encode_corpus(tmp_path / "giant.txt", tmp_path / "on_disk", processes=1).train) == 1800


def test_a_damaged_corpus_is_refused(files, small, tmp_path):
    ks.encode_corpus(files, tmp_path / "on_disk", processes=1)
    for name, content, message in (
        ("vocab.txt", "a\n", "is damaged: .*vocab.txt"),
        ("test.txt", None, r"is damaged: .*test\.txt"),
        ("encoded_corpus.json", "{", "is damaged: "),
    ):
        path = tmp_path / "on_disk" / name
        before = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_text(content)
        with pytest.raises(CorpusError, match=message):
            load_corpus(tmp_path / "on_disk")
        path.write_bytes(before)
    with pytest.raises(CorpusError, match="its part train is encoded on disk; name the files it is of"):
        load_corpus(tmp_path / "on_disk").text("train")


def test_files_that_were_damaged_are_encoded_again(files, small, tmp_path):
    corpus = ks.encode_corpus(files, tmp_path / "on_disk", processes=1)
    whole = corpus.train[0 : len(corpus.train)]
    names = sorted((tmp_path / "on_disk").glob("*.tfrecord"))
    names[1].write_bytes(names[1].read_bytes()[:-1])
    names[3].unlink()
    with pytest.raises(CorpusError, match="encode the text again to mend it"):
        load_corpus(tmp_path / "on_disk")
    mended = ks.encode_corpus(files, tmp_path / "on_disk", processes=1)
    np.testing.assert_array_equal(mended.train[0 : len(whole)], whole)


def test_what_a_killed_call_left_before_its_first_file_is_no_hindrance(files, small, tmp_path):
    (tmp_path / "on_disk" / ".partial-99").mkdir(parents=True)
    for name in (".partial-99/vocab.txt", "vocab.txt", "test.txt"):
        (tmp_path / "on_disk" / name).write_text("cut o")
    corpus = ks.encode_corpus(files, tmp_path / "on_disk", processes=1)
    assert len(corpus.train.vocabulary) > 20
    assert not list((tmp_path / "on_disk").glob(".partial*"))


def test_lines_that_cannot_be_batches_are_refused_at_once(tmp_path):
    (tmp_path / "long.txt").write_text("a\nb\n" + "x" * 65_535 + "\n")
    with pytest.raises(CorpusError, match="line 3 has 65,535; cut it, or leave out --by_line"):
        ks.encode_corpus(tmp_path / "long.txt", tmp_path / "on_disk", by_line=True, processes=1)
    (tmp_path / "long.txt").write_text("a\nb\n" + "x" * 65_534 + "\nc\n" * 20)
    corpus = ks.encode_corpus(
        tmp_path / "long.txt", tmp_path / "on_disk", by_line=True, test=0, validation=0, processes=1
    )
    assert len(ks.lines(corpus.train, corpus.train.vocabulary, 4)) > 5


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_processes_end_with_the_one_that_started_them(tmp_path):
    (tmp_path / "long.txt").write_text("".join(f"{number} is a number.\n" for number in range(800_000)))
    program = [sys.executable, "-m", "keras_seq.cli.main", "encode", "--corpus=long.txt", "--output=encoded"]
    running = subprocess.Popen(program, cwd=tmp_path)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    while len(found := children.read_text().split()) < 2:
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    running.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}/cwd").exists() for child in found):
        assert time.monotonic() < deadline
        time.sleep(0.1)
