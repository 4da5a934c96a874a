"""Comparing an exported file with its model, which every export does before it publishes the file."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_seq.generation.sampling import SamplingSettings, filter_logits, next_token
from keras_seq_export.errors import ExportError

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # largest difference of a logit; float32 kernels differ by about 1e-6 after hundreds of steps
_MOST_NUMBERS = 2**24  # of outputs in memory at a time: 64 MiB
NEAR_TIE = 1e-5  # probability by which rounding may move an edge of the cumulative distribution
_MOST_NEAR_TIES = 8  # logits beyond an edge that are considered; a model rarely has more than one


def reference_logits(
    model: "keras.Model", rows: Sequence[np.ndarray], at_once: Sequence[np.ndarray] = ()
) -> Iterator[np.ndarray]:
    """Yields the logits of a language model itself for each row, read from the start on the CPU.

    Longer rows than the model takes are continued by its own layers, from the states after these tokens.

    Args:
        model: the model over sequences; its own states, if it has any, are not changed.
        rows: tokens `(tokens,)`; the rows may differ in length.
        at_once: for each input that is given at once, a value `(rows, ...)`.

    Yields:
        Logits `(tokens, vocabulary)` float32: the logarithms of probabilities, if the model gives these.
    """
    import tensorflow as tf

    from keras_seq.models.sequence_reader import SequenceReader
    from keras_seq.models.step_model import stepped_language_model

    known = stepped_language_model(model)
    longest = max(map(len, rows))
    size = max(1, _MOST_NUMBERS // (longest * (known.decoder.outputs[0].shape[-1] or 1)))
    # The exported file runs on the CPU; an accelerator may compute in lower precision.
    with tf.device("/CPU:0"):
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            padded = np.zeros((len(batch), longest), np.int32)
            for index, row in enumerate(batch):
                padded[index, : len(row)] = row
            given = [value[first : first + size] for value in at_once]
            outputs = SequenceReader(model, known).whole(padded, given)
            logits = np.asarray(known.logits_of(outputs))
            yield from (output[: len(row)] for output, row in zip(logits, batch, strict=True))


def compare(name: str, expected: np.ndarray, actual: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Returns the largest absolute difference between the model's and the file's values.

    Args:
        name: what is compared, for the error message.
        expected: the model's values.
        actual: the file's values.
        tolerance: the largest difference allowed.

    Raises:
        ExportError: the shapes differ, a value is not finite, or the difference exceeds `tolerance`.
    """
    if expected.shape != actual.shape:
        raise ExportError(f"{name}: the file returns shape {actual.shape}, the model {expected.shape}")
    if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        raise ExportError(f"{name}: the outputs of the model and of the file must be finite")
    difference = float(np.abs(expected - actual).max())
    if difference > tolerance:
        raise ExportError(
            f"{name}: the file differs from the model by up to {difference:.3g}, more than {tolerance:g}; "
            "nothing was published"
        )
    return difference


def require_equal_but_for_rounding(name: str, model: "keras.Model", expected: np.ndarray, actual: np.ndarray) -> None:
    """Requires a file in float32 to give the outputs of a model that computes in another precision.

    Args:
        name: what is compared, for the error message.
        model: the model.
        expected: its outputs, `(rows, steps, ...)`.
        actual: the file's outputs.

    Raises:
        ExportError: rounding does not explain a difference.
    """
    from keras_seq.models.difference import first_difference, tolerance_of

    difference = first_difference(expected, actual, tolerance_of(model))
    if difference is not None:
        raise ExportError(
            f"{name}: the file differs from the model by {difference.size:.3g} at step {difference.step}, more than rounding "
            "in the model's precision explains; nothing was published"
        )


def possible_tokens(logits: np.ndarray, uniform: float, settings: SamplingSettings, logit_bias: np.ndarray) -> set[int]:
    """Returns the tokens that a runtime may sample when its logits differ from these by rounding; usually one.

    Two runtimes place the edges of the cumulative distribution slightly differently. With ten thousand tokens there are
    ten thousand edges, so a uniform number occasionally falls between the two positions of one edge.

    Args:
        logits: `(vocabulary,)` float32.
        uniform: the random number in [0, 1).
        settings: how the token is sampled.
        logit_bias: added to the logits, `(vocabulary,)`.
    """
    uniforms = [min(max(uniform + shift, 0.0), 1 - 2**-24) for shift in (0.0, -NEAR_TIE, NEAR_TIE)]
    return {
        next_token(variant, number, nearby, logit_bias)
        for _, variant, nearby in rounding_variants(logits, settings, logit_bias)
        for number in uniforms
    }


def rounding_variants(
    logits: np.ndarray, settings: SamplingSettings, logit_bias: np.ndarray
) -> Iterator[tuple[float, np.ndarray, SamplingSettings]]:
    """Yields the logits and settings that other runtimes may effectively use because of rounding.

    The first variant is unchanged. The next two have a slightly smaller and a slightly larger `top_p` and `min_p`. The
    others concern the edge of a greedy choice, of `top_k` or of all filters together, if logits beyond it nearly equal
    the last one inside: one variant makes all of them equal, and each of the others swaps one of them with the last one.

    Args:
        logits: `(vocabulary,)` float32.
        settings: how a token is sampled.
        logit_bias: added to the logits, `(vocabulary,)`.

    Yields:
        The size of the change, the logits and the settings.
    """
    yield 0.0, logits, settings
    for shift in (-NEAR_TIE / 2, NEAR_TIE / 2):
        filters = {name: min(1.0, getattr(settings, name) * (1 + shift)) for name in ("top_p", "min_p")}
        yield abs(shift), logits, dataclasses.replace(settings, **filters)
    biased = logits + logit_bias
    order = np.argsort(-biased, kind="stable")
    kept = int(np.isfinite(filter_logits(logits, settings, logit_bias, [])).sum())
    for edge in {1 if settings.is_greedy else settings.top_k, kept}:
        if not 0 < edge < len(logits):
            continue
        inside, outside = order[edge - 1], order[edge : edge + _MOST_NEAR_TIES]
        outside = outside[biased[outside] > biased[inside] - NEAR_TIE]
        if len(outside):
            equal = logits.copy()
            equal[outside] += biased[inside] - biased[outside]
            yield NEAR_TIE / 2, equal, settings
        for token in outside:
            swapped = logits.copy()
            swapped[inside] -= NEAR_TIE
            swapped[token] += NEAR_TIE
            yield NEAR_TIE / 2, swapped, settings
