import collections
import dataclasses
import hashlib
import json
import pickle
import random
import re
import shutil
import string
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_seq.data.vocabulary import WORD_PATTERN, Vocabulary, count_tokens, split_words
from keras_seq.errors import VocabularyError

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # all of Unicode but lone surrogates
# Characters that meet the pattern's borders far more often than a uniform draw would.
TRICKY_TEXT = st.text(
    st.sampled_from("ab Z9'’-_.,!?\n\r\t\0\x1c\x85\xa0\u200b\u200d\u2028\u3000\ufeffé\u0301ß中文かナไทย한글😀")
)
LEVELS = st.sampled_from(["char", "word"])
CHAR_HEAD = b"<pad>\n<s>\n<eos>\n"
WORD_HEAD = b"<pad>\n<unk>\n<s>\n<eos>\n"


def random_texts(count, seed=0):
    """Texts over all of Unicode, half of their characters near the borders of the pattern's classes."""
    rng = random.Random(seed)
    borders = [ord(c) + step for c in set(re.findall("[^ ?+:()|]", WORD_PATTERN)) for step in (-1, 0, 1)]

    def character():
        while True:
            kind = rng.random()
            point = (
                rng.choice(borders)
                if kind < 0.5
                else ord(rng.choice("ab' ’ .\n"))
                if kind < 0.8
                else rng.randrange(0x110000)
            )
            if 0 <= point < 0x110000 and not 0xD800 <= point <= 0xDFFF:
                return chr(point)

    return ["".join(character() for _ in range(rng.randint(1, 60))) for _ in range(count)]


@given(st.one_of(ANY_TEXT, TRICKY_TEXT).filter(bool), LEVELS)
def test_encode_and_decode_are_inverse(text, level):
    vocabulary = Vocabulary.from_text(text, level)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert ids.min() >= vocabulary.reserved
    assert ids.max() == len(vocabulary) - 1
    assert vocabulary.decode(ids) == text
    assert vocabulary.decode(ids.tolist()) == text


@given(st.one_of(ANY_TEXT, TRICKY_TEXT, st.text("\\nrx5c\n\r")).filter(bool), LEVELS)
def test_file_round_trip(text, level):
    vocabulary = Vocabulary.from_text(text, level)
    data = vocabulary.to_bytes()
    again = Vocabulary.from_bytes(data)
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)
    assert again.level == level
    assert vocabulary.sha256 == hashlib.sha256(data).hexdigest()
    # What a reader in another language does: split at line feeds, then three replacements in turn.
    lines = data.decode("utf-8").removesuffix("\n").split("\n")
    read = [line.replace("\\n", "\n").replace("\\r", "\r").replace("\\x5c", "\\") for line in lines]
    assert tuple(read) == vocabulary.tokens


@given(st.one_of(ANY_TEXT, TRICKY_TEXT))
def test_word_tokens_concatenate_to_the_text(text):
    assert "".join(split_words(text)) == text


@given(st.one_of(ANY_TEXT, TRICKY_TEXT))
def test_word_tokens_are_the_same_alone(text):
    assert all(split_words(token) == [token] for token in split_words(text))


@given(st.lists(st.text(string.ascii_letters + string.digits, min_size=1), min_size=1))
def test_words_between_spaces_are_the_tokens(words):
    assert [token.removeprefix(" ") for token in split_words(" ".join(words))] == " ".join(words).split()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the cats, which ate", ["the", " cats", ",", " which", " ate"]),
        ("Don't; l’été 'tis dogs' x", ["Don't", ";", " l’été", " '", "tis", " dogs", "'", " x"]),
        ("a  b\n\tc", ["a", " ", " b", "\n", "\t", "c"]),
        ("$5.50 (ok)...", ["$", "5", ".", "50", " (", "ok", ")", ".", ".", "."]),
        ("我 爱 eat寿司。", ["我", " 爱", " eat", "寿", "司", "。"]),
        ("カナと ไท", ["カ", "ナ", "と", " ไ", "ท"]),
        ("한국어 조사", ["한국어", " 조사"]),
        ("e\u0301te\u0301 naïve", ["e\u0301te\u0301", " naïve"]),
        ("नमस्ते दुनिया।", ["नमस्ते", " दुनिया", "।"]),
        ("hi 😀!", ["hi", " 😀", "!"]),
        ("", []),
    ],
)
def test_word_tokens_of_many_scripts(text, tokens):
    assert split_words(text) == tokens


