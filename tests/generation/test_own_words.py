"""Own words against counts by a search in the text, and shares by the definition."""

import collections
import hashlib
import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import VECTORS

from keras_seq.data.tokens import class_of
from keras_seq.errors import OwnWordsError
from keras_seq.generation import own_words
from keras_seq.generation.own_words import OwnWords

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
FEW = st.text("abB'’ -\n\u00a0你好é", max_size=40)
SENTENCES = st.lists(st.sampled_from(["the", "then", "them", "a", "you're", "你"]), max_size=30).map(" ".join)


def words_and_pairs(text):
    """Where words are: runs of `w` joined by apostrophes, or one `1`; a pair has at most one space between."""
    classes = {"word": "w", "single": "1", "space": "s", "punctuation": "p"}
    kinds = "".join(" " if one == " " else "'" if one in "'’" else classes[class_of(one)] for one in text)
    found = [(one.start(), one.end()) for one in re.finditer("w+(?:'w+)*|1", kinds)]
    words = [text[start:end] for start, end in found]
    gaps = [text[one[1] : two[0]] for one, two in itertools.pairwise(found)]
    pairs = [pair for pair, gap in zip(itertools.pairwise(words), gaps, strict=True) if gap in ("", " ")]
    return words, pairs


def learned(*texts):
    own = OwnWords()
    for text in texts:
        own.learn(text)
    return own


@given(st.one_of(ANY, FEW, SENTENCES))
def test_the_counts_are_those_of_a_search(text):
    own, (words, pairs) = learned(text), words_and_pairs(text)
    assert list(own.words.items()) == list(collections.Counter(words).items())
    assert list(own.pairs.items()) == list(collections.Counter(pairs).items())


@given(st.lists(st.one_of(ANY, FEW, SENTENCES), max_size=3))
def test_the_text_holds_all_counts_in_their_order(texts):
    own = learned(*texts)
    text = own.to_text()
    read = OwnWords.from_text(text)
    assert read == own
    assert read.to_text() == text
    assert bool(read) == bool(read.words)
    for one in (own, read):  # Both learn the same afterwards.
        one.learn("and so on")
    assert read == own


def test_the_text_by_hand():
    own = learned("to be, or\nnot to be", "to be")
    assert own.to_text() == "3 to\n3 be\n1 or\n1 not\n\n3 0 1\n1 3 0\n"
    assert OwnWords().to_text() == "\n"
    assert not OwnWords.from_text("\n")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a b", [("a", "b")]),
        ("a  b", []),
        ("a\u00a0b", []),
        ("a\nb", []),
        ("a, b", []),
        ("a-b", []),
        ("a 'b", []),
        ("a' b", []),
        ("a'b c", [("a'b", "c")]),
        ("你好", [("你", "好")]),
        ("a你 b", [("a", "你"), ("你", "b")]),
        ("a " + "x" * 64 + " b", [("a", "x" * 64), ("x" * 64, "b")]),
        ("a " + "x" * 65 + " b", []),
    ],
)
def test_what_separates_words(text, pairs):
    assert list(learned(text).pairs) == pairs


def test_words_of_two_texts_are_no_pair():
    assert learned("a", "b").pairs == {}


