"""Own words in export/web against those of Python, in Node: counts, their text, and suggestions that mix them in."""

import functools
import hashlib
import json

import numpy as np
import paths
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from node import in_node_with

import keras_seq as ks
from keras_seq.data.begun_word import begun_word, word_before
from keras_seq.errors import OwnWordsError
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.own_words import OwnWords
from keras_seq.generation.suggest import suggest

VECTORS = json.loads(paths.VECTORS.read_text())
in_node = functools.partial(in_node_with, "web_learning.mjs")

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
FEW = st.text("abB'’ -\n\u00a0你好é\U0001d11e\U00020000", max_size=40)
SENTENCES = st.lists(st.sampled_from(["the", "then", "them", "a", "you're", "你"]), max_size=30).map(" ".join)


def texts_of(texts):
    own, found = OwnWords(), []
    for text in texts:
        own.learn(text)
        found.append(own.to_text())
    return found


@settings(max_examples=5)
@given(st.lists(st.lists(ANY | FEW | SENTENCES, min_size=1, max_size=3), min_size=40, max_size=60))
def test_counts_are_those_of_python(cases):
    assert in_node("ownWords", cases) == [texts_of(texts) for texts in cases]


def test_counts_at_the_bounds_are_those_of_python():
    words = [f"w{number}" for number in range(100)]
    long = ["x" * 64, "x" * 65, "\U0001d11e" * 64, "\U0001d11e" * 65]
    pairs = "\n".join(f"{one} {two}" for one in words for two in words)  # 10,000
    cases = [
        [" ".join(f"w{number} often" for number in range(2047)), "new", "newer"],
        ["w0 w1\n" * 9, pairs, "w5 w6 w7"],
        [" a ".join(long), "b"],
        [" ".join(f"{number % 3000} {number * 7 % 2500}" for number in range(20_000))],
    ]
    assert in_node("ownWords", cases) == [texts_of(texts) for texts in cases]


def test_counts_and_suggestions_are_those_of_the_vectors():
    vectors = VECTORS["own_words"]
    found = in_node("ownWords", [texts for texts, _ in vectors["learned"]])
    assert [["\n", *texts][-1] for texts in found] == [text for _, text in vectors["learned"]]
    for case in vectors["long"]:
        text = " ".join(f"w{i * (i // 1000 + 1) % case['modulus']}" for i in range(20_000))
        ((text,),) = in_node("ownWords", [[text]])
        words, _, pairs = text.partition("\n\n")
        assert (words.count("\n") + 1, pairs.count("\n")) == (case["words"], case["pairs"])
        assert hashlib.sha256(text.encode()).hexdigest() == case["sha256"]
    malformed = in_node("readOwnWords", vectors["malformed"])
    assert all(isinstance(message, str) for message in malformed)
    for case in VECTORS["suggestions"]:
        file, own = ks.Vocabulary(case["tokens"]).to_bytes().decode(), case["own"]
        asked = [[file, case["rows"], text, 3, own["learned"]] for text, _ in own["answers"]]
        for (text, expected), found in zip(
            own["answers"], in_node_with("web_tokens.mjs", "suggest", asked), strict=True
        ):
            assert [[it["text"], it["insert"]] for it in found] == [one[:2] for one in expected], text
            assert [it["probability"] for it in found] == pytest.approx([one[2] for one in expected], abs=1e-6)


READ = [
    "",
    "1 a\n",
    "1 a",
    "1 a\n\n1 0 0",
    *(f"{count} a\n\n" for count in ("0", "-1", "+1", "01", "1.0", "\u0661", "2147483648", "2147483647", "9" * 500, "")),
    *(f"1 {word}\n\n" for word in ("", "a b", " a", "a'", ",", "你好", "你", "a\r\n\r", "x" * 64, "x" * 65, "\U0001d11e" * 64)),
    "a\n\n",
    "1 a\n1 b\n1 a\n\n",
    *(f"1 a\n\n1 {indices}\n" for indices in ("0 0", "0 1", "0", "0 0 0", "0 -0", "00 0", " 0 0", "0 0.0", "0 1e0")),
    "1 a\n\n0 0 0\n",
    "1 a\n\n1 0 0\n2 0 0\n",
    "1 a\n\n\n",
    "".join(f"1 w{number}\n" for number in range(2048)) + "\n",
    "".join(f"1 w{number}\n" for number in range(2049)) + "\n",
    "".join(f"1 w{number}\n" for number in range(91))
    + "\n"
    + "".join(f"1 {number // 91} {number % 91}\n" for number in range(91 * 91)),
]  # fmt: skip
LINES = st.lists(st.sampled_from(["1 a\n", "2 b\n", "\n", "1 0 1\n", "3 1 0\n"]) | ANY, max_size=6).map("".join)


