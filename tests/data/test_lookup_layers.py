"""`Vocabulary.from_layer` against the Keras layers themselves."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_seq.data.vocabulary import Vocabulary

# NUL: TensorFlow's strings of NumPy end there. The other names are ours; no text of a layer has them by accident.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXT = st.text(CHARACTERS) | st.text(st.sampled_from("ab .\t\n\v\f\r\x1c\x85\xa0\u2003\u2028é漢😀"))


def ids_in(layer, text):
    return np.asarray(layer(keras.ops.convert_to_tensor([text], "string")))[0].tolist()


@pytest.mark.parametrize("split", ["whitespace", "character"])
@settings(max_examples=12)
@given(texts=st.lists(TEXT.filter(str.strip), min_size=1, max_size=3), others=st.lists(TEXT, min_size=4, max_size=8))
def test_text_vectorization_keeps_its_ids(split, texts, others):
    layer = keras.layers.TextVectorization(standardize=None, split=split)
    layer.adapt([*texts, "some words"])
    vocabulary = Vocabulary.from_layer(layer)
    assert vocabulary.level == {"whitespace": "whitespace", "character": "char"}[split]
    assert list(vocabulary.tokens[2:]) == layer.get_vocabulary()[2:]
    for text in [*texts, *others, "some other words"]:
        assert vocabulary.encode(text).tolist() == ids_in(layer, text)


@pytest.mark.parametrize("tokens", [["the", "cat", "sat."], list("abc ")])
@pytest.mark.parametrize("mask", [None, "", "<m>"])
@pytest.mark.parametrize("unknown", ["[UNK]", "<unk>", None])
def test_string_lookup_keeps_its_ids(tokens, mask, unknown):
    oov = {"num_oov_indices": 0} if unknown is None else {"oov_token": unknown}
    layer = keras.layers.StringLookup(vocabulary=["<s>", "<eos>", *tokens], mask_token=mask, **oov)
    if unknown is None and mask is not None and len(tokens[0]) > 1:
        # The tokens begin like the characters of `Vocabulary.from_text`.
        with pytest.raises(ValueError, match="a single character"):
            Vocabulary.from_layer(layer)
        return
    vocabulary = Vocabulary.from_layer(layer)
    texts = [*tokens, *([] if unknown is None else ["z"])]
    assert [vocabulary.encode(text).tolist() for text in texts] == np.asarray(layer(texts))[:, None].tolist()
    assert (vocabulary.start_id, vocabulary.eos_id) == tuple(np.asarray(layer(["<s>", "<eos>"])).tolist())
    assert vocabulary.unk_id == (None if unknown is None else int(mask is not None))
    assert ("<pad>" in vocabulary.tokens) == (mask is not None)


def test_the_tokens_around_a_text_get_our_names():
    layer = keras.layers.TextVectorization(standardize=None)
    layer.adapt(["[start] the cat sat. [end]", "[start] the <unk> [end]"])
    vocabulary = Vocabulary.from_layer(layer, start="[start]", eos="[end]")
    text = "the <unk> cat ran"
    assert [vocabulary.start_id, *vocabulary.encode(text), vocabulary.eos_id] == ids_in(layer, f"[start] {text} [end]")
    assert vocabulary.decode(ids_in(layer, f"[start] {text} [end]")) == "the <unk> cat [UNK]"
    with pytest.raises(ValueError, match=r"`start` must be a token of the layer, .*'\[begin\]'"):
        Vocabulary.from_layer(layer, start="[begin]")


def adapted(**options):
    layer = keras.layers.TextVectorization(**{"standardize": None} | options)
    layer.adapt(["the cat", "a cat"])
    return layer


def with_several_unknown(**options):
    return keras.layers.StringLookup(vocabulary=["the", "cat"], **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: adapted(standardize="lower_and_strip_punctuation"),
            r"standardize the texts before .*TextVectorization\(standardize=None, split='whitespace', vocabulary=layer.get_voc"
            r".*Received: .*standardize='lower_and_strip_punctuation'",
        ),
        (lambda: adapted(standardize=lambda text: text), "standardize the texts before"),
        (lambda: adapted(ngrams=2), "`ngrams` None"),
        (lambda: adapted(output_sequence_length=4), "`output_sequence_length` None"),
        (lambda: adapted(split=lambda text: keras.ops.expand_dims(text, -1)), '`split` "whitespace" or "character"'),
        (lambda: adapted(split=None), '`split` "whitespace" or "character"'),
        (lambda: adapted(output_mode="multi_hot"), "`output_mode` `int`"),
        (lambda: keras.layers.TextVectorization(standardize=None), "adapted: call"),
        (lambda: keras.layers.TextVectorization(standardize=None, vocabulary=["a", "b"]), "splits at white space"),
        (lambda: with_several_unknown(num_oov_indices=2), "`num_oov_indices` 0 or 1"),
        (lambda: with_several_unknown(invert=True), "`invert` False"),
        (lambda: with_several_unknown(output_mode="one_hot"), "`output_mode` `int`"),
        (lambda: keras.layers.StringLookup(vocabulary=["a b", "c"]), "a word without white space"),
        (lambda: keras.layers.IntegerLookup(vocabulary=[1, 2]), "a keras.layers.StringLookup or"),
        (lambda: ["a", "b"], "a keras.layers.StringLookup or"),
    ],
)
def test_a_layer_whose_ids_cannot_be_reproduced_is_refused(make, message):
    with pytest.raises(ValueError, match=rf"^`(layer|tokens\[\d\])` must be .*{message}"):
        Vocabulary.from_layer(make())


def test_the_same_layer_without_standardization_is_the_advice_of_the_error():
    layer = adapted(standardize="lower")
    with pytest.raises(ValueError, match="which has the same ids") as caught:
        Vocabulary.from_layer(layer)
    line = str(caught.value).split("give `")[1].split("`")[0]
    same = eval(line, {"keras": keras, "layer": layer})
    vocabulary = Vocabulary.from_layer(same)
    assert vocabulary.encode("The CAT ran".lower()).tolist() == ids_in(layer, "The CAT ran")
