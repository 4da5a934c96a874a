"""The keyboard: by hand, against a user who asks `suggest` at every caret, and with real .tflite files."""

import hamlet
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq.analysis.keyboard import SuggestionRow, baseline, keyboard_table, use_keyboard
from keras_seq.data.tokens import split_words
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.own_words import OwnWords
from keras_seq.generation.suggest import suggest
from keras_seq_export import LiteRTSampler

RESERVED = ["<pad>", "<unk>", "<s>", "<eos>"]
WORDS = ks.Vocabulary.from_tokens(
    [*RESERVED, "the", " the", " cat", " dog", " sat", ",", " ", "\n", "你", " 你", "a'b"]
)
CHARACTERS = ks.Vocabulary.from_text("abc' ,\n你\r")
WHITESPACE = ks.Vocabulary.from_tokens(["", "[UNK]", "a", "ab", "ab,", "(a", "b", "a'b", ",", "<s>", "<eos>"])


class Table(Step):
    """Gives the logits of the row of the last token."""

    own_words = None

    def __init__(self, rows):
        self.rows, self.vocabulary_size, self.calls = np.float32(rows), len(rows), 0

    def initial_states(self):
        return []

    def __call__(self, token, states):
        self.calls += 1
        return self.rows[token], [token]


def table_of(favourites, vocabulary):
    """A model that gives these tokens after each, the most likely first, and all others seldom."""
    rows = np.full((len(vocabulary),) * 2, -9.0)
    for last, tokens in favourites.items():
        for rank, token in enumerate(tokens):
            rows[vocabulary.ids[last], vocabulary.ids[token]] = 9 - rank
    return Table(rows)


SENTENCE = "the cat, the cow sat."
CATS = table_of(
    {
        "<s>": ["the"],
        "the": [" dog", " cat"],
        " the": [" dog", " sat"],
        " cat": [",", " sat"],
        ",": [" the"],
        "<unk>": [" sat"],
    },
    WORDS,
)


def test_a_sentence_by_hand():
    """[the]·c[cat],[ the]·cow·[sat]. with one suggestion, each [tap], letter and mark a keystroke: 11 for 21 characters.

    The taps type the spaces after `the`, twice. The mark after `cat` and that after `sat` take the place of a space. The
    space after `cow`, which is unknown, has to be typed.
    """
    use = use_keyboard(CATS, WORDS, SENTENCE, count=1)
    assert (use.characters, use.keystrokes, use.taps) == (21, 11, 4)
    assert (use.words, use.unknown, use.first, use.shown) == (5, 1, 3, 3)  # the, the, sat; not cat, cow
    assert use.saved == pytest.approx(10 / 21)


def test_two_suggestions_by_hand():
    """[the]·[cat],[ the]·cow·[sat]. One keystroke less: `cat` is the second suggestion."""
    use = use_keyboard(CATS, WORDS, SENTENCE, count=2)
    assert (use.keystrokes, use.taps, use.first, use.shown) == (10, 4, 3, 4)


def test_a_tap_types_no_space_that_is_counted_where_the_text_has_none():
    """At the end of a text, and before a line break, which is a keystroke as every other character."""
    model = table_of({"<s>": ["the"], "\n": ["the"], "the": [" dog", "\n"]}, WORDS)
    assert use_keyboard(model, WORDS, "the").keystrokes == 1
    assert use_keyboard(model, WORDS, "the\nthe\n").keystrokes == 4
    assert use_keyboard(model, WORDS, "the\n\nthe\r\n", by_line=True).keystrokes == 5
    assert use_keyboard(model, WORDS, "the\n\nthe\r\n", by_line=True).characters == 9


def test_a_part_of_a_word_is_not_right():
    """`the` is suggested, but the text has `then`; nor is the word in other letters right, nor one with a space too many."""
    model = table_of({"<s>": ["the", " cat"]}, WORDS)
    for text in ("then", "The", "cat"):
        use = use_keyboard(model, WORDS, text)
        assert (use.keystrokes, use.taps, use.shown, use.saved) == (len(text), 0, 0, 0.0)