def test_word_pattern_uses_no_class_that_engines_define_differently():
    assert not re.search(r"\\[a-zA-Z0-9]", WORD_PATTERN)
    assert not re.search(r"\(\?[^:]", WORD_PATTERN)


def test_word_pattern_means_the_same_in_re2():
    tf = pytest.importorskip("tensorflow")
    texts = random_texts(3000)
    marked = tf.strings.regex_replace(texts, f"({WORD_PATTERN})", b"\\1\xff")
    found = tf.strings.split(marked, b"\xff")[:, :-1].to_list()  # nothing follows the last mark
    assert found == [[token.encode("utf-8") for token in split_words(text)] for text in texts]


def test_word_pattern_means_the_same_in_javascript(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed, so the pattern cannot be tried in JavaScript")
    texts = random_texts(3000, seed=1)
    case = tmp_path / "case.json"
    case.write_text(json.dumps({"pattern": WORD_PATTERN, "texts": texts}), encoding="utf-8")
    script = (
        "const {pattern, texts} = JSON.parse(require('fs').readFileSync(process.argv[1], 'utf8'));"
        "console.log(JSON.stringify(texts.map(text => text.match(new RegExp(pattern, 'gu')))));"
    )
    printed = subprocess.run([node, "-e", script, str(case)], capture_output=True, check=True, timeout=60).stdout
    assert json.loads(printed) == [split_words(text) for text in texts]


@given(st.text("abcde 中\n", min_size=1))
def test_characters_are_in_order_of_code_points(text):
    vocabulary = Vocabulary.from_text(text)
    assert vocabulary.tokens[:3] == ("<pad>", "<s>", "<eos>")
    assert (vocabulary.pad_id, vocabulary.unk_id, vocabulary.start_id, vocabulary.eos_id) == (0, None, 1, 2)
    points = [ord(token) for token in vocabulary.tokens[3:]]
    assert points == sorted({ord(character) for character in text})


@given(st.lists(st.text("abc", min_size=1, max_size=2), min_size=1), st.floats(0.01, 0.99))
def test_no_fewer_words_would_cover_as_much(words, coverage):
    text = "".join(" " + word for word in words)
    kept = [token[1:] for token in Vocabulary.from_text(text, "word", coverage=coverage).tokens[4:]]
    counts = [words.count(word) for word in kept]
    assert kept == sorted(set(words), key=lambda word: (-words.count(word), word))[: len(kept)]
    assert sum(counts) >= coverage * len(words) > sum(counts[:-1])


@given(st.lists(st.text("abc", min_size=1, max_size=2), min_size=1), st.integers(1, 3), st.integers(5, 9))
def test_words_are_counted(words, min_count, max_size):
    text = "".join(" " + word for word in words)
    vocabulary = Vocabulary.from_text(text, "word", max_size=max_size, min_count=min_count)
    assert vocabulary.tokens[:4] == ("<pad>", "<unk>", "<s>", "<eos>")
    assert (vocabulary.pad_id, vocabulary.unk_id, vocabulary.start_id, vocabulary.eos_id) == (0, 1, 2, 3)
    ranked = sorted({word for word in words if words.count(word) >= min_count}, key=lambda w: (-words.count(w), w))
    assert [token[1:] for token in vocabulary.tokens[4:]] == ranked[: max_size - 4]
    known = set(vocabulary.tokens)
    expected = "".join(" " + word if " " + word in known else "<unk>" for word in words)
    assert vocabulary.decode(vocabulary.encode(text)) == expected


@pytest.mark.parametrize("level", ["char", "word"])
def test_text_that_spells_reserved_tokens_is_plain_text(level):
    text = "a<s>b <unk><pad> <eos>"
    vocabulary = Vocabulary.from_text(text, level)
    assert vocabulary.encode(text).min() >= vocabulary.reserved
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_reserved_tokens_are_silent_but_unk():
    vocabulary = Vocabulary.from_text("a b", "word")
    assert vocabulary.decode([2, 4, 1, 0, 5, 3]) in {"a<unk> b", " b<unk>a"}
    assert vocabulary.decode([]) == ""
    assert vocabulary.decode(iter([4, 5])) == vocabulary.decode(np.array([4, 5], np.uint8))


def test_vocabulary_is_immutable_and_pickles():
    vocabulary = Vocabulary.from_text("abc")
    with pytest.raises(AttributeError):
        vocabulary.tokens = ("a",)
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
    assert vocabulary != Vocabulary.from_text("abd")
    assert vocabulary != "abc"


def test_order_of_the_characters_in_the_file_is_free():
    vocabulary = Vocabulary(["<pad>", "<s>", "<eos>", "z", "a", "中", "m"])
    assert vocabulary.encode("mza中").tolist() == [6, 3, 4, 5]
    assert Vocabulary(["<pad>", "<s>", "<eos>"]).encode("").tolist() == []


@pytest.mark.parametrize("size", [1, 10, 12])
def test_unknown_characters_are_named(size):
    with pytest.raises(ValueError, match="must hold only characters of the vocabulary, which has 1 of them") as caught:
        Vocabulary.from_text("a").encode("a" + string.ascii_uppercase[:size] * 2)
    message = str(caught.value)
    assert all(f"'{c}' (U+{ord(c):04X})" in message for c in string.ascii_uppercase[: min(size, 10)])
    assert ("and 2 more" in message) == (size == 12)
    with pytest.raises(ValueError, match=r"U\+0042"):
        Vocabulary(["<pad>", "<s>", "<eos>"]).encode("B")


@pytest.mark.parametrize(
    "use",
    [
        lambda text: Vocabulary.from_text(text),
        lambda text: Vocabulary.from_text(text, "word"),
        lambda text: Vocabulary.from_text("ab").encode(text),
        lambda text: Vocabulary.from_text("ab", "word").encode(text),
        split_words,
    ],
)
def test_lone_surrogates_are_refused_by_name(use):
    with pytest.raises(ValueError, match=r"lone surrogate.*U\+D800 at index 1"):
        use("a\ud800b")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"text": ""}, "text"),
        ({"text": None}, "text"),
        ({"level": "byte"}, "level"),
        ({"level": "word", "coverage": 0}, "coverage"),
        ({"level": "word", "coverage": 1.5}, "coverage"),
        ({"level": "word", "coverage": True}, "coverage"),
        ({"coverage": 0.9}, "coverage"),
        ({"max_size": 3}, "max_size"),
        ({"max_size": 4}, "max_size"),
        ({"max_size": 10.0}, "max_size"),
        ({"level": "word", "max_size": 4}, "max_size"),
        ({"min_count": 0}, "min_count"),
        ({"min_count": True}, "min_count"),
        ({"min_count": 2}, "min_count"),
    ],
)
def test_from_text_refuses(arguments, name):
    with pytest.raises(ValueError, match=rf"^`{name}` must"):
        Vocabulary.from_text(**{"text": "ab", **arguments})


