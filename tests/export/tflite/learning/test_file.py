"""The file of what a model has learned: every byte of it, each kind of damage, and files that cannot be written or read."""

import errno
import hashlib
import os
import struct

import numpy as np
import pytest
from hamlet import TEXT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from learned_files import learned_file

from keras_seq.errors import KerasSeqError
from keras_seq.generation.own_words import OwnWords
from keras_seq_export import LiteRTSampler
from keras_seq_export.errors import LearnedFileError
from keras_seq_export.learning_rule import Learned
from keras_seq_export.tflite.learning.file import LearnedState, from_bytes, read_learned, to_bytes, write_learned

MODEL, OTHER = (hashlib.sha256(name).hexdigest() for name in (b"a model", b"another model"))
SHAPE = (5, 3)
WEIGHTS = np.arange(15, dtype=np.float32).reshape(SHAPE) / 8
SHARES = np.float32([-1.5, -0.25, -7])
WORDS = "3 to\n2 bé\n\n2 0 1\n"
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def content(magic=b"KSLEARN1", model=MODEL, shape=SHAPE, tokens=123, shares=SHARES, weights=WEIGHTS, words=WORDS):
    """Returns the bytes as docs/formats.md describes them, with a right SHA-256."""
    words = words if isinstance(words, bytes) else words.encode()
    return learned_file(*shape, magic, bytes.fromhex(model), tokens, shares, weights, words)


def with_size_of_words(size):
    words = WORDS.encode()
    return with_hash(content()[: -32 - len(words) - 4] + struct.pack("<I", size) + words)


def with_hash(data):
    return data + hashlib.sha256(data).digest()


def test_the_bytes_of_a_file():
    state = LearnedState(Learned(WEIGHTS, SHARES), 123, OwnWords.from_text(WORDS))
    assert to_bytes(MODEL, state) == content()
    assert len(content()) == 8 + 32 + 8 + 8 + 12 + 60 + 4 + len(WORDS.encode()) + 32


@given(
    weights=nps.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=FINITE),
    shares=nps.arrays(np.float32, 3, elements=FINITE),
    tokens=st.integers(0, 2**64 - 1),
    texts=st.lists(st.text(st.sampled_from("aB é's.\n中"), max_size=30), max_size=3),
)
def test_a_file_is_read_as_it_was_written(weights, shares, tokens, texts):
    words = OwnWords()
    for text in texts:
        words.learn(text)
    written = to_bytes(MODEL, LearnedState(Learned(weights, shares), tokens, words))
    assert written == content(shape=weights.shape, tokens=tokens, shares=shares, weights=weights, words=words.to_text())
    found = from_bytes(written, MODEL, weights.shape)
    assert found.learned.weights.tobytes() == weights.tobytes()  # Also the sign of a zero.
    assert found.learned.log_shares.tobytes() == shares.tobytes()
    assert (found.tokens, found.words) == (tokens, words)
    assert found.learned.weights.dtype == found.learned.log_shares.dtype == np.float32


NO_FILE = "is not a file of learned weights, which begins with KSLEARN1"
DAMAGED = "is damaged: its SHA-256 differs; delete it and learn again"
OTHER_SHAPE = "is damaged: it must hold 5 x 3 weights; delete it and learn again"
NOT_FINITE = "is damaged: its numbers must be finite; delete it and learn again"


