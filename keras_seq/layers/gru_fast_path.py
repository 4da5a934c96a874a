"""A GRU over a whole sequence, forward and backward, which `GRU` uses for training on a CPU.

The equations and names are those of `keras_seq.layers.gru_step`. The following makes it fast:

* The products `x` of the input are one matrix product over all steps, before the loop.
* The backward pass is written by hand. Its loop carries only the gradient of the memory. The gradient of each kernel is
  one matrix product over all steps, after the loop; automatic differentiation would add it up step by step.
* XLA compiles both loops, so that the element-wise part of a step is a single pass over memory. The large products stay
  outside the loops, where TensorFlow is faster than XLA.
* The two halves of the batch are independent and run in parallel: one computes its gates during the matrix product of
  the other. BUILD.md has the measurements, and what else was tried.

`d_...` is the gradient of the loss with respect to what it names. For a gate and for the candidate, `d_...` is the
gradient with respect to the argument of its activation.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_seq import keras_internals

SMALLEST_BATCH_TO_HALVE = 16
# From this number of units on, XLA computes (kernel^T memory^T)^T faster than memory kernel, because it packs the right
# factor at each step and the kernel is large: 241 GFLOP/s instead of 186 at 512 units. At 256 units the transposition
# costs more than it saves.
SMALLEST_UNITS_TO_TRANSPOSE = 512


@functools.cache
def is_available() -> bool:
    """Returns whether this machine has no GPU, on which cuDNN is faster, and a TensorFlow with XLA."""
    if tf.config.get_visible_devices("GPU"):
        return False
    try:
        with tf.init_scope():
            tf.function(lambda: tf.zeros(()), jit_compile=True)()
    except (tf.errors.OpError, ValueError):
        return False
    return True


def run(inputs: Any, memory: Any, kernel: Any, recurrent_kernel: Any, bias: Any, mask: Any, reset_after: bool) -> Any:
    """Returns the memory after each step, `(batch, time, units)`. It must be called while a graph is traced.

    Args:
        inputs: `(batch, time, features)`, float32 or float64. Time and features must be known; batch may be unknown.
        memory: the initial memory, `(batch, units)`.
        kernel: `(features, 3 * units)`, with the blocks keep, relevance, candidate.
        recurrent_kernel: `(units, 3 * units)`, with the same blocks.
        bias: the biases of the input's and of the memory's products, `(2, 3 * units)`; without `reset_after` the second
            one is ignored.
        mask: bool `(batch, time)`, False at steps that leave the memory unchanged; or None.
        reset_after: whether the relevance gate scales the product of the memory, or else the memory itself.

    Raises:
        NotImplementedError: a derivative is requested in forward mode.
    """
    weights = {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}
    if inputs.shape[0] is not None and inputs.shape[0] < SMALLEST_BATCH_TO_HALVE:
        return _run_rows(inputs, memory, mask, **weights, reset_after=reset_after)
    half = tf.shape(inputs)[0] // 2
    halves = [
        _run_rows(inputs[rows], memory[rows], None if mask is None else mask[rows], **weights, reset_after=reset_after)
        for rows in (slice(None, half), slice(half, None))
    ]
    return tf.ensure_shape(tf.concat(halves, axis=0), (*inputs.shape[:2], memory.shape[1]))


def _run_rows(
    inputs: Any, memory: Any, mask: Any, kernel: Any, recurrent_kernel: Any, bias: Any, reset_after: bool
) -> Any:
    """Runs the steps of some rows of the batch; see `run`."""
    time, features = inputs.shape[1:]
    units = memory.shape[1]
    mask = None if mask is None else tf.transpose(mask)[:, :, None]
    loop_forward = _compiled(functools.partial(_forward, mask=mask, reset_after=reset_after))
    loop_backward = _compiled(functools.partial(_backward, reset_after=reset_after))

    @tf.custom_gradient
    def memories_after(inputs: Any, memory: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tuple[Any, Any]:
        inputs_by_step = tf.reshape(_swap_batch_and_time(inputs), (-1, features))
        x = tf.reshape(tf.matmul(inputs_by_step, kernel), (time, -1, 3 * units))
        transposed = tf.transpose(recurrent_kernel)
        memories, *saved = loop_forward(x, memory, recurrent_kernel, transposed, bias)

        def gradient(d_memories: Any) -> list[Any]:
            d_memories = tf.ensure_shape(d_memories, (inputs.shape[0], time, units))
            *d_steps, d_memory = loop_backward(d_memories, recurrent_kernel, transposed, memories, *saved)
            d_gates, d_candidate, d_c_candidate = map(_merge_time_and_batch, d_steps)
            d_weights = _weight_gradients(
                inputs_by_step, memories, saved, d_gates, d_candidate, d_c_candidate, reset_after
            )
            d_inputs = tf.reshape(_input_gradient(kernel, d_gates, d_candidate), (time, -1, features))
            return [_swap_batch_and_time(d_inputs), d_memory, *d_weights]

        # A function that XLA compiled does not declare the shape of its output.
        return tf.ensure_shape(_swap_batch_and_time(memories[1:]), (inputs.shape[0], time, units)), gradient

    return memories_after(inputs, memory, kernel, recurrent_kernel, bias)


def _compiled(function: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
    """Returns a function of tensors that XLA compiles, with the derivatives of the function itself.

    XLA cannot return what TensorFlow keeps of a loop to differentiate it ("TensorList crossing the XLA/TF boundary").
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    @tf.custom_gradient
    def results_of(*operands: Any) -> tuple[list[Any], Callable[..., Any]]:
        def gradient(*d_results: Any) -> Any:
            return _gradients(function, _copies(operands), d_results)

        # Under a second or a persistent tape, TensorFlow would prepare to differentiate the compiled function.
        is_differentiated = keras_internals.possible_derivatives(operands) > 1
        return list((function if is_differentiated else compiled)(*operands)), gradient

    return lambda *operands: results_of(*_copies(operands))