class Naive:
    """Counts as lists of [what, count], bounded by the definition."""

    def __init__(self, most_words, most_pairs):
        self.words, self.pairs, self.most_words, self.most_pairs = [], [], most_words, most_pairs

    def halve(self, also_words):
        if also_words:
            self.words = [[word, count // 2] for word, count in self.words if count // 2]
        known = [word for word, _ in self.words]
        halves = [[pair, count // 2] for pair, count in self.pairs if count // 2]
        self.pairs = [entry for entry in halves if entry[0][0] in known and entry[0][1] in known]

    def count(self, entries, what):
        for entry in entries:
            if entry[0] == what:
                entry[1] += 1
                return True
        return False

    def learn(self, words):
        for before, word in zip([None, *words], words, strict=False):
            if not self.count(self.words, word):
                while len(self.words) >= self.most_words:
                    self.halve(True)
                self.words.append([word, 1])
            if before in [known for known, _ in self.words] and not self.count(self.pairs, (before, word)):
                while len(self.pairs) >= self.most_pairs:
                    self.halve(False)
                self.pairs.append([(before, word), 1])


@settings(max_examples=300)
@given(
    words=st.lists(st.sampled_from("aaaaaabbbccdefgh"), max_size=60),
    most_words=st.integers(1, 6),
    most_pairs=st.integers(1, 8),
)
def test_the_bounds_are_kept_by_halving(words, most_words, most_pairs):
    naive, own = Naive(most_words, most_pairs), OwnWords()
    naive.learn(words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_words, "MOST_WORDS", most_words)
        patch.setattr(own_words, "MOST_PAIRS", most_pairs)
        own.learn(" ".join(words))
        assert OwnWords.from_text(own.to_text()) == own
    assert [list(item) for item in own.words.items()] == naive.words
    assert [list(item) for item in own.pairs.items()] == naive.pairs


def test_the_real_bounds():
    """2,048 words with two counts each leave room for others; frequent words stay."""
    own = learned(" ".join(f"w{i} often" for i in range(2047)))
    assert (len(own.words), own.words["often"], len(own.pairs)) == (2048, 2047, 2 * 2047 - 1)
    own.learn("new")
    assert own.words == {"often": 1023, "new": 1}
    assert own.pairs == {}


def test_the_most_pairs():
    words = [f"w{i}" for i in range(100)]
    text = "\n".join(f"{one} {two}" for one in words for two in words)  # 10,000 pairs
    own = learned("w0 w1\n" * 9, text)
    assert len(own.pairs) == 10_000 - 8192 + 1  # w0 w1 has outlived them.
    assert own.pairs["w0", "w1"] == 5
    assert own.words["w0"] == 209  # Words are not halved.


def test_a_count_has_a_largest_value():
    own = OwnWords.from_text("2147483647 a\n2147483646 b\n\n2147483647 0 1\n")
    own.learn("a b a b")
    assert own.to_text() == "2147483647 a\n2147483647 b\n\n2147483647 0 1\n1 1 0\n"


WORD = "a word of at most 64 characters must follow the count"
COUNT = "a count must be 1 to 2,147,483,647"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "an empty line must follow the words"),
        ("1 a\n", 2, "an empty line must follow the words"),
        ("1 a", 1, "the last line must end in a line feed"),
        ("1 a\n\n1 0 0", 3, "the last line must end in a line feed"),
        ("0 a\n\n", 1, COUNT),
        ("-1 a\n\n", 1, COUNT),
        ("+1 a\n\n", 1, COUNT),
        ("01 a\n\n", 1, COUNT),
        ("1.0 a\n\n", 1, COUNT),
        ("١ a\n\n", 1, COUNT),
        ("2147483648 a\n\n", 1, COUNT),
        ("9" * 5000 + " a\n\n", 1, COUNT),
        (" a\n\n", 1, COUNT),
        ("a\n\n", 1, COUNT),
        ("1\n\n", 1, WORD),
        ("1 \n\n", 1, WORD),
        ("1 a b\n\n", 1, WORD),
        ("1  a\n\n", 1, WORD),
        ("1 a'\n\n", 1, WORD),
        ("1 ,\n\n", 1, WORD),
        ("1 你好\n\n", 1, WORD),
        ("1 a\r\n\r\n\n", 1, WORD),
        ("1 \ud800\n\n", 1, WORD),
        ("1 " + "x" * 65 + "\n\n", 1, WORD),
        ("1 a\n1 b\n1 a\n\n", 3, "a word must not occur twice"),
        ("1 a\n\n1 0 1\n", 3, "two indices of words, below 1, must follow the count of a pair"),
        ("1 a\n\n1 0\n", 3, "two indices of words"),
        ("1 a\n\n1 0 0 0\n", 3, "two indices of words"),
        ("1 a\n\n1 0 -0\n", 3, "two indices of words"),
        ("1 a\n\n1 00 0\n", 3, "two indices of words"),
        ("1 a\n\n1  0 0\n", 3, "two indices of words"),
        ("1 a\n\n0 0 0\n", 3, COUNT),
        ("1 a\n\n1 0 0\n2 0 0\n", 4, "a pair must not occur twice"),
        ("1 a\n\n\n", 3, COUNT),
        ("".join(f"1 w{i}\n" for i in range(2049)) + "\n", 2049, "there must be at most 2,048 words"),
        (
            "".join(f"1 w{i}\n" for i in range(91)) + "\n" + "".join(f"1 {i // 91} {i % 91}\n" for i in range(91 * 91)),
            92 + 8193,
            "there must be at most 8,192 pairs",
        ),
    ],
)
def test_malformed_text_is_refused(text, line, message):
    with pytest.raises(OwnWordsError, match=rf"^own words, line {line}: {message}") as error:
        OwnWords.from_text(text)
    assert len(str(error.value)) < 200


@given(
    st.lists(st.one_of(st.sampled_from(["1 a\n", "2 b\n", "\n", "1 0 1\n", "3 1 0\n"]), ANY), max_size=6).map("".join)
)
def test_any_text_is_refused_or_read_exactly(text):
    try:
        own = OwnWords.from_text(text)
    except OwnWordsError:
        return
    assert own.to_text() == text


@pytest.mark.parametrize("text", [b"a", None])
def test_text_must_be_a_string(text):
    with pytest.raises(ValueError, match="`text` must be a string"):
        OwnWords().learn(text)


def test_a_text_with_a_lone_surrogate_is_refused_as_a_whole():
    own = learned("a")
    with pytest.raises(ValueError, match="lone surrogate"):
        own.learn("a b \ud800")
    assert own == learned("a")


@given(SENTENCES, st.sampled_from(["", "t", "the", "then", "x"]), st.sampled_from(["", "the", "a", "x"]), st.booleans())
def test_the_shares_are_those_of_the_definition(text, begun, before, is_short):
    own, (words, pairs) = learned(text), words_and_pairs(text)
    can_read = (lambda word: len(word) < 4) if is_short else (lambda word: True)
    fitting = [word for word in words if word.startswith(begun) and word != begun and can_read(word)]
    after = [two for one, two in pairs if one == before and two in fitting]
    shares = own.shares(begun, before, can_read)
    doubt = 0 if begun else own_words.WORD_DOUBT
    u = own_words.WORD_SHARE * len(fitting) / (len(fitting) + doubt) if fitting else 0
    v = own_words.PAIR_SHARE * len(after) / (len(after) + own_words.PAIR_DOUBT)
    assert shares.model == pytest.approx(1 - u - v)
    expected = {
        word: u * fitting.count(word) / len(fitting) + (v * after.count(word) / len(after) if after else 0)
        for word in dict.fromkeys(fitting)
    }
    assert shares.added == pytest.approx(expected)
    assert list(shares.added) == list(expected)
    assert shares.model + sum(shares.added.values()) == pytest.approx(1)


VECTOR = json.loads(VECTORS.read_text())["own_words"]


@pytest.mark.parametrize(("texts", "expected"), VECTOR["learned"])
def test_the_vectors(texts, expected):
    own = learned(*texts)
    assert own.to_text() == expected
    assert OwnWords.from_text(expected) == own


@pytest.mark.parametrize("case", VECTOR["long"])
def test_the_vectors_of_halved_counts(case):
    own = learned(" ".join(f"w{i * (i // 1000 + 1) % case['modulus']}" for i in range(20_000)))
    assert (len(own.words), len(own.pairs)) == (case["words"], case["pairs"])
    assert hashlib.sha256(own.to_text().encode()).hexdigest() == case["sha256"]


@pytest.mark.parametrize("text", VECTOR["malformed"])
def test_the_vectors_that_are_refused(text):
    with pytest.raises(OwnWordsError):
        OwnWords.from_text(text)
