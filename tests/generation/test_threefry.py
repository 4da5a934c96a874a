"""The random stream against known answers and statistical tests."""

import numpy as np
import pytest

from keras_seq.generation.threefry import threefry_2x32, uniform

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [  # known answers of Random123
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key, counter, expected):
    assert tuple(int(word) for word in threefry_2x32(key, counter)) == expected


def test_uniform_is_the_top_24_bits():
    assert uniform(0, 0) == np.float32((0x6B200159 >> 8) / 2**24)


def test_uniform_is_uniform_and_uncorrelated_across_seeds_and_positions():
    table = np.stack([uniform(seed, np.arange(1000)) for seed in range(100)]).astype(float)
    assert table.min() >= 0
    assert table.max() < 1
    counts = np.histogram(table, bins=100, range=(0, 1))[0]
    # chi-square with 99 degrees of freedom: 149 is its 99.9 % quantile
    assert ((counts - 1000) ** 2 / 1000).sum() < 149
    centred = (table - 0.5) * np.sqrt(12)
    for correlation in ((centred[1:] * centred[:-1]).mean(), (centred[:, 1:] * centred[:, :-1]).mean()):
        assert abs(correlation) < 4 / np.sqrt(99_000)  # four standard errors


@pytest.mark.parametrize("words", [("key", 0), ("key", 1), ("counter", 0), ("counter", 1)])
def test_one_flipped_bit_flips_half_of_the_bits(words):
    """Neighbouring seeds and positions give unrelated words: each of 32 flipped bits changes 32 of 64 bits."""
    which, word = words
    random = np.random.default_rng(7)
    flipped_bits = []
    for _ in range(100):
        words_given = {name: random.integers(0, 2**32, 2, np.uint32) for name in ("key", "counter")}
        before = threefry_2x32(**words_given)
        for bit in range(32):
            other = {name: value.copy() for name, value in words_given.items()}
            other[which][word] ^= np.uint32(1 << bit)
            after = threefry_2x32(**other)
            flipped_bits.append(sum(int(one ^ another).bit_count() for one, another in zip(before, after, strict=True)))
    # The mean of 3,200 counts of 64 fair bits: standard deviation 4 / sqrt(3200).
    assert abs(np.mean(flipped_bits) - 32) < 4 * 4 / np.sqrt(3200)


def test_negative_seeds_are_twos_complement():
    assert uniform(-1, 5) == uniform(2**64 - 1, 5)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 1.5, "7", True])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        uniform(seed, 0)
