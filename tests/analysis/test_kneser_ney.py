"""The Kneser-Ney model against its definition, in exact fractions over counts of tuples."""

import collections
import functools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq.analysis.evaluate import evaluate_step
from keras_seq.analysis.kneser_ney import KneserNey

WORDS = ks.Vocabulary.from_tokens(["<pad>", "<unk>", "<s>", "<eos>", " a", " b", " c", " d"])
TEXTS = st.lists(st.sampled_from([" a", " a", " b", " b", " c", " x", "\n"]), min_size=1, max_size=60).map("".join)


class Definition:
    """Chen and Goodman 1998, equations 20, 21 and 26: `probability(word, context)` as a fraction."""

    def __init__(self, parts, size, order):
        self.size, self.order = size, order
        counts = {
            length: collections.Counter(
                tuple(part[end - length : end])
                for part in parts
                for end in range(max(2, length), len(part) + 1)  # The first token is <s>, which is never predicted.
            )
            for length in range(1, order + 1)
        }
        before = {length: collections.defaultdict(set) for length in counts}
        for length in range(2, order + 1):
            for gram in counts[length]:
                before[length - 1][gram[1:]].add(gram[0])
        self.probability = functools.cache(self._probability)
        self.counts = {
            length: {
                gram: count if length == order or gram[0] == WORDS.start_id else len(before[length][gram])
                for gram, count in counts[length].items()
            }
            for length in counts
        }

    def discount(self, length, count):
        occurring = collections.Counter(self.counts[length].values())
        usual = Fraction(occurring[1], occurring[1] + 2 * occurring[2]) if occurring[1] else Fraction(1, 2)
        count = min(count, 3)
        if not occurring[count]:
            return usual
        found = count - (count + 1) * usual * Fraction(occurring[count + 1], occurring[count])
        return found if 0 < found <= count else usual

    def _probability(self, word, context):
        shorter = self.probability(word, context[1:]) if context else Fraction(1, self.size)
        length = len(context) + 1
        after = {gram[-1]: count for gram, count in self.counts[length].items() if gram[:-1] == context}
        if not after:
            return shorter
        own = after[word] - self.discount(length, after[word]) if word in after else 0
        kept = sum(self.discount(length, count) for count in after.values())
        return (own + kept * shorter) / Fraction(sum(after.values()))


@pytest.mark.parametrize("by_line", [False, True])
@settings(max_examples=60)
@given(text=TEXTS, order=st.integers(1, 4))
def test_every_probability_is_that_of_the_definition(by_line, text, order):
    lines = [line for line in text.split("\n") if line]
    parts = [WORDS.encode(text).tolist()]
    if by_line:
        parts = [[*WORDS.encode(line).tolist(), WORDS.eos_id] for line in lines]
        if not lines:
            return
    definition = Definition([[WORDS.start_id, *part] for part in parts], len(WORDS), order)
    model = KneserNey(WORDS, text, by_line, order)
    for part in parts:
        states = model.initial_states()
        for at, token in enumerate([WORDS.start_id, *part]):
            logits, states = model(token, states)
            context = tuple([WORDS.start_id, *part][: at + 1][max(0, at + 2 - order) :])
            expected = [float(definition.probability(word, context)) for word in range(len(WORDS))]
            np.testing.assert_allclose(np.exp(logits), expected, rtol=1e-12, atol=1e-15)


def test_one_probability_by_hand():
    """a b a b a c: `a b` and `b a` occur twice, `<s> a` and `a c` once, so D = 2 / (2 + 2 * 2) = 1 / 3.

    D1 = 1 - 2 D * 2 / 2 = 1 / 3, and D2 = 2 - 3 D * 0 = 2, because none occurs three times.
    """
    model = KneserNey(WORDS, " a b a b a c", order=2)
    a, b, c = (WORDS.ids[word] for word in (" a", " b", " c"))
    # Single tokens: `a` is after 2 others, `b` and `c` after 1. D = 2 / (2 + 2) = 1 / 2, D1 = 1 - 2 D / 2 = 1 / 2, D2 = 2.
    rest = (2 + 1 / 2 + 1 / 2) / 4 / len(WORDS)  # what is subtracted, of 4, spread over all tokens
    alone = {a: rest, b: (1 - 1 / 2) / 4 + rest, c: (1 - 1 / 2) / 4 + rest}
    spread = (2 + 1 / 3) / 3  # what is subtracted from the two pairs that begin with `a`, which occurs 3 times
    found = np.exp(model(a, ())[0])
    assert found[a] == pytest.approx(spread * alone[a])
    assert found[b] == pytest.approx((2 - 2) / 3 + spread * alone[b])
    assert found[c] == pytest.approx((1 - 1 / 3) / 3 + spread * alone[c])


@settings(max_examples=60)
@given(text=TEXTS, order=st.integers(1, 5), context=st.lists(st.integers(0, 7), max_size=5))
def test_they_add_up_to_one_after_every_context(text, order, context):
    probabilities = KneserNey(WORDS, text, order=order).probabilities(tuple(context))
    assert probabilities.sum() == pytest.approx(1)
    assert (probabilities >= 0).all()


def test_longer_contexts_predict_better():
    random = np.random.default_rng(0)
    text = "".join(random.permutation([" a b c", " b a d", " c d a b"])[0] for _ in range(2000))
    nats = [
        evaluate_step(KneserNey(WORDS, text[:9000], order=order), WORDS, text[9000:]).nats_per_token
        for order in (1, 2, 3)
    ]
    assert nats == sorted(nats, reverse=True)


@pytest.mark.parametrize(
    ("text", "order", "message"), [("", 2, "text to count words in"), (" a", 0, "`order` must be")]
)
def test_what_cannot_be_counted_is_refused(text, order, message):
    with pytest.raises(ValueError, match=message):
        KneserNey(WORDS, text, order=order)
