"""The modules of export/web that need no browser, in Node: random stream, vocabulary and bundle."""

import functools
import json
import re

import integer_oracle as oracle
import numpy as np
import paths
import pytest
from bundles import damaged_bundles, rebundled
from hypothesis import given, settings
from hypothesis import strategies as st
from kit_checks import changed_bundles
from node import in_node_with
from unicode_texts import own_vocabulary

import keras_seq as ks
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.sampling import DRAW_SETTINGS, SamplingSettings, logit_bias
from keras_seq.generation.stop_strings import until_stop
from keras_seq.generation.suggest import suggest
from keras_seq.generation.text import Piece
from keras_seq.generation.threefry import uniform
from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.page_files import page_folder

VECTORS = json.loads(paths.VECTORS.read_text())


in_node = functools.partial(in_node_with, "web_tokens.mjs")


def test_the_random_stream_gives_the_vectors():
    found = in_node("random", [[seed, position] for seed, position, _ in VECTORS["random"]])
    for (word, number), (seed, position, expected) in zip(found, VECTORS["random"], strict=True):
        assert word == expected
        assert number == float(uniform(int(seed), position))


def test_integer_draws_are_those_of_the_vectors():
    cases = VECTORS["integer_draws"]
    asked = [
        [case["scale"], case["settings"], oracle.logits_of(case), [number for number, _ in case["draws"]]]
        for case in cases
    ]
    for case, (step, integers, tokens) in zip(cases, in_node("integerDraws", asked), strict=True):
        assert step == case["logit_step"]
        assert [integers[name] for name in DRAW_SETTINGS] == case["integers"]
        assert tokens == [token for _, token in case["draws"]]


def test_integer_costs_and_biases_are_those_of_the_vectors():
    cases = VECTORS["integer_costs"]
    asked = [[case["logit_step"], oracle.logits_of(case), [group for group, _ in case["groups"]]] for case in cases]
    for case, (each, groups) in zip(cases, in_node("integerCosts", asked), strict=True):
        assert [[token, each[token]] for token, _ in case["costs"]] == case["costs"]  # JSON has no Infinity, so null
        assert groups == [cost for _, cost in case["groups"]]
    cases = VECTORS["integer_bias"]
    found = in_node("integerBiases", [[case["logits"], case["bias"], case["scale"]] for case in cases])
    assert found == [case["biased"] for case in cases]


INTEGERS = st.lists(st.integers(-(2**15), 2**15 - 1) | st.integers(-40, 40), min_size=1, max_size=30).filter(
    lambda logits: max(logits) > oracle.FORBIDDEN
)
INTEGER_SETTINGS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0, 1, 1e-7, 1e-3, 1e6]) | st.floats(0, 5),
        "top_k": st.integers(0, 35),
        "top_p": st.just(1) | st.floats(1e-9, 1),
        "min_p": st.just(0) | st.floats(0, 1),
    }
)
UNIFORMS = st.lists(st.integers(0, 2**24 - 1) | st.just(2**24 - 1), min_size=1, max_size=4)


@settings(max_examples=5)
@given(
    st.lists(
        st.tuples(st.floats(2**-24, 0.5, width=32), INTEGER_SETTINGS, INTEGERS, UNIFORMS), min_size=60, max_size=60
    )
)
def test_integer_draws_and_costs_are_those_of_the_definition(cases):
    for (_, chosen, logits, uniforms), (step, _, tokens) in zip(cases, in_node("integerDraws", cases), strict=True):
        assert tokens == oracle.draws(logits, step, uniforms, oracle.integers_of(**chosen))
    asked = [[oracle.logit_step(scale), logits, [list(range(0, len(logits), 2))]] for scale, _, logits, _ in cases]
    for (step, logits, [group]), (each, [together]) in zip(asked, in_node("integerCosts", asked), strict=True):
        assert (each, together) == oracle.costs(logits, step, group)


def test_what_cannot_be_drawn_is_refused():
    forbidden, scale = in_node("forbidden", 0.6)
    assert forbidden == "No token can be drawn: each is forbidden."
    assert scale == "scale must be a number from 2^-24 to 0.5. Received: 0.6"


