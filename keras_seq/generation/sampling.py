"""The draw of a token on the host: filters of logits and the inverse CDF, as pure functions of NumPy arrays.

The order is fixed, here and in every other runtime: forbid and bias, repetition penalty, temperature, top_k, top_p,
min_p, softmax, inverse CDF in the order of the ids. A filter sets logits to -inf; thresholds keep ties; the most likely
token always stays. `graph_sampling` says the same in TensorFlow.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary

# What decides which token is drawn of those that may follow, as against what changes how likely they are.
DRAWING = ("temperature", "top_k", "top_p", "min_p")
# Less is not a normal float32 number: some processors take it for 0, TensorFlow in some threads.
SMALLEST_TEMPERATURE = float(np.finfo(np.float32).tiny)
# Far beyond any use; with more, logits would come so close to each other that float32 cannot tell them apart.
LARGEST_TEMPERATURE = 1e6
# Of a token's bias: what a repetition penalty makes of it must not leave float32.
LARGEST_BIAS = 1e30


@dataclass(frozen=True)
class SamplingSettings:
    """How a token is drawn.

    What each means, and its limits: `keras_seq.generation.text.Options`.

    Raises:
        ValueError: a value is out of range or not a number; named.
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
            require.that(require.is_number(value) and value == value, name, "a number", value)
        self._require("temperature", 0 <= self.temperature <= LARGEST_TEMPERATURE, "from 0 (greedy) to 1e6")
        self._require("top_k", require.is_integer(self.top_k) and self.top_k >= 0, "0 (off) or a positive integer")
        self._require("top_p", 0 < self.top_p <= 1, "above 0 and at most 1 (off)")
        self._require("min_p", 0 <= self.min_p <= 1, "from 0 (off) to 1")
        # Beyond these the quotients would leave float32.
        self._require("repetition_penalty", 1e-6 <= self.repetition_penalty <= 1e6, "from 1e-6 to 1e6 (1 is off)")
        require.boolean("allow_unk", self.allow_unk)
        numbers = self.bias.values() if isinstance(self.bias, Mapping) else [None]
        is_bias = all(require.is_number(one) and (one == -math.inf or abs(one) <= LARGEST_BIAS) for one in numbers)
        self._require("bias", is_bias, "numbers by token, from -1e30 to 1e30, or -inf to forbid one")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        require.that(holds, name, expected, getattr(self, name))

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is taken."""
        return self.temperature < SMALLEST_TEMPERATURE


def logit_bias(vocabulary: Vocabulary, settings: SamplingSettings) -> np.ndarray:
    """Returns what is added to the logits, `(vocabulary,)` float32: the bias, and -inf for what is never drawn.

    Never drawn are `<pad>`, `<s>` and, unless allowed, `<unk>`.

    Raises:
        ValueError: `settings.bias` is for a token that the vocabulary lacks, or that is never drawn, or leaves none.

    Example:
        >>> vocabulary = Vocabulary.from_text("abc")
        >>> logit_bias(vocabulary, SamplingSettings(bias={"b": -2.0})).tolist()
        [-inf, -inf, 0.0, 0.0, -2.0, 0.0]
    """
    never = {vocabulary.tokens[vocabulary.pad_id], vocabulary.tokens[vocabulary.start_id]}
    if vocabulary.unk_id is not None and not settings.allow_unk:
        never.add(vocabulary.tokens[vocabulary.unk_id])
    ids = vocabulary.ids
    added = np.zeros(len(vocabulary), np.float32)
    for token, value in settings.bias.items():
        if token not in ids:
            raise ValueError(
                "`bias` must be for tokens of the vocabulary. "
                f"Received: bias for {token!r}{_with_its_space(token, vocabulary)}"
            )
        if token in never:
            unless = " unless `allow_unk` is True" if vocabulary.unk_id == ids[token] else ""
            raise ValueError(f"`bias` must be for tokens that may be drawn; {token} never is{unless}")
        added[ids[token]] = value
    added[[ids[token] for token in never]] = -np.inf
    if not np.isfinite(added).any():
        raise ValueError("`bias` must leave a token that may be drawn. Received: -inf for every one")
    return added


def _with_its_space(token: object, vocabulary: Vocabulary) -> str:
    spaced = f" {token}"
    return f"; the word after a space is the token {spaced!r}" if spaced in vocabulary.ids else ""


def penalize_repetition(logits: np.ndarray, history: Sequence[int], penalty: float) -> np.ndarray:
    """Divides positive and multiplies negative logits `(vocabulary,)` of tokens in `history` by `penalty`."""
    logits = np.array(logits, np.float32)
    seen = np.unique(np.asarray(history, np.int64))
    factor = np.float32(penalty)
    logits[seen] = np.where(logits[seen] > 0, logits[seen] / factor, logits[seen] * factor)
    return logits


def apply_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Divides the distances of logits `(..., vocabulary)` to the largest by `temperature`, `SMALLEST_TEMPERATURE` or more.

    Subtracting the largest first keeps small temperatures from overflowing, and changes no probability.
    """
    with np.errstate(over="ignore"):  # A distance too large for float32 becomes -inf: probability 0, as it should be.
        return (logits - logits.max(axis=-1, keepdims=True)) / np.float32(temperature)


