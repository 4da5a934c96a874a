"""Damaged encoded corpora: each is refused with one sentence, or has the text that was encoded."""

import copy
import json
import shutil
import time

import numpy as np
import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from peak_memory import peak_memory

import keras_seq as ks
from keras_seq.errors import CorpusError

MOST_SECONDS, MOST_MEGABYTES, LONGEST_MESSAGE = 10, 300, 1_000
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
        st.sampled_from(["../x", "/etc/passwd", "vocab.txt", 10**18, 10**400, -1, "x" * 10**5, "0" * 64]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoded")
    (folder / "text.txt").write_text("to be, or not to be\n" * 4000)
    corpus = ks.encode_corpus(folder / "text.txt", folder / "on_disk", processes=1)
    return folder / "on_disk", corpus.train[0 : len(corpus.train)], corpus.validation, corpus.test


def open_or_refuse(directory):
    """Returns the corpus, or None if it is refused as it should be."""
    begin, message, corpus = time.process_time(), "", None
    with peak_memory() as megabytes:
        try:
            corpus = ks.load_corpus(directory)
        except CorpusError as error:
            message = str(error)
    assert time.process_time() - begin < MOST_SECONDS
    assert megabytes() < MOST_MEGABYTES
    assert "\n" not in message
    assert len(message) < LONGEST_MESSAGE
    return corpus


@fuzzed
@given(data=st.data())
def test_a_corpus_with_a_damaged_file_is_refused(encoded, data, tmp_path_factory):
    directory, *whole = encoded
    damaged = shutil.copytree(directory, tmp_path_factory.getbasetemp() / "damaged", dirs_exist_ok=True)
    path = damaged / data.draw(st.sampled_from(sorted(file.name for file in directory.iterdir())))
    content = path.read_bytes()
    begin, end = sorted(data.draw(st.tuples(*2 * [st.integers(0, len(content))])))
    piece = data.draw(st.binary(max_size=8) | st.sampled_from([10**6 * b"\n", 10**6 * b"[", 10**7 * b"\xff"]))
    changed = content[:begin] + piece + content[data.draw(st.sampled_from([begin, end, begin + len(piece)])) :]
    path.write_bytes(changed)
    corpus = open_or_refuse(damaged)
    if corpus is not None and path.name != "encoded_corpus.json":
        assert changed == content
    if corpus is not None:
        np.testing.assert_array_equal(corpus.train[0 : len(corpus.train)], whole[0])
        assert [corpus.validation, corpus.test] == whole[1:]
    shutil.rmtree(damaged)


@fuzzed
@given(data=st.data())
def test_a_corpus_with_a_damaged_manifest_is_refused_or_whole(encoded, data, tmp_path_factory):
    directory, *whole = encoded
    damaged = shutil.copytree(directory, tmp_path_factory.getbasetemp() / "damaged", dirs_exist_ok=True)
    manifest = json.loads((directory / "encoded_corpus.json").read_text())
    changed = copy.deepcopy(manifest)
    place = changed
    while True:  # Goes into the manifest, and replaces or removes a value somewhere.
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not (isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    if data.draw(st.booleans()):
        place[key] = data.draw(values)
    else:
        del place[key]
    (damaged / "encoded_corpus.json").write_text(json.dumps(changed))
    corpus = open_or_refuse(damaged)
    if corpus is not None:
        if changed.get("files"):
            np.testing.assert_array_equal(corpus.train[0 : len(corpus.train)], whole[0])
        assert [corpus.validation, corpus.test] == whole[1:]
