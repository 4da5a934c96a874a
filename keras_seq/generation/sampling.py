"""Drawing a token from logits, as pure functions of NumPy arrays.

The order of the steps is fixed, here and in every other runtime: forbid tokens and add the bias, repetition penalty,
temperature, top_k, top_p, min_p, softmax, inverse CDF in the order of the ids. A filter sets logits to -inf; it keeps
ties and always keeps the most likely token. `keras_seq_export.graph.sampling` is the same in TensorFlow.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ArgumentError, ConfigError, ModelError

# The settings that every runtime's draw takes, in the order of the inputs of the signature `sample`. The other settings
# change the logits of single tokens.
DRAW_SETTINGS = ("temperature", "top_k", "top_p", "min_p")
# The smallest normal float32 number. Some processors, and some threads of TensorFlow, flush smaller numbers to 0.
SMALLEST_TEMPERATURE = float(np.finfo(np.float32).tiny)
# Larger temperatures bring the logits so close together that float32 cannot tell them apart.
LARGEST_TEMPERATURE = 1e6
# A larger bias could overflow float32 when the repetition penalty multiplies it.
LARGEST_BIAS = 1e30


@dataclass(frozen=True)
class SamplingSettings:
    """The settings with which a token is drawn; `keras_seq.generation.text.Options` documents each.

    Raises:
        ArgumentError: a value is out of range or not a number.

    Example:
        >>> SamplingSettings(temperature=0.8, top_k=40).is_greedy
        False
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    allow_unk: bool = False
    bias: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            require.that(require.is_number(value) and value == value, name, "a number", value)  # NaN != NaN
        self._require("temperature", 0 <= self.temperature <= LARGEST_TEMPERATURE, "from 0 (greedy) to 1e6")
        self._require("top_k", require.is_integer(self.top_k) and self.top_k >= 0, "0 (off) or a positive integer")
        self._require("top_p", 0 < self.top_p <= 1, "above 0 and at most 1 (off)")
        self._require("min_p", 0 <= self.min_p <= 1, "from 0 (off) to 1")
        # Beyond these limits, a penalized logit could overflow float32.
        self._require("repetition_penalty", 1e-6 <= self.repetition_penalty <= 1e6, "from 1e-6 to 1e6 (1 is off)")
        require.boolean("allow_unk", self.allow_unk)
        numbers = self.bias.values() if isinstance(self.bias, Mapping) else [None]
        is_bias = all(require.is_number(one) and (one == -math.inf or abs(one) <= LARGEST_BIAS) for one in numbers)
        self._require("bias", is_bias, "a mapping from tokens to numbers from -1e30 to 1e30, or -inf to forbid one")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        require.that(holds, name, expected, getattr(self, name))

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is taken instead of a random one."""
        return self.temperature < SMALLEST_TEMPERATURE


def logit_bias(vocabulary: Vocabulary, settings: SamplingSettings) -> np.ndarray:
    """Returns the array to add to the logits, `(vocabulary,)` float32: `settings.bias`, and -inf for forbidden tokens.

    `<pad>` and `<s>` are always forbidden, and `<unk>` unless `settings.allow_unk` is True.

    Raises:
        ArgumentError: the vocabulary lacks `<pad>`, `<s>` or `<eos>`; or `settings.bias` has a token that the vocabulary
            lacks or that is forbidden.
        ConfigError: `settings.bias` forbids all other tokens.

    Example:
        >>> vocabulary = Vocabulary.from_text("abc")
        >>> logit_bias(vocabulary, SamplingSettings(bias={"b": -2.0})).tolist()
        [-inf, -inf, 0.0, 0.0, -2.0, 0.0]
    """
    forbidden = [vocabulary.pad_id, vocabulary.start_id]
    if vocabulary.unk_id is not None and not settings.allow_unk:
        forbidden.append(vocabulary.unk_id)
    added = np.zeros(len(vocabulary), np.float32)
    for token, value in settings.bias.items():
        token_id = vocabulary.ids.get(token)
        if token_id is None:
            expected = f"for tokens of the vocabulary{_hint_of_space(token, vocabulary)}"
            raise ArgumentError("bias", expected, {token: value})
        if token_id in forbidden:
            unless = " unless `allow_unk` is True" if token_id == vocabulary.unk_id else ""
            expected = f"for tokens that may be drawn; {token} is never drawn{unless}"
            raise ArgumentError("bias", expected, {token: value})
        added[token_id] = value
    added[forbidden] = -np.inf
    if not np.isfinite(added).any():
        raise ConfigError("{} must leave a token that may be drawn. Received: -inf for every token", "bias")
    return added


def _hint_of_space(token: object, vocabulary: Vocabulary) -> str:
    spaced = f" {token}"
    return f", such as {spaced!r}, the word after a space" if spaced in vocabulary.ids else ""


def penalize_repetition(logits: np.ndarray, history: Sequence[int], penalty: float) -> np.ndarray:
    """Divides the positive logits, and multiplies the negative ones, of the tokens in `history` by `penalty`.

    Args:
        logits: `(vocabulary,)`.
        history: ids of the prompt and of the text so far.
        penalty: above 1 makes these tokens less likely. Keskar et al. 2019, arXiv 1909.05858.

    Example:
        >>> penalize_repetition(np.array([2.0, -2.0, 3.0]), [0, 1, 1], 2.0).tolist()
        [1.0, -4.0, 3.0]
    """
    logits = np.array(logits, np.float32)
    seen = np.unique(np.asarray(history, np.int64))
    factor = np.float32(penalty)
    logits[seen] = np.where(logits[seen] > 0, logits[seen] / factor, logits[seen] * factor)
    return logits


def apply_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Subtracts the largest logit of each row and divides by `temperature`, which is at least `SMALLEST_TEMPERATURE`.

    The subtraction changes no probability; it avoids an overflow at low temperatures. logits: `(..., vocabulary)`.
    """
    with np.errstate(over="ignore"):  # A difference too large for float32 becomes -inf, that is probability 0.
        return (logits - logits.max(axis=-1, keepdims=True)) / np.float32(temperature)