def _copies(tensors: Sequence[Any]) -> list[Any]:
    """Returns copies that belong to the current graph. A gradient may be traced in another graph than its function."""
    return [tf.identity(one) for one in tensors]


def _gradients(function: Callable[..., Any], operands: Sequence[Any], d_results: Any) -> Any:
    """Returns the gradients of the operands of a function by automatic differentiation."""
    with tf.GradientTape() as tape:
        tape.watch(operands)
        results = function(*operands)
    d_operands = tape.gradient(results, operands, output_gradients=d_results)
    if d_operands[0] is None:  # The results depend on the first operand.
        raise NotImplementedError(
            "TensorFlow records no gradients of `keras_seq.GRU` here, as in `tf.autodiff.ForwardAccumulator`: build the "
            "layer with `unroll=True`"
        )
    return d_operands


def _swap_batch_and_time(values: Any) -> Any:
    return tf.transpose(values, (1, 0, 2))


def _merge_time_and_batch(values: Any) -> Any:
    return tf.reshape(values, (-1, values.shape[-1]))


def _input_gradient(kernel: Any, d_gates: Any, d_candidate: Any) -> Any:
    """Returns the gradient of the inputs, `(time * batch, features)`."""
    units = kernel.shape[1] // 3
    gate_kernel, candidate_kernel = tf.split(kernel, [2 * units, units], axis=1)
    d_inputs = tf.matmul(d_gates, gate_kernel, transpose_b=True)
    return d_inputs + tf.matmul(d_candidate, candidate_kernel, transpose_b=True)


