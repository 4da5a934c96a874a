"""Encoded corpora that were changed after they were written, or are written twice at once, or to a full disk."""

import fcntl
import json
import os
import resource
import shutil
from unittest import mock

import numpy as np
import pytest

import keras_seq as ks
from keras_seq.data import encode as encoding
from keras_seq.data.token_files import RECORD
from keras_seq.errors import CorpusError, InUseError
from keras_seq.training.train import _sha256

TEXT = "to be, or not to be\n" * 5000  # three records


@pytest.fixture(scope="module")
def encoded_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoded")
    (folder / "text.txt").write_text(TEXT)
    ks.encode_corpus(folder / "text.txt", folder / "on_disk", processes=1)
    return folder


@pytest.fixture
def encoded(encoded_once, tmp_path):
    """A copy of the encoded corpus of text.txt."""
    return shutil.copytree(encoded_once / "on_disk", tmp_path / "on_disk")


@pytest.fixture
def again(encoded_once, encoded):
    """Repeats the call that encoded the corpus."""
    return lambda: ks.encode_corpus(encoded_once / "text.txt", encoded, processes=1)


def ids_of(corpus):
    return corpus.train[0 : len(corpus.train)]


def change(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_changed_byte_is_found_when_the_corpus_is_opened_and_repaired_by_encoding(encoded, again):
    whole = ids_of(ks.load_corpus(encoded))
    change(encoded / "train-00000.tfrecord", RECORD + 16 + 100)
    with pytest.raises(
        CorpusError, match=r"train-00000\.tfrecord has a wrong checksum in record 2; encode the text again"
    ):
        ks.load_corpus(encoded)
    np.testing.assert_array_equal(ids_of(again()), whole)
    np.testing.assert_array_equal(ids_of(ks.load_corpus(encoded)), whole)


def test_a_changed_byte_of_an_interrupted_corpus_is_repaired(encoded, again):
    whole = ids_of(ks.load_corpus(encoded))
    manifest = json.loads((encoded / "encoded_corpus.json").read_text())
    files = manifest.pop("files")
    (encoded / "encoded_corpus.json").write_text(json.dumps(manifest))
    change(encoded / "train-00000.tfrecord", 100)
    np.testing.assert_array_equal(ids_of(again()), whole)
    assert json.loads((encoded / "encoded_corpus.json").read_text())["files"] == files


def test_the_hash_of_resume_covers_every_byte(encoded, tmp_path):
    corpus = ks.load_corpus(encoded)
    before = _sha256(corpus)
    assert _sha256(ks.load_corpus(encoded)) == before
    for changed in (TEXT.replace("not", "nto", 1), TEXT[:80_000] + "xo" + TEXT[80_002:]):
        (tmp_path / "text.txt").write_text(changed)
        other = ks.encode_corpus(tmp_path / "text.txt", tmp_path / str(len(set(changed))), processes=1)
        assert len(other.train) == len(corpus.train)
        assert _sha256(other) != before


def test_a_corpus_without_digests_is_readable_and_gets_them_by_encoding_again(encoded, again):
    path = encoded / "encoded_corpus.json"
    complete = path.read_text()
    values = json.loads(complete)
    del values["texts"]
    values["files"] = [file[:2] for file in values["files"]]
    path.write_text(json.dumps(values))
    corpus = ks.load_corpus(encoded)
    sha256 = corpus.train.sha256
    change(encoded / "train-00000.tfrecord", 100)
    with pytest.raises(CorpusError, match="a wrong checksum in record 1"):
        ks.load_corpus(encoded)
    change(encoded / "train-00000.tfrecord", 100)
    again()
    assert json.loads(path.read_text())["files"] == json.loads(complete)["files"]
    assert ks.load_corpus(encoded).train.sha256 == sha256


CHANGES = {
    "parent": (
        {"files": [["../x", 3, None]]},
        r"files\[0\] must be the file train-00000\.tfrecord, but it is '\.\./x'",
    ),
    "absolute": ({"files": [["/etc/passwd", 3]]}, r"files\[0\] must be the file train-00000"),
    "number": ({"files": [[5, 3]]}, r"files\[0\] must be the file"),
    "twice": ({"files": 2 * [["train-00000.tfrecord", 90_000]]}, r"files\[1\] must be the file train-00001"),
    "negative": (
        {"files": [["train-00000.tfrecord", -1]]},
        r"files\[0\] must be a file with a count of tokens, but .* -1",
    ),
    "float": ({"files": [["train-00000.tfrecord", 9e4]]}, r"files\[0\] must be a file with a count"),
    "true": ({"files": [["train-00000.tfrecord", True]]}, r"files\[0\] must be a file with a count"),
    "digest": ({"files": [["train-00000.tfrecord", 90_000, "x"]]}, r"files\[0\] must be a file with a SHA-256 digest"),
    "empty": ({"files": [[]]}, r"files\[0\] must be the file"),
    "object": ({"files": {"a": 1}}, "files must be a list of lists"),
    "by_line": ({"by_line": 0}, "by_line must be true or false, but it is 0"),
    "characters": ({"characters": "many" * 100}, r"characters must be a count, but it is 'many.{55}\.\.\."),
    "settings": ({"settings": []}, "settings must be a JSON object"),
    "tables": ({"settings": {"tables": [1]}}, r"settings\.tables must be a list of strings"),
    "texts": ({"texts": {"vocab.txt": 3}}, "texts must be an object with SHA-256 digests"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_manifest_is_checked(encoded, again, name):
    path = encoded / "encoded_corpus.json"
    values, message = CHANGES[name]
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    for open_corpus in (lambda: ks.load_corpus(encoded), again):
        with pytest.raises(
            CorpusError, match=rf"on_disk is damaged: encoded_corpus\.json: {message}.*; remove it, and"
        ):
            open_corpus()


@pytest.mark.parametrize("content", ["[]", "[" * 100_000, "{", "\xff", '{"files": ' + "1" * 5000 + "}"])
def test_a_manifest_that_is_no_object_is_refused(encoded, content):
    (encoded / "encoded_corpus.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CorpusError, match=r"is damaged: encoded_corpus\.json: ") as caught:
        ks.load_corpus(encoded)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["vocab.txt", "validation.txt", "test.txt", "train-00000.tfrecord"])
def test_other_texts_links_and_pipes_are_refused(encoded, name, tmp_path):
    path = encoded / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 20 * 10])  # Only a digest tells that there was more.
    with pytest.raises(CorpusError, match=name):
        ks.load_corpus(encoded)
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    path.symlink_to(tmp_path / "elsewhere")
    assert len(ks.load_corpus(encoded).train) > 0
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CorpusError, match=rf"(?i){name}:? .*is a pipe or a device"):
        ks.load_corpus(encoded)


