"""The tokens of a text, and the pattern of word tokens in three regular expression engines."""

import collections
import json
import random
import re
import shutil
import string
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import REPOSITORY
from unicode_texts import ANY_TEXT, TRICKY_TEXT

from keras_seq.data.tokens import WORD_PATTERN, class_of, count_tokens, split_words
from keras_seq.data.vocabulary import Vocabulary


def random_texts(count, seed=0):
    """Returns random texts over all of Unicode, half of their characters at the borders of the pattern's classes."""
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


@given(st.one_of(ANY_TEXT, TRICKY_TEXT))
def test_word_tokens_concatenate_to_the_text(text):
    assert "".join(split_words(text)) == text


@given(st.one_of(ANY_TEXT, TRICKY_TEXT))
def test_splitting_a_word_token_again_changes_nothing(text):
    assert all(split_words(token) == [token] for token in split_words(text))


@given(st.lists(st.text(string.ascii_letters + string.digits, min_size=1), min_size=1))
def test_words_separated_by_spaces_are_tokens(words):
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


def test_the_word_pattern_uses_no_class_that_engines_define_differently():
    assert not re.search(r"\\[a-zA-Z0-9]", WORD_PATTERN)
    assert not re.search(r"\(\?[^:]", WORD_PATTERN)


def test_the_word_pattern_means_the_same_in_re2():
    tf = pytest.importorskip("tensorflow")
    texts = random_texts(3000)
    marked = tf.strings.regex_replace(texts, f"({WORD_PATTERN})", b"\\1\xff")
    found = tf.strings.split(marked, b"\xff")[:, :-1].to_list()  # Nothing follows the last mark.
    assert found == [[token.encode("utf-8") for token in split_words(text)] for text in texts]


def test_the_word_pattern_means_the_same_in_javascript(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node to try the pattern in JavaScript")
    texts = random_texts(3000, seed=1)
    case = tmp_path / "case.json"
    case.write_text(json.dumps({"pattern": WORD_PATTERN, "texts": texts}), encoding="utf-8")
    script = (
        "const {pattern, texts} = JSON.parse(require('fs').readFileSync(process.argv[1], 'utf8'));"
        "console.log(JSON.stringify(texts.map(text => text.match(new RegExp(pattern, 'gu')))));"
    )
    printed = subprocess.run([node, "-e", script, str(case)], capture_output=True, check=True, timeout=60).stdout
    assert json.loads(printed) == [split_words(text) for text in texts]


@given(st.lists(st.text("ab c", max_size=9), min_size=1))
def test_counts_of_parts_add_up_to_those_of_the_text(parts):
    text = "x" + "\n".join(parts)
    for level in ("char", "word"):
        counts = sum((count_tokens(part, level) for part in text.splitlines(keepends=True)), collections.Counter())
        assert Vocabulary.from_counts(counts, level) == Vocabulary.from_text(text, level=level)


def test_the_classes_of_characters_are_those_of_the_page_for_ports():
    """docs/porting.md lists them as ranges of code points."""
    rows = re.findall(
        r"\| (SPACE|PUNCTUATION|SINGLE) \| ([0-9A-F -]+) \|", (REPOSITORY / "docs/porting.md").read_text()
    )
    listed = {}
    for name, ranges in rows:
        for one in ranges.split():
            first, _, last = one.partition("-")
            listed |= dict.fromkeys(range(int(first, 16), int(last or first, 16) + 1), name.lower())
    for code_point in range(0x40000):
        if not 0xD800 <= code_point < 0xE000:
            assert class_of(chr(code_point)) == listed.get(code_point, "word"), hex(code_point)