def _weight_gradients(
    inputs: Any,
    memories: Any,
    saved: Any,
    d_gates: Any,
    d_candidate: Any,
    d_c_candidate: Any,
    reset_after: bool,
) -> list[Any]:
    """Returns the gradients of the kernel, the recurrent kernel and the biases `(2, 3 * units)`.

    Args:
        inputs: `(time * batch, features)`.
        memories: from `_forward`.
        saved: from `_forward`.
        d_gates: from `_backward`, `(time * batch, 2 * units)`.
        d_candidate: from `_backward`, `(time * batch, units)`.
        d_c_candidate: from `_backward`, `(time * batch, units)`.
        reset_after: as for `run`.
    """
    memory = memories[:-1]  # before each step
    candidate_memory = memory if reset_after else saved[1] * memory  # what the candidate's recurrent kernel multiplies
    memory, candidate_memory = map(_merge_time_and_batch, (memory, candidate_memory))
    d_biases = [_sum_of_rows(one) for one in (d_gates, d_candidate, d_gates, d_c_candidate)]
    return [
        tf.concat([_kernel_gradient(inputs, one) for one in (d_gates, d_candidate)], axis=1),
        tf.concat([_kernel_gradient(memory, d_gates), _kernel_gradient(candidate_memory, d_c_candidate)], axis=1),
        tf.reshape(tf.concat(d_biases, axis=1), (2, -1)),
    ]


def _kernel_gradient(values: Any, d_product: Any) -> Any:
    """Returns the gradient of the kernel of `values @ kernel`, summed over all steps."""
    return tf.matmul(values, d_product, transpose_a=True)


def _sum_of_rows(values: Any) -> Any:
    """Returns the sum as a matrix product, `(1, columns)`: `reduce_sum` along the rows takes three times as long."""
    return tf.matmul(tf.ones((1, tf.shape(values)[0]), values.dtype), values)


def _forward(x: Any, memory: Any, kernel: Any, transposed: Any, bias: Any, mask: Any, reset_after: bool) -> list[Any]:
    """Runs the steps forward.

    Args:
        x: the products of the inputs, `(time, batch, 3 * units)`.
        memory: the initial memory, `(batch, units)`.
        kernel: the recurrent kernel.
        transposed: the recurrent kernel, transposed.
        bias: as for `run`.
        mask: bool `(time, batch, 1)`, or None.
        reset_after: as for `run`.

    Returns:
        The memories from the initial one on, `(time + 1, batch, units)`, and what the backward pass needs of each step,
        `(time, batch, units)` each: keep, relevance, candidate, and with `reset_after` c_candidate.
    """
    time, units = x.shape[0], memory.shape[1]
    x_bias, c_bias = tf.unstack(bias)
    gate_kernel, candidate_kernel = tf.split(kernel, [2 * units, units], axis=1)
    x_by_step, mask_by_step = _array(x), None if mask is None else _array(mask)

    def product_of(memory: Any) -> Any:
        if units < SMALLEST_UNITS_TO_TRANSPOSE:
            return tf.matmul(memory, kernel) + c_bias
        # With the bias added before the transposition, XLA cannot undo the transposition.
        return tf.transpose(tf.matmul(transposed, memory, transpose_b=True) + c_bias[:, None])

    def step(t: Any, memory: Any, memories: tf.TensorArray, *saved: tf.TensorArray) -> tuple[Any, ...]:
        x_gates, x_candidate = tf.split(x_by_step.read(t) + x_bias, [2 * units, units], axis=1)
        if reset_after:
            c_gates, c_candidate = tf.split(product_of(memory), [2 * units, units], axis=1)
            keep, relevance = tf.split(tf.sigmoid(x_gates + c_gates), 2, axis=1)
            candidate = tf.tanh(x_candidate + relevance * c_candidate)
        else:
            keep, relevance = tf.split(tf.sigmoid(x_gates + tf.matmul(memory, gate_kernel)), 2, axis=1)
            candidate = tf.tanh(x_candidate + tf.matmul(relevance * memory, candidate_kernel))
        if mask_by_step is not None:
            is_read = mask_by_step.read(t)
            keep = tf.where(is_read, keep, tf.ones_like(keep))
            # A masked step may be NaN; as in Keras, it does not reach the memory.
            candidate = tf.where(is_read, candidate, tf.zeros_like(candidate))
        memory = keep * memory + (1 - keep) * candidate
        values = [keep, relevance, candidate, *([c_candidate] if reset_after else [])]
        saved = tuple(array.write(t, value) for array, value in zip(saved, values, strict=True))
        return t + 1, memory, memories.write(t + 1, memory), *saved

    memories = _empty_array(memory, time + 1, units).write(0, memory)
    saved = [_empty_array(memory, time, units) for _ in range(4 if reset_after else 3)]
    _, _, memories, *saved = tf.while_loop(
        lambda t, *_: t < time, step, (0, memory, memories, *saved), maximum_iterations=time
    )
    return [memories.stack(), *(array.stack() for array in saved)]


