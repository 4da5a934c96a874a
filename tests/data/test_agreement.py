import hashlib
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_seq.data.agreement import AgreementSentence, agreement_corpus, agreement_probes, sentence
from keras_seq.data.vocabulary import Vocabulary

# Not imported, so that the sentences are read independently of the module.
NOUNS = ["cat", "dog", "bird", "horse", "duck", "boy", "apple", "cake", "nut", "tree", "river", "house", "table"]
PLURALS = [noun + "s" for noun in NOUNS]

DRAWN = st.builds(sentence, st.randoms(use_true_random=False), st.integers(1, 60))


@pytest.fixture(scope="module")
def corpus():
    return agreement_corpus(sentences=4000, seed=3)


def words_of(text):
    return text.removesuffix(".").replace(",", " ,").split()


def read(text):
    """Returns (subject is plural, distance, attractors), found with str.split only."""
    words = words_of(text)
    subject = next(i for i, word in enumerate(words) if word in NOUNS or word in PLURALS)
    verb = next(i for i, word in enumerate(words) if word in ("was", "were"))
    plural = words[subject] in PLURALS
    return plural, verb - subject, sum(word in (NOUNS if plural else PLURALS) for word in words[subject + 1 : verb])


@given(DRAWN)
def test_the_attributes_describe_the_sentence(drawn):
    assert (drawn.subject_is_plural, drawn.distance, drawn.attractors) == read(drawn.text)
    words = words_of(drawn.text)
    assert words.count("was") + words.count("were") == 1
    assert words[0] == "the"
    assert drawn.text.endswith(".")
    assert drawn.text.count(".") == 1
    assert not any(mark in drawn.text for mark in ("\n", "  ", " ,", ",,", ", and"))
    assert drawn.verb == (" were" if drawn.subject_is_plural else " was")
    assert {drawn.verb, drawn.wrong_verb} == {" was", " were"}
    assert drawn.text.startswith(drawn.prefix + drawn.verb + " ")


@given(DRAWN)
def test_the_distance_counts_word_tokens(drawn):
    vocabulary = Vocabulary.from_text(drawn.text, "word")
    pieces = [vocabulary.decode([i]).strip() for i in vocabulary.encode(drawn.text)]
    subject = next(i for i, piece in enumerate(pieces) if piece in NOUNS or piece in PLURALS)
    assert pieces.index(drawn.verb.strip()) - subject == drawn.distance
    assert vocabulary.encode(drawn.verb).size == 1


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_only_nouns_and_the_verb_depend_on_the_number(seed, distance):
    one = sentence(random.Random(seed), distance, plural=False)
    many = sentence(random.Random(seed), distance, plural=True)
    assert (one.subject_is_plural, many.subject_is_plural) == (False, True)
    # The same draws give the same words, with all nouns in the other number.
    bare = [[word.removesuffix("s") if word in PLURALS else word for word in words_of(s.text)] for s in (one, many)]
    assert ["were" if word == "was" else word for word in bare[0]] == bare[1]
    assert one.attractors == many.attractors


def test_nouns_in_between_mostly_have_the_other_number():
    rng = random.Random(0)
    drawn = [sentence(rng, 40) for _ in range(300)]
    between = [word for s in drawn for word in words_of(s.prefix)[-39:]]
    nouns = sum(word in NOUNS or word in PLURALS for word in between)
    attractors = sum(s.attractors for s in drawn)
    assert 0.7 < attractors / nouns < 0.9
    assert attractors / len(drawn) > 3


def test_short_distances_can_have_an_attractor():
    rng = random.Random(0)
    assert all(any(sentence(rng, distance).attractors for _ in range(100)) for distance in range(4, 41))


def test_the_predicate_does_not_depend_on_the_number(corpus):
    lines = (corpus.train + corpus.validation + corpus.test).splitlines()
    after = {verb: {line.split(verb)[1] for line in lines if verb in line} for verb in (" was ", " were ")}
    singles = {verb: {rest for rest in after[verb] if "and" not in rest} for verb in after}
    assert singles[" was "] == singles[" were "]
    assert len(singles[" was "]) == 6


def test_the_vocabulary_is_small_and_complete_in_the_training_part(corpus):
    vocabulary = Vocabulary.from_text(corpus.train, "word")
    assert 60 <= len(vocabulary) <= 90
    assert vocabulary.encode(corpus.validation + corpus.test).min() >= len(vocabulary.reserved_ids)
    words = vocabulary.tokens[len(vocabulary.reserved_ids) :]
    assert {token for token in words if not token.startswith(" ")} == {",", "\n", ".", "the"}


