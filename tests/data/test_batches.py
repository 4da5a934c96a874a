import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq.data.lines import Lines
from keras_seq.data.streams import Streams

TEXT = "the cat, which already ate a fish, was full; the cats were full."
LINES = "the cat was full\n\nthe cats were full\na\nthe cat, which ate, was full\nthe cats were full\n"
KEPT_LINES = [line for line in LINES.split("\n") if line]


@pytest.fixture(scope="module")
def vocabulary():
    return ks.Vocabulary.from_text(TEXT + LINES)


def batches(dataset):
    return [tuple(part.numpy() for part in batch) for batch in dataset]


@pytest.mark.parametrize(("batch_size", "length"), [(1, 7), (3, 5), (2, 32), (64, 1), (5, 4)])
def test_rows_read_one_after_another_are_the_text(vocabulary, batch_size, length):
    read_batches = batches(ks.streams(TEXT, vocabulary, batch_size, length))
    inputs, targets = (np.concatenate(parts, axis=1) for parts in zip(*read_batches, strict=True))
    read = "".join(vocabulary.decode(row) for row in targets)
    assert read == TEXT[: len(read)]
    assert len(TEXT) - len(read) < batch_size * length  # what is left out fills no batch
    assert (inputs[:, 0] == vocabulary.start_id).all()
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert (inputs == vocabulary.start_id).sum() == batch_size  # at the start of a stream and nowhere else


def test_batches_have_the_promised_shape_type_and_number(vocabulary):
    dataset = ks.streams(TEXT, vocabulary, batch_size=3, length=5)
    assert [(tuple(spec.shape), spec.dtype.name) for spec in dataset.element_spec] == [((3, 5), "int32")] * 2
    assert int(dataset.cardinality()) == len(batches(dataset)) == len(TEXT) // 15
    np.testing.assert_array_equal(batches(dataset), batches(dataset))  # every epoch reads the same


def test_a_text_of_exactly_one_batch(vocabulary):
    [(_, targets)] = batches(ks.streams("the cats", vocabulary, batch_size=2, length=4))
    assert [vocabulary.decode(row) for row in targets] == ["the ", "cats"]


def test_a_corpus_too_short_for_one_batch_is_refused(vocabulary):
    with pytest.raises(ValueError, match=r"at least batch_size \* length = 3 \* 3 = 9 tokens; this one has 8"):
        ks.streams("the cats", vocabulary, batch_size=3, length=3)


@pytest.mark.parametrize("arguments", [{"batch_size": 0, "length": 3}, {"batch_size": 2, "length": -1}])
def test_sizes_out_of_range(vocabulary, arguments):
    with pytest.raises(ValueError, match=r"must be a positive integer. Received: (batch_size=0|length=-1)"):
        ks.streams(TEXT, vocabulary, **arguments)


@pytest.mark.parametrize("level", ["char", "word"])
def test_every_line_has_a_row_that_holds_it_whole(level):
    vocabulary = ks.Vocabulary.from_text(LINES, level=level)
    seen = []
    for inputs, targets, mask in batches(ks.lines(LINES, vocabulary, batch_size=2)):
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
        assert mask.sum(axis=1).max() == mask.shape[1]  # no column of padding alone
    assert sorted(seen) == sorted(KEPT_LINES)


def test_mask_counts_the_tokens_of_the_corpus(vocabulary):
    total = sum(mask.sum() for *_, mask in batches(ks.lines(LINES, vocabulary, batch_size=3)))
    assert total == sum(len(line) + 1 for line in KEPT_LINES)


def test_lines_of_like_length_share_a_batch(vocabulary):
    lengths = [mask.sum(axis=1) for *_, mask in batches(ks.lines(LINES, vocabulary, batch_size=2, seed=None))]
    assert [len(part) for part in lengths] == [2, 2, 1]
    assert np.concatenate(lengths).tolist() == sorted(len(line) + 1 for line in KEPT_LINES)


