"""Drawing a token inside a graph: `keras_seq.generation.sampling` in TensorFlow, for the exported models.

`next_token` and `log_probability` convert to TFLite's builtin operators. `uniform` is only for the server: on a device,
the host passes the uniform number in.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_seq.generation import threefry
from keras_seq.generation.sampling import SMALLEST_TEMPERATURE

# A vocabulary of at most this size is sorted completely.
SMALL_VOCABULARY = 256
# In a larger vocabulary, the draw first considers this many of the largest logits, one more than `top_k=64` keeps. In
# LiteRT, finding the 65 largest of 10,000 takes 14 us; sorting all takes 820 us. If a row needs more tokens than these,
# its draw bisects for the threshold and sums over the whole vocabulary.
CANDIDATES = 65
# Large vocabularies are processed in groups of this size. The largest logits are in the groups with the largest maxima,
# so finding the 65 largest of 10,000 takes half the time.
GROUP = 25
# Each bisection halves a range of at most 104, so the threshold is exact to 4e-7, less than the differences between
# runtimes.
BISECTIONS = 28
LOWEST = float(np.finfo(np.float32).min)


def next_token(
    logits: tf.Tensor,
    uniform: tf.Tensor,
    temperature: tf.Tensor,
    top_k: tf.Tensor,
    top_p: tf.Tensor,
    min_p: tf.Tensor,
    logit_bias: np.ndarray,
) -> tf.Tensor:
    """Draws a token for each row, `(batch,)` int32.

    Args:
        logits: `(batch, vocabulary)` float32.
        uniform: `(batch,)` float32 in [0, 1).
        temperature: `(batch,)` float32; 0 is greedy.
        top_k: `(batch,)` int32; 0 is off.
        top_p: `(batch,)` float32; 1 is off.
        min_p: `(batch,)` float32; 0 is off.
        logit_bias: array to add to the logits, `(vocabulary,)`, from `keras_seq.generation.sampling.logit_bias`.
    """
    logits = logits + logit_bias
    # Columns, `(batch, 1)`, broadcast along the vocabulary.
    uniform, temperature, top_k, top_p, min_p = (
        tf.expand_dims(value, 1) for value in (uniform, temperature, top_k, top_p, min_p)
    )
    scaled = (logits - tf.reduce_max(logits, -1, keepdims=True)) / tf.maximum(temperature, SMALLEST_TEMPERATURE)
    scaled = tf.maximum(scaled, LOWEST)  # The difference of two infinite logits would be NaN.
    weights = tf.exp(scaled)
    # Greedy sampling keeps the most likely tokens and takes the first of them.
    greedy = temperature < SMALLEST_TEMPERATURE
    top_k, uniform = tf.where(greedy, 1, top_k), tf.where(greedy, 0.0, uniform)
    if logits.shape[-1] <= SMALL_VOCABULARY:
        threshold, _ = _threshold(_largest(scaled, scaled.shape[-1])[0], top_k, top_p, min_p)
        return _inverse_cdf(weights * _at_least(scaled, threshold), uniform)
    return _draw_from_many(scaled, weights, uniform, top_k, top_p, min_p)


def log_probability(logits: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Returns the log-probability of each row's token, `(batch,)`, in nats, by the softmax before any filter."""
    # tf.nn.log_softmax would take the logarithm of the probability of every token.
    highest, total = _highest_and_total(logits)
    return tf.squeeze(_gather(logits, tf.expand_dims(token, 1)) - highest - tf.math.log(total), 1)


def are_numbers(logits: tf.Tensor) -> tf.Tensor:
    """Returns whether a row of logits has no NaN and its largest logit is finite, `(batch,)` bool."""
    _, total = _highest_and_total(logits)  # The same expression as in `log_probability`; a graph computes it once.
    return tf.squeeze(tf.math.is_finite(total), 1)