def damage():
    """Yields the content of a file, and the sentence that refuses it."""
    yield b"", NO_FILE
    yield b"KSLEAR", NO_FILE
    yield b"\0" * 200, NO_FILE
    yield b"TFL3" + content(), NO_FILE
    yield content(b"kslearn1"), NO_FILE
    yield content(b"KSLEARN2"), "must have format 1. Received: b'2'; update keras_seq, or delete it and learn again"
    yield (
        content(b"KSLEARN\xff"),
        r"must have format 1. Received: b'\xff'; update keras_seq, or delete it and learn again",
    )
    yield b"KSLEARN", "must have format 1. Received: b''; update keras_seq, or delete it and learn again"
    yield b"KSLEARN1", DAMAGED
    yield with_hash(b"KSLEARN1"), DAMAGED
    yield content() + b"\0", DAMAGED
    yield content()[:-1], DAMAGED
    yield content(model=OTHER), "belongs to another model: use that model, or learn again in another file"
    yield (
        content(model=OTHER, shape=(9, 9), weights=np.zeros(81)),
        "belongs to another model: use that model, or learn again in another file",
    )
    for shape in ((5, 4), (3, 5), (4, 3), (0, 0), (1, 15), (15, 1), (2**32 - 1, 2**32 - 1)):
        yield content(shape=shape), OTHER_SHAPE
    for count in (0, 14, 16):
        yield content(weights=np.zeros(count)), OTHER_SHAPE
    yield with_hash(content()[:-32] + b"x"), OTHER_SHAPE
    yield with_hash(content()[:-33]), OTHER_SHAPE
    for size in (0, len(WORDS.encode()) - 1, 2**32 - 1):
        yield with_size_of_words(size), OTHER_SHAPE
    yield with_hash(b"KSLEARN1" + bytes.fromhex(MODEL) + struct.pack("<IIQ", *SHAPE, 0)), OTHER_SHAPE
    for wrong in (np.nan, np.inf, -np.inf):
        yield content(weights=[*[0.0] * 14, wrong]), NOT_FINITE
        yield content(shares=[0, wrong, 0]), NOT_FINITE
    yield content(words=b"1 \xff\n\n"), "is damaged: its own words are not UTF-8; delete it and learn again"
    yield content(words=""), "is damaged: own words, line 1: an empty line must follow the words"
    yield content(words="1 to\n"), "is damaged: own words, line 2: an empty line must follow the words"
    yield content(words="0 to\n\n"), "is damaged: own words, line 1: a count must be 1 to 2,147,483,647"


@pytest.mark.parametrize(("given", "sentence"), list(damage()))
def test_each_kind_of_damage_has_its_sentence(given, sentence, tmp_path):
    (tmp_path / "a.learned").write_bytes(given)
    with pytest.raises(LearnedFileError) as found:
        read_learned(tmp_path / "a.learned", MODEL, SHAPE)
    assert str(found.value).startswith(f"{tmp_path / 'a.learned'} {sentence}")
    assert len(str(found.value)) - len(str(tmp_path)) < 200
    assert isinstance(found.value, KerasSeqError)


def test_a_file_cut_anywhere_is_refused():
    whole = content()
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"^(is not a file of learned|must have format 1|is damaged: its SHA-256)"):
            from_bytes(whole[:length], MODEL, SHAPE)


def test_a_bit_flipped_anywhere_is_found():
    whole = content()
    for position in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(ValueError, match=r"^(is not a file of learned|must have format 1|is damaged: its SHA-256)"):
            from_bytes(bytes(flipped), MODEL, SHAPE)


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(LearnedFileError, match=r"none\.learned cannot be read: No such file or directory$"):
        read_learned(tmp_path / "none.learned", MODEL, SHAPE)
    with pytest.raises(LearnedFileError, match=r"cannot be read: Is a directory$"):
        read_learned(tmp_path, MODEL, SHAPE)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LearnedFileError, match="cannot be read: It is a pipe or a device, not a file"):
        read_learned(tmp_path / "pipe", MODEL, SHAPE)
    with (tmp_path / "sparse").open("wb") as file:
        file.write(content())
        file.truncate(50 << 30)
    with pytest.raises(LearnedFileError, match="cannot be read: It has more than 67,108,864 bytes"):
        read_learned(tmp_path / "sparse", MODEL, SHAPE)


STATE = LearnedState(Learned(WEIGHTS, SHARES), 123, OwnWords.from_text(WORDS))


def failing(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["pathlib.Path.write_bytes", "os.fsync", "pathlib.Path.replace"])
def test_after_an_error_the_old_file_is_there(step, tmp_path, monkeypatch):
    path = tmp_path / "me.learned"
    path.write_bytes(b"old")
    monkeypatch.setattr(step, failing)
    with pytest.raises(
        LearnedFileError, match=r"me\.learned cannot be written: No space left on device\. Free some space"
    ):
        write_learned(path, MODEL, STATE)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["me.learned"]


