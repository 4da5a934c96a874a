"""`Vocabulary`: built from texts or from given tokens, encoding and decoding."""

import json
import pickle
import string
import sys

import numpy as np
import paths
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unicode_texts import ANY_TEXT, TRICKY_TEXT

from keras_seq.data.tokens import level_of, split_words
from keras_seq.data.vocabulary import Vocabulary

LEVELS = st.sampled_from(["char", "word"])


@given(st.one_of(ANY_TEXT, TRICKY_TEXT).filter(bool), LEVELS)
def test_encode_and_decode_are_inverse(text, level):
    vocabulary = Vocabulary.from_text(text, level)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert ids.min() >= len(vocabulary.reserved_ids)
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
    assert vocabulary.encode(text).min() >= len(vocabulary.reserved_ids)
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
        ["<s>", "<pad>", "<eos>"],
        ["<pad>", "[UNK]", "the", "cat "],
        ["\ufeff<pad>", "<s>", "<eos>", "a"],
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


VECTORS = json.loads(paths.VECTORS.read_text())["vocabularies"]
# The bytes at which C's `isspace` splits, and characters at which Unicode would split too.
WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\v\f\r "), min_size=1, max_size=4)
NOT_RESERVED = WORD.filter(lambda word: word not in ("<pad>", "<s>", "<eos>", "<unk>", "[UNK]") and word[0] != "\ufeff")


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: " ".join(map(repr, case["tokens"][:3])))
def test_given_tokens_encode_and_decode_as_in_the_vectors(case):
    vocabulary = Vocabulary(case["tokens"])
    assert vocabulary.level == level_of(case["tokens"]) == case["level"]
    assert Vocabulary.from_bytes(vocabulary.to_bytes()) == vocabulary
    assert [vocabulary.encode(text).tolist() for text, _ in case["texts"]] == [ids for _, ids in case["texts"]]
    for text in case["refused"]:
        with pytest.raises(ValueError, match="`text` must hold only"):
            vocabulary.encode(text)
    for before, ids, text in case["continuations"]:
        assert vocabulary.decode(ids, after=before) == text


@st.composite
def own_tokens(draw, token):
    """A list of tokens with some of the reserved ones anywhere in it, and with several characters in one at least."""
    tokens = draw(st.lists(token, min_size=1, max_size=8, unique=True))
    reserved = draw(
        st.lists(st.sampled_from(["<pad>", "<s>", "<eos>", draw(st.sampled_from(["<unk>", "[UNK]"]))]), unique=True)
    )
    return draw(st.permutations([*tokens, *reserved])), reserved


@given(own_tokens(NOT_RESERVED), st.lists(WORD), st.sampled_from([" ", "\n", " \t"]))
def test_words_split_at_white_space_survive(given_tokens, others, between):
    tokens, reserved = given_tokens
    tokens = [*tokens, "several"] if "several" not in tokens else tokens
    if tokens[:3] == ["<pad>", "<s>", "<eos>"] or tokens[:4] == ["<pad>", "<unk>", "<s>", "<eos>"]:
        return
    vocabulary = Vocabulary.from_tokens(tokens)
    assert (vocabulary.level, list(vocabulary.tokens)) == ("whitespace", tokens)
    assert Vocabulary.from_bytes(vocabulary.to_bytes()) == vocabulary
    words = [token for token in tokens if token not in reserved]
    assert vocabulary.encode(between.join(words)).tolist() == [tokens.index(word) for word in words]
    assert vocabulary.decode(vocabulary.encode(between.join(words))) == " ".join(words)
    unknown = next((tokens.index(name) for name in ("[UNK]", "<unk>") if name in reserved), None)
    others = [word for word in others if word not in reserved]
    if unknown is not None:
        expected = [tokens.index(word) if word in words else unknown for word in others]
        assert vocabulary.encode(between.join(others)).tolist() == expected
    assert vocabulary.missing == tuple(name for name in ("<pad>", "<s>", "<eos>") if name not in reserved)


