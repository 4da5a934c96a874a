"""8-bit weights for sums that are scaled by powers of two only, and 32-bit biases with which no sum is a tie."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_seq_export.tflite.quantization import quantize_blocks

HIGHEST = 127
# Mantissas have 16 bits, so that an integer below 2^8 times a scale is a float32 number.
_MANTISSA_BITS = 15


class Weights(NamedTuple):
    """Weights `values * scale`.

    Attributes:
        values: int8, in the shape of the weights.
        scale: a float32 number; the same for all of them.
    """

    values: np.ndarray
    scale: float


def best_weights(weights: np.ndarray) -> Weights:
    """Returns weights with the scale of the least squared error."""
    values, scale = quantize_blocks(weights.reshape(1, -1), 8, np.float32)
    return Weights(values.reshape(weights.shape), float(scale[0]))


def weights_of_mantissa(weights: np.ndarray, mantissa: float, least: float = 0.0) -> Weights:
    """Returns weights whose scale is `mantissa` times a power of two, that with the least squared error.

    The scale is at least `least`, or less than half of it below.
    """
    largest = max(float(np.abs(weights).max()) / HIGHEST, least, float(np.finfo(np.float32).tiny))
    exponent = np.floor(np.log2(largest / mantissa))
    candidates = [weights_of_scale(weights, float(mantissa * 2.0 ** (exponent + shift))) for shift in (0, 1)]
    return min(candidates, key=lambda one: _squared_error(weights, one))


def weights_of_factor(weights: np.ndarray, scale: float) -> tuple[Weights, int]:
    """Returns weights whose scale is an integer times `scale`, that with nearly the least squared error; and the integer."""
    least = max(1, int(best_weights(weights).scale / scale))
    candidates = [(weights_of_scale(weights, factor * scale), factor) for factor in (least, least + 1)]
    return min(candidates, key=lambda one: _squared_error(weights, one[0]))


def weights_of_scale(weights: np.ndarray, scale: float) -> Weights:
    """Returns weights with a scale; larger ones are cut off."""
    values = np.clip(np.rint(weights / np.float32(scale)), -HIGHEST, HIGHEST)
    return Weights(values.astype(np.int8), scale)


def common_mantissa(matrices: Sequence[np.ndarray]) -> float:
    """Returns the mantissa, in [1, 2), with which matrices that share it lose least.

    Of one matrix, it is that of its best scale. With several, each adds its squared error relative to its own squares.
    """
    if len(matrices) == 1:
        return _rounded(float(np.frexp(best_weights(matrices[0]).scale)[0] * 2))

    def loss(mantissa: float) -> float:
        return sum(
            _squared_error(one, weights_of_mantissa(one, mantissa)) / max(float(np.square(one).sum()), 1e-30)
            for one in matrices
        )

    return min((_rounded(2.0 ** (number / 32)) for number in range(32)), key=loss)


def _rounded(mantissa: float) -> float:
    rounded = int(np.rint(mantissa * 2**_MANTISSA_BITS))
    return float(min(rounded, 2 ** (_MANTISSA_BITS + 1) - 1) / 2**_MANTISSA_BITS)


def biases(values: np.ndarray, scale: float) -> np.ndarray:
    """Returns biases as integers in units of `scale`, int64, each 2 more than a multiple of 4.

    The products that they are added to are multiples of 4. So no sum lies half-way between two results once it is divided by
    8 or a larger power of two, and rounding in one step or in two gives the same.
    """
    return np.rint((values.astype(np.float64) / scale - 2) / 4).astype(np.int64) * 4 + 2


def _squared_error(weights: np.ndarray, found: Weights) -> float:
    return float(np.square(found.values * np.float32(found.scale) - weights).sum())
