"""What the page learns from and what it says about it, in Node: finished sentences that the user has typed, and the effect."""

import functools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node import in_node_with

import keras_seq as ks

in_node = functools.partial(in_node_with, "web_page.mjs")

# ---- what was typed ----


@st.composite
def edits(draw):
    """Changes of a text, each with whether it was typed."""
    length, found = 0, []
    for _ in range(draw(st.integers(1, 15))):
        start = draw(st.integers(0, length))
        end = draw(st.integers(start, length))
        insert = draw(st.text("ab", max_size=4))
        found.append([{"start": start, "end": end, "insert": insert}, draw(st.booleans())])
        length += len(insert) - (end - start)
    return found


@settings(max_examples=20)
@given(runs=st.lists(edits(), min_size=20, max_size=20))
def test_typed_ranges_are_those_of_a_flag_for_each_character(runs):
    for run, found in zip(runs, in_node("ranges", runs), strict=True):
        flags = []
        for edit, is_typed in run:
            flags[edit["start"] : edit["end"]] = len(edit["insert"]) * [is_typed]
        marked = "".join("x" if flag else "-" for flag in flags)
        assert [(it["start"], it["end"]) for it in found] == [it.span() for it in re.finditer("x+", marked)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("One", []),
        ("One.", []),  # It may go on as "One.5".
        ("One. ", ["One."]),
        ("One two.\nThree ", ["One two."]),
        ("One\nTwo\n\nThree", ["One", "Two"]),
        ("“One!” Two?) Three...  Four ", ["“One!”", "Two?)", "Three..."]),
        ("3.14 is pi. ", ["3.14 is pi."]),
        ("  \n \n. ", ["."]),
        ("一。二！」三", ["一。", "二！」"]),
    ],
)
def test_a_sentence_is_finished_by_its_sign_and_a_space_or_by_a_line_feed(text, expected):
    assert in_node("finished", [[text, len(text), False]]) == [expected]


def test_a_sentence_is_not_finished_while_the_caret_is_in_it():
    text = "One. Two. Three"
    found = in_node("finished", [[text, caret, False] for caret in range(len(text) + 1)])
    assert found == 5 * [["Two."]] + 5 * [["One."]] + 6 * [["One.", "Two."]]


def test_a_model_of_lines_learns_lines():
    text = "One. Two\n\n Three \nFour. "
    assert in_node("finished", [[text, len(text), True]]) == [["One. Two", "Three"]]


@settings(max_examples=10)
@given(texts=st.lists(st.text(st.sampled_from("a b.!?\n”…。 "), max_size=30), min_size=20, max_size=20))
def test_finished_sentences_have_the_words_of_the_text_in_their_order(texts):
    for text, found in zip(texts, in_node("finished", [[text, len(text), False] for text in texts]), strict=True):
        rest = text
        for part in found:
            assert part == part.strip() != ""
            before, _, rest = rest.partition(part)
            assert before.strip() == ""
        assert not re.search(r"\S[^\n]*\n", rest)
        assert not re.search(r"[.!?…]\s.*\S", rest)


def given_out(*steps, by_line=False, unwanted=()):
    """What is given out after each change: a text, whose caret is at | or at its end, and whether it was typed."""
    carets = [[text.replace("|", ""), len(text.partition("|")[0]), typed] for text, typed in steps]
    (found,) = in_node("typed", [[carets, by_line, list(unwanted)]])
    return found


def test_what_was_typed_is_given_out_once():
    found = given_out(
        ("Old. ", None),
        ("Old. New on", True),
        ("Old. New one. ", True),
        ("Old. New one. ", True),
        ("Old. New one. Two. Th", True),
        ("Old. New one. Two. Three.\n", True),
        ("Old. New 1|. Two. Three.\n", True),  # A sentence that was learned is not learned again.
        ("Old. New 1. Two. Four.| Three.\n", True),
        ("Old. New 1. Two. Four. | Three.\n", True),
        ("Old. ", False),
        ("Old. New one. ", False),  # Undo brings it back.
    )
    assert found == [[], [], ["New one."], [], ["Two."], ["Three.\n"], [], [], ["Four."], [], []]


