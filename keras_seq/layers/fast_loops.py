"""The two loops of a recurrent layer over some steps, forward and backward, compiled by XLA.

The backward loop carries only the gradients of the states; what the gradients of the kernels need is written for one large
product after it.

The arrays of a loop have a fixed number of steps, and a number at run time says how many of them are read. So a loop is
compiled once for each number of rows, units and steps, whatever the length of the sequences, and all layers share it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_seq.layers.fast_cells import FastCell
from keras_seq.layers.fast_products import RecurrentKernel


def forward(
    cell: FastCell,
    keeps: bool,
    steps: Any,
    x: Any,
    bias: Any,
    states: Sequence[Any],
    kernel: RecurrentKernel,
    mask: Any,
) -> tuple[list[Any], list[Any], list[Any]]:
    """Runs some steps forward.

    Args:
        cell: the cell.
        keeps: whether to keep what the backward pass needs of every step. Otherwise each step overwrites that of the step
            before, because XLA would compute what is not written again for each of its uses, in twice the time.
        steps: the number of steps to run, int32 `()`.
        x: the products of the inputs, without their bias, `(longest, rows, columns)`.
        bias: their bias, `(columns,)`.
        states: the states before the first step, each `(rows, units)`.
        kernel: the recurrent kernel.
        mask: bool `(longest, rows, 1)`, False at steps that leave the states unchanged; or None.

    Returns:
        The states after the last of the steps; the states from the first ones on, each `(longest + 1, rows, units)`; and
        what the cell keeps of each step, each `(longest, rows, ...)`. Without `keeps`, only the memory of each step is right.
    """
    longest, units = x.shape[0], states[0].shape[1]
    kernels = cell.kernels(kernel)
    x_by_step, mask_by_step = _array(x), None if mask is None else _array(mask)

    def step(t: Any, states: Sequence[Any], histories: Any, saved: Any) -> tuple[Any, ...]:
        x_of_step = x_by_step.read(t) + bias
        is_read = None if mask_by_step is None else mask_by_step.read(t)
        if is_read is not None:  # A masked step may be NaN.
            x_of_step = tf.where(is_read, x_of_step, tf.zeros_like(x_of_step))
        following, kept = cell.step(x_of_step, states, kernels)
        if is_read is not None:
            following = [tf.where(is_read, one, state) for one, state in zip(following, states, strict=True)]
        saved = [array.write(t if keeps else 0, one) for array, one in zip(saved, kept, strict=True)]
        memory, *others = [
            array.write(t + 1 if keeps or index == 0 else 0, one)
            for index, (array, one) in enumerate(zip(histories, following, strict=True))
        ]
        return t + 1, following, [memory, *others], saved

    lengths = [longest + 1, *[longest + 1 if keeps else 1] * (cell.state_count - 1)]
    histories = [
        _empty_array(state, length, units).write(0, state) for state, length in zip(states, lengths, strict=True)
    ]
    saved = [_empty_array(states[0], longest if keeps else 1, width) for width in cell.widths(units)]
    _, states, histories, saved = tf.while_loop(
        lambda t, *_: t < steps, step, (0, list(states), histories, saved), maximum_iterations=longest
    )
    return list(states), [array.stack() for array in histories], [array.stack() for array in saved]


def backward(
    cell: FastCell,
    steps: Any,
    d_memories: Any,
    d_states: Sequence[Any],
    kernel: RecurrentKernel,
    mask: Any,
    histories: Sequence[Any],
    saved: Sequence[Any],
) -> tuple[list[Any], list[Any]]:
    """Runs some steps backward.

    Args:
        cell: the cell.
        steps: as for `forward`.
        d_memories: the gradient of the memory after each step, without the part through later steps,
            `(longest, rows, units)`.
        d_states: the gradients of the states after the last of the steps, through later steps, each `(rows, units)`.
        kernel: the recurrent kernel.
        mask: as for `forward`.
        histories: the states from `forward`.
        saved: what the cell kept, from `forward`.

    Returns:
        The gradients of the states before the first step, and those that `FastCell.gradients` returns of each step, each
        `(longest, rows, ...)`. They are 0 at steps that were not run.
    """
    longest, _, units = d_memories.shape
    kernels = cell.kernels(kernel)
    is_transposed = kernels[0].is_left
    arrays = [_array(one) for one in (d_memories, *histories, *saved, *([] if mask is None else [mask]))]

    # The gradient of the memory has two terms: the direct one, and the one through the matrix product.
    def step(t: Any, d_direct: Sequence[Any], d_product: Any, parts: Any) -> tuple[Any, ...]:
        d_after, *values = (one.read(t) for one in arrays)
        states, kept = values[: cell.state_count], values[cell.state_count : cell.state_count + len(saved)]
        d_memory = d_after + d_direct[0] + (tf.transpose(d_product) if is_transposed else d_product)
        d_states = [d_memory, *d_direct[1:]]
        if mask is not None:
            is_read = values[-1]
            d_skipped = [tf.where(is_read, tf.zeros_like(one), one) for one in d_states]
            d_states = [tf.where(is_read, one, tf.zeros_like(one)) for one in d_states]
        d_direct, d_product, d_steps = cell.gradients(d_states, states, kept, kernels)
        if mask is not None:
            d_direct = [one + skipped for one, skipped in zip(d_direct, d_skipped, strict=True)]
        return t - 1, d_direct, d_product, [part.write(t, one) for part, one in zip(parts, d_steps, strict=True)]

    zeros = tf.zeros_like(d_states[0])
    parts = [_empty_array(zeros, longest, width) for width in cell.widths(units)]
    start = (steps - 1, list(d_states), tf.transpose(zeros) if is_transposed else zeros, parts)
    _, d_direct, d_product, parts = tf.while_loop(lambda t, *_: t >= 0, step, start, maximum_iterations=longest)
    d_memory = d_direct[0] + (tf.transpose(d_product) if is_transposed else d_product)
    return [d_memory, *d_direct[1:]], [part.stack() for part in parts]


def _array(values: Any) -> tf.TensorArray:
    """Returns an array to read by step from `(time, ...)`."""
    return tf.TensorArray(values.dtype, size=values.shape[0], element_shape=values.shape[1:]).unstack(values)


def _empty_array(like: Any, time: int, width: int) -> tf.TensorArray:
    """Returns an array to write `(rows, width)` into at each step; zeros, because XLA must know the size."""
    return _array(tf.zeros((time, tf.shape(like)[0], width), like.dtype))


@functools.cache
def compiled(function: Callable[..., Any], *settings: Any) -> Callable[..., Any]:
    """Returns `forward` or `backward` with its first arguments, compiled by XLA. All layers share what it compiles."""
    return tf.function(functools.partial(function, *settings), jit_compile=True, autograph=False)
