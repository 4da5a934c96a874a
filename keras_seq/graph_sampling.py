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
    greedy = tf.argmax(logits, axis=-1, output_type=tf.int32)
    tiny = np.finfo(np.float32).tiny
    scaled = (logits - tf.reduce_max(logits, -1, keepdims=True)) / tf.maximum(temperature, tiny)[:, None]
    kept = _keep_min_p(_keep_top_p(_keep_top_k(scaled, top_k), top_p), min_p)
    cumulative = tf.cumsum(_softmax(kept), axis=-1)
    passed = cumulative <= uniform[:, None] * cumulative[:, -1:]
    drawn = tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)
    return tf.where(temperature > 0, drawn, greedy)


def log_probability(logits: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Returns the log-probability of each row's token, `(batch,)`, by the model's own softmax, before any filter."""
    chosen = tf.gather(tf.nn.log_softmax(logits), token[:, None], axis=1, batch_dims=1)
    return chosen[:, 0]


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


def _softmax(logits: tf.Tensor) -> tf.Tensor:
    weights = tf.exp(logits - tf.reduce_max(logits, -1, keepdims=True))
    return weights / tf.reduce_sum(weights, -1, keepdims=True)


def _keep(logits: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    return tf.where(kept, logits, tf.fill(tf.shape(logits), -np.inf))


def _descending(logits: tf.Tensor) -> tf.Tensor:
    return tf.math.top_k(logits, k=logits.shape[-1]).values


def _keep_top_k(logits: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
    size = logits.shape[-1]
    last = tf.where(k > 0, tf.minimum(k, size), size) - 1
    threshold = tf.gather(_descending(logits), last[:, None], axis=1, batch_dims=1)
    return _keep(logits, logits >= threshold)


def _keep_top_p(logits: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
    descending = _descending(logits)
    probabilities = _softmax(descending)
    before = tf.cumsum(probabilities, axis=-1) - probabilities
    needed = tf.reduce_sum(tf.cast(before < p[:, None], tf.int32), axis=-1)
    last = tf.where(p < 1, tf.maximum(needed, 1), logits.shape[-1]) - 1
    threshold = tf.gather(descending, last[:, None], axis=1, batch_dims=1)
    return _keep(logits, logits >= threshold)


def _keep_min_p(logits: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
    probabilities = _softmax(logits)
    return _keep(logits, probabilities >= p[:, None] * tf.reduce_max(probabilities, -1, keepdims=True))
