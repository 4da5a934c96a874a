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
from keras_seq.data.tokens import begins_word, split_words
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.integer_sampling import IntegerArithmetic
from keras_seq.generation.own_words import OwnWords
from keras_seq.generation.suggest import suggest
from keras_seq.generation.word_search import MOST_STEPS

WORD_SHARE, WORD_DOUBT, PAIR_SHARE, PAIR_DOUBT, MIXED = 0.3, 30, 0.4, 3, 8  # the definition
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

    own_words = None

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


@settings(max_examples=40)
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


@settings(max_examples=40)
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


# ---- own words ----


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["suggestions"])
def test_the_vectors_of_own_words(case):
    vocabulary, step = ks.Vocabulary.from_tokens(case["tokens"]), Table(case["rows"])
    step.own_words = learned(case["own"]["learned"])
    for text, answer in case["own"]["answers"]:
        found = suggest(step, vocabulary, text, 3)
        assert [list(one[:2]) for one in found] == [one[:2] for one in answer]
        assert [one.probability for one in found] == pytest.approx([one[2] for one in answer], abs=1e-6)


PLAIN = ks.Vocabulary.from_tokens(["", "[UNK]", "the", "then,", "they", "then", "(the", "<s>", "<eos>"])
NO_UNKNOWN = ks.Vocabulary.from_tokens(["", "the", "then,", "they", "then", "<s>", "<eos>"])
LEARNED = st.lists(
    st.sampled_from(
        ["a", "ab", "b", "a'b", "ba", "abba", "你", "the", "then", "them", "they", "don't", ",", "z", "\n"]
    ),
    max_size=12,
).map(" ".join)


def learned(text):
    own = OwnWords()
    own.learn(text)
    return own


def mixed(alone, own, text, fits):
    """The definition: [text, insert, probability] of the model's and of own words, the most likely first."""
    tokens = split_words(text)
    begun = begun_word(text, "char")
    context = split_words(text[: len(text) - len(begun)])
    if context and context[-1] == " ":
        context.pop()
    before = context[-1].strip(" ") if context and begins_word(context[-1]) else None
    words = [word for word in own.words if word.startswith(begun) and word != begun and fits(word)]
    n, m = sum(own.words[word] for word in words), sum(own.pairs.get((before, word), 0) for word in words)
    u = WORD_SHARE * n / (n + (0 if begun else WORD_DOUBT)) if n else 0
    v = PAIR_SHARE * m / (m + PAIR_DOUBT)
    added = {w: u * own.words[w] / n + (v * own.pairs.get((before, w), 0) / m if m else 0) for w in words}
    found = [[one.text, one.insert, (1 - u - v) * one.probability + added.get(one.text, 0)] for one in alone]
    if begun or not tokens or tokens[-1].isspace():
        missing = [word for word in words if word not in {one.text for one in alone}]
        found += [[word, word[len(begun) :], added[word]] for word in missing]
    return sorted(found, key=lambda one: -one[2])


@settings(max_examples=150)
@given(
    vocabulary=st.sampled_from([CHARACTERS, WORDS, PLAIN, NO_UNKNOWN]),
    seed=st.integers(0, 2**32 - 1),
    parts=st.lists(st.sampled_from(["a", "ab", "b", "'", " ", " ", ",", "你", "the", " th", "z", "\n"]), max_size=6),
    own=LEARNED,
    count=st.sampled_from([1, 3, 20]),
)
def test_own_words_are_mixed_in(vocabulary, seed, parts, own, count):
    text = "".join(part for part in parts if vocabulary is not CHARACTERS or set(part) <= set("ab', 你"))
    if vocabulary is NO_UNKNOWN:
        text = " ".join(part for part in text.split() if part in vocabulary.ids) + " th"[: 3 * (seed % 2)]
    step = Table(np.random.default_rng(seed).normal(size=(len(vocabulary),) * 2) * 2)
    alone = suggest(step, vocabulary, text, max(count, MIXED))
    step.own_words = learned(own)
    found = suggest(step, vocabulary, text, count)
    begun = begun_word(text, "char")
    if vocabulary.level == "whitespace" and begun_word(text, "whitespace") != begun:
        assert found == alone[:count]
        return
    fits = {
        CHARACTERS: lambda word: set(word) <= set("ab'你"),
        NO_UNKNOWN: lambda word: word in ("the", "then", "they"),
    }.get(vocabulary, lambda word: True)
    expected = mixed(alone, step.own_words, text, fits)
    assert [one.probability for one in found] == pytest.approx([one[2] for one in expected[:count]])
    best = {one[0]: one for one in expected}
    for one in found:  # Those that are equally likely may be in another order here.
        assert [*one] == pytest.approx(best[one.text])
    assert sum(one[2] for one in expected) < 1 + 1e-9