def _backward(
    d_memories: Any, kernel: Any, transposed: Any, memories: Any, *saved: Any, reset_after: bool
) -> tuple[Any, ...]:
    """Runs the steps backward.

    Args:
        d_memories: the gradient of the memory after each step, `(batch, time, units)`.
        kernel: the recurrent kernel.
        transposed: the recurrent kernel, transposed once instead of at each step.
        memories: from `_forward`.
        *saved: from `_forward`.
        reset_after: as for `run`.

    Returns:
        d_gates `(time, batch, 2 * units)`, d_candidate and d_c_candidate `(time, batch, units)`, which are equal without
        `reset_after`, and the gradient of the initial memory `(batch, units)`.
    """
    time, units = d_memories.shape[1:]
    transposes = reset_after and units >= SMALLEST_UNITS_TO_TRANSPOSE
    memory_by_step, *saved_by_step = map(_array, (memories, *saved))
    gate_kernel, candidate_kernel = tf.split(transposed, [2 * units, units], axis=0)

    # The gradient of the memory has two terms: the direct one through keep, and the one through the matrix product.
    def step(t: Any, d_direct: Any, d_product: Any, *parts: tf.TensorArray) -> tuple[Any, ...]:
        memory, keep, relevance, candidate, *c_candidate = (one.read(t) for one in (memory_by_step, *saved_by_step))
        d_memory = tf.gather(d_memories, t, axis=1) + d_direct + (tf.transpose(d_product) if transposes else d_product)
        d_candidate = d_memory * (1 - keep) * (1 - candidate * candidate)
        d_keep = d_memory * (memory - candidate) * keep * (1 - keep)
        d_direct = d_memory * keep
        if reset_after:
            d_c_candidate = d_candidate * relevance
            d_gates = tf.concat([d_keep, d_c_candidate * c_candidate[0] * (1 - relevance)], axis=1)
            d_c = tf.concat([d_gates, d_c_candidate], axis=1)
            d_product = tf.matmul(kernel, d_c, transpose_b=True) if transposes else tf.matmul(d_c, transposed)
            values = [d_gates, d_candidate, d_c_candidate]
        else:
            d_candidate_memory = tf.matmul(d_candidate, candidate_kernel)
            d_gates = tf.concat([d_keep, d_candidate_memory * memory * relevance * (1 - relevance)], axis=1)
            d_direct += d_candidate_memory * relevance
            d_product = tf.matmul(d_gates, gate_kernel)
            values = [d_gates, d_candidate]
        parts = tuple(array.write(t, value) for array, value in zip(parts, values, strict=True))
        return t - 1, d_direct, d_product, *parts

    sizes = (2 * units, units, units) if reset_after else (2 * units, units)
    parts = [_empty_array(d_memories[:, 0], time, size) for size in sizes]
    zeros = tf.zeros_like(d_memories[:, 0])
    start = (time - 1, zeros, tf.transpose(zeros) if transposes else zeros, *parts)
    _, d_direct, d_product, *parts = tf.while_loop(lambda t, *_: t >= 0, step, start, maximum_iterations=time)
    d_gates, d_candidate, *d_c_candidate = (array.stack() for array in parts)
    d_memory = d_direct + (tf.transpose(d_product) if transposes else d_product)
    return d_gates, d_candidate, *(d_c_candidate or [d_candidate]), d_memory


def _array(values: Any) -> tf.TensorArray:
    """Returns an array to read by step from `(time, ...)`."""
    return tf.TensorArray(values.dtype, size=tf.shape(values)[0], element_shape=values.shape[1:]).unstack(values)


def _empty_array(like: Any, time: int, size: int) -> tf.TensorArray:
    """Returns an array to write `(batch, size)` into at each step; zeros, because XLA must know the size."""
    return _array(tf.zeros((time, tf.shape(like)[0], size), like.dtype))
