"""Files of token ids: as TensorFlow writes them, and refused when anything in them has changed."""

import os

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq.data.crc32c import masked_crc32c
from keras_seq.data.encoded_text import EncodedText
from keras_seq.data.token_files import RECORD, TokenFile, token_type, tokens_of_size, verified, write_tokens
from keras_seq.errors import CorpusError

VOCABULARY = ks.Vocabulary.from_text("abc\n")
DTYPE = token_type(VOCABULARY)
TOKENS = 2 * RECORD + 5


def write_with_tensorflow(path, ids, dtype):
    with tf.io.TFRecordWriter(str(path)) as file:
        for begin in range(0, len(ids), RECORD):
            file.write(ids[begin : begin + RECORD].astype(dtype).tobytes())
    return path


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(0).integers(len(VOCABULARY), size=TOKENS)


@pytest.fixture(scope="module")
def file(ids, tmp_path_factory):
    return write_with_tensorflow(tmp_path_factory.mktemp("ids") / "0.tfrecord", ids, DTYPE)


@pytest.mark.parametrize(("characters", "name"), [(250, "uint8"), (300, "uint16"), (70_000, "uint32")])
def test_tokens_have_the_smallest_type(tmp_path, characters, name):
    vocabulary = ks.Vocabulary.from_text("".join(map(chr, range(0x1F000, 0x1F000 + characters))))
    ids, dtype = np.arange(len(vocabulary), dtype=np.int32), token_type(vocabulary)
    assert dtype.name == name
    written = write_tokens(tmp_path / "0.tfrecord", [ids.astype(dtype)], dtype)
    theirs = write_with_tensorflow(tmp_path / "1.tfrecord", ids, dtype)
    assert written.path.read_bytes() == theirs.read_bytes()
    assert tokens_of_size(theirs.stat().st_size, dtype) == written.tokens == len(ids)
    assert tokens_of_size(theirs.stat().st_size - 1, dtype) is None or characters == 250
    for known in ((), written[1:], (written.tokens, None)):
        assert verified(written.path, vocabulary, *known) == written
    np.testing.assert_array_equal(EncodedText([written], vocabulary)[0 : len(ids)], ids)


def test_files_are_those_that_tensorflow_writes(ids, file, tmp_path):
    blocks = np.split(ids.astype(DTYPE), [3, 3, 40_000, 65_000])
    written = write_tokens(tmp_path / "0.tfrecord", blocks, DTYPE)
    assert (tmp_path / "0.tfrecord").read_bytes() == file.read_bytes()
    assert written == verified(tmp_path / "0.tfrecord", VOCABULARY)
    assert write_tokens(tmp_path / "empty.tfrecord", [], DTYPE) == verified(tmp_path / "empty.tfrecord", VOCABULARY)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=3))
def test_checksums_are_those_of_tensorflow(tmp_path_factory, records):
    path = tmp_path_factory.getbasetemp() / "any.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as file:
        for record in records:
            file.write(record)
    content, begin = path.read_bytes(), 0
    for record in records:
        end = begin + 12 + len(record)
        for part, at in ((content[begin : begin + 8], begin + 8), (record, end)):
            found = masked_crc32c(np.frombuffer(part, np.uint8)[None])
            assert found.astype("<u4").tobytes() == content[at : at + 4]
        begin = end + 4


def test_any_changed_byte_is_found(file, tmp_path):
    content, known, path = file.read_bytes(), verified(file, VOCABULARY), tmp_path / "0.tfrecord"
    record = RECORD + 16
    for position in (
        0,
        7,
        8,
        12,
        12 + RECORD - 1,
        record - 1,
        record + 500,
        2 * record,
        2 * record + 12,
        len(content) - 1,
    ):
        for bit in (1, 0x40):
            changed = bytearray(content)
            changed[position] ^= bit
            path.write_bytes(changed)
            number = min(position // record, 2) + 1
            for expected in ((), known[1:], (TOKENS, None)):
                with pytest.raises(
                    CorpusError, match=rf"0\.tfrecord has .* in record {number}\b.*encode the text again"
                ):
                    verified(path, VOCABULARY, *expected)


def test_a_file_of_other_tokens_is_found_by_its_digest(ids, file, tmp_path):
    known = verified(file, VOCABULARY)
    path = write_with_tensorflow(tmp_path / "0.tfrecord", ids[::-1], DTYPE)  # with right checksums
    assert verified(path, VOCABULARY).tokens == TOKENS
    with pytest.raises(CorpusError, match=r"0\.tfrecord is not the file that was written; encode the text again"):
        verified(path, VOCABULARY, *known[1:])


def test_ids_outside_the_vocabulary_name_the_file_and_the_record(ids, tmp_path):
    wrong = ids.copy()
    wrong[RECORD + 3] = len(VOCABULARY)
    path = write_with_tensorflow(tmp_path / "0.tfrecord", wrong, DTYPE)
    message = rf"0\.tfrecord has the id {len(VOCABULARY)} in record 2, but the vocabulary has {len(VOCABULARY)} tokens"
    with pytest.raises(CorpusError, match=message):
        verified(path, VOCABULARY)


def test_what_is_missing_cut_short_or_no_file_is_refused(file, tmp_path):
    known = verified(file, VOCABULARY)
    cut = tmp_path / "cut.tfrecord"
    cut.write_bytes(file.read_bytes()[:-1])
    (tmp_path / "link.tfrecord").symlink_to(file)
    os.mkfifo(tmp_path / "pipe.tfrecord")
    (tmp_path / "folder.tfrecord").mkdir()
    for name, message in (
        ("absent", "is missing"),
        ("cut", "has 65,588 bytes instead of 65,589"),
        ("pipe", "is a pipe or a device"),
        ("folder", "cannot be read: Is a directory"),
    ):
        with pytest.raises(CorpusError, match=rf"{name}\.tfrecord {message}; encode the text again to repair it"):
            verified(tmp_path / f"{name}.tfrecord", VOCABULARY, *known[1:])
    assert verified(tmp_path / "link.tfrecord", VOCABULARY, *known[1:])[1:] == known[1:]
    cut.write_bytes(file.read_bytes()[: RECORD + 16 + 15])
    with pytest.raises(CorpusError, match="has 32,799 bytes, so it ends within a record"):
        verified(cut, VOCABULARY)
    for path, message in ((tmp_path / "absent.tfrecord", "is missing"), (cut, "bytes instead of")):
        with pytest.raises(CorpusError, match=message):
            EncodedText([TokenFile(path, *known[1:])], VOCABULARY)