def test_words_are_split_as_in_the_vectors():
    assert in_node("words", [text for text, _ in VECTORS["words"]]) == [tokens for _, tokens in VECTORS["words"]]


def test_given_tokens_encode_and_decode_as_in_the_vectors():
    cases = VECTORS["vocabularies"]
    asked = []
    for case in cases:
        continued = [[before, ids] for before, ids, _ in case["continuations"]]
        file = ks.Vocabulary(case["tokens"]).to_bytes().decode()
        asked.append([file, [text for text, _ in case["texts"]], case["refused"], continued])
    for case, (level, texts, refused, continuations) in zip(cases, in_node("vocabularies", asked), strict=True):
        assert level == case["level"]
        assert texts == [ids for _, ids in case["texts"]]
        assert all(message.startswith("The model does not know the ") for message in refused)
        assert continuations == [text for *_, text in case["continuations"]]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
TRICKY = st.text(
    st.sampled_from("ab '’-_7.\\n\n\r\t\x005c<>\ufeff\u00a0\u2028é\u0301漢字かな한🙂𝄞\U00020000\U0010ffff"), min_size=1
)


@pytest.mark.parametrize("level", ["char", "word"])
@settings(max_examples=12)
@given(texts=st.lists(ANY_TEXT | TRICKY, min_size=8, max_size=40), others=st.lists(TRICKY, max_size=8))
def test_every_text_is_encoded_and_decoded_as_in_python(level, texts, others):
    vocabulary = ks.Vocabulary.from_text("".join(texts), level=level)
    asked = texts + (others if level == "word" else [])
    found = in_node("encode", [vocabulary.to_bytes().decode(), asked])
    expected = [vocabulary.encode(text) for text in asked]
    assert found == [[ids.tolist(), vocabulary.decode(ids)] for ids in expected]


@pytest.mark.parametrize("level", ["char", "whitespace"])
@settings(max_examples=12)
@given(texts=st.lists(ANY_TEXT | TRICKY, min_size=8, max_size=40), others=st.lists(TRICKY, max_size=8))
def test_a_vocabulary_made_elsewhere_is_that_of_python(level, texts, others):
    vocabulary = own_vocabulary(texts, level)
    asked = texts + others
    found = in_node("encode", [vocabulary.to_bytes().decode(), asked])
    expected = [vocabulary.encode(text) for text in asked]
    assert found == [[ids.tolist(), vocabulary.decode(ids)] for ids in expected]


# Files of vocabularies: lines in any order, some of them not tokens, some damaged.
LINES = st.lists(
    st.sampled_from(
        ["<pad>", "<unk>", "[UNK]", "<s>", "<eos>", "", "a", "b", " a", "\\n", "\\q", "ab", " ", "a b", "é", "🙂"]
    ),
    max_size=7,
)
HEADS = st.sampled_from(
    [["<pad>", "<s>", "<eos>"], ["<pad>", "<unk>", "<s>", "<eos>"], ["<s>", "<eos>", "[UNK]"], ["\ufeff<pad>"]]
)
FILES = st.tuples(HEADS, LINES, st.sampled_from(["\n", "\n", "\r\n", ""])).map(
    lambda parts: "\n".join([*parts[0], *parts[1]]) + parts[2]
)


@settings(max_examples=4)
@given(files=st.lists(FILES, min_size=100, max_size=100))
def test_a_vocabulary_is_accepted_or_refused_as_in_python(files):
    for file, found in zip(files, in_node("files", files), strict=True):
        try:
            vocabulary = ks.Vocabulary.from_bytes(file.encode())
            expected = None if vocabulary.missing else len(vocabulary)
        except ks.errors.VocabularyError:
            expected = None
        assert (found if isinstance(found, int) else None) == expected, (file, found)


PIECES = st.lists(st.text("ab🙂", max_size=3), max_size=8)
STOPS = st.lists(st.text("ab🙂", min_size=1, max_size=4), min_size=1, max_size=3)


