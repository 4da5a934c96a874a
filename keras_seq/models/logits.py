"""Outputs of a model that are probabilities instead of logits: how to recognize them, and the logits that they have."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_seq.errors import ModelError

# How far the sum of a softmax may be from one. In bfloat16 it is off by up to 0.003.
_TOLERANCE = 1e-2
_SMALLEST = float(np.finfo(np.float32).tiny)


def are_probabilities(outputs: Any) -> Any:
    """Returns whether outputs are probabilities: they are never negative, and sum to one at each position.

    A model may end in a softmax in many forms, so the numbers decide. Logits of several positions look like this only by
    an unlikely coincidence.

    Args:
        outputs: floats `(..., vocabulary)`: a NumPy array, or a tensor inside or outside a graph.

    Returns:
        A boolean: of Python for a NumPy array, otherwise a tensor without axes. False if an output is NaN.

    Example:
        >>> are_probabilities(np.array([[0.25, 0.75], [1.0, 0.0]])), are_probabilities(np.array([[0.5, 0.75]]))
        (True, False)
    """
    wide = ops.cast(outputs, "float32")
    off = ops.abs(ops.sum(wide, axis=-1) - 1)
    answer = ops.logical_and(ops.all(wide >= 0), ops.all(off < _TOLERANCE))
    return bool(answer) if isinstance(outputs, np.ndarray) else answer


def as_logits(outputs: keras.KerasTensor, probabilities: bool) -> keras.KerasTensor:
    """Returns the logits of outputs: the logarithms of probabilities, in float32, or the outputs themselves.

    A softmax can underflow to 0, whose logarithm would become NaN in later sums; it counts as 1.2e-38.

    Args:
        outputs: `(..., vocabulary)`.
        probabilities: whether the outputs are probabilities.

    Example:
        >>> [round(float(logit), 1) for logit in as_logits(np.array([1.0, 0.0]), probabilities=True)]
        [0.0, -87.3]
    """
    return ops.log(ops.maximum(ops.cast(outputs, "float32"), _SMALLEST)) if probabilities else outputs


def logits_position(model: keras.Model) -> int:
    """Returns the position of the logits, or probabilities, among the outputs of a language model.

    They are the only output, or the only one `(batch, time, ...)`. States among the outputs have no time axis.

    Raises:
        ModelError: several outputs may be the logits.
    """
    if len(model.outputs) == 1:
        return 0
    over_time = [index for index, output in enumerate(model.outputs) if len(output.shape) == 3]
    if len(over_time) != 1:
        shapes = ", ".join(str(output.shape) for output in model.outputs)
        raise ModelError(
            "`model` must have one output (batch, time, vocabulary), the logits; give "
            f"keras.Model(model.inputs, model.outputs[0]) if it is the first. Received: {model.name} with {shapes}"
        )
    return over_time[0]
