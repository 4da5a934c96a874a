"""`suggest` against an enumeration of all words, with a model that is a table of logits by the last token."""

import itertools
import json
import math

import integer_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import VECTORS

import keras_seq as ks
from keras_seq.data.begun_word import begun_word
from keras_seq.data.tokens import split_words
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.integer_sampling import IntegerArithmetic
from keras_seq.generation.suggest import suggest
from keras_seq.generation.word_search import MOST_STEPS

CHARACTERS = ks.Vocabulary.from_text("ab' ,你")
WORDS = ks.Vocabulary.from_tokens(
    [
        "<pad>",
        "<unk>",
        "<s>",
        "<eos>",
        " the",
        " they",
        "the",
        " then",
        ",",
        " ,",
        " ",
        "\n",
        " don't",
        " don",
        "'",
        "你",
        " 你",
    ]
)
TEXTS = st.text("ab ',你", max_size=6)


class Table(Step):
    """Gives the logits of the row of the last token."""

    def __init__(self, rows):
        self.rows, self.vocabulary_size, self.calls = np.float32(rows), len(rows), 0

    def initial_states(self):
        return []

    def __call__(self, token, states):
        self.calls += 1
        return self.rows[token], states


def tables(size, spread):
    return st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=(size, size)) * spread)


def probabilities_after(rows, vocabulary, token):
    """The softmax over what a text can hold and <eos>, by token, in plain Python."""
    forbidden = set(vocabulary.reserved_ids) - {vocabulary.eos_id}
    weights = {i: math.exp(float(np.float32(v))) for i, v in enumerate(rows[token]) if i not in forbidden}
    return {vocabulary.tokens[i]: weight / sum(weights.values()) for i, weight in weights.items()}


def words_after(text, longest):
    """Every word that may follow, and its insert of at most `longest` characters."""
    is_part = {"a", "b"}
    begun = begun_word(text, "char")
    for length in range(1, longest + 1):
        for insert in map("".join, itertools.product("ab' 你", repeat=length)):
            word = begun + insert
            starts_open = not begun and text and not text.endswith(" ")
            body = insert[1:] if starts_open and insert[0] == " " else insert
            if insert.endswith("你"):
                if begun or body != "你":
                    continue
            elif not body or split_words(begun + body) != [begun + body] or body[-1] not in is_part or " " in body:
                continue
            yield word.removeprefix(" "), insert


def enumerated(rows, vocabulary, text, longest):
    """Every insert of at most `longest` characters that ends a word, with its probability."""
    found = {}
    for name, insert in words_after(text, longest):
        last = vocabulary.encode(text)[-1] if text else vocabulary.start_id
        probability = 1.0
        for character in insert:
            probability *= probabilities_after(rows, vocabulary, last)[character]
            last = vocabulary.encode(character)[0]
        if not insert.endswith("你"):
            after = probabilities_after(rows, vocabulary, last)
            probability *= sum(p for token, p in after.items() if token not in {"a", "b", "'"})
        if probability > found.get(name, ("", 0.0))[1]:
            found[name] = (insert, probability)
    return sorted(((name, *rest) for name, rest in found.items()), key=lambda one: -one[2])


@settings(max_examples=40, deadline=None)
@given(rows=tables(len(CHARACTERS), 1.5), text=TEXTS, count=st.integers(1, 3))
def test_characters_the_best_words_of_all(rows, text, count):
    """Words of at most four more characters are enumerated; longer ones are less likely than the answers here."""
    found = suggest(Table(rows), CHARACTERS, text, count)
    expected = enumerated(rows, CHARACTERS, text, longest=4)
    longest = [one for one in found if len(one.insert) > 4]
    assert len(found) == count or not expected
    for one, (name, insert, probability) in zip(found, expected, strict=False):
        if longest and one.probability <= longest[0].probability:
            break
        assert (one.text, one.insert) == (name, insert)
        assert one.probability == pytest.approx(probability, rel=1e-5)


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["suggestions"])
def test_the_vectors(case):
    vocabulary = ks.Vocabulary.from_tokens(case["tokens"])
    for text, answer in case["answers"]:
        found = suggest(Table(case["rows"]), vocabulary, text, 3)
        assert [list(one[:2]) for one in found] == [one[:2] for one in answer]
        assert [one.probability for one in found] == pytest.approx([one[2] for one in answer], abs=1e-6)


