"""The draw of a token inside a graph: the twin of `sampling`, in TensorFlow, for the exported models.

`next_token` and `log_probability` convert to TFLite's builtin operators; `uniform` is for the server alone, since a
device's host passes the uniform in.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_seq.generation import threefry
from keras_seq.generation.sampling import SMALLEST_TEMPERATURE


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
    scaled = tf.maximum(scaled, LOWEST)  # Between infinite ones there is no difference to take.
    weights = tf.exp(scaled)
    # Greedy keeps the most likely tokens alone, and takes the first of them.
    greedy = temperature < SMALLEST_TEMPERATURE
    top_k, uniform = tf.where(greedy, 1, top_k), tf.where(greedy, 0.0, uniform)
    if logits.shape[-1] <= FEW:
        threshold, _ = _threshold(_in_order(scaled, scaled.shape[-1])[0], top_k, top_p, min_p)
        return _draw(weights * _at_least(scaled, threshold), uniform)
    return _draw_of_many(scaled, weights, uniform, top_k, top_p, min_p)


def _draw(weights: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Returns the first place of each row whose cumulative weight exceeds `uniform` of the whole, `(batch,)` int32."""
    cumulative = tf.cumsum(weights, axis=-1)
    # The last sum, not one of its own, which may round to more than that: then no token would be left to draw.
    passed = _at_least(uniform * cumulative[:, -1:], cumulative)
    return tf.cast(tf.reduce_sum(passed, axis=-1), tf.int32)