@pytest.mark.parametrize(
    "tokens",
    [
        "<pad>",
        [],
        ["<pad>", "<s>"],
        ["<s>", "<pad>", "<eos>", "a"],
        ["<pad>", "<unk>", "<s>", "a"],
        ["<pad>", "<s>", "<eos>", "ab"],
        ["<pad>", "<s>", "<eos>", ""],
        ["<pad>", "<s>", "<eos>", "a", "a"],
        ["<pad>", "<s>", "<eos>", "\ud800"],
        ["<pad>", "<s>", "<eos>", 7],
        ["<pad>", "<unk>", "<s>", "<eos>", "New York"],
        ["<pad>", "<unk>", "<s>", "<eos>", "<s>"],
    ],
)
def test_constructor_refuses(tokens):
    with pytest.raises(ValueError, match=r"`tokens` must .* Received: tokens"):
        Vocabulary(tokens)


@pytest.mark.parametrize("ids", [[-1], [6], [[3]], [3.0], [True], ["a"]])
def test_decode_refuses(ids):
    with pytest.raises(ValueError, match=r"^`ids` must"):
        Vocabulary.from_text("abc").decode(ids)


@dataclasses.dataclass
class Damage:
    name: str
    data: bytes
    message: str


DAMAGES = [
    Damage("empty", b"", "empty"),
    Damage("doubled", CHAR_HEAD + b"a\nb\na\n", "line 6: .*distinct.*id 3"),
    Damage("no eos", b"<pad>\n<s>\na\n", "line 3: .*must begin with <pad>, <s>, <eos>"),
    Damage("only pad", b"<pad>\n", "line 2: .*must begin"),
    Damage("no start", b"<pad>\n<unk>\n<eos>\n", "line 3: .*must begin with <pad>, <unk>, <s>, <eos>"),
    Damage("bad escape", CHAR_HEAD + b"\\t\n", r"line 4: a backslash must begin"),
    Damage("lone backslash", CHAR_HEAD + b"\\\n", r"line 4: a backslash must begin"),
    Damage("latin-1", CHAR_HEAD + b"a\n\xe9\n", "line 5: must be UTF-8, but byte 18 of the file is 0xe9"),
    Damage("surrogate", CHAR_HEAD + b"\xed\xa0\x80\n", "line 4: must be UTF-8"),
    Damage("cut short", CHAR_HEAD + b"a\nb", "line 5: .*cut short"),
    Damage("windows", CHAR_HEAD.replace(b"\n", b"\r\n"), "line 1: .*carriage return.*Windows"),
    Damage("two characters", CHAR_HEAD + b"a\nbc\n", "line 5: .*single characters"),
    Damage("blank line", CHAR_HEAD + b"a\n\nb\n", "line 5: .*single characters"),
    Damage("two words", WORD_HEAD + b"a b\n", "line 5: .*single word tokens"),
    Damage("byte order mark", b"\xef\xbb\xbf" + CHAR_HEAD, "line 1: .*must begin"),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damaged_file_is_refused_with_file_and_line(tmp_path, damage):
    path = tmp_path / "vocab.txt"
    path.write_bytes(damage.data)
    with pytest.raises(VocabularyError, match=damage.message) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)
    with pytest.raises(VocabularyError, match=damage.message):
        Vocabulary.from_bytes(damage.data)