@settings(max_examples=5)
@given(cases=st.lists(st.tuples(PIECES, STOPS), min_size=100, max_size=100))
def test_stop_strings_end_a_text_where_python_ends_it(cases):
    for (texts, stops), (found, is_stopped) in zip(cases, in_node("stops", cases), strict=True):
        reasons = []
        pieces = until_stop(_pieces(texts), stops, reasons.append)
        assert (found, "stop" if is_stopped else "length") == ([str(piece) for piece, _ in pieces], *reasons)


def _pieces(texts):
    for text in texts:
        yield Piece(text, 0, None, 0), None
    return "length"


class Table(Step):
    """Gives the logits of the row of the last token."""

    def __init__(self, rows):
        self.rows, self.vocabulary_size = np.float32(rows), len(rows)

    def initial_states(self):
        return []

    def __call__(self, token, states):
        return self.rows[token], states


CHARACTERS = ks.Vocabulary.from_text("abc' ,你\n’")
WORDS = ks.Vocabulary.from_text("the then they don't don' 你 the,' a then\nthe", level="word")
SPLIT = ks.Vocabulary.from_tokens(["", "[UNK]", "the", "then,", "they", "<s>", "<eos>", "'"])
BEGINNINGS = {
    CHARACTERS: st.text("abc' ,你\n’", max_size=8),
    WORDS: st.lists(st.sampled_from([*WORDS.tokens[4:], " th", "'", " "]), max_size=5).map("".join),
    SPLIT: st.lists(st.sampled_from(["the", "th", "'", " ", "\n", "x"]), max_size=5).map("".join),
}


@st.composite
def suggest_cases(draw):
    vocabulary = draw(st.sampled_from(list(BEGINNINGS)))
    rows = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(size=(len(vocabulary),) * 2)
    rows = np.round(rows * draw(st.sampled_from([0, 1, 4])), draw(st.sampled_from([0, 6])))  # Some are ties.
    return vocabulary, np.float32(rows), draw(BEGINNINGS[vocabulary]), draw(st.integers(1, 5))


@settings(max_examples=5)
@given(cases=st.lists(suggest_cases(), min_size=40, max_size=40))
def test_suggestions_are_those_of_python(cases):
    asked = [[vocabulary.to_bytes().decode(), rows.tolist(), *rest] for vocabulary, rows, *rest in cases]
    for (vocabulary, rows, text, count), found in zip(cases, in_node("suggest", asked), strict=True):
        expected = suggest(Table(rows), vocabulary, text, count)
        assert [(it["text"], it["insert"]) for it in found] == [it[:2] for it in expected], text
        assert [it["probability"] for it in found] == pytest.approx([it.probability for it in expected], rel=1e-9)


def test_next_tokens_are_the_likeliest_of_a_softmax():
    logits = np.round(np.random.default_rng(0).normal(size=len(WORDS)), 1)
    logits[WORDS.eos_id], logits[WORDS.unk_id] = 9, 10
    found = in_node("nextTokens", [WORDS.to_bytes().decode(), logits.tolist(), "the", 6])
    shares = np.exp(logits.astype(np.float32).astype(np.float64))
    shares /= shares.sum()
    order = [int(token) for token in np.argsort(-shares, kind="stable") if token > 2][:6]
    assert [it["tokenId"] for it in found] == order
    assert found[0] == {"tokenId": WORDS.eos_id, "text": "", "probability": pytest.approx(shares[WORDS.eos_id])}
    assert [it["text"] for it in found[1:]] == [WORDS.tokens[token] for token in order[1:]]
    assert [it["probability"] for it in found] == pytest.approx(shares[order].tolist())
    split = in_node("nextTokens", [SPLIT.to_bytes().decode(), [0, 0, 9, 8, 0, 0, 0, 0], "they", 2])
    assert [it["text"] for it in split] == [" the", " then,"]


@settings(max_examples=5)
@given(texts=st.lists(st.text("abcé' ,你🙂𝄞\n’", max_size=12) | TRICKY, min_size=20, max_size=60))
def test_unknown_parts_are_those_that_python_reads_as_unknown(texts):
    for text, parts in zip(texts, in_node("unknown", [CHARACTERS.to_bytes().decode(), texts]), strict=True):
        assert [part for *_, part in parts] == [character for character in text if character not in CHARACTERS.tokens]
        assert all(part == cut for *_, part, cut in parts)
    for vocabulary in (WORDS, SPLIT):
        for text, parts in zip(texts, in_node("unknown", [vocabulary.to_bytes().decode(), texts]), strict=True):
            unknown = vocabulary.tokens.index("[UNK]" if vocabulary is SPLIT else "<unk>")
            assert len(parts) == (np.asarray(vocabulary.encode(text)) == unknown).sum(), text
            assert all(part == cut and part.strip(" ") for *_, part, cut in parts if part != " ")


