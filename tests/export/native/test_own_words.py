"""The own words in C: counted, written and read as by keras_seq.generation.own_words."""

import hashlib
import json
import subprocess

import paths
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_seq.errors import OwnWordsError
from keras_seq.generation import own_words

VECTORS = json.loads(paths.VECTORS.read_text())["own_words"]
TEXTS = st.lists(
    st.lists(
        st.sampled_from(
            ["to", "be", "or", "not", "don't", "l\u2019eau", "d'", "é", "漢", "字", "3rd", "x" * 64, "é" * 65]
        )
        | st.sampled_from([" ", "  ", "\n", ", ", ".", "-", "'", "\u00a0", "_"])
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
    ).map("".join),
    max_size=4,
)


def counted(parts, texts):
    given = b"".join(text.encode() + b"\0" for text in texts)
    return subprocess.run([parts, "own_words"], input=given, capture_output=True, check=True).stdout.decode()


def read_again(parts, folder, texts):
    """Returns what each text is when it is read and written again; the sentence if it is malformed."""
    for number, text in enumerate(texts):
        (folder / str(number)).write_bytes(text if isinstance(text, bytes) else text.encode())
    files = [folder / str(number) for number in range(len(texts))]
    lines = subprocess.run([parts, "own_again", *files], capture_output=True, check=True).stdout.decode().splitlines()
    answers = [line.split(" ", 1) for line in lines]
    return [bytes.fromhex(answer).decode() if status == "0" else f"refused: {answer}" for status, answer in answers]


def own_words_of(texts):
    own = own_words.OwnWords()
    for text in texts:
        own.learn(text)
    return own


@settings(max_examples=100)
@given(texts=TEXTS)
def test_words_and_pairs_are_counted_as_in_python(parts, texts):
    assert counted(parts, texts) == own_words_of(texts).to_text()


def test_the_vectors_are_counted(parts):
    for texts, counts in VECTORS["learned"]:
        if "\0" not in "".join(texts):
            assert counted(parts, texts) == counts
    for long in VECTORS["long"]:
        text = counted(parts, [" ".join(f"w{i * (i // 1000 + 1) % long['modulus']}" for i in range(20_000))])
        words, pairs = text.split("\n\n")
        assert (words.count("\n") + 1, pairs.count("\n")) == (long["words"], long["pairs"])
        assert hashlib.sha256(text.encode()).hexdigest() == long["sha256"]


def test_the_vectors_that_are_malformed_are_refused(parts, tmp_path):
    assert all(answer.startswith("refused: ") for answer in read_again(parts, tmp_path, VECTORS["malformed"]))


def number_word(number):
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


@pytest.mark.parametrize(
    "text",
    [
        " ".join(map(number_word, range(5000))),  # all new words
        " ".join(number_word(number % 3000) for number in range(10_000)),
        " ".join(number_word(number * number % 2500) for number in range(20_000)),
        # Few words, with more pairs than are kept.
        " ".join(f"{number_word(first)} {number_word(second)}" for first in range(110) for second in range(110)),
        "\n".join(f"{number_word(number)} {number_word(number)}" for number in range(2100)) + " a b" * 9,
    ],
    ids=["new", "again", "squares", "pairs", "the word before is dropped"],
)
def test_counts_are_halved_as_in_python(parts, text):
    own = own_words_of([text])
    assert len(own.words) <= own_words.MOST_WORDS
    assert counted(parts, [text]) == own.to_text()


def test_a_count_stays_at_its_largest(parts, tmp_path):
    largest = f"{own_words.LARGEST_COUNT} a\n\n{own_words.LARGEST_COUNT} 0 0\n"
    assert read_again(parts, tmp_path, [largest]) == [largest]


# Most are malformed; / is a line feed.
SHORT = (
    "|/|1 a|1 a/|1 a//1 0 0|0 a//|01 a//|+1 a//|2147483648 a//|99999999999 a//|1 //|1a//|1  a//|1 a b//|1 a,//|1 ,//"
)
SHORT += "|1 a/1 a//|1 漢字//|1 漢//|1 a//1 0 1/|1 a//1 0 00/|1 a//1 0/|1 a//1 0 0 0/|1 a//1 0 0/2 0 0/|1 a///|/1 0 0/"
SHORT += "|1 a\r//|1 a'//|1 'a//|1 d'a//"
WORDS = [f"1 {number_word(number)}\n" for number in range(2049)]
PAIRS = [f"1 {number // 100} {number % 100}\n" for number in range(8193)]
TOO_LONG = [f"1 {'é' * 65}\n\n", "".join([*WORDS, "\n"]), "".join([*WORDS[:100], "\n", *PAIRS])]
LONGEST = [f"1 {'é' * 64}\n\n", "".join([*WORDS[:100], "\n", *PAIRS[:8192]])]
MALFORMED = [text.replace("/", "\n") for text in SHORT.split("|")] + TOO_LONG + LONGEST


def test_malformed_texts_are_refused_as_by_python(parts, tmp_path):
    for text, answer in zip(MALFORMED, read_again(parts, tmp_path, MALFORMED), strict=True):
        try:
            expected = own_words.OwnWords.from_text(text).to_text()
        except OwnWordsError as error:
            place, reason = str(error).split(": ", 1)
            assert answer.startswith(f"refused: the file is damaged: {place}: "), (text[-40:], answer)
            assert reason.startswith(answer.split(": ", 3)[3].removesuffix("; delete it and learn again"))
        else:
            assert answer == expected


@settings(max_examples=30)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8), data=st.data())
def test_changed_texts_are_read_as_in_python(parts, tmp_path_factory, texts, data):
    changed = []
    for one in texts:
        text = own_words_of(one).to_text()
        at = data.draw(st.integers(0, len(text)))
        changed.append(
            text[:at] + data.draw(st.text("0123 \nab,é", max_size=2)) + text[at + data.draw(st.integers(0, 2)) :]
        )
    answers = read_again(parts, tmp_path_factory.mktemp("own"), changed)
    for text, answer in zip(changed, answers, strict=True):
        try:
            assert answer == own_words.OwnWords.from_text(text).to_text()
        except OwnWordsError:
            assert answer.startswith("refused: ")


def test_what_is_not_utf_8_is_refused(parts, tmp_path):
    answers = read_again(parts, tmp_path, [b"1 a\xff\n\n", b"1 \xed\xa0\x80\n\n", b"\xff\n"])
    assert all(answer.startswith("refused: the file is damaged: own words, line 1: ") for answer in answers)