def test_the_parts_are_lines_and_share_no_words_before_the_verb(corpus):
    assert corpus.by_line
    assert corpus.name == "agreement"
    parts = [part.splitlines() for part in (corpus.train, corpus.validation, corpus.test)]
    assert sum(map(len, parts)) == 4000
    assert all(part.endswith(".\n") for part in (corpus.train, corpus.validation, corpus.test))
    openings = [{line.replace(" were ", " was ").split(" was ")[0] for line in part} for part in parts]
    assert not openings[0] & openings[1]
    assert not openings[0] & openings[2]
    assert not openings[1] & openings[2]
    assert 120 < len(parts[1]) < 280
    assert 120 < len(parts[2]) < 280


def test_distances_and_numbers_are_distributed_as_documented(corpus):
    found = [read(line) for line in corpus.train.splitlines()]
    distances = [distance for _, distance, _ in found]
    assert set(distances) == set(range(1, 41))
    assert 0.35 < sum(distance <= 5 for distance in distances) / len(found) < 0.6
    assert sum(distance > 30 for distance in distances) / len(found) > 0.1
    assert 0.47 < sum(plural for plural, _, _ in found) / len(found) < 0.53


def test_max_distance_is_the_largest_distance():
    lines = agreement_corpus(200, max_distance=1).train.splitlines()
    assert {read(line)[1] for line in lines} == {1}


def test_probes_are_balanced_and_belong_to_the_test_part_of_every_corpus(corpus):
    probes = agreement_probes(20, range(1, 41), seed=9)
    assert [probe.distance for probe in probes] == [distance for distance in range(1, 41) for _ in range(20)]
    for distance in range(1, 41):
        assert sum(probe.subject_is_plural for probe in probes if probe.distance == distance) == 10
    openings = {probe.prefix for probe in probes}
    for drawn in (corpus, agreement_corpus(4000, seed=9), agreement_corpus(4000, seed=1, max_distance=5)):
        for part in (drawn.train, drawn.validation):
            seen = {line.replace(" were ", " was ").split(" was ")[0] for line in part.splitlines()}
            assert not openings & seen
    assert agreement_probes(20, range(1, 41), seed=9) == probes
    assert agreement_probes(20, range(1, 41), seed=10) != probes


def test_the_seed_gives_the_same_corpus_in_any_process():
    script = (
        "import hashlib, keras_seq.data.agreement as a;"
        "drawn = repr((a.agreement_corpus(300, seed=5), a.agreement_probes(3, [1, 20])));"
        "print(hashlib.sha256(drawn.encode()).hexdigest())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = repr((agreement_corpus(300, seed=5), agreement_probes(3, [1, 20])))
    assert printed == {hashlib.sha256(here.encode()).hexdigest()}
    assert agreement_corpus(300, seed=6) != agreement_corpus(300, seed=5)


def test_the_global_random_state_is_unchanged():
    random.seed(1)
    expected = random.random()
    random.seed(1)
    agreement_corpus(50)
    assert random.random() == expected


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"sentences": 0}, "sentences"),
        ({"sentences": 2.0}, "sentences"),
        ({"seed": "a"}, "seed"),
        ({"max_distance": 0}, "max_distance"),
        ({"max_distance": True}, "max_distance"),
        ({"validation": -0.1}, "validation"),
        ({"test": 1}, "test"),
        ({"test": float("nan")}, "test"),
        ({"validation": 0.5, "test": 0.5}, "validation"),
    ],
)
def test_agreement_corpus_rejects(arguments, name):
    with pytest.raises(ValueError, match=f"^`{name}` .*Received"):
        agreement_corpus(**{"sentences": 10, **arguments})


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"count_per_distance": 0}, "count_per_distance"),
        ({"distances": []}, "distances"),
        ({"distances": [3, 0]}, "distances"),
        ({"seed": None}, "seed"),
        ({"test": 0}, "test"),
        ({"test": 1e-9, "distances": [1]}, "test"),
    ],
)
def test_agreement_probes_rejects(arguments, name):
    with pytest.raises(ValueError, match=f"^`{name}` .*Received"):
        agreement_probes(**{"count_per_distance": 2, "distances": [1], **arguments})


def test_sentence_rejects():
    with pytest.raises(ValueError, match=r"^`distance` must be a positive integer\. Received: distance=0"):
        sentence(random.Random(0), 0)
    with pytest.raises(ValueError, match=r"^`text` must be a sentence of the grammar"):
        _ = AgreementSentence("the cat sleeps.", False, 1, 0).prefix