def test_unknown_parts_have_the_offsets_of_javascript():
    # Offsets count UTF-16 units: the picture has two.
    (found,) = in_node("unknown", [CHARACTERS.to_bytes().decode(), ["a🙂bΩ"]])
    assert found == [[1, 3, "🙂", "🙂"], [4, 5, "Ω", "Ω"]]
    found = in_node("unknown", [WORDS.to_bytes().decode(), ["the 🙂 the ox"]])
    assert found == [[[4, 6, "🙂", "🙂"], [11, 13, "ox", "ox"]]]
    found = in_node("unknown", [SPLIT.to_bytes().decode(), ["ox the  ox\n[UNK]"]])
    assert found == [[[0, 2, "ox", "ox"], [8, 10, "ox", "ox"], [11, 16, "[UNK]", "[UNK]"]]]


def test_a_file_that_cannot_be_read_is_refused_with_its_name():
    huge, folder = in_node("blobs", None)
    assert huge == "huge.tflite is too large: a .tflite has at most 2 GiB, and this file has 3.0 GiB."
    assert folder.startswith("folder cannot be read: it is a folder, or it was changed, moved or deleted after")


OPTIONS = [
    ({}, 0),
    ({"temperature": 0, "top_k": 3, "top_p": 0.5, "min_p": 1, "max_tokens": 1, "stop": "a", "seed": -5}, 1),
    ({"stop": ["a", "b"]}, 2),
    ({"temperature": -1}, "temperature must be a number from 0 (greedy) to 1e6. Received: -1"),
    ({"temperature": 1e7}, "temperature must be"),
    ({"temperature": "1"}, 'temperature must be a number from 0 (greedy) to 1e6. Received: "1"'),
    ({"top_k": 1.5}, "top_k must be 0 (off) or a positive integer"),
    ({"top_p": 0}, "top_p must be a number above 0"),
    ({"min_p": 2}, "min_p must be"),
    ({"max_tokens": 0}, "max_tokens must be a positive integer"),
    ({"stop": ""}, "stop must be a string or a list of strings"),
    ({"stop": [""]}, "stop must be"),
    ({"seed": 1.5}, "seed must be a 64-bit integer"),
    ({"maxTokens": 5}, "maxTokens is not an option. The options are temperature, top_k"),
]


def test_options_have_the_ranges_of_python():
    for (options, words), found in zip(OPTIONS, in_node("options", [options for options, _ in OPTIONS]), strict=True):
        assert found == words if isinstance(words, int) else str(found).startswith(words), (options, found)


def test_what_a_runtime_can_do_wrong_ends_a_text_with_a_reason():
    """The draws of a runtime are given: `write` fails or returns what it must not."""
    letters = ks.Vocabulary.from_text("ab")
    first, last = letters.encode("ab").tolist()
    tokens, finite = [first, last] * 50, [-1.0] * 100

    def written(tokens=tokens, logs=finite, **given):
        case = [letters.to_bytes().decode(), {"tokens": tokens, "logProbabilities": logs, **given}, {"max_tokens": 100}]
        (found,) = in_node("writing", [case])
        assert found["live"] == 0
        return found["text"], found["message"] or found["reason"], found["write"], found["sample"]

    whole, damaged = "ab" * 50, "The model in this file is damaged: it draws tokens that it does not have."
    assert written() == (whole, "length", 4, 0)
    assert written(hasWrite=False) == (whole, "length", 0, 100)
    # What `write` cannot draw is drawn one by one, and the next call is tried again.
    assert written(failing=[2]) == (whole, "length", 4, 32)
    not_finite = "token 40 cannot be sampled: the model's logits are not finite"
    assert written(logs=[*finite[:40], None, *finite[41:]]) == (whole[:40], not_finite, 2, 9)
    assert written(tokens=[*tokens[:40], letters.eos_id]) == (whole[:40], "eos", 2, 0)
    # <pad>, <s> and tokens out of range are never drawn. Where the logits are not finite, LiteRT.js gives <pad>.
    for token in (99, -1, letters.pad_id, letters.start_id):
        other = [*tokens[:40], token, *tokens[41:]]
        assert written(tokens=other) == (whole[:40], damaged, 2, 9)
        assert written(tokens=other, logits=[0, None]) == (whole[:40], not_finite, 2, 9)
    assert written(tokens=tokens[:32]) == (whole[:32], damaged, 2, 0)


