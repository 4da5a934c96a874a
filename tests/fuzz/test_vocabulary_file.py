"""Damaged vocabulary files: each is refused with one sentence, or is a vocabulary that is written in the same way."""

import time

from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from peak_memory import peak_memory

import keras_seq as ks
from keras_seq.errors import VocabularyError

MOST_SECONDS, MOST_MEGABYTES, LONGEST_MESSAGE = 10, 300, 500
FILES = [
    ks.Vocabulary.from_text("to be, or not\r\nto be\\", level).to_bytes()
    for level in ("char", "word")
] + [ks.Vocabulary.from_tokens(["", "[UNK]", "the", "cat", "sat."]).to_bytes()]  # fmt: skip
PIECES = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\\",
        b"\\n",
        b"\\x5c",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\0",
        b"<pad>\n",
        b"[UNK]\n",
        b" ",
    ]
) | st.binary(max_size=4)
# One piece repeated until the file has this many bytes, at most.
GIANT = st.sampled_from([0, 0, 0, 0, 10**3, 10**5, 2 * 10**7])


def read_or_refused(data):
    """Returns the vocabulary, or None if the file is refused as it should be."""
    begin, message, vocabulary = time.process_time(), "", None
    try:
        with peak_memory() as megabytes:
            vocabulary = ks.Vocabulary.from_bytes(data)
    except VocabularyError as error:
        message = str(error)
    assert time.process_time() - begin < MOST_SECONDS
    assert megabytes() < MOST_MEGABYTES
    assert "\n" not in message
    assert len(message) < LONGEST_MESSAGE
    return vocabulary


@fuzzed
@given(st.sampled_from(FILES), st.data())
def test_a_damaged_vocabulary_is_refused_or_read(file, data):
    begin, end = sorted(data.draw(st.tuples(*2 * [st.integers(0, len(file))])))
    piece, giant = data.draw(PIECES), data.draw(GIANT)
    damaged = (
        file[:begin] + piece * max(1, giant // max(1, len(piece))) + file[data.draw(st.sampled_from([begin, end])) :]
    )
    vocabulary = read_or_refused(damaged)
    if vocabulary is not None:
        assert vocabulary.to_bytes() == damaged


def test_sixty_megabytes_of_line_feeds_are_refused_at_once():
    begin = time.process_time()
    assert read_or_refused(60 * 2**20 * b"\n") is None
    assert time.process_time() - begin < 2
