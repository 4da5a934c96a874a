"""The draw of a token inside a graph: the twin of `sampling`, in TensorFlow, for the exported models.

`next_token` and `log_probability` convert to TFLite's builtin operators; `uniform` is for the server alone, since a
device's host passes the uniform in.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_seq import threefry


def next_token(
    logits: tf.Tensor,
    uniform: tf.Tensor,
    temperature: tf.Tensor,
    top_k: tf.Tensor,
    top_p: tf.Tensor,
    min_p: tf.Tensor,
    forbidden: Sequence[int],
) -> tf.Tensor:
    """Returns a token id for each row, `(batch,)` int32.

    Args:
        logits: `(batch, vocabulary)` float32.
        uniform: `(batch,)` float32 in [0, 1).
        temperature: `(batch,)` float32; 0 is greedy.
        top_k: `(batch,)` int32; 0 is off.
        top_p: `(batch,)` float32; 1 is off.
        min_p: `(batch,)` float32; 0 is off.
        forbidden: ids that are never drawn.
    """
    blocked = np.zeros(logits.shape[-1], np.float32)
    blocked[list(forbidden)] = -np.inf
    logits = logits + blocked
    # Columns, `(batch, 1)`: they broadcast along the vocabulary.
    uniform, temperature, top_k, top_p, min_p = (
        tf.expand_dims(value, 1) for value in (uniform, temperature, top_k, top_p, min_p)
    )
    tiny = np.finfo(np.float32).tiny
    scaled = (logits - tf.reduce_max(logits, -1, keepdims=True)) / tf.maximum(temperature, tiny)
    weights = tf.exp(scaled)
    threshold = tf.maximum(_top_k_top_p_threshold(scaled, weights, top_k, top_p), tf.math.log(min_p))
    # Greedy keeps the most likely tokens alone, and takes the first of them.
    greedy = temperature <= 0
    threshold, uniform = tf.where(greedy, 0.0, threshold), tf.where(greedy, 0.0, uniform)
    cumulative = tf.cumsum(weights * tf.cast(scaled >= threshold, tf.float32), axis=-1)
    # Not a sum of its own, which may round to more than the last step: then no token would be left to draw.
    passed = cumulative <= uniform * cumulative[:, -1:]
    return tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)


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


# How many of the largest logits are looked at first, and next where these do not settle it: in LiteRT the 64 largest of
# 10,000 take 14 us, 256 take 63, 1,024 take 290, all of them in order 820.
FIRST_LOOKS = (64, 256, 1024)
# The largest are looked for in the groups with the largest maxima, where that is shorter: half the time for 64 of 10,000.
GROUP = 25


def _top_k_top_p_threshold(scaled: tf.Tensor, weights: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor) -> tf.Tensor:
    """Returns the smallest logit that top_k and then top_p keep in each row, `(batch, 1)`; -inf where both are off.

    Both keep the most likely tokens down to some logit, ties included, so that one look at the largest serves both.

    Args:
        scaled: logits after the temperature, `(batch, vocabulary)`, the largest 0.
        weights: their exponentials.
        top_k: `(batch, 1)`.
        top_p: `(batch, 1)`.
    """
    size = scaled.shape[-1]
    has_k, has_p = (top_k > 0) & (top_k < size), top_p < 1
    all_weights = tf.reduce_sum(weights, axis=-1, keepdims=True)

    def among(looks: Sequence[int]) -> tf.Tensor:
        count = looks[0]
        largest = _largest(scaled, count)
        by_k = tf.where(has_k, _at(largest, tf.clip_by_value(top_k, 1, count) - 1), -np.inf)
        kept = tf.exp(largest) * tf.cast(largest >= by_k, tf.float32)
        total = tf.where(has_k, tf.reduce_sum(kept, axis=-1, keepdims=True), all_weights)
        enough = tf.cumsum(kept, axis=-1, exclusive=True) < top_p * total
        needed = tf.reduce_sum(tf.cast(enough, tf.int32), axis=-1, keepdims=True)
        by_p = tf.where(has_p, _at(largest, tf.maximum(needed, 1) - 1), -np.inf)
        threshold = tf.maximum(by_k, by_p)
        if len(looks) == 1:
            return threshold
        # Settled: no tie of the k-th is out of sight; or, without top_k, what makes up top_p is in sight.
        settled = tf.where(has_k, (top_k <= count) & (largest[:, -1:] < by_k), (needed < count) | ~has_p)
        return tf.cond(tf.reduce_all(settled), lambda: threshold, lambda: among(looks[1:]))

    return among([*(count for count in FIRST_LOOKS if count < size / 4), size])


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