def keep_top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """Sets all but the k largest logits of each row to -inf; keeps ties. logits: `(..., vocabulary)`; 0 is off.

    Example:
        >>> keep_top_k(np.array([1.0, 3.0, 2.0, 2.0]), 2).tolist()
        [-inf, 3.0, 2.0, 2.0]
    """
    if not 0 < k < logits.shape[-1]:
        return logits
    threshold = np.partition(logits, -k, axis=-1)[..., -k, None]
    return np.where(logits >= threshold, logits, -np.inf)


def keep_top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Keeps the smallest set of most likely tokens with at least probability `p`; keeps ties at its edge. 1 is off."""
    if p >= 1:
        return logits
    descending = np.flip(np.sort(logits, axis=-1), axis=-1)
    weights = np.exp(descending - descending[..., :1])
    reached = np.cumsum(weights, axis=-1, dtype=np.float64)
    needed = np.maximum((reached - weights < p * reached[..., -1:]).sum(axis=-1, keepdims=True), 1)
    threshold = np.take_along_axis(descending, needed - 1, axis=-1)
    return np.where(logits >= threshold, logits, -np.inf)


def keep_min_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Keeps tokens with at least the share `p` of the highest probability. logits: `(..., vocabulary)`; 0 is off."""
    if np.float32(p) == 0:
        return logits
    return np.where(logits >= logits.max(axis=-1, keepdims=True) + np.log(np.float32(p)), logits, -np.inf)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns log-probabilities of logits `(..., vocabulary)`, in nats and float64, as sums over long texts need."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


def draw(logits: np.ndarray, uniform: float) -> int:
    """Returns the first id whose cumulative probability exceeds `uniform` in [0, 1). logits: `(vocabulary,)`.

    The uniform is scaled by the sum, which it can never reach: there is always such an id. Summed in float64: in float32
    ten thousand probabilities are wrong by 1e-5 in the end, more than many a token has.
    """
    cumulative = np.cumsum(np.exp(logits - logits.max()), dtype=np.float64)
    return int((cumulative <= uniform * cumulative[-1]).sum())


def adjust(
    logits: np.ndarray, settings: SamplingSettings, logit_bias: np.ndarray, history: Sequence[int]
) -> np.ndarray:
    """Returns logits `(vocabulary,)` after what looks at single tokens: forbid, bias, repetition penalty.

    Raises:
        ValueError: a logit is not a number, or none is finite.
    """
    logits = np.asarray(logits, np.float32) + logit_bias
    if settings.repetition_penalty != 1:
        logits = penalize_repetition(logits, history, settings.repetition_penalty)
    if np.isnan(logits).any() or not np.isfinite(logits.max()):
        raise ValueError("the model's logits must be numbers, one of them finite at least; these are not")
    return logits


def keep(logits: np.ndarray, settings: SamplingSettings, logit_bias: np.ndarray, history: Sequence[int]) -> np.ndarray:
    """Returns logits `(vocabulary,)` after the temperature, -inf for all tokens but those that may be drawn.

    Raises:
        ValueError: a logit is not a number, or none is finite.
    """
    logits = adjust(logits, settings, logit_bias, history)
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
    """Draws a token id from logits `(vocabulary,)` and one uniform number in [0, 1).

    Args:
        logits: as the model gives them.
        uniform: the random number.
        settings: how to draw.
        logit_bias: what is added to the logits, `(vocabulary,)`, as the function of this name gives it.
        history: ids of the text so far.

    Raises:
        ValueError: a logit is not a number, or none is finite.
    """
    logits = keep(logits, settings, logit_bias, history)
    return int(np.argmax(logits)) if settings.is_greedy else draw(logits, uniform)