def test_what_an_aborted_suggest_has_read_is_kept():
    found = in_node("abortedSuggestions", ks.Vocabulary.from_text("a").to_bytes().decode())
    assert found == {"read": [2, 1, 2], "live": 1, "errors": ["AbortError"]}  # the first time <s> and a


def test_a_text_that_the_model_does_not_know_rejects():
    assert in_node("unread", ks.Vocabulary.from_text("a").to_bytes().decode()).endswith("know the character ?")


def test_a_worker_that_failed_is_ended():
    """The messages of the worker are given: Node has no module workers."""
    found = in_node("failedWorker", ks.Vocabulary.from_text("a").to_bytes().decode())
    assert found["said"] == ["load", "score", "terminated"]
    assert found["failures"] == 2 * ["The worker of the model failed: boom"]
    assert found["inNode"] == "KerasSeqWorker runs in browsers only: in Node, use KerasSeq."


# What only Python refuses: values that it alone reads, and integers that it cannot convert.
ONLY_IN_PYTHON = "`(inputs|outputs|delays|at_once|ranges)` in config.json|too many digits"


def is_accepted_by_python(path):
    """Whether Python writes texts with a file, as far as its bundle says."""
    try:
        bundle = read_bundle(path)
        if bundle.vocabulary is None:
            return False
        logit_bias(bundle.vocabulary, SamplingSettings(**bundle.config["sampling"]))
    except (TypeError, ValueError) as error:
        return re.search(ONLY_IN_PYTHON, str(error)) is not None
    config = bundle.config
    return (config["state"], config["batch"], config["sampling"].get("repetition_penalty", 1)) == ("explicit", 1, 1)


SAMPLING = [
    *({name: None} for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "allow_unk", "bias")),
    *({"temperature": value} for value in (0, 1e6, 1000001, -1e-9, True, "1", 10**400)),
    *({"top_k": value} for value in (0, 3, 3.0, 1e2, -1, 2**53, 10**20, 10**400, True)),
    *({"top_p": value} for value in (0, 1e-50, 1, 1.0, 1.0000001)),
    *({"min_p": value} for value in (0, 1, -0.1, 1.1)),
    *({"repetition_penalty": value} for value in (1, 1.0, 1.5, 0)),
    *({"allow_unk": value} for value in (True, False, 0)),
    *({"bias": {token: 1}} for token in ("a", "<eos>", "<pad>", "<s>", "\u03a9")),
    *({"bias": {"a": value}} for value in (-1e30, 1.1e30, None, "1", True, -(10**400))),
    *({"bias": value} for value in ({}, [], 1)),
    *({name: 1} for name in ("topk", "__proto__", "")),
]


def test_python_and_javascript_accept_the_same_configurations(small_tflite, tmp_path):
    model = small_tflite()
    files = changed_bundles(model, tmp_path)
    for number, sampling in enumerate(SAMPLING):
        files.append(rebundled(model, tmp_path / f"sampling-{number}.tflite", config={"sampling": sampling}))
    for path, answer in zip(files, in_node("bundles", list(map(str, files))), strict=True):
        assert isinstance(answer, int) == is_accepted_by_python(path), (path.name, answer)
        assert isinstance(answer, int) or 10 < len(answer) < 300


