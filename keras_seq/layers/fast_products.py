"""The matrix products of the fast path, with dropout masks, and their gradients."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

# From this number of units on, XLA computes (kernel^T memory^T)^T faster than memory kernel, because it packs the right
# factor at each step and the kernel is large: 241 GFLOP/s instead of 186 at 512 units. At 256 units the transposition
# costs more than it saves.
SMALLEST_UNITS_TO_TRANSPOSE = 512


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


def kernel_gradient(values: Any, d_product: Any, drops: Any) -> Any:
    """Returns the gradient of the kernel of `product`, from that of the product over some steps."""
    if drops is None:
        return tf.matmul(_rows_of_steps(values), _rows_of_steps(d_product), transpose_a=True)
    blocks = tf.split(d_product, drops.shape[0], axis=-1)
    return tf.concat(
        [
            tf.matmul(_rows_of_steps(values * drop), _rows_of_steps(block), transpose_a=True)
            for drop, block in zip(tf.unstack(drops), blocks, strict=True)
        ],
        axis=1,
    )


def sum_of_steps(values: Any) -> Any:
    """Returns the sum over steps and rows as a matrix product: `reduce_sum` along the rows takes three times as long."""
    values = _rows_of_steps(values)
    return tf.matmul(tf.ones((1, tf.shape(values)[0]), values.dtype), values)[0]


def _rows_of_steps(values: Any) -> Any:
    return tf.reshape(values, (-1, values.shape[-1]))


def split_drops(drops: Any, count: int) -> Sequence[Any]:
    """Returns the dropout masks of a kernel that is one part, or two: all blocks but the last one, and the last one."""
    if count == 1 or drops is None or drops.shape[0] == 1:
        return [drops] * count
    return [drops[:-1], drops[-1:]]


class RecurrentKernel(NamedTuple):
    """The recurrent kernel, or some of its columns, with what else its product with the memory needs.

    Attributes:
        values: `(units, columns)`.
        transposed: `(columns, units)`.
        bias: `(columns,)`.
        drops: as for `product`.
        is_whole: whether these are all columns.
    """

    values: Any
    transposed: Any
    bias: Any
    drops: Any
    is_whole: bool = True

    @property
    def is_left(self) -> bool:
        """Whether the product is computed with the transposed kernel as the left factor."""
        return self.is_whole and self.drops is None and self.values.shape[0] >= SMALLEST_UNITS_TO_TRANSPOSE

    def split(self, columns: int) -> "list[RecurrentKernel]":
        """Returns the first `columns` columns and the others."""
        sizes = [columns, self.values.shape[1] - columns]
        values, transposed = tf.split(self.values, sizes, axis=1), tf.split(self.transposed, sizes, axis=0)
        parts = zip(values, transposed, tf.split(self.bias, sizes), split_drops(self.drops, 2), strict=True)
        return [RecurrentKernel(*part, is_whole=False) for part in parts]

    def product(self, memory: Any) -> Any:
        """Returns the product of the memory `(rows, units)`, with the bias."""
        if self.is_left:
            # With the bias added before the transposition, XLA cannot undo the transposition.
            return tf.transpose(tf.matmul(self.transposed, memory, transpose_b=True) + self.bias[:, None])
        return product(memory, self.values, self.drops) + self.bias

    def gradient(self, d_product: Any) -> Any:
        """Returns the gradient of the memory from that of `product`; transposed, `(units, rows)`, if `is_left`."""
        if self.is_left:
            return tf.matmul(self.values, d_product, transpose_b=True)
        return product_gradient(d_product, self.transposed, self.drops)
