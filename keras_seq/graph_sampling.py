"""The draw of a token inside a graph: the twin of `sampling`, in TensorFlow, for the exported models.

`next_token` and `log_probability` convert to TFLite's builtin operators; `uniform` is for the server alone, since a
device's host passes the uniform in.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_seq import threefry
from keras_seq.sampling import SMALLEST_TEMPERATURE


def next_token(
    logits: tf.Tensor,
    uniform: tf.Tensor,
    temperature: tf.Tensor,
    top_k: tf.Tensor,
    top_p: tf.Tensor,
    min_p: tf.Tensor,
    logit_bias: np.ndarray,
) -> tf.Tensor:
    """Returns a token id for each row, `(batch,)` int32.

    Args:
        logits: `(batch, vocabulary)` float32.
        uniform: `(batch,)` float32 in [0, 1).
        temperature: `(batch,)` float32; 0 is greedy.
        top_k: `(batch,)` int32; 0 is off.
        top_p: `(batch,)` float32; 1 is off.
        min_p: `(batch,)` float32; 0 is off.
        logit_bias: what is added to the logits, `(vocabulary,)`, as `sampling.logit_bias` gives it.
    """
    logits = logits + logit_bias
    # Columns, `(batch, 1)`: they broadcast along the vocabulary.
    uniform, temperature, top_k, top_p, min_p = (
        tf.expand_dims(value, 1) for value in (uniform, temperature, top_k, top_p, min_p)
    )
    scaled = (logits - tf.reduce_max(logits, -1, keepdims=True)) / tf.maximum(temperature, SMALLEST_TEMPERATURE)
    weights = tf.exp(scaled)
    threshold = tf.maximum(_top_k_top_p_threshold(scaled, weights, top_k, top_p), tf.math.log(min_p))
    # Greedy keeps the most likely tokens alone, and takes the first of them.
    greedy = temperature < SMALLEST_TEMPERATURE
    threshold, uniform = tf.where(greedy, 0.0, threshold), tf.where(greedy, 0.0, uniform)
    cumulative = tf.cumsum(_exactly_summable(weights * tf.cast(scaled >= threshold, tf.float32)), axis=-1)
    # Not a sum of its own, which may round to more than the last step: then no token would be left to draw.
    passed = cumulative * 2**24 <= tf.cast(uniform * 2**24, cumulative.dtype) * cumulative[:, -1:]
    return tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)


def _exactly_summable(weights: tf.Tensor) -> tf.Tensor:
    """Returns weights, `(batch, vocabulary)` up to 1, in a form whose sums round hardly or not at all.

    Ten thousand float32 probabilities added one by one are wrong by 1e-5, more than many a token has: runtimes would
    draw its neighbour once in 1,000 tokens. Whole numbers of 64 bits add up exactly, in TFLite too.
    """
    if _is_small(weights.shape[-1]):
        return weights
    total = tf.reduce_sum(weights, axis=-1, keepdims=True)
    # A power of two, so that nothing is rounded: the whole is near 2^37, and 2^24 times that still fits.
    scale = tf.pow(2.0, 37 - tf.floor(tf.math.log(total) / np.float32(np.log(2))))
    return tf.cast(weights * scale, tf.int64)


def log_probability(logits: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Returns the log-probability of each row's token, `(batch,)`, by the model's own softmax, before any filter."""
    # Not tf.nn.log_softmax, which takes the logarithm of every token's probability.
    highest = tf.reduce_max(logits, axis=-1, keepdims=True)
    total = tf.reduce_sum(tf.exp(logits - highest), axis=-1, keepdims=True)
    return tf.squeeze(_at(logits, tf.expand_dims(token, 1)) - highest - tf.math.log(total), 1)


def uniform(seed: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Returns `threefry.uniform` of each row's seed, `(batch,)` int64, and position, `(batch,)` int32: `(batch,)` float32."""
    # uint32 arithmetic in int64: what overflows is cut off by the mask.
    mask = tf.constant(0xFFFFFFFF, tf.int64)
    low, high = seed & mask, tf.bitwise.right_shift(seed, tf.constant(32, tf.int64)) & mask
    words = (
        low,
        high,
        tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(low, high), tf.constant(threefry.PARITY, tf.int64)),
    )
    x0 = (tf.cast(position, tf.int64) + words[0]) & mask
    x1 = words[1]
    for number in range(threefry.ROUNDS):
        x0 = (x0 + x1) & mask
        rotation = threefry.ROTATIONS[number % 8]
        rotated = tf.bitwise.bitwise_or(
            tf.bitwise.left_shift(x1, tf.constant(rotation, tf.int64)) & mask,
            tf.bitwise.right_shift(x1, tf.constant(32 - rotation, tf.int64)),
        )
        x1 = tf.bitwise.bitwise_xor(rotated, x0)
        if number % 4 == 3:
            injection = number // 4 + 1
            x0 = (x0 + words[injection % 3]) & mask
            x1 = (x1 + words[(injection + 1) % 3] + injection) & mask
    return tf.cast(tf.bitwise.right_shift(x0, tf.constant(8, tf.int64)), tf.float32) * 2.0**-24