@settings(max_examples=200)
@given(st.binary())
def test_any_bytes_are_a_vocabulary_or_refused(data):
    for head in (b"", CHAR_HEAD, WORD_HEAD):
        try:
            vocabulary = Vocabulary.from_bytes(head + data)
        except VocabularyError:
            continue
        assert vocabulary.to_bytes() == head + data


def test_save_and_load(tmp_path):
    path = tmp_path / "vocab.txt"
    for text in ("a\\\r\nb", "中文"):  # the second replaces the first
        vocabulary = Vocabulary.from_text(text)
        vocabulary.save(path)
        assert Vocabulary.load(str(path)) == vocabulary
    assert [file.name for file in tmp_path.iterdir()] == ["vocab.txt"]


def test_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
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


def test_missing_file():
    with pytest.raises(FileNotFoundError):
        Vocabulary.load("/nonexistent/vocab.txt")


@pytest.mark.parametrize("level", ["char", "word"])
def test_every_code_point_but_surrogates_comes_back(level):
    text = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    vocabulary = Vocabulary.from_text(text, level=level)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert Vocabulary.from_bytes(vocabulary.to_bytes()) == vocabulary
    assert len(vocabulary) == len(text) + 3 or level == "word"


@given(st.lists(st.text("ab .\r\u2028é", max_size=5)), st.sampled_from(["char", "word"]))
def test_lines_are_each_encoded_and_ended(lines, level):
    text = "\n".join(lines)
    if not text:
        return
    vocabulary = Vocabulary.from_text(text, level=level, max_size=8 if level == "word" else None)
    kept = [line for line in (line.removesuffix("\r") for line in lines) if line]
    expected = [token for line in kept for token in [*vocabulary.encode(line).tolist(), vocabulary.eos_id]]
    assert vocabulary.encode_lines(text).tolist() == expected


@given(st.lists(st.text("ab c", max_size=9), min_size=1))
def test_counts_of_parts_add_up_to_those_of_the_text(parts):
    text = "x" + "\n".join(parts)
    for level in ("char", "word"):
        counts = sum((count_tokens(part, level) for part in text.splitlines(keepends=True)), collections.Counter())
        assert Vocabulary.from_counts(counts, level) == Vocabulary.from_text(text, level=level)
