"""Corpora encoded on disk, against `load_corpus` and `Vocabulary` on the whole text."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import keras_seq as ks
from keras_seq.data import chunks, text_files
from keras_seq.data import encode as encoding
from keras_seq.data.load import load_corpus
from keras_seq.errors import CorpusError

LINES = [f"The cat, which ate {number} apples, was full. 猫は満腹だ。 القطة" for number in range(300)]


@contextlib.contextmanager
def small_sizes():
    """Makes chunks and files so small that a short text has many."""
    with (
        mock.patch.object(text_files, "_BLOCK", 500),
        mock.patch.object(chunks, "CHUNK", 700),
        mock.patch.object(encoding, "_CHUNKS_PER_FILE", 3),
    ):
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "a.txt").write_text("\n".join(LINES[:100]), encoding="utf-8")
    (folder / "b.txt").write_text("\n".join(LINES[100:]) + "\n", encoding="utf-16")
    return [folder / "a.txt", folder / "b.txt"]


@pytest.fixture
def small():
    with small_sizes():
        yield


@pytest.fixture(scope="module")
def encoded_once(files, tmp_path_factory):
    """Directory of the files, encoded by characters."""
    directory = tmp_path_factory.mktemp("encoded") / "on_disk"
    with small_sizes():
        ks.encode_corpus(files, directory, processes=1)
    return directory


@pytest.fixture
def encoded(encoded_once, tmp_path):
    """A copy of that directory."""
    return shutil.copytree(encoded_once, tmp_path / "on_disk")


@pytest.mark.parametrize(
    ("level", "by_line", "options"),
    [("char", False, {}), ("char", True, {}), ("word", False, {"max_size": 60}), ("word", True, {"coverage": 0.9})],
)
def test_a_corpus_on_disk_equals_that_in_memory(files, small, tmp_path, level, by_line, options):
    # At the word level and by line, both cut at the start of a line.
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


def test_tables_on_disk_are_those_in_memory(small, tmp_path):
    rows = [(number, f'{line}; "{number}"\n\u2028x\n') for number, line in enumerate(LINES[:40])]
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";").writerows([("id", "body"), *rows])
    (tmp_path / "b.tsv").write_text('body\tid\n"Hello.\t1\nBye."\t2\n', encoding="utf-8")
    sources = [f"{tmp_path}/a.csv:body", f"{tmp_path}/b.tsv:body"]
    corpus = ks.encode_corpus(sources, tmp_path / "on_disk", processes=1)
    whole = load_corpus(sources)
    assert whole.train + whole.validation + whole.test == "".join(text for _, text in rows) + '"Hello.\nBye."\n'
    train = corpus.train.vocabulary.decode(corpus.train[0 : len(corpus.train)])
    assert (train, corpus.validation, corpus.test) == (whole.train, whole.validation, whole.test)
    assert corpus.tables == whole.tables == load_corpus(tmp_path / "on_disk").tables
    assert whole.tables == (
        "a.csv: semicolon-separated, header id, body, text from body",
        "b.tsv: tab-separated without quoting, header body, id, text from body",
    )
    manifest = tmp_path / "on_disk" / "encoded_corpus.json"
    values = json.loads(manifest.read_text())
    values["settings"].pop("tables")  # as earlier code wrote it, which read tables in another way
    manifest.write_text(json.dumps(values))
    with pytest.raises(CorpusError, match="or with other settings"):
        ks.encode_corpus(sources, tmp_path / "on_disk", processes=1)


def test_a_corpus_that_earlier_code_encoded_is_complete(files, small, encoded):
    manifest = encoded / "encoded_corpus.json"
    values = json.loads(manifest.read_text())
    assert values["settings"].pop("tables") == []
    manifest.write_text(json.dumps(values))
    assert ks.encode_corpus(files, encoded).tables == ()


def test_tensorflow_reads_the_files(encoded):
    corpus = load_corpus(encoded)
    records = tf.data.TFRecordDataset(sorted(map(str, encoded.glob("*.tfrecord"))))
    ids = np.concatenate([tf.io.decode_raw(record, tf.uint8).numpy() for record in records])
    np.testing.assert_array_equal(ids, corpus.train[0 : len(ids)])


def test_an_interrupted_call_continues_where_it_stopped(files, small, encoded, tmp_path):
    write, finished = encoding.write_tokens, []

    def interrupted(path, blocks, dtype):
        if len(finished) == 3:
            raise KeyboardInterrupt
        written = write(path, blocks, dtype)
        finished.append((path, path.stat().st_mtime_ns))
        return written

    with mock.patch.object(encoding, "write_tokens", interrupted), pytest.raises(KeyboardInterrupt):
        ks.encode_corpus(files, tmp_path / "cut", processes=1)
    with pytest.raises(CorpusError, match=r"cut is incomplete; encode the text again to complete it"):
        load_corpus(tmp_path / "cut")
    corpus = ks.encode_corpus(files, tmp_path / "cut", processes=1)
    assert [(path, path.stat().st_mtime_ns) for path, _ in finished] == finished
    whole = load_corpus(encoded)
    np.testing.assert_array_equal(corpus.train[0 : len(corpus.train)], whole.train[0 : len(whole.train)])
    with mock.patch.object(encoding, "process_pool", side_effect=AssertionError("There is nothing left to do.")):
        assert len(ks.encode_corpus(files, tmp_path / "cut").train) == len(whole.train)


PROGRAM = [sys.executable, "-m", "keras_seq.cli", "encode", "--corpus=long.txt", "--output=encoded"]


@pytest.mark.slow
def test_a_killed_call_can_be_continued(tmp_path):
    (tmp_path / "long.txt").write_text("".join(f"{number} is a number.\n" for number in range(800_000)))
    running = subprocess.Popen(PROGRAM, cwd=tmp_path, start_new_session=True)
    first = tmp_path / "encoded" / "train-00000.tfrecord"
    while not first.exists():
        assert running.poll() is None
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert "files" not in (tmp_path / "encoded" / "encoded_corpus.json").read_text()
    written = first.stat().st_mtime_ns
    done = subprocess.run(PROGRAM, cwd=tmp_path, capture_output=True, text=True, check=True)
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


def test_rare_words_are_dropped_when_there_are_too_many(files, small, tmp_path):
    with mock.patch.object(encoding, "_MOST_WORDS", 40):
        corpus = ks.encode_corpus(files, tmp_path / "on_disk", level="word", max_size=15, processes=1)
    whole = ks.Vocabulary.from_text(load_corpus(files, by_line=True).train, level="word", max_size=15)
    assert set(corpus.train.vocabulary.tokens) == set(whole.tokens)
    with mock.patch.object(encoding, "_MOST_WORDS", 40):
        corpus = ks.encode_corpus(files, tmp_path / "all", level="word", processes=1)
    assert " 3" not in corpus.train.vocabulary.tokens  # It occurs once, at the beginning.
    assert len(corpus.train.vocabulary) <= 45


def test_a_directory_with_something_else_is_rejected(files, small, encoded, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    with pytest.raises(CorpusError, match=r"must be new, but .*mine exists and has note\.txt; choose another"):
        ks.encode_corpus(files, tmp_path / "mine")
    for others, options in ((files[:1], {}), (files, {"level": "word"}), (files, {"validation": 0.1})):
        with pytest.raises(
            CorpusError, match=r"has a corpus of other files, .* or with other settings; choose another"
        ):
            ks.encode_corpus(others, encoded, **options)
    with pytest.raises(CorpusError, match="is listed with others"):
        load_corpus([encoded, files[0]])
    with pytest.raises(CorpusError, match="is already encoded; train on it as it is"):
        ks.encode_corpus(encoded, tmp_path / "again")


def test_files_that_change_are_noticed(files, small, tmp_path):
    path = tmp_path / "growing.txt"
    path.write_text("to be\n" * 500)
    for phase in ("_count", "_encode_train"):
        directory, run_phase = tmp_path / phase, getattr(encoding, phase)

        def while_it_grows(*arguments, run_phase=run_phase):
            with path.open("a") as file:
                file.write("or not\n")
            return run_phase(*arguments)

        with (
            mock.patch.object(encoding, phase, while_it_grows),
            pytest.raises(CorpusError, match="the corpus changed while"),
        ):
            ks.encode_corpus(path, directory, processes=1)
        assert directory.exists() == (phase == "_encode_train")
    with pytest.raises(CorpusError, match="of files that have changed since"):
        ks.encode_corpus(path, directory, processes=1)


def test_what_cannot_be_encoded_is_rejected_and_leaves_no_directory(tmp_path, small):
    (tmp_path / "giant.txt").write_text("x" * 2000)
    for options, message in (
        ({"by_line": True}, "a line must be shorter than 700 characters, but one of at least 1,000 was found"),
        ({"level": "word"}, "a word must be shorter than 700 characters"),
    ):
        with pytest.raises(CorpusError, match=message):
            ks.encode_corpus(tmp_path / "giant.txt", tmp_path / "on_disk", processes=1, **options)
    with pytest.raises(CorpusError, match=r"absent\.txt does not exist"):
        ks.encode_corpus(tmp_path / "absent.txt", tmp_path / "on_disk", processes=1)
    for name in ("pipe", "news.csv"):
        os.mkfifo(tmp_path / name)
    for source in ("pipe", "news.csv:body"):
        with pytest.raises(
            CorpusError, match="read twice, so it cannot be standard input or a pipe; write it to a file"
        ):
            ks.encode_corpus(tmp_path / source, tmp_path / "on_disk")
    with pytest.raises(CorpusError, match="read twice, so it cannot be standard input"):
        ks.encode_corpus("-", tmp_path / "on_disk")
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        CorpusError, match=r"must not be written into the corpus itself, but .*folder/new is inside .*folder"
    ):
        ks.encode_corpus(tmp_path / "folder", tmp_path / "folder" / "new")
    with pytest.raises(ValueError, match="`validation` must be a number"):
        ks.encode_corpus(tmp_path / "giant.txt", tmp_path / "on_disk", validation=-1)
    assert not (tmp_path / "on_disk").exists()
    assert len(ks.encode_corpus(tmp_path / "giant.txt", tmp_path / "on_disk", processes=1).train) == 1800


def test_a_damaged_corpus_is_rejected(encoded):
    for name, content, message in (
        ("vocab.txt", "a\n", "is damaged: .*vocab.txt"),
        ("test.txt", None, r"is damaged: .*test\.txt"),
        ("encoded_corpus.json", "{", "is damaged: "),
    ):
        path = encoded / name
        before = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_text(content)
        with pytest.raises(CorpusError, match=message):
            load_corpus(encoded)
        path.write_bytes(before)
    with pytest.raises(CorpusError, match="its part train is encoded on disk; pass the original files instead"):
        load_corpus(encoded).text("train")


def test_encoding_again_repairs_damaged_files(files, small, encoded):
    corpus = load_corpus(encoded)
    whole = corpus.train[0 : len(corpus.train)]
    names = sorted(encoded.glob("*.tfrecord"))
    names[1].write_bytes(names[1].read_bytes()[:-1])
    names[3].unlink()
    with pytest.raises(CorpusError, match="encode the text again to repair it"):
        load_corpus(encoded)
    repaired = ks.encode_corpus(files, encoded, processes=1)
    np.testing.assert_array_equal(repaired.train[0 : len(whole)], whole)


def test_remains_of_a_killed_call_without_a_manifest_are_replaced(files, small, tmp_path):
    (tmp_path / "on_disk" / ".partial-99").mkdir(parents=True)
    # Earlier code wrote partial files without a folder, such as .partial-98-test.txt.
    for name in (".partial-99/vocab.txt", ".partial-98-test.txt"):
        (tmp_path / "on_disk" / name).write_text("cut o")
    corpus = ks.encode_corpus(files, tmp_path / "on_disk", processes=1)
    assert len(corpus.train.vocabulary) > 20
    assert not list((tmp_path / "on_disk").glob(".partial*"))


@pytest.mark.parametrize("name", ["test.txt", "validation.txt", "vocab.txt"])
def test_files_of_the_user_are_not_overwritten(files, tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(CorpusError, match=f"must be new, but .*mine exists and has {name}; choose another"):
        ks.encode_corpus(files, tmp_path / "mine", processes=1)
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["mine"]


def test_a_call_that_wrote_only_its_manifest_is_continued(files, small, encoded):
    contents = {path.name: path.read_bytes() for path in encoded.iterdir()}
    manifest = json.loads(contents["encoded_corpus.json"])
    del manifest["files"]
    for path in encoded.iterdir():
        path.unlink()
    (encoded / "encoded_corpus.json").write_text(json.dumps(manifest))
    ks.encode_corpus(files, encoded, processes=1)
    assert {path.name: path.read_bytes() for path in encoded.iterdir()} == contents


def test_lines_too_long_for_a_batch_are_rejected_before_encoding(tmp_path):
    (tmp_path / "long.txt").write_text("a\nb\n" + "x" * 65_535 + "\n")
    with pytest.raises(CorpusError, match="line 3 has 65,535; split the line, or encode the text as a stream"):
        ks.encode_corpus(tmp_path / "long.txt", tmp_path / "on_disk", by_line=True, processes=1)
    (tmp_path / "long.txt").write_text("a\nb\n" + "x" * 65_534 + "\nc\n" * 20)
    corpus = ks.encode_corpus(
        tmp_path / "long.txt", tmp_path / "on_disk", by_line=True, test=0, validation=0, processes=1
    )
    assert len(ks.lines(corpus.train, corpus.train.vocabulary, 4)) > 5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_worker_processes_end_when_the_main_process_is_killed(tmp_path):
    (tmp_path / "long.txt").write_text("".join(f"{number} is a number.\n" for number in range(800_000)))
    running = subprocess.Popen(PROGRAM, cwd=tmp_path)
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
