"""The parts of the page that need no browser, in Node: links and the model's card."""

import functools
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node import in_node_with

import keras_seq as ks
from keras_seq_export.tflite.bundle import read_bundle

ADDRESS = "https://example.org/app/?model=models%2Fa.tflite#old"
SHA256 = "b6f1cea758f03546b8f5ed8647784e35cda1587ac0755e98cc8436b2b936678c"
OFF = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0}
SHARED = {
    "prompt": "To be,\n50 % & more + é #1 🙂",
    "seed": str(2**64 - 1),
    "settings": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    "maxTokens": 200,
    "model": {"name": "shakespeare.tflite", "sha256": SHA256},
}


in_node = functools.partial(in_node_with, "web_parts.mjs")


def links_to(*changes):
    return in_node("links", [ADDRESS, [{**SHARED, **change} for change in changes]])


def test_a_link_has_readable_fields_in_its_fragment_only():
    """The oracle is Python's parser of such fields."""
    (link,) = links_to({})
    address, _, fragment = link.partition("#")
    assert address == "https://example.org/app/?model=models%2Fa.tflite"
    fields = dict(urllib.parse.parse_qsl(fragment, strict_parsing=True))
    settings = {name: str(value) for name, value in SHARED["settings"].items()}
    expected = {"prompt": SHARED["prompt"], "seed": SHARED["seed"], "max": "200", **settings}
    assert fields == expected | {"model": "shakespeare.tflite", "sha256": SHA256[:8]}
    assert list(fields)[-1] == "sha256"  # so that a link that was cut off lacks it


def test_a_link_leaves_out_settings_that_are_off():
    (link,) = links_to({"prompt": "I will", "seed": "7", "settings": OFF})
    assert link.partition("#")[2] == f"prompt=I+will&seed=7&max=200&model=shakespeare.tflite&sha256={SHA256[:8]}"


def test_a_link_gives_what_was_shared():
    shared = [
        SHARED,
        SHARED | {"seed": str(-(2**63)), "settings": OFF, "prompt": ""},
        SHARED | {"settings": {"temperature": 1e-7, "top_k": 2**31 - 1, "top_p": 1e-30, "min_p": 1}},
        SHARED | {"settings": OFF | {"temperature": 1e6}, "maxTokens": 2**32},
        SHARED | {"maxTokens": 0},  # Nothing continues the text.
    ]
    links = links_to(*shared)
    read = in_node("read", [link.partition("#")[1] + link.partition("#")[2] for link in links])
    assert read == [one | {"model": {"name": "shakespeare.tflite", "sha256": SHA256[:8]}} for one in shared]


UNITS = st.lists(
    st.integers(0, 0xFFFF) | st.integers(0xD7F0, 0xE010) | st.sampled_from([*map(ord, "\0\t\r\n %+&#=?/\"'<>`\\;é漢")]),
    max_size=60,
)


@settings(max_examples=10)
@given(cases=st.lists(UNITS, min_size=200, max_size=200))
def test_any_text_survives_a_link_or_is_refused_for_half_a_character(cases):
    """The oracle for half characters is Python's decoder of UTF-16."""
    for units, found in zip(cases, in_node("roundTrips", cases), strict=True):
        try:
            b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le")
        except UnicodeDecodeError:
            assert found.startswith("Error: The text has half of a character (U+D"), found
        else:
            assert found is True, units


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"settings": OFF | {"temperature": -1}}, "RangeError: temperature must be a number from 0 (greedy) to 1e6"),
        ({"settings": OFF | {"top_k": 1.5}}, "RangeError: top_k must be 0 (off) or a positive integer"),
        ({"settings": OFF | {"heat": 1}}, "TypeError: heat is not an option"),
        ({"seed": str(2**64)}, "RangeError: seed must be a 64-bit integer"),
        ({"maxTokens": -1}, "RangeError: max_tokens must be a positive integer"),
        ({"model": {"name": "a.tflite", "sha256": "none"}}, "RangeError: sha256 must be 8 hexadecimal digits or more"),
    ],
)
def test_a_wrong_value_enters_no_link(change, sentence):
    (message,) = links_to(change)
    assert message.startswith(sentence)