class IntegerTable(Table):
    """The same with logits that are integers times a scale."""

    def __init__(self, integers, scale):
        super().__init__(np.int16(integers) * np.float32(scale))
        self.arithmetic = IntegerArithmetic(scale)


def integer_costs(integers, scale, vocabulary, token, tokens=None):
    """The cost of each of some tokens among them, and that of the end of a word, by the definition."""
    allowed = [*vocabulary.text_ids.tolist(), vocabulary.eos_id] if tokens is None else tokens
    row = [logit if index in allowed else oracle.FORBIDDEN for index, logit in enumerate(integers[token])]
    ends = [index for index in allowed if vocabulary.tokens[index] not in {"a", "b", "'"}]
    return oracle.costs(row, oracle.logit_step(scale), ends)


def enumerated_costs(integers, scale, text, longest):
    """Every word, its insert and its cost, the lowest first."""
    found, costs = {}, [integer_costs(integers, scale, CHARACTERS, token) for token in range(len(CHARACTERS))]
    for name, insert in words_after(text, longest):
        path = [CHARACTERS.start_id, *CHARACTERS.encode(text + insert).tolist()][-len(insert) - 1 :]
        cost = sum(costs[before][0][token] for before, token in itertools.pairwise(path))
        cost += 0 if insert.endswith("你") else costs[path[-1]][1]
        if name not in found or cost < found[name][1]:
            found[name] = (insert, cost)
    return sorted(((name, *rest) for name, rest in found.items()), key=lambda one: one[2])


@settings(max_examples=40, deadline=None)
@given(rows=tables(len(CHARACTERS), 1500), text=TEXTS, count=st.integers(1, 3))
def test_costs_of_characters_are_added_exactly(rows, text, count):
    integers, scale = np.rint(rows).astype(int).tolist(), 2**-10
    found = suggest(IntegerTable(integers, scale), CHARACTERS, text, count)
    expected = enumerated_costs(integers, scale, text, longest=4)
    longest = [one for one in found if len(one.insert) > 4]
    assert len(found) == count or not expected
    for one, (name, insert, cost) in zip(found, expected, strict=False):
        if longest and one.probability <= longest[0].probability:
            break
        assert (one.text, one.insert) == (name, insert)
        assert one.probability == np.exp2(-cost / 2**24)


def test_no_word_of_integers_begins_so():
    case = json.loads(VECTORS.read_text())["integer_suggestions"][1]
    vocabulary = ks.Vocabulary.from_tokens(case["tokens"])
    assert vocabulary.level == "word"
    assert suggest(IntegerTable(case["rows"], case["scale"]), vocabulary, "zzzz", 3) == []


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["integer_suggestions"])
def test_the_vectors_of_integers(case):
    vocabulary, integers = ks.Vocabulary.from_tokens(case["tokens"]), case["rows"]
    for text, answer in case["answers"]:
        found = suggest(IntegerTable(integers, case["scale"]), vocabulary, text, 3)
        assert [list(one) for one in found] == [[*one[:2], np.exp2(-one[2] / 2**24)] for one in answer]
        if vocabulary.level == "char":
            assert [list(one) for one in enumerated_costs(integers, case["scale"], text, 4)[:3]] == answer
            continue
        begun = begun_word(text, "word")
        last = vocabulary.encode(text.removesuffix(begun))
        matching = [index for index in vocabulary.text_ids if vocabulary.tokens[index].startswith(begun)]
        matching += [] if begun else [vocabulary.eos_id]
        token = last[-1] if len(last) else vocabulary.start_id
        costs, _ = integer_costs(integers, case["scale"], vocabulary, token, matching)
        for _, insert, cost in answer:
            assert costs[vocabulary.tokens.index(begun + insert)] == cost


def test_the_search_ends_after_its_steps():
    """A model that never ends a word: all its weight is on two characters."""
    rows = np.full((len(CHARACTERS),) * 2, -60.0)
    rows[:, CHARACTERS.encode("ab")] = 0.0
    table = Table(rows)
    assert all(one.probability < 1e-20 for one in suggest(table, CHARACTERS, "a", 3))
    assert table.calls == MOST_STEPS + 2  # and the text after <s>