def test_two_calls_do_not_encode_into_one_directory(encoded, again):
    opened = os.open(encoded, os.O_RDONLY)
    fcntl.flock(opened, fcntl.LOCK_EX)
    with pytest.raises(InUseError, match=r"on_disk is in use: another process encodes a corpus into it\. Wait until"):
        again()
    os.close(opened)
    assert len(again().train) > 0


def test_a_refused_call_leaves_the_new_directory_of_the_other(encoded_once, tmp_path):
    """While the other call counts, its directory is still empty."""

    def refused(*_):
        with pytest.raises(InUseError):
            ks.encode_corpus(encoded_once / "text.txt", tmp_path / "a" / "b", processes=1)
        raise KeyboardInterrupt

    with mock.patch.object(encoding, "_count", refused), pytest.raises(KeyboardInterrupt):
        ks.encode_corpus(encoded_once / "text.txt", tmp_path / "a" / "b", processes=1)
    assert not (tmp_path / "a").exists()


STAGES = {  # the limit of the size of files, options, and the file that is too large
    "test.txt": (100, {"validation": 0}, ""),
    "the manifest": (100, {"validation": 0, "test": 0}, ""),
    "a file of tokens": (10_000, {}, "/train-00000.tfrecord"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_sentence_and_the_call_continues(encoded_once, tmp_path, stage):
    limit, options, name = STAGES[stage]
    directory = tmp_path / "on_disk"

    def encode():
        return ks.encode_corpus(encoded_once / "text.txt", directory, processes=1, **options)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(CorpusError) as caught:
            encode()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value).startswith(f"{directory}{name} cannot be written: File too large")
    assert "\n" not in str(caught.value)
    assert not list(directory.glob(".partial*"))
    corpus = encode()
    text = corpus.train.vocabulary.decode(ids_of(corpus)) + corpus.validation + corpus.test
    assert text == TEXT
