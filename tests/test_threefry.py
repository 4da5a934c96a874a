import numpy as np
import pytest

from keras_seq import graph_sampling
from keras_seq.threefry import threefry_2x32, uniform

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [  # the known answers of Random123
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


@pytest.mark.parametrize("seed", [0, 1, 7, -1, -(2**63), 2**63 - 1, 12345678901234567])
def test_the_graph_gives_the_same_numbers(seed):
    positions = np.arange(64, dtype=np.int32)
    graph = graph_sampling.uniform(np.full(64, seed, np.int64), positions)
    np.testing.assert_array_equal(graph.numpy(), uniform(seed, positions))


def test_negative_seeds_are_twos_complement():
    assert uniform(-1, 5) == uniform(2**64 - 1, 5)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 1.5, "7", True])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        uniform(seed, 0)