@settings(max_examples=100)
@given(
    rows=tables(len(WORDS), 2),
    text=st.lists(st.sampled_from([*WORDS.tokens[4:], " th", "x", " "]), max_size=4).map("".join),
    count=st.integers(1, 9),
)
def test_words_the_most_likely_tokens(rows, text, count):
    tokens, begun = split_words(text), ""
    if tokens and tokens[-1] == "'" and len(tokens) > 1 and tokens[-2].strip()[:1] in tuple("tdx"):
        begun = tokens[-2] + tokens[-1]
    elif tokens and (tokens[-1] == " " or tokens[-1].strip()[:1] in tuple("tdx")):
        begun = tokens[-1]
    assert begun_word(text, "word") == begun
    context = WORDS.encode(text[: len(text) - len(begun)])
    after = probabilities_after(rows, WORDS, context[-1] if len(context) else WORDS.start_id)
    after.pop("<eos>" if begun else "", None)
    matching = {token: p for token, p in after.items() if token.startswith(begun) or (token == "<eos>" and not begun)}
    words = [
        (t.strip(), t[len(begun) :], p) for t, p in matching.items() if t != begun and t.strip()[:1] in tuple("td你")
    ]
    expected = {}
    for name, insert, probability in sorted(words, key=lambda one: -one[2]):
        expected.setdefault(name, (name, insert, probability / sum(matching.values())))
    found = suggest(Table(rows), WORDS, text, count)
    assert [one[:2] for one in found] == [one[:2] for one in expected.values()][:count]
    assert [one.probability for one in found] == pytest.approx([one[2] for one in expected.values()][:count], rel=1e-5)


def test_words_split_at_white_space():
    vocabulary = ks.Vocabulary.from_tokens(["", "[UNK]", "the", "then,", "they", "<s>", "<eos>"])
    rows = np.zeros((7, 7))
    rows[:, 3] = 2.0
    for text, expected in (
        ("", ["then,", "the", "they"]),
        ("the ", ["then,", "the", "they"]),
        ("the", ["then,", "they"]),
        ("the they", []),
    ):
        found = suggest(Table(rows), vocabulary, text, 3)
        assert [one.text for one in found] == expected
        assert all(text.split(" ")[-1] + one.insert == one.text for one in found)


@pytest.mark.parametrize("level", ["char", "word"])
def test_logits_that_are_not_finite_are_refused(level):
    vocabulary = CHARACTERS if level == "char" else WORDS
    with pytest.raises(ValueError, match="no word can be suggested: the model's logits must be numbers"):
        suggest(Table(np.full((len(vocabulary),) * 2, np.nan)), vocabulary, "a" if level == "char" else " th")


def test_what_is_impossible_is_not_suggested():
    rows = np.zeros((len(WORDS),) * 2)
    rows[:, [WORDS.tokens.index(" the"), WORDS.tokens.index(" then")]] = -np.inf
    assert [one.text for one in suggest(Table(rows), WORDS, "x th")] == ["they"]
    rows[:, WORDS.tokens.index(" they")] = -np.inf
    assert suggest(Table(rows), WORDS, "x th") == []
    rows = np.zeros((len(CHARACTERS),) * 2)
    rows[:, CHARACTERS.encode("ab")] = -np.inf
    assert suggest(Table(rows), CHARACTERS, "a") == []
    rows[:, 1:] = -np.inf  # only <pad>, which is never read, is possible
    assert suggest(Table(rows), CHARACTERS, "a") == []


def test_the_states_of_an_earlier_text_are_refused():
    with pytest.raises(ValueError, match="`states` must be a list of arrays; give the whole text"):
        suggest(Table(np.zeros((len(WORDS),) * 2)), WORDS, "", states=ks.TextStates([], 1))


@pytest.mark.parametrize("count", [0, 101, 1.5, True])
def test_the_count_must_be_in_range(count):
    with pytest.raises(ValueError, match="`count` must be"):
        suggest(Table(np.zeros((len(WORDS),) * 2)), WORDS, "", count)
