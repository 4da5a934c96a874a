"""The activations that the fast path knows, with their slopes."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from keras_seq.layers.keras2_hard_sigmoid import keras2_hard_sigmoid


class Activation(NamedTuple):
    """An activation, as the loops of the fast path use it. They keep one number for each of its values.

    Attributes:
        kept: argument -> the number that is kept.
        value: the number that is kept -> the value of the activation.
        slope: the number that is kept -> the derivative of the activation.
    """

    kept: Callable[[Any], Any]
    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]

    def __call__(self, argument: Any) -> Any:
        """Returns the value for an argument."""
        return self.value(self.kept(argument))


def _from_value(function: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Activation:
    """Returns an activation whose slope follows from its value, which is kept."""
    return Activation(function, lambda value: value, slope)


def _from_argument(function: Callable[[Any], Any]) -> Activation:
    """Returns an activation whose argument is kept; the value and the slope are computed from it again."""

    def slope(argument: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(argument)
            value = function(argument)
        return tape.gradient(value, argument)

    return Activation(lambda argument: argument, function, slope)


ACTIVATIONS = {
    "tanh": _from_value(tf.tanh, lambda value: 1 - value * value),
    "sigmoid": _from_value(tf.sigmoid, lambda value: value * (1 - value)),
    "linear": _from_value(lambda argument: argument, tf.ones_like),
    "relu": _from_value(tf.nn.relu, lambda value: tf.cast(value > 0, value.dtype)),
    **{
        name: _from_argument(getattr(keras.activations, name))
        for name in (
            "celu",
            "elu",
            "exponential",
            "gelu",
            "hard_shrink",
            "hard_sigmoid",
            "hard_silu",
            "hard_tanh",
            "leaky_relu",
            "log_sigmoid",
            "mish",
            "relu6",
            "selu",
            "silu",
            "soft_shrink",
            "softplus",
            "softsign",
            "sparse_plus",
            "sparse_sigmoid",
            "squareplus",
            "tanh_shrink",
        )
    },
    "keras2_hard_sigmoid": _from_argument(keras2_hard_sigmoid),
}

_NAMES: dict[Any, str] = {
    **{getattr(keras.activations, name): name for name in ACTIVATIONS if hasattr(keras.activations, name)},
    **{ops.tanh: "tanh", tf.tanh: "tanh", ops.sigmoid: "sigmoid", tf.sigmoid: "sigmoid"},
    **{ops.relu: "relu", tf.nn.relu: "relu", keras2_hard_sigmoid: "keras2_hard_sigmoid"},
}


def name_of(activation: Callable[[Any], Any]) -> str | None:
    """Returns the name in `ACTIVATIONS` of an activation of a layer; None if it is not among them."""
    return _NAMES.get(activation) if isinstance(activation, Hashable) else None
