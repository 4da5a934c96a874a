"""`ks.streams` and `Streams`, against the text that they read."""

import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq.data.streams import Streams

TEXT = "the cat, which already ate a fish, was full; the cats were full."
VOCABULARY = ks.Vocabulary.from_text(TEXT)


def arrays(dataset):
    return [tuple(part.numpy() for part in batch) for batch in dataset]


@pytest.mark.parametrize(("batch_size", "length"), [(1, 7), (3, 5), (2, 32), (64, 1), (5, 4)])
def test_concatenated_rows_are_the_text(batch_size, length):
    batches = arrays(ks.streams(TEXT, VOCABULARY, batch_size, length))
    inputs, targets = (np.concatenate(parts, axis=1) for parts in zip(*batches, strict=True))
    read = "".join(VOCABULARY.decode(row) for row in targets)
    assert read == TEXT[: len(read)]
    assert len(TEXT) - len(read) < batch_size * length  # The rest does not fill a batch.
    assert (inputs[:, 0] == VOCABULARY.start_id).all()
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert (inputs == VOCABULARY.start_id).sum() == batch_size  # at the start of a stream and nowhere else


def test_batches_have_the_documented_shape_type_and_number():
    dataset = ks.streams(TEXT, VOCABULARY, batch_size=3, length=5)
    assert [(tuple(spec.shape), spec.dtype.name) for spec in dataset.element_spec] == [((3, 5), "int32")] * 2
    assert int(dataset.cardinality()) == len(arrays(dataset)) == len(TEXT) // 15
    np.testing.assert_array_equal(arrays(dataset), arrays(dataset))  # Every epoch reads the same.


def test_a_text_of_exactly_one_batch():
    [(_, targets)] = arrays(ks.streams("the cats", VOCABULARY, batch_size=2, length=4))
    assert [VOCABULARY.decode(row) for row in targets] == ["the ", "cats"]


def test_a_corpus_too_short_for_one_batch_is_rejected():
    with pytest.raises(ValueError, match=r"at least batch_size \* length = 3 \* 3 = 9 tokens, but it has 8"):
        ks.streams("the cats", VOCABULARY, batch_size=3, length=3)


@pytest.mark.parametrize("arguments", [{"batch_size": 0, "length": 3}, {"batch_size": 2, "length": -1}])
def test_sizes_out_of_range(arguments):
    with pytest.raises(ValueError, match=r"must be a positive integer. Received: (batch_size=0|length=-1)"):
        ks.streams(TEXT, VOCABULARY, **arguments)


def test_model_fit_accepts_streams():
    model = ks.language_model(len(VOCABULARY), units=[4], embedding_dim=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile("sgd", loss)
    history = model.fit(ks.streams(TEXT, VOCABULARY, batch_size=2, length=8), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_later_epochs_begin_elsewhere_and_have_the_same_text():
    streams = Streams(TEXT[:60], VOCABULARY, batch_size=3, length=4, seed=1)
    read = arrays(streams.from_batch(0).take(3 * len(streams)))
    texts = set()
    for epoch in range(3):
        batches = read[epoch * len(streams) : (epoch + 1) * len(streams)]
        inputs, targets = (np.concatenate(parts, axis=1) for parts in zip(*batches, strict=True))
        text = "".join(VOCABULARY.decode(row) for row in targets)
        assert text in TEXT[:60] * 2
        texts.add(text)
        assert (inputs[:, 0] == VOCABULARY.start_id).all()
        np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
        assert (epoch > 0) or text == TEXT[:60]
    assert len(texts) == 3


@pytest.mark.parametrize("start", [0, 1, 7, 23])
def test_reading_can_start_at_any_batch(start):
    whole = arrays(Streams(TEXT, VOCABULARY, 2, 5, seed=-3).from_batch(0).take(30))
    part = arrays(Streams(TEXT, VOCABULARY, 2, 5, seed=-3).from_batch(start).take(30 - start))
    for batch, expected in zip(part, whole[start:], strict=True):
        for array, expected_array in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(array, expected_array)


def test_the_first_epoch_is_the_beginning_of_all_epochs():
    streams = Streams(TEXT, VOCABULARY, 2, 5, seed=3)
    first, endless = streams.first_epoch(), streams.from_batch(0).take(len(streams))
    for batch, expected in zip(arrays(first), arrays(endless), strict=True):
        np.testing.assert_array_equal(batch[1], expected[1])