@settings(max_examples=50)
@given(
    vocabulary=st.sampled_from([CHARACTERS, WORDS]), seed=st.integers(0, 2**32 - 1), text=TEXTS, count=st.integers(1, 5)
)
def test_without_own_words_nothing_changes(vocabulary, seed, text, count):
    rows = np.random.default_rng(seed).normal(size=(len(vocabulary),) * 2) * 2
    alone, none = Table(rows), Table(rows)
    none.own_words = OwnWords()
    assert suggest(alone, vocabulary, text, count) == suggest(none, vocabulary, text, count)
    assert alone.calls == none.calls


def test_own_words_of_equal_probability_are_in_the_order_of_their_first_use():
    """And those of the model come before them. Its numbers here are those of own words exactly."""
    step = Table(np.zeros((len(WORDS),) * 2))
    step.own_words = learned("thus thaw them")
    assert [one.text for one in suggest(step, WORDS, "x th", 6)] == ["the", "they", "then", "thus", "thaw", "them"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x ", ["Darcy", "sat"]),  # after a space: the word
        ("", ["Darcy", "sat"]),
        ("x\n", ["Darcy", "sat"]),
        ("Mr. D", ["arcy"]),
        ("D", ["arcy"]),
        ("Darcy", []),  # it is whole
        ("d", []),  # another letter
        ("x,", []),  # after punctuation, the model alone says whether a space follows
        ("你", []),
    ],
)
def test_where_own_words_are_inserted(text, expected):
    rows = np.full((len(WORDS),) * 2, -np.inf)
    rows[:, WORDS.ids[","]] = 0.0  # No word of the model's is possible.
    step = Table(rows)
    step.own_words = learned("Darcy sat")
    assert [one.insert for one in suggest(step, WORDS, text)] == expected


def test_the_word_before_makes_a_word_more_likely():
    step = Table(np.zeros((len(WORDS),) * 2))
    step.own_words = learned("thaw. thus. he thus. he thus")
    assert suggest(step, WORDS, "so th", 9)[-1].text == "thaw"
    expected = {"thus": WORD_SHARE * 3 / 4 + PAIR_SHARE * 2 / (2 + PAIR_DOUBT), "thaw": WORD_SHARE / 4}
    for text in ("he th", "x, he th", "\nhe th", " he th"):
        found = {one.text: one.probability for one in suggest(step, WORDS, text, 9)}
        assert {word: found[word] for word in expected} == pytest.approx(expected)
    for text in ("he, th", "he  th", "she th", "he\nth", "he' th"):
        found = {one.text: one.probability for one in suggest(step, WORDS, text, 9)}
        assert found["thus"] == pytest.approx(WORD_SHARE * 3 / 4)


def test_a_word_that_the_model_cannot_read_is_not_suggested():
    """Nor does it count among the others."""
    step = Table(np.zeros((len(CHARACTERS),) * 2))
    step.own_words = learned("abra abab Abab é 你")
    found = {one.text: one.probability for one in suggest(step, CHARACTERS, "ab", 100)}
    assert "abra" not in found
    assert found["abab"] > WORD_SHARE
