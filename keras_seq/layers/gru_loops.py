"""The two loops of a GRU over some steps, forward and backward, compiled by XLA.

The equations and names are those of `keras_seq.layers.gru_step`. The backward pass is written by hand: its loop carries only
the gradient of the memory, and what the gradients of the kernels need is written for one large product after it.

`d_...` is the gradient of the loss with respect to what it names. For a gate and for the candidate, `d_...` is the
gradient with respect to the argument of its activation.

The arrays of a loop have a fixed number of steps, and a number at run time says how many of them are read. So a loop is
compiled once for each number of rows, units and steps, whatever the length of the sequences, and all layers share it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_seq.layers.gru_activations import ACTIVATIONS

# From this number of units on, XLA computes (kernel^T memory^T)^T faster than memory kernel, because it packs the right
# factor at each step and the kernel is large: 241 GFLOP/s instead of 186 at 512 units. At 256 units the transposition
# costs more than it saves.
SMALLEST_UNITS_TO_TRANSPOSE = 512

AFTER, BEFORE, NONE = "after", "before", "none"


class Cell(NamedTuple):
    """The form of the step.

    Attributes:
        reset: where the relevance gate acts: `AFTER` the product of the memory, `BEFORE` it, or nowhere (`NONE`).
        activation: name of the activation of the candidate, of `gru_activations.ACTIVATIONS`.
        recurrent_activation: name of the activation of the gates.
    """

    reset: str
    activation: str
    recurrent_activation: str

    @property
    def gates(self) -> int:
        """The number of gates: keep, and relevance if there is one."""
        return 1 if self.reset == NONE else 2


def product(values: Any, kernel: Any, drops: Any) -> Any:
    """Returns `values @ kernel`, where some of the values are dropped.

    Args:
        values: `(rows, width)`, or `(steps, rows, width)`.
        kernel: `(width, columns)`.
        drops: a dropout mask `(1, rows, width)`, or one for each block of the kernel `(blocks, rows, width)`; or None.
    """
    if drops is None:
        return _matmul(values, kernel)
    kernels = tf.split(kernel, drops.shape[0], axis=1)
    return tf.concat([_matmul(values * drop, one) for drop, one in zip(tf.unstack(drops), kernels, strict=True)], -1)


def product_gradient(d_product: Any, transposed: Any, drops: Any) -> Any:
    """Returns the gradient of the values of `product`, from that of the product and the transposed kernel."""
    if drops is None:
        return _matmul(d_product, transposed)
    count = drops.shape[0]
    blocks = zip(
        tf.split(d_product, count, axis=-1), tf.split(transposed, count, axis=0), tf.unstack(drops), strict=True
    )
    return tf.add_n([_matmul(d_block, block) * drop for d_block, block, drop in blocks])


def _matmul(values: Any, kernel: Any) -> Any:
    if len(values.shape) == 2:
        return tf.matmul(values, kernel)
    shape = tf.shape(values)
    product = tf.matmul(tf.reshape(values, (-1, values.shape[-1])), kernel)
    return tf.reshape(product, (shape[0], shape[1], kernel.shape[1]))


def forward(
    cell: Cell,
    keeps: bool,
    steps: Any,
    x: Any,
    memory: Any,
    kernel: Any,
    transposed: Any,
    bias: Any,
    mask: Any,
    drops: Any,
) -> list[Any]:
    """Runs some steps forward.

    Args:
        cell: the form of the step.
        keeps: whether to keep what the backward pass needs of every step. Otherwise each step overwrites that of the step
            before, because XLA would compute what is not written again for each of its uses, in twice the time.
        steps: the number of steps to run, int32 `()`.
        x: the products of the inputs, with their bias, `(longest, rows, blocks * units)`.
        memory: the memory before the first step, `(rows, units)`.
        kernel: the recurrent kernel, `(units, blocks * units)`.
        transposed: the recurrent kernel, transposed.
        bias: with `AFTER`, the bias of the memory's product, `(blocks * units,)`; otherwise None.
        mask: bool `(longest, rows, 1)`, False at steps that leave the memory unchanged; or None.
        drops: as for `product`, of the memory.

    Returns:
        The memories from `memory` on, `(longest + 1, rows, units)`, and what the backward pass needs of each step: the gates
        `(longest, rows, gates * units)` and the candidate `(longest, rows, units)`, both as `Activation.kept` has them, and
        with `AFTER` the product of the memory for the candidate.
    """
    longest, units, gates = x.shape[0], memory.shape[1], cell.gates
    sigmoid, tanh = ACTIVATIONS[cell.recurrent_activation], ACTIVATIONS[cell.activation]
    sizes = [gates * units, units]
    gate_kernel, candidate_kernel = tf.split(kernel, sizes, axis=1)
    gate_drops, candidate_drops = gate_and_candidate_drops(drops)
    x_by_step, mask_by_step = _array(x), None if mask is None else _array(mask)

    def memory_product(memory: Any) -> Any:
        if drops is not None or cell.reset != AFTER or units < SMALLEST_UNITS_TO_TRANSPOSE:
            c = product(memory, kernel, drops)
            return c if bias is None else c + bias
        # With the bias added before the transposition, XLA cannot undo the transposition.
        return tf.transpose(tf.matmul(transposed, memory, transpose_b=True) + bias[:, None])

    def step(t: Any, memory: Any, memories: tf.TensorArray, *saved: tf.TensorArray) -> tuple[Any, ...]:
        x_gates, x_candidate = tf.split(x_by_step.read(t), sizes, axis=1)
        is_read = None if mask_by_step is None else mask_by_step.read(t)
        if is_read is not None:  # A masked step may be NaN.
            x_gates, x_candidate = (tf.where(is_read, one, tf.zeros_like(one)) for one in (x_gates, x_candidate))
        if cell.reset == BEFORE:
            kept_gates = sigmoid.kept(x_gates + product(memory, gate_kernel, gate_drops))
            keep, relevance = tf.split(sigmoid.value(kept_gates), 2, axis=1)
            kept_candidate = tanh.kept(x_candidate + product(relevance * memory, candidate_kernel, candidate_drops))
            values = [kept_gates, kept_candidate]
        else:
            c_gates, c_candidate = tf.split(memory_product(memory), sizes, axis=1)
            kept_gates = sigmoid.kept(x_gates + c_gates)
            keep, *relevance = tf.split(sigmoid.value(kept_gates), gates, axis=1)
            kept_candidate = tanh.kept(x_candidate + (relevance[0] * c_candidate if relevance else c_candidate))
            values = [kept_gates, kept_candidate, *([c_candidate] if cell.reset == AFTER else [])]
        following = keep * memory + (1 - keep) * tanh.value(kept_candidate)
        memory = following if is_read is None else tf.where(is_read, following, memory)
        saved = tuple(array.write(t if keeps else 0, value) for array, value in zip(saved, values, strict=True))
        return t + 1, memory, memories.write(t + 1, memory), *saved

    memories = _empty_array(memory, longest + 1, units).write(0, memory)
    saved = [
        _empty_array(memory, longest if keeps else 1, size)
        for size in (*sizes, *sizes[1:])[: 3 if cell.reset == AFTER else 2]
    ]
    _, _, memories, *saved = tf.while_loop(
        lambda t, *_: t < steps, step, (0, memory, memories, *saved), maximum_iterations=longest
    )
    return [memories.stack(), *(array.stack() for array in saved)]


def gate_and_candidate_drops(drops: Any) -> tuple[Any, Any]:
    """Returns the dropout masks of the gates' and of the candidate's product."""
    if drops is None or drops.shape[0] == 1:
        return drops, drops
    return drops[:-1], drops[-1:]


def backward(
    cell: Cell,
    steps: Any,
    d_memories: Any,
    d_memory: Any,
    kernel: Any,
    transposed: Any,
    mask: Any,
    drops: Any,
    memories: Any,
    *saved: Any,
) -> list[Any]:
    """Runs some steps backward.

    Args:
        cell: as for `forward`.
        steps: as for `forward`.
        d_memories: the gradient of the memory after each step, without the part through later steps,
            `(longest, rows, units)`.
        d_memory: the gradient of the memory after the last of the steps, through later steps, `(rows, units)`.
        kernel: as for `forward`.
        transposed: as for `forward`.
        mask: as for `forward`.
        drops: as for `forward`.
        memories: from `forward`.
        *saved: from `forward`.

    Returns:
        The gradient of the memory before the first step, d_gates `(longest, rows, gates * units)`, d_candidate, and with
        `AFTER` d_c_candidate, both `(longest, rows, units)`. They are 0 at steps that were not run.
    """
    longest, _, units = d_memories.shape
    gates = cell.gates
    sigmoid, tanh = ACTIVATIONS[cell.recurrent_activation], ACTIVATIONS[cell.activation]
    transposes = cell.reset == AFTER and drops is None and units >= SMALLEST_UNITS_TO_TRANSPOSE
    gate_kernel, candidate_kernel = tf.split(transposed, [gates * units, units], axis=0)
    gate_drops, candidate_drops = gate_and_candidate_drops(drops)
    arrays = [_array(one) for one in (d_memories, memories, *saved, *([] if mask is None else [mask]))]

    # The gradient of the memory has two terms: the direct one through keep, and the one through the matrix product.
    def step(t: Any, d_direct: Any, d_product: Any, *parts: tf.TensorArray) -> tuple[Any, ...]:
        d_after, memory, kept_gates, kept_candidate, *more = (one.read(t) for one in arrays)
        d_memory = d_after + d_direct + (tf.transpose(d_product) if transposes else d_product)
        is_read = None if mask is None else more[-1]
        d_skipped = None if is_read is None else tf.where(is_read, tf.zeros_like(d_memory), d_memory)
        d_memory = d_memory if is_read is None else tf.where(is_read, d_memory, tf.zeros_like(d_memory))
        keep, *relevance = tf.split(sigmoid.value(kept_gates), gates, axis=1)
        slopes = tf.split(sigmoid.slope(kept_gates), gates, axis=1)
        d_candidate = d_memory * (1 - keep) * tanh.slope(kept_candidate)
        d_keep = d_memory * (memory - tanh.value(kept_candidate)) * slopes[0]
        d_direct = d_memory * keep
        if cell.reset == BEFORE:
            d_candidate_memory = product_gradient(d_candidate, candidate_kernel, candidate_drops)
            d_gates = tf.concat([d_keep, d_candidate_memory * memory * slopes[1]], axis=1)
            d_direct += d_candidate_memory * relevance[0]
            d_product = product_gradient(d_gates, gate_kernel, gate_drops)
            values = [d_gates, d_candidate]
        else:
            d_c_candidate, d_gates, values = d_candidate, d_keep, [d_keep, d_candidate]
            if cell.reset == AFTER:
                d_c_candidate = d_candidate * relevance[0]
                d_gates = tf.concat([d_keep, d_candidate * more[0] * slopes[1]], axis=1)
                values = [d_gates, d_candidate, d_c_candidate]
            d_c = tf.concat([d_gates, d_c_candidate], axis=1)
            if transposes:
                d_product = tf.matmul(kernel, d_c, transpose_b=True)
            else:
                d_product = product_gradient(d_c, transposed, drops)
        d_direct = d_direct if d_skipped is None else d_direct + d_skipped
        return t - 1, d_direct, d_product, *(part.write(t, one) for part, one in zip(parts, values, strict=True))

    sizes = [gates * units, units, units][: 3 if cell.reset == AFTER else 2]
    parts = [_empty_array(d_memory, longest, size) for size in sizes]
    zeros = tf.zeros_like(d_memory)
    start = (steps - 1, d_memory, tf.transpose(zeros) if transposes else zeros, *parts)
    _, d_direct, d_product, *parts = tf.while_loop(lambda t, *_: t >= 0, step, start, maximum_iterations=longest)
    return [d_direct + (tf.transpose(d_product) if transposes else d_product), *(part.stack() for part in parts)]


def _array(values: Any) -> tf.TensorArray:
    """Returns an array to read by step from `(time, ...)`."""
    return tf.TensorArray(values.dtype, size=values.shape[0], element_shape=values.shape[1:]).unstack(values)


def _empty_array(like: Any, time: int, size: int) -> tf.TensorArray:
    """Returns an array to write `(rows, size)` into at each step; zeros, because XLA must know the size."""
    return _array(tf.zeros((time, tf.shape(like)[0], size), like.dtype))


@functools.cache
def compiled(function: Callable[..., Sequence[Any]], *settings: Any) -> Callable[..., Sequence[Any]]:
    """Returns `forward` or `backward` with its first arguments, compiled by XLA. All layers share what it compiles."""
    return tf.function(functools.partial(function, *settings), jit_compile=True, autograph=False)
