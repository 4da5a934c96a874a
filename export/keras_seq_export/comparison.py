"""Proving an exported file: what it answers against what the model answers, before it gets its name."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_seq.generation.sampling import SamplingSettings, keep, next_token
from keras_seq_export.errors import ExportError

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # of a logit; float32 kernels differ by about 1e-6 after hundreds of steps
NEAR_TIE = 1e-5  # of probability; what rounding may move an edge of the cumulative distribution


def reference_outputs(model: "keras.Model", rows: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields the outputs `(steps, ...)` float32 that the sequence model gives for tokens `(steps,)` or frames `(steps, ...)`."""
    import tensorflow as tf
    from keras import tree

    from keras_seq.models.stateful import is_stateful, reset_states, stateful_copy

    # Built for a fixed batch or time: a copy that carries its state reads a row in pieces of that time.
    batch, time = model.inputs[0].shape[:2]
    longest = max(map(len, rows))
    carries = batch is not None or time is not None or is_stateful(model)
    reader = stateful_copy(model, batch_size=1) if carries else model
    time = time or longest
    # Compiled once: all rows are filled up to the same length.
    read = tf.function(lambda piece: reader(piece, training=False)).get_concrete_function(
        tf.TensorSpec((1, time, *rows[0].shape[1:]), rows[0].dtype)
    )
    # The file computes on the CPU; an accelerator's shorter products would give other outputs.
    with tf.device("/CPU:0"):
        for row in rows:
            if carries:
                reset_states(reader)
            filled = np.zeros((1, -(-longest // time) * time, *row.shape[1:]), row.dtype)
            filled[0, : len(row)] = row
            pieces = [
                tree.flatten(read(tf.constant(filled[:, start : start + time])))[0]
                for start in range(0, len(row), time)
            ]
            yield np.concatenate([np.asarray(piece[0], np.float32) for piece in pieces])[: len(row)]


def compare(name: str, expected: np.ndarray, actual: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Returns the largest difference of two arrays of one shape.

    Raises:
        ExportError: the shapes differ, a number is not finite, or the difference is above `tolerance`.
    """
    if expected.shape != actual.shape:
        raise ExportError(f"{name}: the file gives shape {actual.shape}, the model {expected.shape}")
    if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        raise ExportError(f"{name}: the outputs must be finite; the model's or the file's are not")
    difference = float(np.abs(expected - actual).max())
    if difference > tolerance:
        raise ExportError(
            f"{name}: the file differs from the model by up to {difference:.3g}, more than {tolerance:g}; nothing was published"
        )
    return difference


def possible_tokens(logits: np.ndarray, uniform: float, settings: SamplingSettings, logit_bias: np.ndarray) -> set[int]:
    """Returns the tokens that runtimes may draw from logits `(vocabulary,)` that differ by rounding: mostly one.

    With ten thousand tokens there are ten thousand edges between them, and now and then a uniform falls between the
    places where two runtimes put the same edge.
    """
    numbers = [min(max(uniform + shift, 0.0), 1 - 2**-24) for shift in (0.0, -NEAR_TIE, NEAR_TIE)]
    return {
        next_token(rounded, number, nearby, logit_bias)
        for _, rounded, nearby in rounding_variants(logits, settings, logit_bias)
        for number in numbers
    }


def rounding_variants(
    logits: np.ndarray, settings: SamplingSettings, logit_bias: np.ndarray
) -> Iterator[tuple[float, np.ndarray, SamplingSettings]]:
    """Yields what rounding may make of logits `(vocabulary,)` and of the edges of filters, with the size of the change.

    First there is no change; then top_p and min_p are a little less and a little more; last the two logits on both sides
    of the edge of top_k, of a greedy draw, or of all filters together, change places if they are next to equal.
    """
    yield 0.0, logits, settings
    for shift in (-NEAR_TIE / 2, NEAR_TIE / 2):
        filters = {name: min(1.0, getattr(settings, name) * (1 + shift)) for name in ("top_p", "min_p")}
        yield abs(shift), logits, dataclasses.replace(settings, **filters)
    values = logits + logit_bias
    order = np.argsort(-values, kind="stable")
    kept = int(np.isfinite(keep(logits, settings, logit_bias, [])).sum())
    for edge in {1 if settings.is_greedy else settings.top_k, kept}:
        if not 0 < edge < len(logits):
            continue
        inside, outside = order[edge - 1 : edge + 1]
        if values[outside] > values[inside] - NEAR_TIE:
            exchanged = logits.copy()
            exchanged[inside] -= NEAR_TIE
            exchanged[outside] += NEAR_TIE
            yield NEAR_TIE / 2, exchanged, settings
