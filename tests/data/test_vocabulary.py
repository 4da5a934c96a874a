"""`Vocabulary`: built from texts, encoding and decoding."""

import pickle
import string
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unicode_texts import ANY_TEXT, TRICKY_TEXT

from keras_seq.data.tokens import split_words
from keras_seq.data.vocabulary import Vocabulary

LEVELS = st.sampled_from(["char", "word"])


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


@given(st.text("abcde 中\n", min_size=1))
def test_characters_are_in_order_of_code_points(text):
    vocabulary = Vocabulary.from_text(text)
    assert vocabulary.tokens[:3] == ("<pad>", "<s>", "<eos>")
    assert (vocabulary.pad_id, vocabulary.unk_id, vocabulary.start_id, vocabulary.eos_id) == (0, None, 1, 2)
    points = [ord(token) for token in vocabulary.tokens[3:]]
    assert points == sorted({ord(character) for character in text})


@given(st.lists(st.text("abc", min_size=1, max_size=2), min_size=1), st.floats(0.01, 0.99))
def test_coverage_keeps_the_fewest_words_that_suffice(words, coverage):
    text = "".join(" " + word for word in words)
    kept = [token[1:] for token in Vocabulary.from_text(text, "word", coverage=coverage).tokens[4:]]
    counts = [words.count(word) for word in kept]
    assert kept == sorted(set(words), key=lambda word: (-words.count(word), word))[: len(kept)]
    assert sum(counts) >= coverage * len(words) > sum(counts[:-1])


@given(st.lists(st.text("abc", min_size=1, max_size=2), min_size=1), st.integers(1, 3), st.integers(5, 9))
def test_words_are_ranked_by_count(words, min_count, max_size):
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


def test_decoding_leaves_out_reserved_tokens_except_unk():
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


def test_characters_may_have_any_order():
    vocabulary = Vocabulary(["<pad>", "<s>", "<eos>", "z", "a", "中", "m"])
    assert vocabulary.encode("mza中").tolist() == [6, 3, 4, 5]
    assert Vocabulary(["<pad>", "<s>", "<eos>"]).encode("").tolist() == []


@pytest.mark.parametrize("size", [1, 10, 12])
def test_the_error_names_unknown_characters(size):
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
def test_lone_surrogates_are_rejected(use):
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
def test_from_text_rejects(arguments, name):
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
def test_the_constructor_rejects(tokens):
    with pytest.raises(ValueError, match=r"`tokens(\[\d+\])?` must .* Received: tokens"):
        Vocabulary(tokens)


@pytest.mark.parametrize("ids", [[-1], [6], [[3]], [3.0], [True], ["a"]])
def test_decode_rejects(ids):
    with pytest.raises(ValueError, match=r"^`ids` must"):
        Vocabulary.from_text("abc").decode(ids)


@pytest.mark.parametrize("level", ["char", "word"])
def test_every_code_point_except_surrogates_survives(level):
    text = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    vocabulary = Vocabulary.from_text(text, level=level)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert Vocabulary.from_bytes(vocabulary.to_bytes()) == vocabulary
    assert len(vocabulary) == len(text) + 3 or level == "word"


@given(st.lists(st.text("ab .\r\u2028é", max_size=5)), st.sampled_from(["char", "word"]))
def test_encode_lines_encodes_each_line_and_adds_eos(lines, level):
    text = "\n".join(lines)
    if not text:
        return
    vocabulary = Vocabulary.from_text(text, level=level, max_size=8 if level == "word" else None)
    kept = [line for line in (line.removesuffix("\r") for line in lines) if line]
    expected = [token for line in kept for token in [*vocabulary.encode(line).tolist(), vocabulary.eos_id]]
    assert vocabulary.encode_lines(text).tolist() == expected
