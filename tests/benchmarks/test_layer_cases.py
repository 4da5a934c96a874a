import pytest

from keras_seq.benchmarks.layer_cases import ALL_CASES, DEFAULT_CASES, Case, Size, plain
from keras_seq.benchmarks.layer_contenders import CONTENDERS, JAX, KERAS, OURS, PRODUCT, TORCH

TINY = Size(2, 3, 4, 5)


def test_operations_count_all_products_forward_and_backward():
    count = 0
    for _ in range(TINY.length):
        for _ in range(TINY.batch):
            for _gate in range(3):
                for _unit in range(TINY.units):
                    count += 2 * (TINY.features + TINY.units)  # forward: one multiplication and one addition each
                    count += 2 * 2 * (TINY.features + TINY.units)  # backward: as many for the gradient of either factor
    assert TINY.operations(3) == count


def test_operations_of_a_case_depend_on_how_the_layer_is_called():
    assert Case("", TINY, {}).operations() == TINY.operations(3)
    assert Case("", TINY, {}, bidirectional=True).operations() == 2 * TINY.operations(3)
    assert Case("", TINY, {}, call="predict").operations() * 3 == TINY.operations(3)
    assert Case("", TINY, {}, layer="LSTM").operations() == TINY.operations(4)
    assert Case("", TINY, {}, layer="SimpleRNN").operations() == TINY.operations(1)


def test_sizes_are_parsed():
    sizes = [case.size for case in ALL_CASES]
    assert [Size.parse(str(size)) for size in sizes] == sizes
    assert plain("2x3x4x5", "1x2x3x4") == [Case("", TINY, {}), Case("", Size(1, 2, 3, 4), {})]


def test_the_cases_differ():
    assert len({(case.size, case.name) for case in ALL_CASES}) == len(ALL_CASES) == 32
    assert len({case.size for case in DEFAULT_CASES}) == len(DEFAULT_CASES) == 5


@pytest.mark.parametrize(("batch", "length"), [(1, 7), (2, 3), (32, 64)])
def test_padding_takes_up_to_half_of_a_sequence(batch, length):
    lengths = Case("", Size(batch, length, 1, 1), {}).lengths()
    assert len(lengths) == batch
    assert lengths[0] == length
    assert lengths[-1] == (length - length // 2 if batch > 1 else length)
    assert lengths == sorted(lengths, reverse=True)


def test_libraries_take_part_in_the_cases_that_they_support():
    supported = {
        name: {case.name for case in ALL_CASES if one.supports(case)}
        for name, one in CONTENDERS.items()
        if name != PRODUCT
    }
    everything = {case.name for case in ALL_CASES}
    assert supported[OURS] == supported[KERAS] == everything
    assert everything - supported[JAX] == {
        *("batch unknown", "length unknown", "batch and length unknown", "right padding, both unknown"),
        *("dropout=0.3, implementation=1", "reset_gate=False (Keras: full)", "predict", "LSTM", "SimpleRNN"),
    }
    assert supported[TORCH] == {
        *(
            "",
            "batch unknown",
            "length unknown",
            "batch and length unknown",
            "right padding",
            "right padding, both unknown",
        ),
        *("Bidirectional", "Bidirectional, right padding", "last step only", "mixed_bfloat16", "mixed_float16"),
        *("use_bias=False", "model(x), eager", "LSTM", "SimpleRNN"),
    }