def test_characters_by_hand():
    """ab ab: a model of characters that knows nothing else. Two taps."""
    model = table_of({"<s>": ["a"], "a": ["b"], "b": [" "], " ": ["a"]}, CHARACTERS)
    assert use_keyboard(model, CHARACTERS, "ab ab").keystrokes == 2


def typed(step, vocabulary, text, count):
    """A user who asks `suggest` at every caret, and remembers what the keyboard has added."""
    tokens = split_words(text)
    ends = np.cumsum([len(token) for token in tokens]).tolist()
    spans = [
        (end - len(token.removeprefix(" ")), end)
        for token, end in zip(tokens, ends, strict=True)
        if token.strip() and (token.strip()[0] in "abcthedogsaw你")
    ]
    rows = [suggest(step, vocabulary, text[:caret], count) for caret in range(len(text) + 1)]

    def right(caret):
        for rank, one in enumerate(rows[caret]):
            end = caret + len(one.insert)
            if text[caret:].startswith(one.insert) and not any(begin < end < last for begin, last in spans):
                return rank, end
        return None

    ranks = [right(begin) for begin, _ in spans]
    caret, keystrokes, taps, space = 0, 0, 0, False
    while caret < len(text):
        if space and text[caret] == " ":
            caret, space = caret + 1, False
            continue
        found = None if space else right(caret)
        keystrokes, taps = keystrokes + 1, taps + (found is not None)
        caret, space = (found[1], True) if found else (caret + 1, False)
    return (
        keystrokes,
        taps,
        len(spans),
        sum(one is not None and one[0] == 0 for one in ranks),
        len(ranks) - ranks.count(None),
    )


@pytest.mark.parametrize("vocabulary", [WORDS, CHARACTERS, WHITESPACE], ids=lambda one: one.level)
@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), count=st.integers(1, 3), by_line=st.booleans())
def test_it_types_as_a_user_who_asks_at_every_caret(vocabulary, data, seed, count, by_line):
    parts = ["a", "ab", "b", "'", " ", " ", ",", "\n", "你", "\r\n"]
    if vocabulary is not CHARACTERS:
        parts += ["the", " the", " cat", " sat", "(a"]
    text = data.draw(st.lists(st.sampled_from(parts), min_size=1, max_size=12).map("".join))
    size = len(vocabulary)
    step = Table(np.random.default_rng(seed).normal(size=(size, size)) * 3)
    if data.draw(st.booleans()):
        step.own_words = OwnWords()
        step.own_words.learn(text)
    lines = text.replace("\r\n", "\n").split("\n") if by_line else [text]
    expected = np.array([len(lines) - 1, 0, 0, 0, 0]) + sum(
        np.array(typed(step, vocabulary, one, count)) for one in lines
    )
    use = use_keyboard(step, vocabulary, text, by_line, count)
    assert [use.keystrokes, use.taps, use.words, use.first, use.shown] == expected.tolist()
    assert 0 <= use.saved < 1


@pytest.mark.slow
@pytest.mark.parametrize("level", ["char", "word", "whitespace"])
@pytest.mark.parametrize("by_line", [False, True])
def test_the_row_of_a_tflite_is_what_its_sampler_suggests(small_tflite, level, by_line):
    sampler = LiteRTSampler(small_tflite(level=level, quantization="int8"))
    text = hamlet.TEXT[:130] if not by_line else hamlet.TEXT[: hamlet.TEXT.index("suffer") + 6]
    compared = 0
    for part in text.split("\n") if by_line else [text]:
        row = SuggestionRow(sampler, sampler.vocabulary, part)
        for caret in range(len(part) + 1):
            found = list(zip(row.at(caret), range(3), strict=False))
            expected = sampler.suggest(part[:caret], 3)
            assert [one[:2] for one, _ in found] == [one[:2] for one in expected]
            assert [one.probability for one, _ in found] == pytest.approx([one.probability for one in expected])
            compared += 1
    assert compared > 80