def sentence_of(text):
    try:
        return [OwnWords.from_text(text).to_text()]
    except OwnWordsError as error:
        return str(error).partition(". Received")[0].replace(",", "")  # The numbers have commas there.


def check_reading(texts):
    for text, found in zip(texts, in_node("readOwnWords", texts), strict=True):
        short = found if isinstance(found, list) else found.partition(". Received")[0].replace(",", "")
        assert short == sentence_of(text), text[:100]
        assert isinstance(found, list) or len(found) < 250


def test_what_is_read_and_refused_as_in_python():
    check_reading(READ)


@settings(max_examples=5)
@given(st.lists(LINES, min_size=40, max_size=60))
def test_any_text_is_read_or_refused_as_in_python(texts):
    check_reading(texts)


@settings(max_examples=5)
@given(st.lists(st.text("ab'’ ,你\n\U0001d11e", max_size=12), min_size=60, max_size=90))
def test_the_word_before_is_that_of_python(texts):
    assert in_node("wordsBefore", texts) == [word_before(text, begun_word(text, "char")) for text in texts]


# ---- suggestions ----


class Table(Step):
    """Gives the logits of the row of the last token, to a user who has written a text."""

    own_words = None

    def __init__(self, rows, written):
        self.rows, self.vocabulary_size, self.own_words = rows, len(rows), OwnWords()
        self.own_words.learn(written)

    def initial_states(self):
        return ()

    def __call__(self, token, states):
        return self.rows[token], states


VOCABULARIES = [
    ks.Vocabulary.from_text("ab' ,你\n"),
    ks.Vocabulary.from_text("the then they don't a你,\nthe", level="word"),
    ks.Vocabulary.from_tokens(["", "[UNK]", "the", "then,", "they", "then", "(the", "<s>", "<eos>"]),
    ks.Vocabulary.from_tokens(["", "the", "then,", "they", "then", "<s>", "<eos>"]),
]
PARTS = ["a", "ab", "b", "'", " ", " ", ",", "你", "the", " th", "z", "\n"]
OWN = ["a", "ab", "b", "a'b", "ba", "abba", "你", "the", "then", "them", "they", "don't", ",", "z", "\n"]


@st.composite
def cases(draw):
    vocabulary, parts = draw(st.sampled_from(VOCABULARIES)), draw(st.lists(st.sampled_from(PARTS), max_size=6))
    text = "".join(part for part in parts if vocabulary is not VOCABULARIES[0] or set(part) <= set("ab', 你\n"))
    if vocabulary is VOCABULARIES[3]:  # It has no unknown token.
        text = " ".join(part for part in text.split() if part in vocabulary.ids) + draw(
            st.sampled_from(["", " th", " "])
        )
    rows = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(size=(len(vocabulary),) * 2)
    rows = np.round(rows * draw(st.sampled_from([0, 2])), draw(st.sampled_from([0, 6])))  # Some are ties.
    own = draw(st.lists(st.sampled_from(OWN), max_size=12).map(" ".join))
    return vocabulary, np.float32(rows), text, draw(st.sampled_from([1, 3, 20])), own


def groups_of(probabilities):
    """Yields the beginning and the end of each group of suggestions that are equally likely but for rounding."""
    start = 0
    for end in range(1, len(probabilities) + 1):
        if end == len(probabilities) or probabilities[end] < probabilities[start] * (1 - 1e-9):
            yield start, end
            start = end


@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])  # Shrinking would take long.
@given(st.lists(cases(), min_size=40, max_size=40))
def test_suggestions_with_own_words_are_those_of_python(asked):
    given = [[vocabulary.to_bytes().decode(), rows.tolist(), *rest] for vocabulary, rows, *rest in asked]
    found = in_node_with("web_tokens.mjs", "suggest", given)
    for (vocabulary, rows, text, count, own), words in zip(asked, found, strict=True):
        expected = suggest(Table(rows, own), vocabulary, text, count)
        probabilities = [it.probability for it in expected]
        assert [it["probability"] for it in words] == pytest.approx(probabilities, rel=1e-9)
        for start, end in groups_of(probabilities):
            if end < count:  # The last group may be cut.
                same = {(it["text"], it["insert"]) for it in words[start:end]}
                assert same == {it[:2] for it in expected[start:end]}, (text, own)