def uniform(seed: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Returns `keras_seq.generation.threefry.uniform` for each row, `(batch,)` float32.

    Args:
        seed: `(batch,)` int64.
        position: `(batch,)` int32.
    """
    # Arithmetic of uint32 in int64: the mask removes the overflow.
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


def _highest_and_total(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the largest logit of each row, and the sum of exp(logit - largest): `(batch, 1)` each."""
    highest = tf.reduce_max(logits, axis=-1, keepdims=True)
    return highest, tf.reduce_sum(tf.exp(logits - highest), axis=-1, keepdims=True)


def _threshold(
    ordered: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor, min_p: tf.Tensor, everything: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the smallest logit that all three filters keep, and the smallest that top_k keeps, `(batch, 1)` each.

    Each filter keeps the most likely tokens down to some logit, so one threshold replaces all three. The function uses
    few operators, because each costs 0.1 us in LiteRT.

    Args:
        ordered: the largest logits after the temperature, in descending order, `(batch, count)`; the first is 0.
        top_k: `(batch, 1)`; 0, or more than `count`, keeps all.
        top_p: `(batch, 1)`.
        min_p: `(batch, 1)`.
        everything: total weight of the vocabulary, `(batch, 1)`; None if `ordered` is the whole vocabulary.
    """
    count = ordered.shape[-1]
    by_k = _gather(ordered, (tf.minimum(top_k, count) - 1) % count)
    kept = tf.exp(ordered) * _at_least(ordered, by_k)
    total = tf.reduce_sum(kept, axis=-1, keepdims=True)
    if everything is not None:
        total = tf.where(top_k > 0, total, everything)
    reached = _at_least(tf.cumsum(kept, axis=-1, exclusive=True), top_p * total)
    needed = count - tf.cast(tf.reduce_sum(reached, axis=-1, keepdims=True), tf.int32)
    by_p = _gather(ordered, tf.maximum(needed, 1) - 1)
    return tf.maximum(tf.maximum(by_k, by_p), tf.math.log(min_p)), by_k


def _draw_from_many(
    scaled: tf.Tensor, weights: tf.Tensor, uniform: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor, min_p: tf.Tensor
) -> tf.Tensor:
    """Draws from a large vocabulary: among the candidates in the rows that keep no other token, else among all tokens.

    The draw of a row does not depend on the other rows.

    Args:
        scaled: logits after the temperature, `(batch, vocabulary)`; the largest is 0.
        weights: exponentials of `scaled`.
        uniform: `(batch, 1)`.
        top_k: `(batch, 1)`.
        top_p: `(batch, 1)`.
        min_p: `(batch, 1)`.
    """
    largest, ids = _largest(scaled, CANDIDATES)
    threshold, by_k = _threshold(largest, top_k, top_p, min_p, tf.reduce_sum(weights, axis=-1, keepdims=True))
    smallest = largest[:, -1:]
    # At the smallest candidate there may be ties among the other tokens, and top_p depends on all that top_k keeps.
    settled = tf.squeeze((threshold > smallest) & ((top_k <= 0) | (by_k > smallest)), 1)
    by_id = tf.math.top_k(-ids, k=CANDIDATES).indices
    kept = tf.gather(tf.exp(largest) * _at_least(largest, threshold), by_id, axis=1, batch_dims=1)
    ids = tf.gather(ids, by_id, axis=1, batch_dims=1)
    among_candidates = tf.squeeze(_gather(ids, tf.expand_dims(_inverse_cdf(kept, uniform), 1)), 1)

    def among_all() -> tf.Tensor:
        has_k = (top_k > 0) & (top_k < scaled.shape[-1])
        by_k = _where_any(has_k, lambda: _bisect(scaled, tf.ones_like(scaled), tf.cast(top_k, tf.float32)), LOWEST)

        def nucleus() -> tf.Tensor:
            kept = weights * _at_least(scaled, by_k)
            return _bisect(scaled, kept, top_p * tf.reduce_sum(kept, axis=-1, keepdims=True))

        by_p = _where_any(top_p < 1, nucleus, LOWEST)
        threshold = tf.maximum(tf.maximum(by_k, by_p), tf.math.log(min_p))
        return _inverse_cdf_by_group(weights * _at_least(scaled, threshold), uniform)

    return _where_any(~settled, among_all, among_candidates)


def _inverse_cdf(weights: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Returns the first index of each row whose cumulative weight exceeds `uniform` times the total, `(batch,)` int32.

    Args:
        weights: `(batch, count)`.
        uniform: `(batch, 1)`.
    """
    cumulative = tf.cumsum(weights, axis=-1)
    # The total is the last cumulative sum. A separate sum could round to more, and then no index would be found.
    passed = _at_least(uniform * cumulative[:, -1:], cumulative)
    return tf.cast(tf.reduce_sum(passed, axis=-1), tf.int32)


def _inverse_cdf_by_group(weights: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Does the same as `_inverse_cdf` for many weights: finds a group, then its member with the remainder of `uniform`.

    The cumulative sum of ten thousand float32 probabilities is wrong by 1e-5, more than the probability of many tokens,
    so runtimes would draw different tokens once in 1,000 tokens. The sum of a group is short, and the sums of the
    groups add up exactly as 64-bit integers, in TFLite too.

    Args:
        weights: `(batch, vocabulary)`.
        uniform: `(batch, 1)`.
    """
    by_group = _grouped(weights, 0.0)
    sums = tf.reduce_sum(by_group, axis=-1)
    # The factor is a power of two, so it rounds nothing. The total becomes about 2^37; times 2^24 it fits in int64.
    total = tf.reduce_sum(sums, axis=-1, keepdims=True)
    sums = tf.cast(sums * tf.pow(2.0, 37 - tf.floor(tf.math.log(total) / np.float32(np.log(2)))), tf.int64)
    cumulative = tf.cumsum(sums, axis=-1)
    target = tf.cast(uniform * 2**24, tf.int64) * cumulative[:, -1:]
    group = tf.reduce_sum(tf.cast(cumulative * 2**24 <= target, tf.int32), axis=-1, keepdims=True)
    own = _gather(sums, group)
    rest = target - (_gather(cumulative, group) - own) * 2**24
    remainder = tf.cast(rest, tf.float32) / (tf.cast(own, tf.float32) * 2**24)
    members = tf.squeeze(tf.gather(by_group, group, axis=1, batch_dims=1), 1)
    return tf.squeeze(group, 1) * GROUP + _inverse_cdf(members, tf.minimum(remainder, 1 - 2**-24))


def _bisect(scaled: tf.Tensor, measure: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Returns the largest threshold of each row, `(batch, 1)`, from which on the `measure` adds up to the `target`.

    Args:
        scaled: logits after the temperature, `(batch, vocabulary)`; the largest is 0.
        measure: what each token contributes, `(batch, vocabulary)`.
        target: `(batch, 1)`.
    """
    # exp of less than -104 is 0 in float32: such tokens are never drawn.
    low = tf.reduce_min(tf.where(scaled < -104.0, 0.0, scaled), axis=-1, keepdims=True)
    width = -low
    for _ in range(BISECTIONS):
        width /= 2
        reached = tf.reduce_sum(measure * _at_least(scaled, low + width), axis=-1, keepdims=True)
        low += width * _at_least(reached, target)
    return low


def _largest(values: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the `count` largest values of each row `(batch, size)`, in descending order, and their indices."""
    if 2 * GROUP * count >= values.shape[-1]:
        return tf.math.top_k(values, k=count)
    by_group = _grouped(values, LOWEST)
    best = tf.math.top_k(tf.reduce_max(by_group, axis=-1), k=count).indices
    of_best = tf.reshape(tf.gather(by_group, best, axis=1, batch_dims=1), [-1, count * GROUP])
    largest, indices = tf.math.top_k(of_best, k=count)
    return largest, tf.gather(best, indices // GROUP, axis=1, batch_dims=1) * GROUP + indices % GROUP


def _grouped(values: tf.Tensor, padding: float) -> tf.Tensor:
    """Reshapes `(batch, size)` to `(batch, groups, GROUP)`; `padding` fills the last group."""
    groups = -(-values.shape[-1] // GROUP)
    padded = tf.pad(values, [[0, 0], [0, groups * GROUP - values.shape[-1]]], constant_values=padding)
    return tf.reshape(padded, [-1, groups, GROUP])


def _where_any(condition: tf.Tensor, compute: Callable[[], tf.Tensor], otherwise: tf.Tensor | float) -> tf.Tensor:
    """Returns `tf.where(condition, compute(), otherwise)`; computes the former only if the condition holds in a row."""
    otherwise = tf.broadcast_to(otherwise, tf.shape(condition))
    return tf.cond(tf.reduce_any(condition), lambda: tf.where(condition, compute(), otherwise), lambda: otherwise)


def _at_least(values: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
    """Returns 1.0 where a value is at least `bound`, else 0.0.

    XNNPACK vectorizes this arithmetic; a comparison and a cast would take 1.5 times as long.
    """
    return tf.minimum(tf.maximum((values - bound) * 3e38 + 1, 0.0), 1.0)


def _gather(values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Returns the value at each row's index: `(batch, size)`, `(batch, 1)` -> `(batch, 1)`."""
    return tf.gather(values, index, axis=1, batch_dims=1)
