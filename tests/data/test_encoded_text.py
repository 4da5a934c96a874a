"""Token ids on disk, against an array of the same ids."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq.data.encoded_text import EncodedText, positions_of, token_counts
from keras_seq.data.lines import Lines
from keras_seq.data.streams import Streams
from keras_seq.data.token_files import RECORD, token_type, verified

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
        files.append(verified(path, vocabulary))
        assert files[-1].tokens == len(part)
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


def test_positions_are_those_of_the_array(ids, files):
    expected = np.flatnonzero(ids == VOCABULARY.eos_id)
    found = positions_of(EncodedText(files, VOCABULARY), VOCABULARY.eos_id, block=1000)
    np.testing.assert_array_equal(found, expected)


def test_counts_are_those_of_the_array(ids, files):
    expected = np.bincount(ids, minlength=len(VOCABULARY))
    np.testing.assert_array_equal(token_counts(EncodedText(files, VOCABULARY), len(VOCABULARY), block=1000), expected)
    np.testing.assert_array_equal(token_counts(ids, len(VOCABULARY)), expected)
    np.testing.assert_array_equal(token_counts(ids[:0], 5), np.zeros(5))


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


def test_another_text_has_another_hash(tmp_path, ids, files):
    encoded = EncodedText(files, VOCABULARY)
    assert encoded.sha256 == EncodedText(files, VOCABULARY).sha256
    other = ids.copy()
    other[LENGTHS[0] - 7] ^= 1  # Not only the beginning of each file counts.
    assert EncodedText(write(tmp_path, other, LENGTHS), VOCABULARY).sha256 != encoded.sha256
