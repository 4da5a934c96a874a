"""The weight of each token in a loss or a metric."""

from collections.abc import Sequence
from typing import Any

from keras import ops


def token_weights(shape: Sequence[Any], *factors: Any) -> Any:
    """Returns the product of sample weights and masks at each token, as `keras.metrics` spreads them.

    Args:
        shape: the numbers of rows and of tokens in each row, `(batch, time)`; of integers or of scalar tensors.
        *factors: sample weights or a mask: for each row, `(batch,)` or `(batch, 1)`, or for each token, `(batch, time)` or
            `(batch, time, 1)`; None for ones.

    Returns:
        Floats `(batch, time)`.

    Example:
        >>> ops.convert_to_numpy(token_weights((2, 3), [0.5, 2], [[True, True, False]] * 2)).tolist()
        [[0.5, 0.5, 0.0], [2.0, 2.0, 0.0]]
    """
    weights = ops.ones(shape)
    for factor in factors:
        if factor is not None:
            factor = ops.cast(factor, weights.dtype)
            if len(factor.shape) > len(shape):
                factor = ops.squeeze(factor, -1)
            missing = (1,) * (len(shape) - len(factor.shape))
            weights *= ops.broadcast_to(ops.reshape(factor, (*ops.shape(factor), *missing)), shape)
    return weights