def test_a_file_is_replaced_as_a_whole(tmp_path):
    """A reader that has opened the old file reads it to its end."""
    path = tmp_path / "me.learned"
    write_learned(path, MODEL, STATE._replace(tokens=1))
    with path.open("rb") as old:
        write_learned(path, MODEL, STATE)
        assert old.read() == content(tokens=1)
    assert path.read_bytes() == content()
    assert [one.name for one in tmp_path.iterdir()] == ["me.learned"]


def test_places_that_cannot_be_written(tmp_path):
    for path, reason in (
        ("/proc/me.learned", r"/proc/me\.learned cannot be written: "),
        (tmp_path / "none" / "me.learned", r"me\.learned cannot be written: No such file or directory"),
        (tmp_path / ("a" * 300), "cannot be written: File name too long"),
        (tmp_path, "cannot be written: Is a directory"),
    ):
        with pytest.raises(LearnedFileError, match=reason):
            write_learned(path, MODEL, STATE)
    assert list(tmp_path.iterdir()) == []


# ---- with a model ----


def weights_of(sampler):
    return [one.tobytes() for one in sampler.decoder.call("get_weights", {}).values()]


@pytest.fixture
def sampler(learning_file):
    return LiteRTSampler(learning_file("stack")[0])


@pytest.mark.parametrize("as_text", [False, True])
def test_what_a_model_saves(as_text, sampler, tmp_path):
    sampler.learn(TEXT)
    path = str(tmp_path / "me") if as_text else tmp_path / "me"
    sampler.save_learned(path)
    learned = sampler.decoder.call("get_weights", {})
    assert (tmp_path / "me").read_bytes() == content(
        model=sampler.config["model_sha256"],
        shape=learned["weights"].shape,
        tokens=len(TEXT),
        shares=learned["log_shares"],
        weights=learned["weights"],
        words=sampler.own_words.to_text(),
    )
    found = weights_of(sampler)
    sampler.forget()
    sampler.load_learned(path)
    assert weights_of(sampler) == found


def test_after_an_error_what_was_learned_before_is_kept(sampler, learning_file, tmp_path):
    sampler.save_learned(tmp_path / "nothing")
    sampler.learn(TEXT)
    before, version = (
        (weights_of(sampler), sampler.learned_tokens, sampler.own_words.to_text()),
        sampler.learned_version,
    )
    whole = (tmp_path / "nothing").read_bytes()
    for name, damaged in (
        ("cut", whole[:-1]),
        ("other", content(model=OTHER)),
        ("shape", content(model=sampler.config["model_sha256"])),
        ("words", with_hash(whole[:-37] + b"\1\0\0\0x")),
        ("nan", with_hash(whole[:56] + struct.pack("<f", np.nan) + whole[60:-32])),
    ):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(LearnedFileError, match=f"{name} (is damaged|belongs to another model)"):
            sampler.load_learned(tmp_path / name)
    with pytest.raises(LearnedFileError, match="cannot be read"):
        sampler.load_learned(tmp_path / "none")
    assert (weights_of(sampler), sampler.learned_tokens, sampler.own_words.to_text()) == before
    assert sampler.learned_version == version
    other = LiteRTSampler(learning_file("wide")[0])
    with pytest.raises(
        LearnedFileError, match="belongs to another model: use that model, or learn again in another file"
    ):
        other.load_learned(tmp_path / "nothing")  # A larger or smaller one.
    other.save_learned(tmp_path / "of another")
    with pytest.raises(
        LearnedFileError, match="belongs to another model: use that model, or learn again in another file"
    ):
        sampler.load_learned(tmp_path / "of another")


def test_a_model_that_cannot_be_saved_goes_on(sampler, tmp_path, monkeypatch):
    sampler.learn(TEXT)
    before = weights_of(sampler)
    with pytest.raises(LearnedFileError, match="cannot be written"):
        sampler.save_learned(tmp_path / "none" / "me")
    assert weights_of(sampler) == before
    sampler.save_learned(tmp_path / "me")
    saved = (tmp_path / "me").read_bytes()
    sampler.learn("To be")
    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(LearnedFileError, match="No space left on device"):
        sampler.save_learned(tmp_path / "me")
    assert (tmp_path / "me").read_bytes() == saved
