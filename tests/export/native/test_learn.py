"""Learning in C: what a model learns from a text is what it learns in Python, bit for bit, and so are the texts after it."""

import hashlib
import json
import re
import struct

import numpy as np
import pytest
from bundles import rebundled
from hamlet import NGRAMS, TEXT
from hypothesis import given, settings
from hypothesis import strategies as st
from native_library import BAD_ARGUMENT, BAD_FILE, BAD_TEXT, FAILED, IN_USE, NativeError, NativeModel, status_of

from keras_seq.errors import ModelError
from keras_seq_export import LiteRTSampler
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle

# The states of the second model do not begin at zero.
MODELS = {
    "char": {"learn": True},
    "int8": {"learn": True, "quantization": "int8", "by_line": True},
    "word": {"learn": True, "level": "word", "starting": True},
    "whitespace": {"learn": True, "level": "whitespace"},
    "n-grams": {"learn": True, **NGRAMS},
}
OWN = "that is to be, or\nnot the mind to suffer\n\nthe question\n" * 9
SLOW = 2.0  # a rate that is right for each of the models, which are not trained


@pytest.fixture(params=MODELS)
def models(request, library, small_tflite):
    """The same file in the library and in Python, with nothing learned."""
    path = small_tflite(**MODELS[request.param])
    with NativeModel(library, path) as native:
        yield native, LiteRTSampler(path)


@pytest.fixture(scope="module", params=MODELS)
def opened(request, library, small_tflite):
    """As `models`, for all examples."""
    path = small_tflite(**MODELS[request.param])
    with NativeModel(library, path) as native:
        yield native, LiteRTSampler(path)


@pytest.fixture
def native(library, small_tflite):
    with NativeModel(library, small_tflite(learn=True)) as native:
        yield native


def learned_of(sampler, folder):
    sampler.save_learned(folder / "python")
    return (folder / "python").read_bytes()


def with_sum(content):
    return content + hashlib.sha256(content).digest()


def with_words(content, words):
    """Returns a learned file with other own words."""
    rows, columns = struct.unpack("<II", content[40:48])
    end = 68 + 4 * rows * columns
    return with_sum(content[:end] + struct.pack("<I", len(words)) + words)


def shares_of(content):
    return np.frombuffer(content[56:68], "<f4")


@pytest.mark.parametrize("by_line", [False, True])
def test_a_text_is_learned_as_in_python(models, tmp_path, by_line):
    native, sampler = models
    for text, rate in ((OWN, SLOW), (TEXT[:70], 3.5), ("the", 12.0)):
        expected = sampler.learn(text, rate=rate, by_line=by_line)
        report = native.learn(text, rate=rate, by_line=by_line)
        assert report.tokens == expected.tokens
        np.testing.assert_allclose(
            report[1:], [expected.nats_per_token, expected.model_nats_per_token, expected.weight]
        )
        assert native.learned_bytes() == learned_of(sampler, tmp_path)
    assert native.learned_tokens == sampler.learned_tokens > report.tokens
    assert native.write("To be", seed=1).text == sampler.sample("To be", seed=1)
    np.testing.assert_allclose(native.score(OWN), sampler.score(OWN).log_probabilities, rtol=0, atol=1e-9)
    for size in (0, 1, 6, 20, 33):
        found, wanted = native.suggest(OWN[:size], 5), sampler.suggest(OWN[:size], 5)
        assert [one[:2] for one in found] == [one[:2] for one in wanted]
        np.testing.assert_allclose([one[2] for one in found], [one[2] for one in wanted], rtol=1e-9)


def test_lines_may_end_in_carriage_returns(native):
    report = native.learn("to be\r\n\r\nor\nnot", by_line=True)
    learned = native.learned_bytes()
    assert report.tokens == len("to be/or/not/")
    native.forget()
    native.learn("to be\nor\nnot\n", by_line=True)
    assert native.learned_bytes() == learned


def test_the_defaults_are_those_of_the_file(models, tmp_path):
    native, sampler = models
    assert native.learn("to be\nor").tokens == sampler.learn("to be\nor").tokens
    assert native.learned_bytes() == learned_of(sampler, tmp_path)


