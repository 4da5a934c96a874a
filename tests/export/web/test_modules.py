"""The modules of export/web that need no browser, in Node: random stream, vocabulary and bundle."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import paths
import pytest
from bundles import rebundled
from devices import need_program
from hypothesis import given, settings
from hypothesis import strategies as st
from unicode_texts import own_vocabulary

import keras_seq as ks
from keras_seq.generation.threefry import uniform
from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite.page_server import page_folder

VECTORS = json.loads(paths.VECTORS.read_text())


def in_node(task, given):
    need_program("node", "nodejs, version 20 or newer")
    command = ["node", paths.SUPPORT / "web_tokens.mjs"]
    done = subprocess.run(command, input=json.dumps([task, given]), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_random_stream_gives_the_vectors():
    found = in_node("random", [[seed, position] for seed, position, _ in VECTORS["random"]])
    for (word, number), (seed, position, expected) in zip(found, VECTORS["random"], strict=True):
        assert word == expected
        assert number == float(uniform(int(seed), position))


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
@settings(deadline=None, max_examples=12)
@given(texts=st.lists(ANY_TEXT | TRICKY, min_size=8, max_size=40), others=st.lists(TRICKY, max_size=8))
def test_every_text_is_encoded_and_decoded_as_in_python(level, texts, others):
    vocabulary = ks.Vocabulary.from_text("".join(texts), level=level)
    asked = texts + (others if level == "word" else [])
    found = in_node("encode", [vocabulary.to_bytes().decode(), asked])
    expected = [vocabulary.encode(text) for text in asked]
    assert found == [[ids.tolist(), vocabulary.decode(ids)] for ids in expected]


@pytest.mark.parametrize("level", ["char", "whitespace"])
@settings(deadline=None, max_examples=12)
@given(texts=st.lists(ANY_TEXT | TRICKY, min_size=8, max_size=40), others=st.lists(TRICKY, max_size=8))
def test_a_vocabulary_made_elsewhere_is_that_of_python(level, texts, others):
    vocabulary = own_vocabulary(texts, level)
    asked = texts + others
    found = in_node("encode", [vocabulary.to_bytes().decode(), asked])
    expected = [vocabulary.encode(text) for text in asked]
    assert found == [[ids.tolist(), vocabulary.decode(ids)] for ids in expected]


def test_a_damaged_bundle_is_read_or_refused_in_one_sentence(small_tflite, tmp_path):
    model = small_tflite()
    whole = model.read_bytes()
    start = whole.index(b"PK\3\4")
    random = np.random.default_rng(0)
    files = []
    for number in range(150):
        damaged = bytearray(whole[: random.integers(start, len(whole) + 1)] if number % 3 == 0 else whole)
        for position in random.integers(start, len(whole), 3):
            damaged[min(position, len(damaged) - 1)] = random.integers(256)
        files.append(str(tmp_path / f"{number}.tflite"))
        Path(files[-1]).write_bytes(damaged)
    tokens = len(LiteRTSampler(model).vocabulary)
    for answer in in_node("bundles", [str(model), *files]):
        assert answer == tokens or re.match(
            r"This file (has no complete bundle|has no voc)|\S+ in this file is larger", str(answer)
        ), answer


def test_a_hostile_bundle_is_refused_in_one_sentence(small_tflite, tmp_path):
    model, first = small_tflite(), b"<pad>\n<s>\n<eos>\n"
    whole = model.read_bytes()
    inflated = bytearray(rebundled(model, tmp_path / "a", vocabulary=bytes(64 << 20)).read_bytes())
    size = inflated.index(b"PK\1\2") + 24
    inflated[size : size + 4] = (9).to_bytes(4, "little")
    (tmp_path / "b").write_bytes(inflated)
    hostile = {
        rebundled(model, tmp_path / "c", vocabulary=first + b"a\n" * 600_000): "The vocabulary in this file is larger",
        rebundled(
            model, tmp_path / "d", vocabulary=first + b"a" * 100_000 + b"\n"
        ): "The vocabulary in this file is larger",
        rebundled(
            model, tmp_path / "e", vocabulary=first + b"\\q" * 10_000 + b"\n"
        ): "the vocabulary inside the file is damaged",
        rebundled(model, tmp_path / "f", config=b"null"): "This file has the bundle format undefined",
        rebundled(model, tmp_path / "g", config={"format": "x" * 100_000}): "This file has the bundle format xxx",
        rebundled(model, tmp_path / "h", config={"sampling": None}): "This file has no complete bundle",
        rebundled(model, tmp_path / "i", config={"model_bytes": -len(whole)}): "This file has no complete bundle",
        tmp_path / "a": "vocab.txt in this file is larger than allowed",
        tmp_path / "b": "This file has no complete bundle",
    }
    for answer, sentence in zip(in_node("bundles", list(map(str, hostile))), hostile.values(), strict=True):
        assert answer.startswith(sentence)
        assert len(answer) < 200


def test_the_page_is_small():
    assert sum(file.stat().st_size for file in page_folder().iterdir() if file.is_file()) < 50_000