def keep_top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """Sets all but the k largest logits of each row to -inf; keeps ties. logits: `(..., vocabulary)`. 0 is off.

    Fan et al. 2018, arXiv 1805.04833.

    Example:
        >>> keep_top_k(np.array([1.0, 3.0, 2.0, 2.0]), 2).tolist()
        [-inf, 3.0, 2.0, 2.0]
    """
    if not 0 < k < logits.shape[-1]:
        return logits
    threshold = np.partition(logits, -k, axis=-1)[..., -k, None]
    return np.where(logits >= threshold, logits, -np.inf)


def keep_top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Keeps the smallest set of most likely tokens with a total probability of at least `p`; keeps ties. 1 is off.

    logits: `(..., vocabulary)`. Holtzman et al. 2020, arXiv 1904.09751.

    Example:
        >>> keep_top_p(np.log([0.5, 0.25, 0.125, 0.125]), 0.7).round(2).tolist()
        [-0.69, -1.39, -inf, -inf]
    """
    if p >= 1:
        return logits
    descending = np.flip(np.sort(logits, axis=-1), axis=-1)
    weights = np.exp(descending - descending[..., :1])
    reached = np.cumsum(weights, axis=-1, dtype=np.float64)
    needed = np.maximum((reached - weights < p * reached[..., -1:]).sum(axis=-1, keepdims=True), 1)
    threshold = np.take_along_axis(descending, needed - 1, axis=-1)
    return np.where(logits >= threshold, logits, -np.inf)


def keep_min_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Keeps the tokens whose probability is at least `p` times the highest. logits: `(..., vocabulary)`. 0 is off.

    Nguyen et al. 2024, arXiv 2407.01082.

    Example:
        >>> keep_min_p(np.log([0.5, 0.25, 0.125, 0.125]), 0.4).round(2).tolist()
        [-0.69, -1.39, -inf, -inf]
    """
    if np.float32(p) == 0:
        return logits
    return np.where(logits >= logits.max(axis=-1, keepdims=True) + np.log(np.float32(p)), logits, -np.inf)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the log-probabilities of logits `(..., vocabulary)`, in nats, in float64 for sums over long texts."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


def inverse_cdf(logits: np.ndarray, uniform: float) -> int:
    """Returns the first id whose cumulative probability exceeds `uniform` in [0, 1). logits: `(vocabulary,)`.

    There is always such an id, because `uniform` times the total is less than the total. The sum is in float64: in
    float32, the cumulative sum of ten thousand probabilities is wrong by 1e-5, more than many tokens have.

    Example:
        >>> inverse_cdf(np.log(np.array([0.25, 0.5, 0.25])), 0.6)
        1
    """
    cumulative = np.cumsum(np.exp(logits - logits.max()), dtype=np.float64)
    return int((cumulative <= uniform * cumulative[-1]).sum())


def adjust_logits(
    logits: np.ndarray, settings: SamplingSettings, logit_bias: np.ndarray, history: Sequence[int]
) -> np.ndarray:
    """Returns logits `(vocabulary,)` after the steps that concern single tokens: bias and repetition penalty.

    Raises:
        ModelError: a logit is NaN, or none is finite.
    """
    logits = np.asarray(logits, np.float32) + logit_bias
    if settings.repetition_penalty != 1:
        logits = penalize_repetition(logits, history, settings.repetition_penalty)
    if np.isnan(logits).any() or not np.isfinite(logits.max()):
        raise ModelError("the model's logits must be numbers, not NaN, and the largest must be finite")
    return logits


def filter_logits(
    logits: np.ndarray, settings: SamplingSettings, logit_bias: np.ndarray, history: Sequence[int]
) -> np.ndarray:
    """Returns logits `(vocabulary,)` after all steps before the softmax: -inf for the tokens that may not be drawn.

    Raises:
        ModelError: a logit is NaN, or none is finite.
    """
    logits = adjust_logits(logits, settings, logit_bias, history)
    if settings.is_greedy:
        return keep_top_k(logits, 1)
    logits = apply_temperature(logits, settings.temperature)
    logits = keep_top_k(logits, settings.top_k)
    logits = keep_top_p(logits, settings.top_p)
    return keep_min_p(logits, settings.min_p)


def next_token(
    logits: np.ndarray,
    uniform: float,
    settings: SamplingSettings,
    logit_bias: np.ndarray,
    history: Sequence[int] = (),
) -> int:
    """Draws a token id from the model's logits and one uniform number.

    Args:
        logits: the model's logits, `(vocabulary,)`.
        uniform: the random number, in [0, 1).
        settings: the settings of the draw.
        logit_bias: array to add to the logits, `(vocabulary,)`, from the function `logit_bias`.
        history: ids of the prompt and of the text so far, for the repetition penalty.

    Raises:
        ModelError: a logit is NaN, or none is finite.

    Example:
        >>> next_token(np.array([0.0, 1.0, 2.0]), 0.5, SamplingSettings(top_k=1), np.zeros(3))
        2
    """
    logits = filter_logits(logits, settings, logit_bias, history)
    return int(np.argmax(logits)) if settings.is_greedy else inverse_cdf(logits, uniform)
