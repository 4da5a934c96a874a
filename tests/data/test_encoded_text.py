"""Token ids on disk, against an array of the same ids."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq.data.encoded_text import RECORD, EncodedText, positions_of, token_type, tokens_of_size, write_tokens
from keras_seq.data.lines import Lines
from keras_seq.data.streams import Streams
from keras_seq.errors import CorpusError

VOCABULARY = ks.Vocabulary.from_text("abc\n")
LENGTHS = (2 * RECORD + 5, RECORD, 7, 1, RECORD - 1)


def write(folder, ids, lengths, vocabulary=VOCABULARY):
    """Writes ids with TensorFlow, one file for each length."""
    files = []
    for number, part in enumerate(np.split(ids.astype(token_type(vocabulary)), np.cumsum(lengths)[:-1])):
        path = folder / f"{number}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as file:
            for begin in range(0, len(part), RECORD):
                file.write(part[begin : begin + RECORD].tobytes())
        files.append((path, len(part)))
    return files


@pytest.fixture(scope="module")
def ids():
    """Lines of up to some 40 tokens, with `<eos>`."""
    rng = np.random.default_rng(0)
    ids = rng.integers(len(VOCABULARY.reserved_ids), len(VOCABULARY), sum(LENGTHS), np.int32)
    ids[rng.random(len(ids)) < 0.05] = VOCABULARY.eos_id
    ids[-1] = VOCABULARY.eos_id
    keep = np.append(ids[:-1] != ids[1:], True) | (ids != VOCABULARY.eos_id)  # There is no empty line.
    ids[~keep] = len(VOCABULARY.reserved_ids)
    return ids


@pytest.fixture(scope="module")
def files(ids, tmp_path_factory):
    return write(tmp_path_factory.mktemp("ids"), ids, LENGTHS)


@given(st.data())
def test_every_slice_equals_that_of_the_array(ids, files, data):
    encoded = EncodedText(files, VOCABULARY)
    assert len(encoded) == len(ids)
    edges = st.sampled_from([0, *np.cumsum(LENGTHS).tolist(), RECORD, 2 * RECORD])
    position = st.builds(lambda edge, by: edge + by, edges, st.integers(-3, 3)) | st.integers(-10, len(ids) + 10)
    begin, end = data.draw(position), data.draw(position)
    found = encoded[begin:end]
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, ids[begin:end])


@pytest.mark.parametrize(("characters", "name"), [(250, "uint8"), (300, "uint16"), (70_000, "uint32")])
def test_tokens_have_the_smallest_type(tmp_path, characters, name):
    vocabulary = ks.Vocabulary.from_text("".join(map(chr, range(0x1F000, 0x1F000 + characters))))
    ids = np.arange(len(vocabulary), dtype=np.int32)
    assert token_type(vocabulary).name == name
    ((path, tokens),) = write(tmp_path, ids, [len(ids)], vocabulary)
    assert tokens_of_size(path.stat().st_size, token_type(vocabulary)) == tokens == len(ids)
    assert tokens_of_size(path.stat().st_size - 1, token_type(vocabulary)) is None or characters == 250
    np.testing.assert_array_equal(EncodedText([(path, tokens)], vocabulary)[0:tokens], ids)


def test_positions_are_those_of_the_array(ids, files):
    expected = np.flatnonzero(ids == VOCABULARY.eos_id)
    found = positions_of(EncodedText(files, VOCABULARY), VOCABULARY.eos_id, block=1000)
    np.testing.assert_array_equal(found, expected)


def test_files_are_those_that_tensorflow_writes(ids, files, tmp_path):
    dtype = token_type(VOCABULARY)
    blocks = np.split(ids[: LENGTHS[0]].astype(dtype), [3, 3, 40_000, 65_000])
    write_tokens(tmp_path / "0.tfrecord", blocks, dtype)
    assert (tmp_path / "0.tfrecord").read_bytes() == files[0][0].read_bytes()


def test_batches_equal_those_of_the_text(ids, files):
    text = VOCABULARY.decode(ids[ids != VOCABULARY.eos_id])
    assert "\n" in text
    lines = "\n".join(
        VOCABULARY.decode(line) for line in np.split(ids, np.flatnonzero(ids == VOCABULARY.eos_id) + 1)
    ).replace("\n\n", "\n")
    by_stream, by_line = VOCABULARY.encode(text), VOCABULARY.encode_lines(lines)
    pairs = []
    for values, make, whole in (
        (by_stream, lambda text: Streams(text, VOCABULARY, 3, 50, seed=5), text),
        (by_line, lambda text: Lines(text, VOCABULARY, 4, seed=5), lines),
    ):
        folder = files[0][0].parent / make.__name__ / str(len(values))
        folder.mkdir(parents=True)
        written = write(folder, values, [100, len(values) - 100])
        pairs.append((make(EncodedText(written, VOCABULARY, by_line=whole is lines)), make(whole)))
    for on_disk, in_memory in pairs:
        assert len(on_disk) == len(in_memory)
        for number in (0, 1, len(in_memory) - 1, len(in_memory), 2 * len(in_memory) + 7):
            for one, other in zip(on_disk.batch(number), in_memory.batch(number), strict=True):
                np.testing.assert_array_equal(one, other)


def test_another_vocabulary_or_by_line_is_rejected(files):
    encoded = EncodedText(files, VOCABULARY)
    with pytest.raises(ValueError, match="`vocabulary` must be that of the encoded text"):
        ks.streams(encoded, ks.Vocabulary.from_text("xyz"), 2, 3)
    with pytest.raises(ValueError, match="must be encoded with by_line=True, but it was encoded with by_line=False"):
        ks.lines(encoded, VOCABULARY, 2)
    with pytest.raises(ValueError, match="must be encoded with by_line=False"):
        ks.streams(EncodedText(files, VOCABULARY, by_line=True), VOCABULARY, 2, 3)


def test_missing_or_truncated_files_are_rejected(tmp_path, ids):
    ((path, tokens),) = write(tmp_path, ids[:100], [100])
    with pytest.raises(
        CorpusError, match=r"0\.tfrecord has 116 bytes instead of 117; encode the text again to repair it"
    ):
        EncodedText([(path, tokens + 1)], VOCABULARY)
    path.unlink()
    with pytest.raises(CorpusError, match=r"0\.tfrecord is missing; encode the text again to repair it"):
        EncodedText([(path, tokens)], VOCABULARY)


def test_another_text_has_another_hash(tmp_path, ids, files):
    encoded = EncodedText(files, VOCABULARY)
    assert encoded.sha256 == EncodedText(files, VOCABULARY).sha256
    other = ids.copy()
    other[LENGTHS[0] + 1] ^= 1
    assert EncodedText(write(tmp_path, other, LENGTHS), VOCABULARY).sha256 != encoded.sha256