@pytest.mark.parametrize("level", ["char", "word", "whitespace"])
def test_a_row_of_any_text_needs_no_text_before_the_word(level):
    """Texts with every kind of character: what is read piece by piece is what is read at once."""
    vocabulary = {"char": CHARACTERS, "word": WORDS, "whitespace": WHITESPACE}[level]
    random = np.random.default_rng(1)

    class Reading(Table):
        """Its states are all tokens."""

        def initial_states(self):
            return ()

        def __call__(self, token, states):
            return self.rows[sum((*states, token)) % len(self.rows)], (*states, token)

    step = Reading(random.normal(size=(len(vocabulary),) * 2) * 3)
    for attempt in range(60):
        if attempt == 30:
            step.own_words = OwnWords()
            step.own_words.learn("abc b'a abc cab abc, b'a 你 a 你 cab")
        text = "".join(random.choice(list("abc'' ,\n你"), 12))
        row = SuggestionRow(step, vocabulary, text)
        for caret in range(len(text) + 1):
            found = [one for one, _ in zip(row.at(caret), range(2), strict=False)]
            assert found == suggest(step, vocabulary, text[:caret], 2)


def test_a_text_of_words_is_read_once():
    step = Table(np.zeros((len(WORDS),) * 2))
    use_keyboard(step, WORDS, "the cat, the dog sat" * 5)
    assert step.calls <= 1 + len(WORDS.encode("the cat, the dog sat" * 5))


def test_the_baseline_counts_all_words_for_a_model_of_characters():
    step, vocabulary = baseline(CHARACTERS, "ab ab, cc" + 5 * "\nab ab")
    assert set(vocabulary.tokens[4:]) == {"ab", " ab", " cc", ",", "\n"}
    assert use_keyboard(step, vocabulary, "ab ab").keystrokes == 2
    assert baseline(WORDS, "the cat")[1] is WORDS


def test_the_baseline_counts_each_line_as_a_text_for_a_model_by_line():
    """What comes after `the cat`, the end or a line break."""
    the, cat = WORDS.ids["the"], WORDS.ids[" cat"]
    for by_line, end in ((True, "<eos>"), (False, "\n")):
        step, _ = baseline(WORDS, "the cat\n" * 5 + "the cat", by_line)
        logits, states = step(WORDS.start_id, step.initial_states())
        assert logits.argmax() == the
        _, states = step(the, states)
        assert step(cat, states)[0].argmax() == WORDS.ids[end]


def test_the_table_has_a_row_for_each_model():
    lines = list(keyboard_table({"cats": use_keyboard(CATS, WORDS, SENTENCE, count=1)}))
    assert lines[0] == "  model   next word: first   first 1   keystrokes saved   unknown words"
    assert lines[1].split() == ["cats", "60.0%", "60.0%", "47.6%", "20.0%"]
    assert lines[-1].endswith("21 characters, 5 words")


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [("", 3, "text to type must not be empty"), ("abz", 3, "hold only characters"), ("ab", 0, "`count` must be")],
)
def test_what_cannot_be_typed_is_refused(text, count, message):
    with pytest.raises(ValueError, match=message):
        use_keyboard(Table(np.zeros((len(CHARACTERS),) * 2)), CHARACTERS, text, count=count)


def test_own_words_save_keystrokes():
    """cow s[at]·cow without the word `cow`, which the model does not know; with it [cow]·s[at]·[cow]."""
    model = table_of({"<s>": ["the"], " sat": [" dog"]}, WORDS)
    assert use_keyboard(model, WORDS, "cow sat cow", count=2).keystrokes == 9
    model.own_words = OwnWords()
    model.own_words.learn("cow")
    assert use_keyboard(model, WORDS, "cow sat cow", count=2).keystrokes == 4
