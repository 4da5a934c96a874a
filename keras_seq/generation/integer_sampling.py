"""The draw and the log-probabilities with integers only, for models whose logits are integers times one scale.

The steps are those of `keras_seq.generation.sampling`. Here each is defined in integers, so that NumPy, JavaScript and C
give the same tokens bit for bit, also on devices without floating point (docs/porting.md, "The integer draw"). A logit is
an int16 number; `FORBIDDEN` is never drawn. Settings, uniform numbers and costs count multiples of 1 / `UNIT`.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from keras_seq import require
from keras_seq.errors import ArgumentError, ModelError
from keras_seq.generation.arithmetic import Arithmetic
from keras_seq.generation.sampling import SamplingSettings

UNIT: Final = 2**24
FORBIDDEN: Final = -(2**15)
IMPOSSIBLE: Final = 2**63 - 1  # the cost of a token that is forbidden
_LARGEST_LOGIT: Final = 2**15 - 1
_STEP_BITS: Final = 40  # after the binary point of a logit step
_LARGEST_STEP: Final = 2**47  # times a difference of logits, it fits 63 bits
_WEIGHT_BITS: Final = 30  # The most likely token has the weight 2^30.
# 2^30 * 2^(-i / 64), and the difference from each to the next.
_POWERS: Final = np.floor(2.0 ** (_WEIGHT_BITS - np.arange(65) / 64) + 0.5).astype(np.uint64)
_FALLS: Final = _POWERS[:-1] - _POWERS[1:]


@dataclass(frozen=True)
class IntegerSettings:
    """The settings of a draw in integers, as C takes them.

    Attributes:
        temperature: in units of 2^-24; 0 is greedy.
        top_k: number of tokens; 0 is off.
        top_p: in units of 2^-24; 2^24 is off.
        min_p: in units of 2^-24; 0 is off.

    Example:
        >>> IntegerSettings.of(SamplingSettings(temperature=0.5, top_k=40))
        IntegerSettings(temperature=8388608, top_k=40, top_p=16777216, min_p=0)
    """

    temperature: int = UNIT
    top_k: int = 0
    top_p: int = UNIT
    min_p: int = 0

    @classmethod
    def of(cls, settings: SamplingSettings) -> "IntegerSettings":
        """Returns settings as integers, rounded.

        Raises:
            ArgumentError: there is a repetition penalty.
        """
        if settings.repetition_penalty != 1:
            expected = (
                "1 (off) with a model of integers, whose logits it cannot divide exactly; export the model with another "
                "quantization to use it"
            )
            raise ArgumentError("repetition_penalty", expected, settings.repetition_penalty)
        temperature, top_p, min_p = (
            math.floor(value * UNIT + 0.5) for value in (settings.temperature, settings.top_p, settings.min_p)
        )
        return cls(temperature, int(settings.top_k), top_p, min_p)


def logit_step(scale: float) -> int:
    """Returns how many octaves one unit of a logit is, times 2^40: `floor(scale / ln 2 * 2^40 + 0.5)`.

    Args:
        scale: the scale of the logits, as float32: a logit is an integer times this.

    Raises:
        ArgumentError: the scale is not from 2^-24 to 0.5.

    Example:
        >>> round(logit_step(2**-10) / 2**30, 6)  # 1 / ln 2
        1.442695
    """
    in_range = require.is_number(scale) and 2**-24 <= scale <= 0.5
    require.that(in_range, "scale", "a number from 2^-24 to 0.5", scale)
    return math.floor(float(np.float32(scale)) / math.log(2) * 2**_STEP_BITS + 0.5)


def add_bias(logits: np.ndarray, logit_bias: np.ndarray, scale: float) -> np.ndarray:
    """Returns logits with a bias added, rounded to units of the logits, and FORBIDDEN where the bias is -inf.

    Args:
        logits: int16 `(vocabulary,)`. A forbidden one stays so.
        logit_bias: `(vocabulary,)` float32, from `keras_seq.generation.sampling.logit_bias`.
        scale: the scale of the logits.

    Returns:
        int16 `(vocabulary,)`; other sums than forbidden ones are clipped to -32767..32767.

    Example:
        >>> add_bias(np.int16([5, 32000, 7]), np.float32([1, 1000, -np.inf]), 0.25).tolist()
        [9, 32767, -32768]
    """
    ids = np.flatnonzero(logit_bias)
    result = np.array(logits, np.int16)
    before, bias = result[ids], logit_bias[ids].astype(np.float64)
    added = np.clip(before + np.floor(bias / np.float32(scale) + 0.5), FORBIDDEN + 1, _LARGEST_LOGIT)
    result[ids] = np.where(np.isneginf(bias) | (before == FORBIDDEN), FORBIDDEN, added)
    return result


def weights(differences: np.ndarray, step: int) -> np.ndarray:
    """Returns `2^30 * 2^(-differences * step / 2^40)`, by a table with linear interpolation; 0 below 1.

    The relative error is at most 1.5e-5, that of the interpolation, plus one unit.

    Args:
        differences: of the largest logit and others, integers from 0 to 65535.
        step: at most 2^47.

    Returns:
        uint32, of the shape of `differences`.

    Example:
        >>> weights(np.array([0, 1, 2, 40]), 2**40).tolist()
        [1073741824, 536870912, 268435456, 0]
    """
    known = _known_weights(step)
    return known[np.minimum(differences, len(known) - 1)]


@functools.lru_cache(maxsize=8)
def _known_weights(step: int) -> np.ndarray:
    """Returns the weights of all differences up to the first one of weight 0, if there is one."""
    count = min(2**16, (_WEIGHT_BITS + 1 << _STEP_BITS) // max(step, 1) + 2)
    octaves = np.arange(count, dtype=np.uint64) * np.uint64(step)
    index = (octaves >> np.uint64(34)).astype(np.intp) & 63
    rest = octaves >> np.uint64(18) & np.uint64(0xFFFF)
    whole = np.minimum(octaves >> np.uint64(_STEP_BITS), np.uint64(_WEIGHT_BITS + 1))
    return ((_POWERS[index] - (_FALLS[index] * rest >> np.uint64(16))) >> whole).astype(np.uint32)


def kept_weights(logits: np.ndarray, logit_step: int, settings: IntegerSettings) -> np.ndarray:
    """Returns the weights with which tokens are drawn, after temperature, top_k, top_p and min_p.

    Args:
        logits: int16 `(vocabulary,)`.
        logit_step: from `logit_step`.
        settings: the settings. At temperature 0, only the most likely token of the lowest id has a weight.

    Returns:
        uint32 `(vocabulary,)`; 0 for tokens that cannot be drawn.

    Raises:
        ModelError: all tokens are forbidden.

    Example:
        >>> kept_weights(np.int16([0, 1, 2, 2]), 2**40, IntegerSettings(top_k=3)).tolist()
        [0, 536870912, 1073741824, 1073741824]
    """
    differences = _differences(logits)
    if not settings.temperature:
        found = np.zeros(len(logits), np.uint32)
        found[np.argmin(differences)] = _POWERS[0]
        return found
    step = min(logit_step * UNIT // settings.temperature, _LARGEST_STEP)
    found = weights(differences, step)
    found[logits == FORBIDDEN] = 0
    if 0 < settings.top_k < np.count_nonzero(logits > FORBIDDEN):
        found[differences > np.partition(differences, settings.top_k - 1)[settings.top_k - 1]] = 0
    if settings.top_p < UNIT:
        ascending = np.sort(differences[found > 0], kind="stable")
        reached = np.cumsum(weights(ascending, step), dtype=np.uint64)
        needed = -(-int(reached[-1]) * settings.top_p // UNIT)
        found[differences > ascending[np.searchsorted(reached, np.uint64(needed))]] = 0
    if settings.min_p:
        found[found < settings.min_p << (_WEIGHT_BITS - 24)] = 0
    return found


def _differences(logits: np.ndarray) -> np.ndarray:
    """Returns the differences of the largest logit and each, uint16."""
    largest = int(logits.max())
    if largest == FORBIDDEN:
        raise ModelError("no token can be drawn: each is forbidden, or has the smallest logit that int16 holds")
    return (largest - logits.astype(np.int32)).astype(np.uint16)


def next_token(logits: np.ndarray, logit_step: int, uniform24: int, settings: IntegerSettings) -> int:
    """Draws a token id: the first whose cumulative weight exceeds `uniform24 / 2^24` of the total, rounded down.

    Args:
        logits: int16 `(vocabulary,)`.
        logit_step: from `logit_step`.
        uniform24: the random number, from 0 to 2^24 - 1: Threefry's first word >> 8.
        settings: the settings.

    Raises:
        ModelError: all tokens are forbidden.

    Example:
        >>> next_token(np.int16([0, 1, 0]), 2**40, 2**23, IntegerSettings())
        1
    """
    cumulative = np.cumsum(kept_weights(logits, logit_step, settings), dtype=np.uint64)
    target = int(cumulative[-1]) * uniform24 // UNIT
    return int(np.searchsorted(cumulative, np.uint64(target), side="right"))


def log2(number: int) -> int:
    """Returns the logarithm to base 2 of a positive integer below 2^64, times 2^24, digit by digit.

    Each digit is that of the square's whole part (Knuth, The Art of Computer Programming 1, 1.2.2).

    Example:
        >>> log2(8) / UNIT, round(log2(10) / UNIT, 6)
        (3.0, 3.321928)
    """
    result = number.bit_length() - 1
    square = number << 31 >> result  # from 2^31 up to 2^32, that is from 1 up to 2
    for _ in range(24):
        square = square * square >> 31
        digit = square >> 32
        result, square = result << 1 | digit, square >> digit
    return result


def costs(logits: np.ndarray, logit_step: int, group: Sequence[int] | np.ndarray = ()) -> tuple[np.ndarray, int]:
    """Returns the cost of each token among all that are not forbidden, and that of any of a group.

    A cost is a negative log-probability in units of 2^-24 octaves: `UNIT` is a probability of a half. Costs add up exactly.

    Args:
        logits: int16 `(vocabulary,)`.
        logit_step: from `logit_step`.
        group: ids.

    Returns:
        Int64 `(vocabulary,)`, and an int; IMPOSSIBLE for a forbidden token, and for a group without a weight.

    Raises:
        ModelError: all tokens are forbidden.

    Example:
        >>> each, any_of_them = costs(np.int16([0, 0, 0, 0, FORBIDDEN]), 2**40, [0, 1])
        >>> (each[:4] / UNIT).tolist(), bool(each[4] == IMPOSSIBLE), any_of_them / UNIT
        ([2.0, 2.0, 2.0, 2.0], True, 1.0)
    """
    differences, forbidden = _differences(logits), logits == FORBIDDEN
    found = weights(differences, logit_step)
    found[forbidden] = 0
    total = log2(int(found.sum(dtype=np.uint64)))
    each = (differences.astype(np.int64) * logit_step >> 16) + (total - (_WEIGHT_BITS << 24))
    each[forbidden] = IMPOSSIBLE
    together = int(found[np.asarray(group, np.intp)].sum(dtype=np.uint64))
    return each, total - log2(together) if together else IMPOSSIBLE


class IntegerArithmetic(Arithmetic):
    """The arithmetic of a step whose logits are integers times a scale. The step returns the products, as float32.

    Log-probabilities are costs over -2^24, that is in octaves; float64 holds them, and the sums for a word, exactly.

    Args:
        scale: the scale, as float32.

    Attributes:
        scale: the scale.
        logit_step: from `logit_step`.

    Raises:
        ArgumentError: the scale is not from 2^-24 to 0.5.

    Example:
        >>> IntegerArithmetic(2**-10).next_token(np.float32([0, 1, 2]), 0.5, SamplingSettings(top_k=1), np.zeros(3))
        2
    """

    def __init__(self, scale: float):
        self.logit_step = logit_step(scale)
        self.scale = float(np.float32(scale))

    def require_settings(self, settings: SamplingSettings) -> None:
        """Raises ArgumentError if there is a repetition penalty."""
        IntegerSettings.of(settings)

    def integers(self, logits: np.ndarray) -> np.ndarray:
        """Returns logits divided by the scale, int16 of the same shape.

        Float32 rounds a product by less than a hundredth of the scale, so rounding restores the integer.

        Raises:
            ModelError: a logit is NaN, or is no product of the scale and an int16 number.
        """
        divided = np.rint(logits / np.float32(self.scale))
        if not (divided.min() >= FORBIDDEN and divided.max() <= _LARGEST_LOGIT):  # nor if one is NaN
            raise ModelError("the model's logits must be integers of 16 bits times the scale in its file")
        return divided.astype(np.int16)

    def next_token(
        self,
        logits: np.ndarray,
        uniform: float,
        settings: SamplingSettings,
        logit_bias: np.ndarray,
        history: Sequence[int] = (),
    ) -> int:
        """Draws a token id; see `next_token`. `history` is not used.

        Raises:
            ArgumentError: there is a repetition penalty.
            ModelError: all tokens are forbidden, or the logits are not those of integers.
        """
        biased = add_bias(self.integers(logits), logit_bias, self.scale)
        return next_token(biased, self.logit_step, int(uniform * UNIT), IntegerSettings.of(settings))

    def probabilities(self, logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Returns the probability of each of some tokens among them, `(tokens,)` float64; 0 if it is forbidden."""
        found, _ = self.log_probabilities(logits, tokens, tokens[:0])
        # Also one that is too unlikely for float64 is possible.
        return np.where(
            np.isneginf(found[tokens]), 0, np.maximum(np.exp2(found[tokens]), np.finfo(float).smallest_subnormal)
        )

    def log_probabilities(self, logits: np.ndarray, tokens: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns what `Arithmetic.log_probabilities` does, in octaves."""
        among = np.full(len(logits), FORBIDDEN, np.int16)
        if len(tokens):
            among[tokens] = self.integers(logits[tokens])
        if (among == FORBIDDEN).all():
            return np.full(len(logits), -np.inf), -math.inf
        each, together = costs(among, self.logit_step, group)
        log_probabilities = np.where(each == IMPOSSIBLE, -np.inf, each / -UNIT)
        return log_probabilities, -math.inf if together == IMPOSSIBLE else together / -UNIT

    def probability(self, log_probability: float) -> float:
        """Returns 2 to the power of a sum of numbers from `log_probabilities`."""
        return float(np.exp2(log_probability))