def test_a_text_that_messengers_would_cut_is_refused():
    fits, long = links_to({"prompt": "a" * 3700}, {"prompt": "ж" * 1000})
    assert fits.startswith("https://")
    assert len(fits) <= 4000
    assert long.startswith("Error: The text is too long for a link: the link would have 6,")
    assert "messengers take 4,000" in long


LINK = "#prompt=To+be&seed=7&max=200&temperature=0.5&model=a.tflite&sha256=b6f1cea7"


@pytest.mark.parametrize("hash", ["", "#", "#top", "#:~:text=to", "#promptly=1"])
def test_other_fragments_are_no_links(hash):
    assert in_node("read", [hash]) == [None]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("&sha256=b6f1cea7", "", "it has no sha256"),
        ("prompt=To+be&", "", "it has no prompt"),
        ("&seed=7", "", "it has no seed"),
        ("&max=200", "", "it has no max"),
        ("b6f1cea7", "b6f1cea7.", "sha256 must be"),
        ("b6f1cea7", "b6f1ce", "sha256 must be"),
        ("To+be", "To+%E2%82", "its prompt is cut or changed"),
        ("To+be", "100%", "its prompt is cut or changed"),
        ("=7", "=0x7", "seed must be a 64-bit integer"),
        ("=7", "=", "seed must be a 64-bit integer"),
        ("=7", f"={2**64}", "seed must be a 64-bit integer"),
        ("=200", "=", "max_tokens must be a positive integer"),
        ("=200", "=+200", "max_tokens must be a positive integer"),
        ("=200", "=1e99", "max_tokens must be a positive integer"),
        ("=0.5", "=hot", "temperature must be"),
        ("=0.5", "=", "temperature must be"),
        ("=0.5", "=NaN", "temperature must be"),
        ("=0.5", "=-0.5", "temperature must be"),
        ("&max", "&amp;max", 'it has the unknown part "amp;max"'),
        ("&max", "&seed=8&max", "it has seed twice"),
        ("&max", "&__proto__=8&max", 'it has the unknown part "__proto__"'),
    ],
)
def test_a_damaged_link_is_refused(before, after, reason):
    assert LINK.count(before) == 1
    (message,) = in_node("read", [LINK.replace(before, after)])
    assert message.startswith(f"Error: This link is damaged or incomplete, so copy the whole link again: {reason}")


def test_every_link_that_was_cut_off_is_refused():
    cut = in_node("read", [LINK[:length] for length in range(len("#prompt="), len(LINK))])
    assert all(message.startswith("Error: This link is damaged") for message in cut)


def test_a_link_may_be_encoded_otherwise():
    """Some apps encode spaces and other characters again."""
    written = LINK.replace("To+be", "To%20be%2c%27")
    assert in_node("read", [written])[0]["prompt"] == "To be,'"


def test_a_link_of_another_model_says_so():
    one, changed, other = [
        {"name": name, "sha256": sha256}
        for name, sha256 in (("a.tflite", SHA256), ("a.tflite", "0" * 64), ("b.tflite", "1" * 64))
    ]
    linked = {"name": "a.tflite", "sha256": SHA256[:8]}
    learned = one | {"hasLearned": True}
    cases = [[linked, one], [linked, changed], [linked, other], [linked, learned]]
    same, new, foreign, personal = in_node("others", cases)
    assert same is None
    assert personal.startswith("Your model has learned from you, so this text is another one than the sender’s.")
    assert new.startswith("This link was made with another version of a.tflite; a.tflite is open.")
    assert foreign.startswith("This link was made with a.tflite; b.tflite is open.")


def test_a_link_to_this_device_is_recognized():
    local = [
        "http://127.0.0.1:8599/",
        "http://localhost/",
        "http://[::1]:80/",
        "http://127.1.2.3/",
        "http://a.localhost/",
    ]
    elsewhere = ["https://example.org/", "https://localhost.example.org/", "https://127.0.0.1.example.org/"]
    assert in_node("local", local + elsewhere) == [True] * 5 + [False] * 3


# ---- the card ----

WORDS = ks.Vocabulary.from_text("to be or not to be", level="word").to_bytes().decode()
CHARACTERS = ks.Vocabulary.from_text("a", level="char").to_bytes().decode()