def test_what_was_learned_is_saved_loaded_and_forgotten(models, tmp_path):
    native, sampler = models
    nothing, first = native.learned_bytes(), native.write("To be", seed=1).text
    assert nothing == learned_of(sampler, tmp_path)
    assert (native.has_learn, native.learned_tokens) == (True, 0)
    native.learn(OWN, rate=SLOW)
    native.save_learned(tmp_path / "a")
    learned, text, suggested = (tmp_path / "a").read_bytes(), native.write("To be", seed=1).text, native.suggest("t")
    assert learned == native.learned_bytes() != nothing
    native.forget()
    assert (native.learned_bytes(), native.write("To be", seed=1).text) == (nothing, first)
    assert native.learned_tokens == 0
    for load in (lambda: native.load_learned(tmp_path / "a"), lambda: native.load_learned_bytes(learned)):
        load()
        assert native.learned_bytes() == learned
        assert (native.write("To be", seed=1).text, native.suggest("t")) == (text, suggested)
        assert native.learned_tokens > 0
        native.forget()
    sampler.load_learned(tmp_path / "a")
    assert learned_of(sampler, tmp_path) == learned
    native.load_learned(tmp_path / "python")
    assert native.learned_bytes() == learned


def test_any_shares_are_kept(native):
    nothing = native.learned_bytes()
    for shares in ((-1, -2, -3), (-100, -100, 0), (0, -50, -60)):
        native.load_learned_bytes(with_sum(nothing[:56] + struct.pack("<3f", *shares) + nothing[68:-32]))
        np.testing.assert_array_equal(shares_of(native.learned_bytes()), np.float32(shares))


WORDS = st.lists(
    st.sampled_from(["to", "be", "mind", "them", "'tis", "not", "tobe", "suffer", "the", "that", "in"]), max_size=40
)
SIGNS = st.sampled_from([" ", " ", " ", " ", "\n", ", ", "  ", "'"])


@settings(max_examples=40)
@given(data=st.data())
def test_suggestions_with_own_words_are_those_of_python(opened, data):
    native, sampler = opened
    native.forget()
    sampler.forget()
    for text in data.draw(st.lists(WORDS, min_size=1, max_size=3)):
        joined = "".join(word + data.draw(SIGNS) for word in text)
        if joined:
            native.learn(joined, rate=0.1)
            sampler.learn(joined, rate=0.1)
    for _ in range(6):
        text = "".join(word + data.draw(SIGNS) for word in data.draw(WORDS.map(lambda words: words[:4])))
        text = text[: data.draw(st.integers(0, len(text)))]
        count = data.draw(st.integers(1, 20))
        found, expected = native.suggest(text, count), sampler.suggest(text, count)
        np.testing.assert_allclose([one[2] for one in found], [one[2] for one in expected], rtol=1e-6)
        # Two that are nearly equal may come in either order.
        if not has_near_ties(sampler.suggest(text, count + 1)):
            assert [one[:2] for one in found] == [one[:2] for one in expected]


def has_near_ties(suggestions):
    """Own words with the same counts are equal, and have an order."""
    probabilities = np.array([one.probability for one in suggestions])
    gaps = -np.diff(probabilities) / probabilities[:-1]
    return ((gaps > 0) & (gaps < 1e-6)).any()


def test_an_own_word_is_suggested_that_the_model_does_not_know(models):
    native, sampler = models
    assert "mindthe" not in [text for text, *_ in native.suggest("not mi", 3)]
    for _ in range(5):
        native.learn("not mindthe ", rate=0.01)
        sampler.learn("not mindthe ", rate=0.01)
    found = native.suggest("not mi", 3)
    assert ("mindthe", "ndthe") in [one[:2] for one in found]
    assert [one[:2] for one in found] == [one[:2] for one in sampler.suggest("not mi", 3)]


def test_suggestions_that_were_read_before_are_not_kept(native):
    """The model keeps the logits after the text that it read last; they change with what was learned."""
    before = native.suggest("that is t")
    native.learn(OWN)
    learned = native.suggest("that is t")
    assert learned != before
    content = native.learned_bytes()
    native.forget()
    assert native.suggest("that is t") == before
    native.load_learned_bytes(content)
    assert native.suggest("that is t") == learned


