"""Learning from texts with `LiteRTSampler`: its errors, rates that are too large, and texts that are written meanwhile."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from hamlet import TEXT

from keras_seq.errors import ArgumentError, ModelError, TextError
from keras_seq_export import LiteRTSampler
from keras_seq_export.errors import BundleError

BEGUN_AGAIN = "the model has learned or forgotten something since this text was begun; begin it again"
TOO_LARGE = "`rate` is too large: learning diverged, and what was learned before is kept. Received: rate="


@pytest.fixture(scope="module")
def path(learning_file):
    return learning_file("stack")[0]


@pytest.fixture
def sampler(path):
    return LiteRTSampler(path)


@pytest.fixture(scope="module")
def saved(path, tmp_path_factory):
    """A file of what was learned from other lines."""
    file, sampler = tmp_path_factory.mktemp("saved") / "me.learned", LiteRTSampler(path)
    sampler.learn("Whether to suffer, or to be nobler: Whether to be\n" * 4)
    sampler.save_learned(file)
    return file


def everything(sampler):
    """Returns all that a model has learned, and what it computes."""
    found = sampler.decoder.call("get_weights", {})
    text = sampler.sample("To ", max_tokens=40, seed=3)
    scores = sampler.score(TEXT[:50]).log_probabilities.tolist()
    words = sampler.own_words.to_text()
    return [one.tobytes() for one in found.values()], sampler.learned_tokens, words, text.token_ids, scores


# ---- errors ----


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf"), 1_000_001, True, "12", [12.0]], ids=repr)
def test_a_rate_that_is_no_positive_number_is_refused(rate, sampler):
    expected = r"^`rate` must be a positive number, at most 1,000,000\. Received: rate="
    with pytest.raises(ArgumentError, match=expected):
        sampler.learn("To be", rate=rate)


@pytest.mark.parametrize("rate", [12, 12.0, np.float32(12), None])
def test_rates_of_any_type_of_number(rate, sampler):
    assert sampler.learn("To be, or", rate=rate).tokens == 9
    default = LiteRTSampler(sampler.decoder._path)
    default.learn("To be, or")
    assert everything(sampler) == everything(default)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"text": ""}, ArgumentError, "`text` must be a text that is not empty. Received: text=''"),
        ({"text": "", "by_line": True}, ArgumentError, "`text` must be a text that is not empty. Received: text=''"),
        ({"text": "To be €uro"}, TextError, "`text` must hold only characters of the vocabulary.*'€'"),
        ({"text": 7}, ArgumentError, "`text` must be a string"),
        ({"text": None}, ArgumentError, "`text` must be a string"),
        ({"text": b"To be"}, ArgumentError, "`text` must be a string"),
        ({"text": "To be", "by_line": 1}, ArgumentError, "`by_line` must be True or False"),
        ({"text": "To be", "rate": 0}, ArgumentError, "`rate` must be a positive number"),
        ({"text": TEXT, "rate": 1e5}, ModelError, TOO_LARGE + "100000$"),
    ],
)
def test_after_an_error_nothing_has_changed(given, error, words, sampler):
    sampler.learn(TEXT)
    generation, expected = (sampler.generate("To ", max_tokens=40, seed=1) for _ in range(2))
    pieces, before = [next(generation)], everything(sampler)
    with pytest.raises(error, match=words):
        sampler.learn(**given)
    assert everything(sampler) == before
    assert [*pieces, *generation] == list(expected)


def test_a_file_that_cannot_learn_says_so(small_tflite, tmp_path):
    sampler = LiteRTSampler(small_tflite())
    assert (sampler.learned_tokens, sampler.own_words, sampler.learned_version) == (0, None, 0)
    for call in (
        lambda: sampler.learn("To be"),
        sampler.forget,
        lambda: sampler.save_learned(tmp_path / "a"),
        lambda: sampler.load_learned(tmp_path / "a"),
    ):
        with pytest.raises(
            ModelError, match=r"must have a signature `learn`, which export_tflite\(\.\.\., learn=True\) adds"
        ):
            call()
    assert list(tmp_path.iterdir()) == []


# ---- what is learned, saved and forgotten ----


def test_the_report(sampler):
    first = sampler.learn(TEXT)
    assert first.tokens == sampler.learned_tokens == len(TEXT)
    assert all(type(value) in (int, float) for value in dataclasses.asdict(first).values())
    nats = -sampler.score(TEXT).log_probability / len(TEXT)
    assert nats < first.nats_per_token < first.model_nats_per_token
    second = sampler.learn(TEXT)
    assert sampler.learned_tokens == 2 * len(TEXT)
    assert second.model_nats_per_token == first.model_nats_per_token  # Without all that was ever learned.
    assert second.nats_per_token < first.nats_per_token
    shares = np.exp(sampler.decoder.call("get_weights", {})["log_shares"].astype(np.float64))
    assert second.weight == pytest.approx(shares @ (0, 0.5, 1), rel=1e-5)
    assert str(second) == (
        f"{second.nats_per_token:.4f} nats per token while learning, {second.model_nats_per_token:.4f} without learning, "
        f"over {len(TEXT)} tokens"
    )


def test_the_model_alone_is_the_model_that_forgot(sampler):
    nats = -sampler.score(TEXT).log_probability / len(TEXT)
    sampler.learn(TEXT)
    assert sampler.learn(TEXT).model_nats_per_token == pytest.approx(nats, abs=1e-6)


def test_forgetting_and_loading_restore_bit_for_bit(sampler, saved, path, tmp_path):
    new = everything(sampler)
    sampler.learn(TEXT[:100])
    sampler.learn(TEXT[100:])
    learned = everything(sampler)
    assert learned != new
    sampler.save_learned(tmp_path / "me")
    sampler.forget()
    assert everything(sampler) == new
    assert sampler.learned_tokens == 0
    sampler.load_learned(tmp_path / "me")
    assert everything(sampler) == learned
    assert sampler.learned_tokens == len(TEXT)
    other = LiteRTSampler(path)
    other.load_learned(saved)
    assert everything(other) not in (new, learned)
    other.load_learned(tmp_path / "me")
    assert everything(other) == learned
    other.learn("To be")
    sampler.learn("To be")
    assert everything(other) == everything(sampler)


def test_texts_by_line(sampler):
    text = "To be\n\n\nor not"
    assert sampler.learn(text, by_line=True).tokens == 6 + 7  # With an <eos> each; empty lines are none.
    assert sampler.learn(text, by_line=False).tokens == len(text)


# ---- rates that are too large ----


@pytest.mark.parametrize("by_line", [False, True])
@pytest.mark.parametrize("rate", [1e3, 1e4, 1e5, 1e6])
@pytest.mark.parametrize("earlier", ["", TEXT], ids=["nothing learned", "learned"])
def test_what_was_learned_survives_a_rate_that_is_too_large(earlier, rate, by_line, sampler):
    if earlier:
        sampler.learn(earlier)
    before, version = everything(sampler), sampler.learned_version
    for text in (TEXT[:64], TEXT[:65], TEXT[20:110], TEXT, TEXT[:43] * 60):
        with pytest.raises(ModelError, match=f"{TOO_LARGE}{rate:g}$".replace("+", r"\+")):
            sampler.learn(text, rate=rate, by_line=by_line)
        assert everything(sampler) == before
    assert sampler.learned_version == version


def test_right_rates_are_never_too_large_for_unusual_texts(sampler):
    """What was learned is wrong for these: they are predicted worse than by the model alone, by more than a nat."""
    sampler.learn(TEXT * 10)
    random, learned = np.random.default_rng(0), sampler.decoder.call("get_weights", {})
    characters, worse = [one for one in sampler.vocabulary.tokens if len(one) == 1], 0
    for count in (1, 1, 1, 2, 2, 3, 5, 8, 20, 63, 64, 65, 66, 67, 128, 129) * 4:
        text = "".join(random.choice(characters, count))
        report = sampler.learn(text, by_line=bool(random.integers(2)))
        worse += report.nats_per_token > report.model_nats_per_token + 1
        sampler.decoder.call("set_weights", learned)
    assert worse >= 5


def test_a_text_of_another_kind_makes_what_was_learned_weigh_nothing(sampler):
    sampler.learn(TEXT * 10)
    random = np.random.default_rng(1)
    characters = [one for one in sampler.vocabulary.tokens if len(one) == 1]
    report = sampler.learn("".join(random.choice(characters, 128)), rate=0.01)
    assert report.weight < 0.05
    assert report.nats_per_token < report.model_nats_per_token + 2
    assert sampler.learn(TEXT).weight > 0.9


# From 3e38 on, what was learned is infinite, and NaN with the weight of 0 with which the model is alone.
@pytest.mark.parametrize(
    ("size", "error", "message"),
    [(1e38, ModelError, TOO_LARGE), (3e38, BundleError, "or what it has learned, is damaged")],
)
def test_what_the_file_computes_is_never_nan_in_silence(size, error, message, sampler, saved):
    """Weights that only a forged file has."""
    shape = sampler.decoder.weights_shape
    signs = np.random.default_rng(0).choice(np.float32([-1, 1]), shape)
    huge = {"weights": signs * np.float32(size), "log_shares": np.float32([-100, -100, 0])}
    sampler.decoder.call("set_weights", huge)
    with pytest.raises(error, match=message):
        sampler.learn("To be")
    np.testing.assert_array_equal(sampler.decoder.call("get_weights", {})["weights"], huge["weights"])
    sampler.load_learned(saved)
    sampler.learn("To be")


# ---- texts that are written meanwhile ----

CHANGES = {
    "learn": lambda sampler, _: sampler.learn("To be"),
    "load": lambda sampler, saved: sampler.load_learned(saved),
    "forget": lambda sampler, _: sampler.forget(),
}


@pytest.mark.parametrize("options", [{}, {"logprobs": True}, {"stop": ["x"]}, {"num_beams": 2}], ids=str)
@pytest.mark.parametrize("change", CHANGES)
def test_a_text_that_was_begun_ends_with_an_error(change, options, sampler, saved):
    generation = sampler.generate("To ", max_tokens=60, **({} if "num_beams" in options else {"seed": 1}), **options)
    pieces = [next(generation) for _ in range(3)]
    CHANGES[change](sampler, saved)
    for _ in range(2):
        with pytest.raises(ModelError, match=BEGUN_AGAIN):
            next(generation)
    assert len(pieces) == 3
    assert len(sampler.sample("To ", max_tokens=10, seed=1)) > 0


@pytest.mark.parametrize("change", CHANGES)
def test_a_text_whose_last_token_was_drawn_by_another_model_ends_with_an_error(change, sampler, saved):
    generation = sampler.generate("To ", max_tokens=5, seed=1)
    [next(generation) for _ in range(5)]
    CHANGES[change](sampler, saved)
    with pytest.raises(ModelError, match=BEGUN_AGAIN):
        next(generation)


def test_a_text_that_has_ended_stays_ended(sampler):
    generation = sampler.generate("To ", max_tokens=5, seed=1)
    assert len(list(generation)) == 5
    sampler.learn("To be")
    assert list(generation) == []
    assert next(generation, None) is None
    assert generation.finish_reasons == ["length"]


def test_saving_does_not_end_a_text(sampler, tmp_path):
    generation, expected = (sampler.generate("To ", max_tokens=60, seed=1) for _ in range(2))
    pieces = [next(generation) for _ in range(3)]
    sampler.save_learned(tmp_path / "me")
    assert [*pieces, *generation] == list(expected)


@pytest.mark.parametrize("count", [1, 5, 8, 20, 31, 32, 33, 47])
@pytest.mark.parametrize("change", CHANGES)
def test_the_states_within_a_text_do_not_depend_on_what_was_learned_afterwards(change, count, sampler, saved, path):
    """`write` draws 32 tokens at once; it would draw others now."""
    texts = [one.generate("To ", max_tokens=60, seed=1) for one in (sampler, LiteRTSampler(path))]
    pieces = [[next(text) for _ in range(count)] for text in texts]
    assert pieces[0] == pieces[1]
    CHANGES[change](sampler, saved)
    found, expected = (text.states for text in texts)
    assert found.token == expected.token
    for array, same in zip(found.arrays, expected.arrays, strict=True):
        np.testing.assert_array_equal(array, same)
    assert sampler.sample(states=found, max_tokens=5, seed=1).finish_reason in ("length", "eos")


def test_the_states_of_texts_are_those_of_the_same_tokens(sampler, path):
    """States do not depend on what was learned."""
    sampler.learn(TEXT)
    text = sampler.sample("To ", max_tokens=50, seed=4, stop=["e"])
    whole = "To " + text
    other = LiteRTSampler(path)
    tokens = other.vocabulary.encode(whole).tolist()
    _, states = other.prefill([other.vocabulary.start_id, *tokens[:-1]], other.initial_states())
    for array, expected in zip(text.states.arrays, states, strict=True):
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-5)


def answers(sampler):
    """Returns functions whose answers differ between the versions of the race below."""
    yield lambda: tuple(sampler.sample("To ", max_tokens=40, seed=2).token_ids)
    yield lambda: sampler.score(TEXT[:80]).log_probability
    yield lambda: tuple(sampler.suggest("T", count=3))


def test_no_answer_is_of_two_models(sampler, saved, tmp_path):
    """One thread learns, loads and forgets; another one's texts end with an error, and scores and suggestions wait."""
    other = LiteRTSampler(sampler.decoder._path)
    other.learn(TEXT)
    other.save_learned(tmp_path / "other")
    changes = [
        lambda one: one.load_learned(saved),
        lambda one: one.learn("To be, or not to be"),
        lambda one: one.load_learned(tmp_path / "other"),
        lambda one: one.forget(),
    ]
    allowed = [set() for _ in answers(other)]
    for change in changes:
        change(other)
        for values, answer in zip(allowed, answers(other), strict=True):
            values.add(answer())
    assert all(len(values) == 4 for values in allowed)
    whole, ended, wrong, over = [0] * 3, [0] * 3, [], threading.Event()

    def read(number, answer):
        while not over.is_set():
            try:
                found = answer()
            except ModelError as error:
                ended[number] += 1
                if str(error) != BEGUN_AGAIN:
                    wrong.append(str(error))
            else:
                whole[number] += 1
                if found not in allowed[number]:
                    wrong.append(found)

    sampler.forget()
    threads = [threading.Thread(target=read, args=one) for one in enumerate(answers(sampler))]
    for thread in threads:
        thread.start()
    end, random = time.monotonic() + 300, np.random.default_rng(0)
    while time.monotonic() < end and not wrong and (min(whole) < 5 or ended[0] < 5):
        for change in changes:
            change(sampler)
            time.sleep(random.choice([0, 0.001, 0.01]))
        before = whole[0]
        while whole[0] == before and not wrong and time.monotonic() < end:  # Until a text was not disturbed.
            time.sleep(0.001)
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(whole) >= 5
    assert ended[0] >= 5
    assert ended[1:] == [0, 0]


def test_threads_that_learn_at_the_same_time_do_not_mix(sampler, path):
    """The result is that of one order or the other."""
    texts = ["To be, or not to be\n" * 20, "Whether 'tis nobler\n" * 20]
    expected = []
    for order in (texts, texts[::-1]):
        one = LiteRTSampler(path)
        for text in order:
            one.learn(text)
        found = everything(one)
        expected.append((found[0], found[1]))
    threads = [threading.Thread(target=sampler.learn, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = everything(sampler)
    assert (found[0], found[1]) in expected
    assert sampler.learned_version == 2