@given(own_tokens(st.characters(exclude_categories=["Cs"])), st.one_of(ANY_TEXT, TRICKY_TEXT))
def test_characters_with_reserved_tokens_anywhere_survive(given_tokens, other):
    tokens, reserved = given_tokens
    if tokens[:4] == ["<pad>", "<unk>", "<s>", "<eos>"]:
        return
    vocabulary = Vocabulary.from_tokens(tokens)
    assert vocabulary.level == "char"
    assert Vocabulary.from_bytes(vocabulary.to_bytes()) == vocabulary
    text = "".join(token for token in tokens if token not in reserved)
    assert vocabulary.encode(text).tolist() == [tokens.index(character) for character in text]
    assert vocabulary.decode(vocabulary.encode(text)) == text
    unknown = next((tokens.index(name) for name in ("[UNK]", "<unk>") if name in reserved), None)
    if unknown is not None:
        expected = [tokens.index(character) if character in text else unknown for character in other]
        assert vocabulary.encode(other).tolist() == expected


@given(st.lists(st.text("ab \t\r\v\u2028", max_size=5), max_size=6), st.booleans())
def test_lines_of_words_end_with_eos(lines, has_characters):
    tokens = ["a", "b", "\t", "\v", "\r", " ", "\u2028"] if has_characters else ["a", "b", "ab"]
    vocabulary = Vocabulary.from_tokens([*tokens, "<eos>", "[UNK]"])
    encoded = [vocabulary.encode(line.removesuffix("\r")).tolist() for line in "\n".join(lines).split("\n")]
    expected = [token for ids in encoded if ids for token in [*ids, len(tokens)]]
    assert vocabulary.encode_lines("\n".join(lines)).tolist() == expected


def test_the_empty_string_is_the_name_of_padding_elsewhere():
    vocabulary = Vocabulary.from_tokens(np.array(["", "[UNK]", "the", "cat"]))
    assert vocabulary.tokens == ("<pad>", "[UNK]", "the", "cat")
    assert all(type(token) is str for token in vocabulary.tokens)
    assert (vocabulary.pad_id, vocabulary.unk_id, vocabulary.reserved_ids) == (0, 1, (0, 1))


def test_a_missing_reserved_token_is_an_error_that_names_the_function_that_adds_it():
    vocabulary = Vocabulary.from_tokens(["<unk>", "a", "b", "<eos>"])
    for use in (lambda: vocabulary.start_id, lambda: vocabulary.pad_id, vocabulary.require_reserved):
        with pytest.raises(
            ValueError, match=r"`vocabulary` must be one that has <pad>, <s>; `ks.add_reserved_tokens\("
        ):
            use()
    assert vocabulary.eos_id == 3
    with pytest.raises(ValueError, match="one that has <pad>, <s>, <eos>; "):
        Vocabulary.from_tokens(["a"]).encode_lines("a")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["<pad>", "<unk>", "<s>", "<eos>", "the", "cat"], r"write \[UNK\] instead of <unk>"),
        (["<pad>", "<unk>", "<s>", "<eos>", "a", "b"], r"write \[UNK\] instead of <unk>"),
        (["<pad>", "<unk>", "<s>", "<eos>", "sat."], r"a single word token .* write \[UNK\] instead of <unk>"),
        (["", "[UNK]", "the", "cat", "the"], "distinct, but it is also the token with id 2"),
        (["", "<pad>", "the"], "distinct, but it is also the token with id 0"),
        (["[UNK]", "the", "New York"], "a word without white space"),
        (["the", " cat"], "a word without white space"),
        (["", "[UNK]"], "one that texts can hold"),
        ([], "one that texts can hold"),
        ([b"the"], "a string"),
        ("the", "a sequence of strings"),
    ],
)
def test_from_tokens_rejects(tokens, message):
    with pytest.raises(ValueError, match=rf"`tokens(\[\d+\])?` must be .*{message}"):
        Vocabulary.from_tokens(tokens)


def test_tokens_of_our_own_are_the_same_vocabulary():
    for level in ("char", "word"):
        vocabulary = Vocabulary.from_text("the cat sat.", level)
        assert Vocabulary.from_tokens(vocabulary.tokens) == vocabulary