def test_batches_come_in_an_order_that_the_seed_gives():
    corpus = "\n".join("x" * length for length in range(1, 31))
    vocabulary = ks.Vocabulary.from_text(corpus)

    def order(dataset):
        return [mask.shape[1] for *_, mask in batches(dataset)]

    dataset = ks.lines(corpus, vocabulary, batch_size=1, seed=1)
    first, second = order(dataset), order(dataset)
    assert sorted(first) == sorted(second) == list(range(2, 32))
    assert first != second  # another order in every epoch
    assert order(ks.lines(corpus, vocabulary, batch_size=1, seed=1)) == first
    assert order(ks.lines(corpus, vocabulary, batch_size=1, seed=2)) != first
    assert int(dataset.cardinality()) == 30


def test_a_corpus_without_lines_is_refused(vocabulary):
    with pytest.raises(ValueError, match="at least one line"):
        ks.lines("\n\n", vocabulary, batch_size=2)
    with pytest.raises(ValueError, match="Received: batch_size=0"):
        ks.lines(LINES, vocabulary, batch_size=0)


def test_model_fit_takes_both(vocabulary):
    model = ks.language_model(len(vocabulary), units=[4], embedding_dim=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile("sgd", loss)
    for dataset in (ks.streams(TEXT, vocabulary, batch_size=2, length=8), ks.lines(LINES, vocabulary, batch_size=2)):
        history = model.fit(dataset, verbose=0)
        assert np.isfinite(history.history["loss"]).all()


def test_the_loss_of_padded_lines_is_the_mean_over_real_tokens(vocabulary):
    """With all-zero weights every token has probability 1 / vocabulary; counting padding would lower the mean."""
    model = ks.language_model(len(vocabulary), units=[4], embedding_dim=3)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile("sgd", loss)
    batch = ks.lines(LINES, vocabulary, batch_size=len(KEPT_LINES))
    assert model.evaluate(batch, verbose=0) == pytest.approx(np.log(len(vocabulary)), rel=1e-6)


def test_later_passes_begin_elsewhere_and_hold_the_same_text(vocabulary):
    made = Streams(TEXT[:60], vocabulary, batch_size=3, length=4, seed=1)
    read = batches(made.from_batch(0).take(3 * len(made)))
    begins = set()
    for number in range(3):
        passed = read[number * len(made) : (number + 1) * len(made)]
        inputs, targets = (np.concatenate(parts, axis=1) for parts in zip(*passed, strict=True))
        whole = "".join(vocabulary.decode(row) for row in targets)
        assert whole in TEXT[:60] * 2
        begins.add(whole)
        assert (inputs[:, 0] == vocabulary.start_id).all()
        np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
        assert (number > 0) or whole == TEXT[:60]
    assert len(begins) == 3


@pytest.mark.parametrize("make", [lambda v: Streams(TEXT, v, 2, 5, seed=-3), lambda v: Lines(LINES, v, 2, seed=5)])
@pytest.mark.parametrize("start", [0, 1, 7, 23])
def test_batches_from_any_number_are_those_of_the_whole_sequence(vocabulary, make, start):
    whole = batches(make(vocabulary).from_batch(0).take(30))
    part = batches(make(vocabulary).from_batch(start).take(30 - start))
    for one, other in zip(whole[start:], part, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_first_pass_is_that_of_once(vocabulary):
    for made in (Streams(TEXT, vocabulary, 2, 5, seed=3), Lines(LINES, vocabulary, 2, seed=5)):
        for one, other in zip(batches(made.once()), batches(made.from_batch(0).take(len(made))), strict=True):
            np.testing.assert_array_equal(one[1], other[1])


def test_a_batch_of_long_lines_has_fewer_of_them():
    text = "\n".join("x" * length for length in [3, 900, 300, 5, 1000, 4, 300, 2000])
    vocabulary = ks.Vocabulary.from_text(text)
    shapes = sorted(tuple(targets.shape) for _, targets, _ in ks.lines(text, vocabulary, batch_size=4))
    assert shapes == [(1, 901), (1, 1001), (1, 2001), (2, 301), (3, 6)]  # 4 x 256 tokens at most, or one line
    with pytest.raises(
        ValueError, match=r"at most 65,535 tokens, but one of 65,536 came, number 2 of those that are not"
    ):
        ks.lines("x\n" + "x" * 65535, vocabulary, batch_size=4)