def card_of(card, vocabulary=WORDS, config=None, name="a.int8.tflite", size=612_345):
    known = {"card": card, "config": config or {}, "vocabulary": vocabulary, "name": name, "bytes": size}
    return in_node("cards", [known])[0]


def test_the_card_says_what_is_known_in_words():
    card = {
        "name": "sonnets",
        "license": "CC0-1.0",
        "corpus": "shakespeare",
        "held_out_from": "shakespeare",
        "cell": "gru",
        "units": [256],
        "date": "2026-11-29",
        "parameters": 2954752,
        "quantization": "int8",
        "versions": {"keras_seq": "0.1.0", "keras": "3.15.1"},
        "nats_per_token": 4.1642,
        "measured_on": "7,680 held-out tokens, in windows of 256",
        "languages": ["en", "de"],
        "for schools": True,
        "contact": None,
    }
    assert card_of(card, config={"by_line": True}) == [
        ["Trained on", "shakespeare"],
        ["Held-out text", "4.16 nats per word (7,680 held-out words, in windows of 256)"],
        ["Network", "GRU, 256 units"],
        ["Parameters", "2,954,752"],
        ["Vocabulary", "5 words"],  # with the space
        ["Writes", "line by line"],
        ["Size", "0.6 MB (int8)"],
        ["Made", "29 November 2026"],
        ["Made with", "keras_seq 0.1.0, keras 3.15.1"],
        ["Licence", "CC0-1.0"],
        ["File", "a.int8.tflite"],
        ["languages", "en, de"],
        ["for schools", "yes"],
    ]


def test_a_card_without_entries_says_what_the_file_shows():
    assert card_of({}, CHARACTERS) == [["Vocabulary", "1 character"], ["Size", "0.6 MB"], ["File", "a.int8.tflite"]]


def test_a_card_of_other_networks():
    layers = dict(card_of({"cell": "lstm", "units": [128, 64], "quantization": "none"}, size=20_000))
    assert (layers["Network"], layers["Size"]) == ("LSTM, 2 layers of 128 and 64 units", "0.02 MB (float32)")
    assert dict(card_of({"cell": "constructor"}))["Network"] == "constructor"
    other = dict(card_of({"nats_per_token": 1.5, "corpus": "hamlet", "held_out_from": "othello"}, CHARACTERS))
    assert other["Held-out text"] == "1.50 nats per character (othello)"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)
ENTRIES = ["name", "license", "corpus", "held_out_from", "cell", "units", "date", "parameters", "quantization"]
NAMES = st.sampled_from([*ENTRIES, "versions", "nats_per_token", "measured_on", "__proto__", "toString"]) | st.text()


@settings(max_examples=10)
@given(cards=st.lists(st.dictionaries(NAMES, ANY_JSON, max_size=4), min_size=20, max_size=20))
def test_a_card_may_hold_anything(cards):
    """A person may have written any JSON into it: it is shown as text."""
    known = [{"card": card, "config": {}, "vocabulary": WORDS, "name": "a", "bytes": 1} for card in cards]
    for rows in in_node("cards", known):
        assert all(isinstance(text, str) and text and "[object" not in text for _, text in rows)


def test_the_card_of_a_real_file(small_tflite):
    file = small_tflite()
    contents = read_bundle(file)
    text = contents.vocabulary.to_bytes().decode()
    rows = dict(card_of(contents.card, text, contents.config, file.name, file.stat().st_size))
    assert rows["Parameters"] == f"{contents.card['parameters']:,}"
    reserved = {"<pad>", "<s>", "<eos>"}
    assert rows["Vocabulary"] == f"{len(set(contents.vocabulary.tokens) - reserved)} characters"


@pytest.mark.parametrize(
    ("card", "name", "chip"),
    [
        ({"name": "words256", "corpus": "shakespeare"}, "a.tflite", "words256 · shakespeare"),
        ({"name": "Shakespeare", "corpus": "shakespeare"}, "a.tflite", "Shakespeare"),
        ({}, "words.int8.tflite", "words.int8"),
        ({"name": 5, "corpus": ["a"]}, "a.TFLITE", "a"),
        ({"name": "🙂" * 50}, "a.tflite", "🙂" * 39 + "…"),
    ],
)
def test_the_chip_has_a_short_name(card, name, chip):
    assert in_node("chips", [[card, name]]) == [chip]