def _draw_group_first(weights: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Is `_draw` for many weights: draws one of their groups, then among its members with what is left of `uniform`.

    Ten thousand float32 probabilities added one by one are wrong by 1e-5, more than many a token has: runtimes would
    draw its neighbour once in 1,000 tokens. Sums of groups are short, and as whole numbers of 64 bits they add up
    exactly, in TFLite too.
    """
    by_group = _grouped(weights, 0.0)
    sums = tf.reduce_sum(by_group, axis=-1)
    # A power of two, so that nothing is rounded: the whole is near 2^37, and 2^24 times that still fits.
    whole = tf.reduce_sum(sums, axis=-1, keepdims=True)
    sums = tf.cast(sums * tf.pow(2.0, 37 - tf.floor(tf.math.log(whole) / np.float32(np.log(2)))), tf.int64)
    cumulative = tf.cumsum(sums, axis=-1)
    target = tf.cast(uniform * 2**24, tf.int64) * cumulative[:, -1:]
    group = tf.reduce_sum(tf.cast(cumulative * 2**24 <= target, tf.int32), axis=-1, keepdims=True)
    own = _at(sums, group)
    left = tf.cast(target - (_at(cumulative, group) - own) * 2**24, tf.float32) / (tf.cast(own, tf.float32) * 2**24)
    members = tf.squeeze(tf.gather(by_group, group, axis=1, batch_dims=1), 1)
    return tf.squeeze(group, 1) * GROUP + _draw(members, tf.minimum(left, 1 - 2**-24))


def log_probability(logits: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Returns the log-probability of each row's token, `(batch,)`, by the model's own softmax, before any filter."""
    # Not tf.nn.log_softmax, which takes the logarithm of every token's probability.
    highest, total = _highest_and_total(logits)
    return tf.squeeze(_at(logits, tf.expand_dims(token, 1)) - highest - tf.math.log(total), 1)


def are_numbers(logits: tf.Tensor) -> tf.Tensor:
    """Returns for each row whether no logit is NaN, and the largest is finite: bool `(batch,)`."""
    _, total = _highest_and_total(logits)  # As `log_probability` has it, so that a graph computes it once.
    return tf.squeeze(tf.math.is_finite(total), 1)


def _highest_and_total(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the largest logit of each row, and the sum of all weights where that has 1: `(batch, 1)` each."""
    highest = tf.reduce_max(logits, axis=-1, keepdims=True)
    return highest, tf.reduce_sum(tf.exp(logits - highest), axis=-1, keepdims=True)


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


# A vocabulary of so many tokens is put in order as a whole.
FEW = 256
# Of a larger one the largest logits are looked at first, one more than a `top_k` of 64 keeps: in LiteRT the 65 largest
# of 10,000 take 14 us, all of them in order 820. Where these do not settle the draw, it takes sums over all tokens.
FIRST_LOOK = 65
LOWEST = float(np.finfo(np.float32).min)
HALVINGS = 28  # of the logits' range of up to 104: to 4e-7 of a logit, less than runtimes differ by
# Many tokens are looked at in groups. The largest are in the groups with the largest maxima: half the time for 65 of
# 10,000.
GROUP = 25


def _threshold(
    ordered: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor, min_p: tf.Tensor, everything: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the logit from which on top_k, then top_p and min_p keep, ties included, and that of top_k alone.

    Each keeps the most likely tokens down to some logit, so that one threshold serves all. Few operators: each costs
    LiteRT 0.1 us.

    Args:
        ordered: the largest logits after the temperature, in descending order, `(batch, count)`; the first is 0.
        top_k: `(batch, 1)`; 0, or more than `count`, keeps all.
        top_p: `(batch, 1)`.
        min_p: `(batch, 1)`.
        everything: the weight of all tokens, `(batch, 1)`; None if there are no others.
    """
    count = ordered.shape[-1]
    by_k = _at(ordered, (tf.minimum(top_k, count) - 1) % count)
    kept = tf.exp(ordered) * _at_least(ordered, by_k)
    total = tf.reduce_sum(kept, axis=-1, keepdims=True)
    if everything is not None:
        total = tf.where(top_k > 0, total, everything)
    reached = _at_least(tf.cumsum(kept, axis=-1, exclusive=True), top_p * total)
    needed = count - tf.cast(tf.reduce_sum(reached, axis=-1, keepdims=True), tf.int32)
    by_p = _at(ordered, tf.maximum(needed, 1) - 1)
    return tf.maximum(tf.maximum(by_k, by_p), tf.math.log(min_p)), by_k


def _draw_of_many(
    scaled: tf.Tensor, weights: tf.Tensor, uniform: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor, min_p: tf.Tensor
) -> tf.Tensor:
    """Draws among the largest logits where a row keeps no others, else among all; each row is drawn as if alone.

    Args:
        scaled: logits after the temperature, `(batch, vocabulary)`, the largest 0.
        weights: their exponentials.
        uniform: `(batch, 1)`.
        top_k: `(batch, 1)`.
        top_p: `(batch, 1)`.
        min_p: `(batch, 1)`.
    """
    largest, ids = _in_order(scaled, FIRST_LOOK)
    threshold, by_k = _threshold(largest, top_k, top_p, min_p, tf.reduce_sum(weights, axis=-1, keepdims=True))
    smallest = largest[:, -1:]
    # A tie of the last in sight may be out of sight, and top_p needs to know all that top_k keeps.
    settled = tf.squeeze((threshold > smallest) & ((top_k <= 0) | (by_k > smallest)), 1)
    by_id = tf.math.top_k(-ids, k=FIRST_LOOK).indices
    kept = tf.gather(tf.exp(largest) * _at_least(largest, threshold), by_id, axis=1, batch_dims=1)
    drawn = tf.gather(ids, by_id, axis=1, batch_dims=1)
    in_sight = tf.squeeze(_at(drawn, tf.expand_dims(_draw(kept, uniform), 1)), 1)

    def among_all() -> tf.Tensor:
        has_k = (top_k > 0) & (top_k < scaled.shape[-1])
        by_k = _where_any(has_k, lambda: _halve(scaled, tf.ones_like(scaled), tf.cast(top_k, tf.float32)), LOWEST)

        def nucleus() -> tf.Tensor:
            kept = weights * _at_least(scaled, by_k)
            return _halve(scaled, kept, top_p * tf.reduce_sum(kept, axis=-1, keepdims=True))

        by_p = _where_any(top_p < 1, nucleus, LOWEST)
        threshold = tf.maximum(tf.maximum(by_k, by_p), tf.math.log(min_p))
        return _draw_group_first(weights * _at_least(scaled, threshold), uniform)

    return _where_any(~settled, among_all, in_sight)


def _where_any(condition: tf.Tensor, compute: Callable[[], tf.Tensor], otherwise: tf.Tensor | float) -> tf.Tensor:
    """Is `tf.where`, computed only if the condition holds in some row; each row is as if alone."""
    otherwise = tf.broadcast_to(otherwise, tf.shape(condition))
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


def _in_order(values: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the `count` largest of each row, in descending order, and their places."""
    if 2 * GROUP * count >= values.shape[-1]:
        return tf.math.top_k(values, k=count)
    by_group = _grouped(values, LOWEST)
    best = tf.math.top_k(tf.reduce_max(by_group, axis=-1), k=count).indices
    of_best = tf.reshape(tf.gather(by_group, best, axis=1, batch_dims=1), [-1, count * GROUP])
    largest, places = tf.math.top_k(of_best, k=count)
    return largest, tf.gather(best, places // GROUP, axis=1, batch_dims=1) * GROUP + places % GROUP


def _grouped(values: tf.Tensor, padding: float) -> tf.Tensor:
    """`(batch, vocabulary)` -> `(batch, groups, GROUP)`, the last group filled up with `padding`."""
    groups = -(-values.shape[-1] // GROUP)
    padded = tf.pad(values, [[0, 0], [0, groups * GROUP - values.shape[-1]]], constant_values=padding)
    return tf.reshape(padded, [-1, groups, GROUP])


def _at(values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Returns the value at each row's index: `(batch, size)`, `(batch, 1)` -> `(batch, 1)`."""
    return tf.gather(values, index, axis=1, batch_dims=1)
