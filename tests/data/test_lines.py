"""`ks.lines` and `Lines`, against the lines that they read."""

import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq.data.lines import Lines

LINES = "the cat was full\n\nthe cats were full\na\nthe cat, which ate, was full\nthe cats were full\n"
KEPT_LINES = [line for line in LINES.split("\n") if line]
VOCABULARY = ks.Vocabulary.from_text(LINES)


def arrays(dataset):
    return [tuple(part.numpy() for part in batch) for batch in dataset]


def compiled_model():
    model = ks.language_model(len(VOCABULARY), units=[4], embedding_dim=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize("level", ["char", "word"])
def test_every_line_is_a_complete_row(level):
    vocabulary = ks.Vocabulary.from_text(LINES, level=level)
    seen = []
    for inputs, targets, mask in arrays(ks.lines(LINES, vocabulary, batch_size=2)):
        assert (inputs.dtype, targets.dtype, mask.dtype) == (np.int32, np.int32, np.float32)
        assert inputs.shape == targets.shape == mask.shape
        for line_in, line_out, weight in zip(inputs, targets, mask, strict=True):
            line = vocabulary.decode(line_out[weight == 1])
            tokens = len(vocabulary.encode(line)) + 1  # and <eos>
            assert weight.tolist() == [1] * tokens + [0] * (len(weight) - tokens)
            assert line_out[tokens - 1] == vocabulary.eos_id
            assert (line_out[tokens:] == vocabulary.pad_id).all()
            assert line_in[0] == vocabulary.start_id
            np.testing.assert_array_equal(line_in[1:], line_out[:-1])
            seen.append(line)
        assert mask.sum(axis=1).max() == mask.shape[1]  # No column is only padding.
    assert sorted(seen) == sorted(KEPT_LINES)


def test_the_mask_counts_the_tokens_of_the_corpus():
    total = sum(mask.sum() for *_, mask in arrays(ks.lines(LINES, VOCABULARY, batch_size=3)))
    assert total == sum(len(line) + 1 for line in KEPT_LINES)


def test_lines_of_similar_length_share_a_batch():
    lengths = [mask.sum(axis=1) for *_, mask in arrays(ks.lines(LINES, VOCABULARY, batch_size=2, seed=None))]
    assert [len(part) for part in lengths] == [2, 2, 1]
    assert np.concatenate(lengths).tolist() == sorted(len(line) + 1 for line in KEPT_LINES)


def test_the_seed_determines_the_order_of_the_batches():
    corpus = "\n".join("x" * length for length in range(1, 31))
    vocabulary = ks.Vocabulary.from_text(corpus)

    def order(dataset):
        return [mask.shape[1] for *_, mask in arrays(dataset)]

    dataset = ks.lines(corpus, vocabulary, batch_size=1, seed=1)
    first, second = order(dataset), order(dataset)
    assert sorted(first) == sorted(second) == list(range(2, 32))
    assert first != second  # Every epoch has another order.
    assert order(ks.lines(corpus, vocabulary, batch_size=1, seed=1)) == first
    assert order(ks.lines(corpus, vocabulary, batch_size=1, seed=2)) != first
    assert int(dataset.cardinality()) == 30


def test_a_corpus_without_lines_is_rejected():
    with pytest.raises(ValueError, match="at least one line"):
        ks.lines("\n\n", VOCABULARY, batch_size=2)
    with pytest.raises(ValueError, match="Received: batch_size=0"):
        ks.lines(LINES, VOCABULARY, batch_size=0)


def test_model_fit_accepts_lines():
    history = compiled_model().fit(ks.lines(LINES, VOCABULARY, batch_size=2), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_the_loss_of_padded_lines_is_the_mean_over_real_tokens():
    """With all-zero weights every token has probability 1 / vocabulary; counting padding would lower the mean."""
    model = compiled_model()
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    batch = ks.lines(LINES, VOCABULARY, batch_size=len(KEPT_LINES))
    assert model.evaluate(batch, verbose=0) == pytest.approx(np.log(len(VOCABULARY)), rel=1e-6)


@pytest.mark.parametrize("start", [0, 1, 7, 23])
def test_reading_can_start_at_any_batch(start):
    whole = arrays(Lines(LINES, VOCABULARY, 2, seed=5).from_batch(0).take(30))
    part = arrays(Lines(LINES, VOCABULARY, 2, seed=5).from_batch(start).take(30 - start))
    for batch, expected in zip(part, whole[start:], strict=True):
        for array, expected_array in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(array, expected_array)


def test_the_first_epoch_is_the_beginning_of_all_epochs():
    lines = Lines(LINES, VOCABULARY, 2, seed=5)
    first, endless = lines.one_epoch(), lines.from_batch(0).take(len(lines))
    for batch, expected in zip(arrays(first), arrays(endless), strict=True):
        np.testing.assert_array_equal(batch[1], expected[1])


def test_a_batch_of_long_lines_has_fewer_lines():
    text = "\n".join("x" * length for length in [3, 900, 300, 5, 1000, 4, 300, 2000])
    vocabulary = ks.Vocabulary.from_text(text)
    shapes = sorted(tuple(targets.shape) for _, targets, _ in ks.lines(text, vocabulary, batch_size=4))
    assert shapes == [(1, 901), (1, 1001), (1, 2001), (2, 301), (3, 6)]  # 4 x 256 tokens at most, or one line
    with pytest.raises(ValueError, match=r"at most 65,535 tokens, but line 2, not counting empty lines, has 65,536"):
        ks.lines("x\n" + "x" * 65535, vocabulary, batch_size=4)