def test_a_rate_that_is_too_large_changes_nothing(models, tmp_path):
    native, sampler = models
    text = TEXT * 3
    native.learn(OWN, rate=SLOW)
    sampler.learn(OWN, rate=SLOW)
    learned, written = native.learned_bytes(), native.write("To be", seed=1).text
    refused = 0
    for rate in (50.0, 300.0, 1000.0, 3000.0, 1e6):
        try:
            sampler.learn(text, rate=rate)
        except ModelError:
            with pytest.raises(
                NativeError, match="rate is too large: learning diverged, and what was learned"
            ) as raised:
                native.learn(text, rate=rate)
            assert raised.value.status == FAILED
            assert (native.learned_bytes(), native.write("To be", seed=1).text) == (learned, written)
            refused += 1
        else:
            native.learn(text, rate=rate)
            assert native.learned_bytes() == learned_of(sampler, tmp_path)
            native.load_learned_bytes(learned)
            (tmp_path / "learned").write_bytes(learned)
            sampler.load_learned(tmp_path / "learned")
    assert refused


@pytest.mark.parametrize(
    ("text", "options", "sentence", "status"),
    [
        ("", {}, "text must be a text that is not empty", BAD_TEXT),
        ("\n\r\n\n", {"by_line": True}, "text must be a text that is not empty", BAD_TEXT),
        ("to Ω", {}, "text must hold only characters of the vocabulary. Received: 'Ω' (U+03A9)", BAD_TEXT),
        ("to\nΩ", {"by_line": True}, "text must hold only characters of the vocabulary. Received: 'Ω'", BAD_TEXT),
        ("to\rbe", {"by_line": True}, "text must hold only characters of the vocabulary", BAD_TEXT),
        (b"to\nbe\xff", {}, "text must be UTF-8; byte 5 is not", BAD_TEXT),
        (b"to\nbe\xff", {"by_line": True}, "text must be UTF-8; byte 5 is not", BAD_TEXT),
        ("to", {"rate": 0.0}, "rate must be a positive number, at most 1,000,000. Received: 0", BAD_ARGUMENT),
        ("to", {"rate": -1.0}, "rate must be a positive number", BAD_ARGUMENT),
        ("to", {"rate": 1.1e6}, "rate must be a positive number", BAD_ARGUMENT),
        ("to", {"rate": float("nan")}, "rate must be a positive number", BAD_ARGUMENT),
        ("to", {"rate": float("inf")}, "rate must be a positive number", BAD_ARGUMENT),
    ],
)
def test_a_wrong_text_or_rate_is_refused(native, text, options, sentence, status):
    nothing = native.learned_bytes()
    with pytest.raises(NativeError, match=re.escape(sentence)) as raised:
        native.learn(text, **options)
    assert raised.value.status == status
    assert native.learned_bytes() == nothing


def test_a_file_that_cannot_be_loaded_changes_nothing(native, small_tflite, library, tmp_path):
    native.learn(OWN)
    learned = native.learned_bytes()
    with NativeModel(library, small_tflite(learn=True, quantization="int8", by_line=True)) as other:
        (tmp_path / "other").write_bytes(other.learned_bytes())
    (tmp_path / "cut").write_bytes(learned[:-1])
    for name, sentence in (
        ("other", "other belongs to another model: use that model, or learn again in another file"),
        ("cut", "cut is damaged: its SHA-256 differs; delete it and learn again"),
        ("missing", "missing cannot be read: No such file or directory"),
    ):
        with pytest.raises(NativeError, match=re.escape(sentence)) as raised:
            native.load_learned(tmp_path / name)
        assert raised.value.status == BAD_FILE
    words = b"1 to\n\n1 0 1\n"
    content = with_words(learned, words)
    with pytest.raises(
        NativeError, match=r"the file is damaged: own words, line 3: two indices of words, below 1, must"
    ):
        native.load_learned_bytes(content)
    assert native.learned_bytes() == learned
    with pytest.raises(NativeError, match="cannot be written: No such file"):
        native.save_learned(tmp_path / "none" / "a")