def test_a_damaged_bundle_is_refused_in_one_sentence(small_tflite, tmp_path):
    damaged = dict(damaged_bundles(small_tflite()))
    files = [tmp_path / f"{number}.tflite" for number in range(len(damaged))]
    for file, content in zip(files, damaged.values(), strict=True):
        file.write_bytes(content)
    for name, answer in zip(damaged, in_node("bundles", list(map(str, files))), strict=True):
        assert re.match(r"This (is not|file) .*\.$|The (model|vocabulary) in this file", str(answer)), (name, answer)
        assert len(answer) < 250


def test_python_and_javascript_accept_the_same_files(small_tflite, tmp_path):
    model = small_tflite()
    whole = model.read_bytes()
    start, random = whole.index(b"PK\3\4"), np.random.default_rng(0)
    files = [model]
    for number in range(150):
        damaged = bytearray(whole[: random.integers(start, len(whole) + 1)] if number % 10 == 0 else whole)
        for _ in range(random.integers(1, 4)):
            # Most bytes of an archive are packed content, so every second change is in the directory.
            first = start if random.integers(2) else whole.index(b"PK\1\2", start)
            position = min(random.integers(first, len(whole)), len(damaged) - 1)
            damaged[position] = random.choice([random.integers(256), damaged[position] ^ 1, 0])
        files.append(tmp_path / f"{number}.tflite")
        files[-1].write_bytes(damaged)
    tokens = len(LiteRTSampler(model).vocabulary)
    answers = in_node("bundles", list(map(str, files)))
    assert [answer == tokens for answer in answers] == [is_accepted_by_python(file) for file in files]
    assert answers.count(tokens) > 5


def test_a_hostile_bundle_is_refused_in_one_sentence(small_tflite, tmp_path):
    model, first = small_tflite(), b"<pad>\n<s>\n<eos>\n"
    whole = model.read_bytes()
    inflated = bytearray(rebundled(model, tmp_path / "a", vocabulary=bytes(64 << 20)).read_bytes())
    for size in (inflated.index(b"PK\3\4") + 22, inflated.index(b"PK\1\2") + 24):
        inflated[size : size + 4] = (9).to_bytes(4, "little")
    (tmp_path / "b").write_bytes(inflated)
    hostile = {
        rebundled(model, tmp_path / "c", vocabulary=first + b"a\n" * 600_000): "The vocabulary in this file has more",
        rebundled(
            model, tmp_path / "d", vocabulary=first + b"a" * 100_000 + b"\n"
        ): "the vocabulary inside the file is",
        rebundled(
            model, tmp_path / "e", vocabulary=first + b"\\q" * 10_000 + b"\n"
        ): "the vocabulary inside the file is",
        rebundled(model, tmp_path / "f", config=b"null"): "This file has the bundle format undefined",
        rebundled(model, tmp_path / "g", config={"format": "x" * 100_000}): "This file has the bundle format xxx",
        rebundled(model, tmp_path / "h", config={"sampling": None}): "This file has no complete bundle",
        rebundled(model, tmp_path / "i", config={"model_bytes": -len(whole)}): "This file has no complete bundle",
        rebundled(model, tmp_path / "j", config={"quantization": "integer"}): "LiteRT.js cannot run a file of integers",
        tmp_path / "a": "vocab.txt in this file has 67108864 bytes, more than",
        tmp_path / "b": "This file has no complete bundle",
    }
    for answer, sentence in zip(in_node("bundles", list(map(str, hostile))), hostile.values(), strict=True):
        assert answer.startswith(sentence)
        assert len(answer) < 200


def imports_of(module):
    return re.findall(r'^(?:import|export) .*from "\./([\w.-]+)";$', module.read_text(), re.MULTILINE)


def test_the_package_has_the_version_of_the_python_package_and_all_its_modules():
    package = json.loads((page_folder() / "package.json").read_text())
    assert package["version"] == ks.__version__
    entries = [
        target
        for export in package["exports"].values()
        for target in (export.values() if isinstance(export, dict) else [export])
    ]
    files = {entry.removeprefix("./") for entry in entries}
    while missing := {f"keras_seq/{name}" for file in files for name in imports_of(page_folder() / file)} - files:
        files |= missing
    assert files == {f"keras_seq/{file.name}" for file in (page_folder() / "keras_seq").iterdir()}
    assert package["files"] == ["keras_seq"]
