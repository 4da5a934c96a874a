"""The tokenizer in a graph against `Vocabulary`."""

import json

import paths
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from unicode_texts import ANY_TEXT, own_vocabulary

import keras_seq as ks
from keras_seq_export.graph.tokenizer import GraphTokenizer
from keras_seq_export.requests import strings

# Characters that the two levels or the vocabulary file treat specially, next to each other.
TRICKY = st.text(st.sampled_from("ab '’-_7.\\n\n\r\t\0x5c<>\ufeff\u00a0\u2028é\u0301漢字かกข한🙂𝄞\U0010ffff"))
TEXTS = st.lists(ANY_TEXT | TRICKY, min_size=1, max_size=6)


def in_graph(vocabulary, folder):
    vocabulary.save(folder / "vocab.txt")
    return GraphTokenizer(vocabulary, str(folder / "vocab.txt"))


@pytest.mark.parametrize("level", ["char", "word"])
@settings(max_examples=60)
@given(texts=TEXTS)
def test_text_of_the_vocabulary_is_encoded_and_decoded_as_by_the_vocabulary(level, texts, tmp_path_factory):
    together = "".join(texts) or "x"
    vocabulary = ks.Vocabulary.from_text(together, level=level)
    tokenizer = in_graph(vocabulary, tmp_path_factory.mktemp("vocabulary"))
    ids = tokenizer.encode(tf.constant(strings(texts)), "text")
    assert ids.to_list() == [vocabulary.encode(text).tolist() for text in texts]
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    written = tokenizer.decode(ids.to_tensor(), lengths, tf.constant([""] * len(texts))).numpy().tolist()
    # The vocabulary may have the first word of a text only with a space before it. It is <unk> in both then.
    assert [text.decode() for text in written] == [vocabulary.decode(vocabulary.encode(text)) for text in texts]


@pytest.fixture(scope="module")
def few_words(tmp_path_factory):
    vocabulary = ks.Vocabulary.from_text("a b' 7 \\n\n漢 <eos> ’\r\n é\u0301", level="word")
    return vocabulary, in_graph(vocabulary, tmp_path_factory.mktemp("vocabulary"))


@settings(max_examples=150)
@given(texts=TEXTS)
def test_unknown_words_are_unk_at_the_same_positions(texts, few_words):
    vocabulary, tokenizer = few_words
    ids = tokenizer.encode(tf.constant(strings(texts)), "text")
    assert ids.to_list() == [vocabulary.encode(text).tolist() for text in texts]


@pytest.mark.parametrize("level", ["char", "word"])
def test_an_error_about_text_that_is_not_utf8_has_the_row(level, tmp_path):
    tokenizer = in_graph(ks.Vocabulary.from_text("the cats", level=level), tmp_path)
    for wrong in (b"\xff", b"the\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"(?s)`prompt` must be UTF-8\. Rows that are not:.*\n1"
        ):
            tokenizer.encode(tf.constant([b"the", wrong]), "prompt")


@pytest.mark.parametrize("level", ["char", "whitespace"])
@settings(max_examples=60)
@given(texts=TEXTS, others=TEXTS)
def test_a_vocabulary_made_elsewhere_is_that_of_python(level, texts, others, tmp_path_factory):
    vocabulary = own_vocabulary(texts, level)
    assert vocabulary.level == level
    tokenizer = in_graph(vocabulary, tmp_path_factory.mktemp("vocabulary"))
    asked = [*texts, *others]
    ids = tokenizer.encode(tf.constant(strings(asked)), "text")
    expected = [vocabulary.encode(text).tolist() for text in asked]
    assert ids.to_list() == expected
    before = tf.constant(strings(asked[::-1]))
    written = tokenizer.decode(ids.to_tensor(), tf.cast(ids.row_lengths(), tf.int32), before).numpy().tolist()
    texts_of_python = [vocabulary.decode(row, after) for row, after in zip(expected, asked[::-1], strict=True)]
    assert [text.decode() for text in written] == texts_of_python


@pytest.mark.parametrize("case", json.loads(paths.VECTORS.read_text())["vocabularies"], ids=lambda case: case["level"])
def test_given_tokens_encode_and_decode_as_in_the_vectors(case, tmp_path):
    tokenizer = in_graph(ks.Vocabulary(case["tokens"]), tmp_path)
    for text, ids in case["texts"]:
        assert tokenizer.encode(tf.constant([text]), "text").to_list() == [ids]
    for text in case["refused"]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="`text` must hold only"):
            tokenizer.encode(tf.constant([text]), "text")
    for before, ids, text in case["continuations"]:
        assert (
            tokenizer.decode(tf.constant([ids]), tf.constant([len(ids)]), tf.constant([before])).numpy()
            == text.encode()
        )


def test_a_long_foreign_word_is_cut_in_the_message(tmp_path):
    tokenizer = in_graph(ks.Vocabulary.from_tokens(["", "the", "<s>", "<eos>"]), tmp_path)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="`text` must hold only words of the vocabulary"
    ) as refused:
        tokenizer.encode(tf.constant(["the " + "ß" * 100_000]), "text")
    assert 0 < len(str(refused.value)) < 1_000
