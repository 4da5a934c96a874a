"""A GRU over a whole sequence, forward and backward, for training on a CPU: what `GRU` runs where it can.

In Keras's terms, for one step with the gates z (keep), r (relevance) and the candidate h~:

    z, r = σ(x_zr + h R_zr + b_zr),   h~ = tanh(x_h + r * (h R_h + b_h)),   h' = z * h + (1 - z) * h~

(without `reset_after` the candidate is tanh(x_h + (r * h) R_h)). What makes it fast:

* The input's part x is one product over all steps, before the loop.
* The backward pass is by hand. Its loop carries the gradient of the memory alone; the gradients of the kernels are one
  product each over all steps, after it. Automatic differentiation adds them up step by step.
* XLA compiles both loops: the element-wise part of a step becomes one pass over memory. The large products stay
  outside, where TensorFlow's are faster than XLA's.
* Two halves of the batch know nothing of each other and run side by side, so that one's gates are computed during the
  other's product. BUILD.md has the measurements, and what was tried besides.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

SMALLEST_BATCH_TO_HALVE = 16
# From here on XLA multiplies faster the other way round, (kernel^T memory^T)^T: it packs the right factor at each step,
# and the kernel is large. 241 GFLOP/s instead of 186 at 512 units; at 256 the transposition costs more than it saves.
SMALLEST_UNITS_TO_TURN = 512


@functools.cache
def runs_here() -> bool:
    """Whether this is a machine for `gru_sequence`: no GPU, where cuDNN is better, and a TensorFlow with XLA."""
    if tf.config.get_visible_devices("GPU"):
        return False
    try:
        with tf.init_scope():
            tf.function(lambda: tf.zeros(()), jit_compile=True)()
    except (tf.errors.OpError, ValueError):
        return False
    return True


def gru_sequence(
    inputs: Any, memory: Any, kernel: Any, recurrent_kernel: Any, bias: Any, mask: Any, reset_after: bool
) -> Any:
    """Returns the memories after every step, `(batch, time, units)`; to be called while a graph is traced.

    Args:
        inputs: `(batch, time, features)`, float32 or float64; time and features are known, batch need not be.
        memory: the memory to start from, `(batch, units)`.
        kernel: `(features, 3 * units)`, in Keras's order z, r, h.
        recurrent_kernel: `(units, 3 * units)`.
        bias: the input's and the memory's biases, `(2, 3 * units)`; the second counts with `reset_after` only.
        mask: bool `(batch, time)`, False at steps that leave the memory as it is; or None.
        reset_after: which of the two candidates.

    Raises:
        NotImplementedError: a second derivative is asked for.
    """
    run = functools.partial(_run, kernel=kernel, recurrent_kernel=recurrent_kernel, bias=bias, reset_after=reset_after)
    if inputs.shape[0] is not None and inputs.shape[0] < SMALLEST_BATCH_TO_HALVE:
        return run(inputs, memory, mask)
    half = tf.shape(inputs)[0] // 2
    halves = [
        run(inputs[rows], memory[rows], None if mask is None else mask[rows])
        for rows in (slice(None, half), slice(half, None))
    ]
    return tf.ensure_shape(tf.concat(halves, axis=0), (*inputs.shape[:2], memory.shape[1]))


def _run(inputs: Any, memory: Any, mask: Any, kernel: Any, recurrent_kernel: Any, bias: Any, reset_after: bool) -> Any:
    """Is `gru_sequence` for one part of the batch."""
    time, features = inputs.shape[1:]
    units = memory.shape[1]
    mask = None if mask is None else tf.transpose(mask)[:, :, None]
    loop_forward = tf.function(
        functools.partial(_forward, mask=mask, reset_after=reset_after), jit_compile=True, autograph=False
    )
    loop_backward = tf.function(
        functools.partial(_backward, reset_after=reset_after), jit_compile=True, autograph=False
    )

    @tf.custom_gradient
    def memories(inputs: Any, memory: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tuple[Any, Any]:
        by_step = tf.reshape(_swap_batch_and_time(inputs), (-1, features))
        projected = tf.reshape(tf.matmul(by_step, kernel), (time, -1, 3 * units))
        transposed = tf.transpose(recurrent_kernel)
        visited, kept = loop_forward(projected, memory, recurrent_kernel, transposed, bias)

        def gradient(upstream: Any) -> list[Any]:
            upstream = tf.ensure_shape(upstream, (inputs.shape[0], time, units))
            *parts, d_memory = loop_backward(upstream, visited, kept, recurrent_kernel, transposed)
            d_gates, d_candidate, d_reset = map(_flat, parts)
            gate_kernel, candidate_kernel = tf.split(kernel, [2 * units, units], axis=1)
            d_inputs = tf.matmul(d_gates, gate_kernel, transpose_b=True)
            d_inputs += tf.matmul(d_candidate, candidate_kernel, transpose_b=True)
            before = visited[:-1]
            # What the candidate's recurrent kernel is multiplied with.
            of_candidate = before if reset_after else kept[1] * before
            gradients = [
                _swap_batch_and_time(tf.reshape(d_inputs, (time, -1, features))),
                d_memory,
                tf.concat([_by(by_step, d_gates), _by(by_step, d_candidate)], axis=1),
                tf.concat([_by(_flat(before), d_gates), _by(_flat(of_candidate), d_reset)], axis=1),
                tf.reshape(tf.concat([_sum_of_rows(d) for d in (d_gates, d_candidate, d_gates, d_reset)], 1), (2, -1)),
            ]
            return [_only_once(one) for one in gradients]

        # XLA's function does not tell its output's shape.
        return tf.ensure_shape(_swap_batch_and_time(visited[1:]), (inputs.shape[0], time, units)), gradient

    return memories(inputs, memory, kernel, recurrent_kernel, bias)


def _swap_batch_and_time(values: Any) -> Any:
    return tf.transpose(values, (1, 0, 2))


def _flat(values: Any) -> Any:
    return tf.reshape(values, (-1, values.shape[-1]))


def _by(left: Any, gradient: Any) -> Any:
    """The gradient of a kernel that `left` was multiplied with, over all steps."""
    return tf.matmul(left, gradient, transpose_a=True)


def _sum_of_rows(values: Any) -> Any:
    """Sums as a product, `(1, columns)`: `reduce_sum` along the rows takes three times as long."""
    return tf.matmul(tf.ones((1, tf.shape(values)[0]), values.dtype), values)


@tf.custom_gradient
def _only_once(gradient: Any) -> tuple[Any, Callable[..., Any]]:
    def again(_: Any) -> Any:
        raise NotImplementedError(
            "the GRU's own backward pass has no second derivative: build the layer with `unroll=True` for it"
        )

    return tf.identity(gradient), again


def _forward(
    projected: Any, memory: Any, kernel: Any, transposed: Any, bias: Any, mask: Any, reset_after: bool
) -> tuple[Any, list[Any]]:
    """The loop forward.

    Returns:
        The memories from the first on, `(time + 1, batch, units)`; and what the way back needs of each step, `(time,
        batch, units)` each: z, r, h~, and with `reset_after` what r was multiplied with.
    """
    time, units = projected.shape[0], memory.shape[1]
    input_bias, recurrent_bias = tf.unstack(bias)
    gate_kernel, candidate_kernel = tf.split(kernel, [2 * units, units], axis=1)
    steps, masks = _sequence(projected), None if mask is None else _sequence(mask)

    def step(t: Any, h: Any, visited: tf.TensorArray, *kept: tf.TensorArray) -> tuple[Any, ...]:
        x_gates, x_candidate = tf.split(steps.read(t) + input_bias, [2 * units, units], axis=1)
        if reset_after:
            if units < SMALLEST_UNITS_TO_TURN:
                product = tf.matmul(h, kernel) + recurrent_bias
            else:  # The bias stands between, or XLA would turn the product back.
                product = tf.transpose(tf.matmul(transposed, h, transpose_b=True) + recurrent_bias[:, None])
            h_gates, reset = tf.split(product, [2 * units, units], axis=1)
            z, r = tf.split(tf.sigmoid(x_gates + h_gates), 2, axis=1)
            candidate = tf.tanh(x_candidate + r * reset)
            of_reset = [reset]
        else:
            z, r = tf.split(tf.sigmoid(x_gates + tf.matmul(h, gate_kernel)), 2, axis=1)
            candidate = tf.tanh(x_candidate + tf.matmul(r * h, candidate_kernel))
            of_reset = []
        if masks is not None:
            read = masks.read(t)
            z = tf.where(read, z, tf.ones_like(z))  # Keeps all of the memory.
            candidate = tf.where(
                read, candidate, tf.zeros_like(candidate)
            )  # Of NaN too, on the way forward, as in Keras.
        h = z * h + (1 - z) * candidate
        values = [z, r, candidate, *of_reset]
        kept = tuple(array.write(t, value) for array, value in zip(kept, values, strict=True))
        return t + 1, h, visited.write(t + 1, h), *kept

    visited = _empty(memory, time + 1, units).write(0, memory)
    kept = [_empty(memory, time, units) for _ in range(4 if reset_after else 3)]
    _, _, visited, *kept = tf.while_loop(
        lambda t, *_: t < time, step, (0, memory, visited, *kept), maximum_iterations=time
    )
    return visited.stack(), [array.stack() for array in kept]


def _backward(
    upstream: Any, visited: Any, kept: Any, kernel: Any, transposed: Any, reset_after: bool
) -> tuple[Any, ...]:
    """The loop backward.

    Args:
        upstream: the gradient of each memory, `(batch, time, units)`.
        visited: memories, from `_forward`.
        kept: from `_forward`.
        kernel: the recurrent kernel.
        transposed: its transposition, made once instead of at each step.
        reset_after: which of the two candidates.

    Returns:
        The gradients of what σ is taken of, `(time, batch, 2 * units)`, of what tanh is taken of and of the memory's
        product in it, `(time, batch, units)` each (one and the same without `reset_after`), and of the first memory.
    """
    time, units = upstream.shape[1:]
    turned = reset_after and units >= SMALLEST_UNITS_TO_TURN
    memories, *saved = map(_sequence, (visited, *kept))
    from_gates, from_candidate = tf.split(transposed, [2 * units, units], axis=0)

    def step(t: Any, beside: Any, product: Any, *parts: tf.TensorArray) -> tuple[Any, ...]:
        h, z, r, candidate, *reset = (array.read(t) for array in (memories, *saved))
        d_h = tf.gather(upstream, t, axis=1) + beside + (tf.transpose(product) if turned else product)
        d_candidate = d_h * (1 - z) * (1 - candidate * candidate)
        d_z = d_h * (h - candidate) * z * (1 - z)
        beside = d_h * z
        if reset_after:
            d_reset = d_candidate * r
            d_gates = tf.concat([d_z, d_reset * reset[0] * (1 - r)], axis=1)
            of_memory = tf.concat([d_gates, d_reset], axis=1)
            product = tf.matmul(kernel, of_memory, transpose_b=True) if turned else tf.matmul(of_memory, transposed)
            values = [d_gates, d_candidate, d_reset]
        else:
            d_reset = tf.matmul(d_candidate, from_candidate)
            d_gates = tf.concat([d_z, d_reset * h * r * (1 - r)], axis=1)
            beside += d_reset * r
            product = tf.matmul(d_gates, from_gates)
            values = [d_gates, d_candidate]
        parts = tuple(array.write(t, value) for array, value in zip(parts, values, strict=True))
        return t - 1, beside, product, *parts

    sizes = (2 * units, units, units) if reset_after else (2 * units, units)
    parts = [_empty(upstream[:, 0], time, size) for size in sizes]
    nothing = tf.zeros_like(upstream[:, 0])
    start = (time - 1, nothing, tf.transpose(nothing) if turned else nothing, *parts)
    _, beside, product, *parts = tf.while_loop(lambda t, *_: t >= 0, step, start, maximum_iterations=time)
    d_gates, d_candidate, *d_reset = (array.stack() for array in parts)
    return d_gates, d_candidate, *(d_reset or [d_candidate]), beside + (tf.transpose(product) if turned else product)


def _sequence(values: Any) -> tf.TensorArray:
    return tf.TensorArray(values.dtype, size=tf.shape(values)[0], element_shape=values.shape[1:]).unstack(values)


def _empty(like: Any, time: int, size: int) -> tf.TensorArray:
    """An array to write `(batch, size)` into at every step. Zeros, not an unknown shape: XLA wants to know its size."""
    return _sequence(tf.zeros((time, tf.shape(like)[0], size), like.dtype))
