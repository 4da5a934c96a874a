"""The vocabulary file: written, read, and rejected when it is damaged."""

import concurrent.futures
import dataclasses
import hashlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unicode_texts import ANY_TEXT, TRICKY_TEXT

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ArgumentError, VocabularyError

LEVELS = st.sampled_from(["char", "word"])
CHAR_HEAD = b"<pad>\n<s>\n<eos>\n"
WORD_HEAD = b"<pad>\n<unk>\n<s>\n<eos>\n"


@given(st.one_of(ANY_TEXT, TRICKY_TEXT, st.text("\\nrx5c\n\r")).filter(bool), LEVELS)
def test_writing_and_reading_returns_the_same_vocabulary(text, level):
    vocabulary = Vocabulary.from_text(text, level)
    data = vocabulary.to_bytes()
    again = Vocabulary.from_bytes(data)
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)
    assert again.level == level
    assert vocabulary.sha256 == hashlib.sha256(data).hexdigest()
    # A reader in another language splits at line feeds, then makes three replacements.
    lines = data.decode("utf-8").removesuffix("\n").split("\n")
    read = [line.replace("\\n", "\n").replace("\\r", "\r").replace("\\x5c", "\\") for line in lines]
    assert tuple(read) == vocabulary.tokens


@dataclasses.dataclass
class Damage:
    name: str
    data: bytes
    message: str


DAMAGES = [
    Damage("empty", b"", "empty"),
    Damage("doubled", CHAR_HEAD + b"a\nb\na\n", "line 6: .*distinct.*id 3"),
    Damage("only pad", b"<pad>\n", "line 2: .* more than reserved tokens, but the end of the file was found"),
    Damage("no text", b"<pad>\n<unk>\n<eos>\n", "line 4: .* more than reserved tokens, but the end of the file"),
    Damage("space in a word", b"<pad>\n[UNK]\nthe\nthe cat\n", "line 4: .*a word without white space"),
    Damage("empty word", b"<pad>\n[UNK]\nthe\n\n", "line 4: .*a word without white space"),
    Damage("bad escape", CHAR_HEAD + b"\\t\n", r"line 4: a backslash must begin"),
    Damage("lone backslash", CHAR_HEAD + b"\\\n", r"line 4: a backslash must begin"),
    Damage("latin-1", CHAR_HEAD + b"a\n\xe9\n", "line 5: must be UTF-8, but byte 18 of the file is 0xe9"),
    Damage("surrogate", CHAR_HEAD + b"\xed\xa0\x80\n", "line 4: must be UTF-8"),
    Damage("cut short", CHAR_HEAD + b"a\nb", "line 5: .*cut short"),
    Damage("windows", CHAR_HEAD.replace(b"\n", b"\r\n"), "line 1: .*carriage return.*Windows"),
    Damage("two characters", CHAR_HEAD + b"a\nbc\n", "line 5: .*single character"),
    Damage("blank line", CHAR_HEAD + b"a\n\nb\n", "line 5: .*single character"),
    Damage("two words", WORD_HEAD + b"a b\n", "line 5: .*single word token"),
    Damage("byte order mark", b"\xef\xbb\xbf" + CHAR_HEAD, "line 1: .*byte order mark"),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_the_error_of_a_damaged_file_names_file_and_line(tmp_path, damage):
    path = tmp_path / "vocab.txt"
    path.write_bytes(damage.data)
    with pytest.raises(VocabularyError, match=damage.message) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)
    with pytest.raises(VocabularyError, match=damage.message):
        Vocabulary.from_bytes(damage.data)


@settings(max_examples=200)
@given(st.binary())
def test_any_bytes_are_a_vocabulary_or_rejected(data):
    for head in (b"", CHAR_HEAD, WORD_HEAD):
        try:
            vocabulary = Vocabulary.from_bytes(head + data)
        except VocabularyError:
            continue
        assert vocabulary.to_bytes() == head + data


def test_save_and_load(tmp_path):
    path = tmp_path / "vocab.txt"
    for text in ("a\\\r\nb", "中文"):  # The second replaces the first.
        vocabulary = Vocabulary.from_text(text)
        vocabulary.save(path)
        assert Vocabulary.load(str(path)) == vocabulary
    assert [file.name for file in tmp_path.iterdir()] == ["vocab.txt"]


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "vocab.txt"
    old = Vocabulary.from_text("old")
    old.save(path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        Vocabulary.from_text("new").save(path)
    assert Vocabulary.load(path) == old
    assert [file.name for file in tmp_path.iterdir()] == ["vocab.txt"]


def test_a_missing_file():
    with pytest.raises(FileNotFoundError):
        Vocabulary.load("/nonexistent/vocab.txt")


def test_eight_threads_save_to_one_path(tmp_path):
    path = tmp_path / "vocab.txt"
    vocabularies = [Vocabulary.from_text("abc" + chr(0x4E00 + number)) for number in range(8)]

    def save(vocabulary):
        for _ in range(10):
            vocabulary.save(path)
            assert Vocabulary.load(path) in vocabularies

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(save, vocabularies))
    assert [file.name for file in tmp_path.iterdir()] == ["vocab.txt"]


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "vocab.txt")
    with pytest.raises(OSError, match="It is a pipe or a device, not a file"):
        Vocabulary.load(tmp_path / "vocab.txt")


def test_what_cannot_be_loaded_is_not_made_or_saved(tmp_path, monkeypatch):
    counts = {f" {number}": 1 for number in range(10)}
    monkeypatch.setattr("keras_seq.data.vocabulary.MOST_TOKENS", 13)
    with pytest.raises(
        ArgumentError,
        match=r"tokens` must be at most 13 tokens; leave out rare words with .* Received: tokens='14 tokens'",
    ):
        Vocabulary.from_counts(counts, "word")
    vocabulary = Vocabulary.from_counts(counts, "word", max_size=13)
    size = len(vocabulary.to_bytes())
    for most in (size, size - 1):
        for module in ("vocabulary", "vocabulary_file"):
            monkeypatch.setattr(f"keras_seq.data.{module}.MOST_BYTES", most)
        if most == size:
            vocabulary.save(tmp_path / "vocab.txt")
            assert Vocabulary.load(tmp_path / "vocab.txt") == vocabulary
    with pytest.raises(
        VocabularyError, match=f"at most {size - 1} bytes, but that of these tokens has {size}; leave out"
    ):
        vocabulary.save(tmp_path / "new.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.txt"]
    with pytest.raises(OSError, match=f"It has more than {size - 1} bytes"):
        Vocabulary.load(tmp_path / "vocab.txt")