def test_neighbours_are_one_text_and_others_are_not():
    found = given_out(
        ("Old. ", None),
        ("One. Two!\nThree? |Old. ", True),
        ("One. Two!\nThree? Old. Four. ", True),
        ("Five. |One. Two!\nThree? Old. Four. ", True),
    )
    assert found == [[], ["One. Two!\nThree?"], ["Four."], ["Five."]]


def test_a_sentence_of_which_the_model_wrote_a_part_is_not_learned():
    found = given_out(
        ("", None),
        ("I will", True),
        ("I will go", False),
        ("I will go now. ", True),
        ("I will go now. He came. ", False),
        ("I will go now. He came. So did we. ", True),
    )
    assert found == [[], [], [], [], [], ["So did we."]]


def test_what_is_not_wanted_is_left_out():
    found = given_out(("", None), ("One. Tω. Three. ", True), ("One. Tω. Three. Four. ", True), unwanted=["ω"])
    assert found == [[], ["One.", "Three."], ["Four."]]


def test_lines_of_a_model_of_lines_are_joined_by_line_feeds():
    assert given_out(("", None), ("One. Two\nThree\nFo", True), by_line=True) == [[], ["One. Two\nThree\n"]]


# ---- what the model reads of it ----


def learnable(vocabulary, texts, by_line=None):
    return in_node("learnable", [[vocabulary.to_bytes().decode(), by_line], texts])


def test_words_of_which_the_model_lacks_a_letter_are_not_learned():
    vocabulary = ks.Vocabulary.from_text("abc', .")
    texts = ["abc, a.", "ab’c.", "ab \U0001f642.", "abω.", "ab 2.", "a\tb."]
    expected = [["abc, a.", True], ["ab'c.", True], ["ab .", True], ["ab.", False], ["ab .", False], ["ab.", True]]
    assert learnable(vocabulary, texts) == expected


def test_words_that_the_model_reads_as_unknown_are_learned():
    assert learnable(ks.Vocabulary.from_text("a b c.", level="word"), ["a x c."]) == [["a x c.", True]]


def test_each_line_is_read():
    vocabulary = ks.Vocabulary.from_text("abc")
    assert learnable(vocabulary, ["ab\n\u00e4c\na"], by_line=True) == [["ab\nc\na", False]]


# ---- what is said about it ----


def test_the_effect_is_about_the_last_texts():
    report = {"tokens": 10, "natsPerToken": 2, "modelNatsPerToken": 3}
    first, second, third, *_ = in_node("effects", [[1000 * "a", report], [2500 * "a", report], [9000 * "a", report]])[
        1:
    ]
    assert first == {"characters": 1000, "nats": 20, "modelNats": 30}
    assert second == {"characters": 3000, "nats": 30, "modelNats": 45}  # half of the first
    assert third == {"characters": 9000, "nats": 20, "modelNats": 30}


def test_the_effect_in_words():
    cases = {
        (0, 0, 0): "Whether it helps will show after a few more sentences.",
        (299, 1, 2): "Whether it helps will show after a few more sentences.",
        (300, 0, 0): "Whether it helps will show after a few more sentences.",
        (300, 80, 100): "Your last sentences surprised the model 20% less, thanks to what it had learned before.",
        (300, 110, 100): "Your last sentences surprised the model 10% more, because of what it had learned before.",
        (300, 100.4, 100): "So far, it makes no difference.",
    }
    asked = [dict(zip(("characters", "nats", "modelNats"), case, strict=True)) for case in cases]
    assert in_node("effectSentences", asked) == list(cases.values())


def test_the_amount_in_words():
    cases = [
        [{"tokens": 1234, "bytes": 252_001, "isKept": True}, "char"],
        [{"tokens": 90, "bytes": 252_000, "isKept": False}, "word"],
    ]
    assert in_node("amounts", cases) == [
        "Learned from 1,234 characters that you typed, kept as 253 kB.",
        "Learned from 90 words and signs that you typed. This browser cannot keep it (252 kB), so it is lost when you leave.",
    ]