def test_a_file_without_learn_says_so(library, small_tflite):
    with NativeModel(library, small_tflite()) as native:
        assert not native.has_learn
        assert native.learned_tokens == 0
        for call in (lambda: native.learn("to"), native.forget, native.learned_bytes, lambda: native.load_learned("a")):
            with pytest.raises(NativeError, match="must have a signature learn, which export_tflite") as raised:
                call()
            assert raised.value.status == BAD_FILE


def test_a_file_that_learns_and_has_learned_nothing_writes_what_one_without_learn_does(library, small_tflite):
    with NativeModel(library, small_tflite()) as plain, NativeModel(library, small_tflite(learn=True)) as native:
        for seed in range(5):
            assert native.write("To be", seed=seed).text == plain.write("To be", seed=seed).text
        assert native.score(TEXT) == plain.score(TEXT)
        assert native.suggest("t", 50) == plain.suggest("t", 50)


def test_a_model_that_writes_cannot_learn(native, tmp_path):
    """So a text is never written by two models."""
    never = tmp_path / "never"
    expected, content = native.write("To be", seed=1).text, native.learned_bytes()
    statuses = []

    def learn(_):
        learned = [
            lambda: native.learn(OWN),
            native.forget,
            native.learned_bytes,
            lambda: native.save_learned(never),
            lambda: native.load_learned_bytes(content),
        ]
        statuses.extend(map(status_of, learned))
        return True

    assert native.write("To be", seed=1, on_piece=learn).text == expected
    assert not never.exists()
    assert set(statuses) == {IN_USE}


RATES = ["0", "-1", '"12"', "true", "1e999", "1000000.1", "1e6", "1", "1e-300", '2.5, "rate": 3, "more": null']


@pytest.mark.parametrize("learning", ["null", "12", "{}", *(f'{{"rate": {rate}}}' for rate in RATES)])
def test_the_configuration_is_accepted_or_refused_as_by_python(library, small_tflite, tmp_path, learning):
    path = small_tflite(learn=True)
    config = json.dumps(read_bundle(path).config).replace('"learning": {"rate": 12.0}', f'"learning": {learning}')
    changed = rebundled(path, tmp_path / "a.tflite", config=config.encode())
    try:
        sampler = LiteRTSampler(changed)
    except BundleError:
        with pytest.raises(
            NativeError, match=r"config\.json: (learning must be an object with a positive rate|it must be a JSON)"
        ):
            NativeModel(library, changed)
    else:
        sampler.learn("to be")
        with NativeModel(library, changed) as native:
            native.learn("to be")
            assert native.learned_bytes() == learned_of(sampler, tmp_path)


@pytest.mark.parametrize("missing", ["learn", "get_weights", "set_weights", "reset_weights"])
def test_a_file_without_all_signatures_that_learn_is_refused(library, small_tflite, tmp_path, missing):
    path = small_tflite(learn=True)
    model = flatbuffer.parse(read_bundle(path).model)
    model.signatureDefs = [one for one in model.signatureDefs if one.signatureKey != missing.encode()]
    changed = rebundled(path, tmp_path / "a.tflite", model=flatbuffer.pack(model))
    with pytest.raises(NativeError, match="has a damaged model: it has 3 of the 4 signatures that learn"):
        NativeModel(library, changed)


def test_the_configuration_and_the_signatures_must_fit(library, small_tflite, tmp_path):
    config = read_bundle(small_tflite(learn=True)).config
    del config["learning"]
    without = rebundled(small_tflite(learn=True), tmp_path / "without.tflite", config=json.dumps(config).encode())
    added = rebundled(small_tflite(), tmp_path / "added.tflite", config={"learning": {"rate": 12.0}})
    for path in (without, added):
        with pytest.raises(BundleError):
            LiteRTSampler(path)
        with pytest.raises(NativeError, match="must have `learning` if the model can learn, and only then"):
            NativeModel(library, path)


def test_a_learned_file_of_another_shape_is_refused(native):
    learned = native.learned_bytes()
    rows, columns = struct.unpack("<II", learned[40:48])
    changed = with_sum(learned[:40] + struct.pack("<II", columns, rows) + learned[48:-32])
    with pytest.raises(NativeError, match=f"the file is damaged: it must hold {rows} x {columns} weights"):
        native.load_learned_bytes(changed)
