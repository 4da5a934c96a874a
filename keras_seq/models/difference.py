"""Where the outputs of two forms of a model begin to differ by more than rounding."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_seq.keras_internals import all_layers

# Largest relative difference between two forms of a model that rounding explains.
_TOLERANCES = {"float16": 2e-2, "bfloat16": 1e-1}
_TOLERANCE = 1e-4
# Rounding grows from step to step in a chaotic model, but not by this factor in one step.
_LARGEST_GROWTH = 20


class Difference(NamedTuple):
    """Where two forms of a model begin to differ.

    Attributes:
        step: the first step.
        size: the largest difference of one number there.
    """

    step: int
    size: float


def tolerance_in(dtype: str) -> float:
    """Returns the largest relative difference that rounding explains in a dtype."""
    if dtype == "float32" and tf.config.list_logical_devices("GPU"):
        dtype = "float16"  # The products of a GPU may have no more digits (TF32).
    return _TOLERANCES.get(dtype, _TOLERANCE)


def tolerance_of(model: keras.Model) -> float:
    """Returns the largest relative difference that rounding explains in the dtypes in which a model computes."""
    return max(tolerance_in(layer.compute_dtype) for layer in all_layers(model))


def first_difference(expected: np.ndarray, actual: np.ndarray, tolerance: float) -> Difference | None:
    """Returns where outputs `(rows, steps, ...)` begin to differ by more than rounding; None if they do not.

    Args:
        expected: the outputs of one form.
        actual: those of the other form.
        tolerance: largest difference, relative to `scales`.
    """
    with np.errstate(invalid="ignore"):
        differences = np.abs(np.subtract(expected, actual, dtype=np.float32))
    if not np.isfinite(differences).all():  # Infinite logits, for tokens that a model forbids, may be equal.
        equal = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
        differences = np.where(equal, 0, np.nan_to_num(differences, nan=np.inf, posinf=np.inf))
    by_step = (differences / scales(expected)).reshape(*differences.shape[:2], -1).max(axis=(0, 2), initial=0)
    before = np.concatenate([[0], np.maximum.accumulate(by_step)[:-1]])
    begins = (by_step > tolerance) & (by_step > _LARGEST_GROWTH * np.maximum(before, tolerance / _LARGEST_GROWTH))
    if not begins.any():
        return None
    step = int(begins.argmax())
    return Difference(step, float(differences[:, step].max()))


def scales(outputs: np.ndarray) -> np.ndarray:
    """Returns the size of each number of outputs `(rows, steps, ...)`, against which a difference is measured.

    This is the largest absolute value of the number over all rows and steps. It is not below that of the smallest tenth of
    the numbers, because sums of large numbers round more than their result.

    Returns:
        Floats of the shape of one step of one row.
    """
    finite = np.isfinite(outputs)
    largest = np.abs(outputs).max(axis=(0, 1), initial=0, where=finite)
    positive = largest[largest > 0]
    return np.maximum(largest, np.quantile(positive, 0.1) if positive.size else 1.0)