# How many of the largest logits are looked at first: in LiteRT the 64 largest of 10,000 take 14 us, all of them in order
# 820. Where these do not settle it, halving an interval around the threshold takes 170, however many tokens are kept.
FIRST_LOOK = 64
LOWEST = np.finfo(np.float32).min
HALVINGS = 28  # of the logits' range, down to the spacing of float32
# The largest are looked for in the groups with the largest maxima, where that is shorter: half the time for 64 of 10,000.
GROUP = 25


def _is_small(size: int) -> bool:
    """Whether a vocabulary is looked at whole, and summed in float32."""
    return size <= 4 * FIRST_LOOK


def _top_k_top_p_threshold(scaled: tf.Tensor, weights: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor) -> tf.Tensor:
    """Returns a logit in each row, `(batch, 1)`, from which on top_k and then top_p keep; very low where both are off.

    Both keep the most likely tokens down to some logit, ties included, so that one look at the largest serves both.

    Args:
        scaled: logits after the temperature, `(batch, vocabulary)`, the largest 0.
        weights: their exponentials.
        top_k: `(batch, 1)`.
        top_p: `(batch, 1)`.
    """
    size = scaled.shape[-1]
    count = size if _is_small(size) else FIRST_LOOK
    has_k, has_p = (top_k > 0) & (top_k < size), top_p < 1
    largest = _largest(scaled, count)
    by_k = tf.where(has_k, _at(largest, tf.clip_by_value(top_k, 1, count) - 1), LOWEST)
    # The k-th, or a tie of it, may be out of sight; then so is all that top_p needs to know.
    beyond = has_k & ((top_k > count) | (largest[:, -1:] >= by_k)) if count < size else None
    if beyond is not None:
        by_k = _where_any(beyond, lambda: _halve(scaled, tf.ones_like(scaled), tf.cast(top_k, tf.float32)), by_k)
    kept = tf.exp(largest) * tf.cast(largest >= by_k, tf.float32)
    all_weights = tf.reduce_sum(weights, axis=-1, keepdims=True)
    total = tf.where(has_k, tf.reduce_sum(kept, axis=-1, keepdims=True), all_weights)
    enough = tf.cumsum(kept, axis=-1, exclusive=True) < top_p * total
    needed = tf.reduce_sum(tf.cast(enough, tf.int32), axis=-1, keepdims=True)
    by_p = tf.where(has_p, _at(largest, tf.maximum(needed, 1) - 1), LOWEST)
    if beyond is not None:

        def among_all() -> tf.Tensor:
            measure = weights * _at_least(scaled, by_k)
            return _halve(scaled, measure, top_p * tf.reduce_sum(measure, axis=-1, keepdims=True))

        by_p = _where_any(has_p & (beyond | (~has_k & (needed >= count))), among_all, by_p)
    return tf.maximum(by_k, by_p)


def _where_any(condition: tf.Tensor, compute: Callable[[], tf.Tensor], otherwise: tf.Tensor) -> tf.Tensor:
    """Is `tf.where`, computed only if the condition holds in some row; each row is as if alone."""
    return tf.cond(tf.reduce_any(condition), lambda: tf.where(condition, compute(), otherwise), lambda: otherwise)


def _halve(scaled: tf.Tensor, measure: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Returns the largest logit of each row, `(batch, 1)`, from which on the `measure` adds up to the `target`."""
    # exp of less than -104 is 0 in float32: such tokens are never drawn.
    low = tf.reduce_min(tf.where(scaled < -104.0, 0.0, scaled), axis=-1, keepdims=True)
    width = -low
    for _ in range(HALVINGS):
        width /= 2
        reached = tf.reduce_sum(measure * _at_least(scaled, low + width), axis=-1, keepdims=True)
        low += width * _at_least(reached, target)
    return low


def _at_least(values: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
    """Returns 1.0 where a value is `bound` or more, else 0.0.

    By arithmetic, which XNNPACK vectorizes: a comparison and a cast take half as long again.
    """
    return tf.minimum(tf.maximum((values - bound) * 3e38 + 1, 0.0), 1.0)


def _largest(values: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the `count` largest of each row, in descending order."""
    size = values.shape[-1]
    groups = -(-size // GROUP)
    if count < groups / 2:
        padded = tf.pad(values, [[0, 0], [0, groups * GROUP - size]], constant_values=-np.inf)
        by_group = tf.reshape(padded, [-1, groups, GROUP])
        best = tf.math.top_k(tf.reduce_max(by_group, axis=-1), k=count).indices
        values = tf.reshape(tf.gather(by_group, best, axis=1, batch_dims=1), [-1, count * GROUP])
    return tf.math.top_k(values, k=count).values


def _at(values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Returns the value at each row's index: `(batch, size)`, `(batch, 1)` -> `(batch, 1)`."""
    return tf.gather(values, index, axis=1, batch_dims=1)
