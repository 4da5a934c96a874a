"""Proving an exported file: what it answers against what the model answers, before it gets its name."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # of a logit; float32 kernels differ by about 1e-6 after hundreds of steps


class ExportError(RuntimeError):
    """An export that was refused; nothing was published."""


@contextlib.contextmanager
def publishing(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `target`; renames it to `target` at the end, or removes it after an error.

    Raises:
        ExportError: `target` exists, or its folder cannot be written.
    """
    target = Path(target)
    if target.exists():
        raise ExportError(f"{target} exists: choose another name, or remove it first")
    temporary = target.with_name(f".partial-{os.getpid()}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise ExportError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def reference_logits(model: "keras.Model", tokens: np.ndarray) -> np.ndarray:
    """Returns the logits `(time, vocabulary)` float32 that the sequence model gives for tokens `(time,)`, the first `<s>`."""
    return np.asarray(model(np.asarray(tokens, np.int32)[None], training=False)[0], np.float32)


def compare(name: str, expected: np.ndarray, actual: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Returns the largest difference of two arrays of one shape.

    Raises:
        ExportError: the shapes differ, a number is not finite, or the difference is above `tolerance`.
    """
    if expected.shape != actual.shape:
        raise ExportError(f"{name}: the file gives shape {actual.shape}, the model {expected.shape}")
    if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        raise ExportError(f"{name}: the logits must be finite; the model's or the file's are not")
    difference = float(np.abs(expected - actual).max())
    if difference > tolerance:
        raise ExportError(
            f"{name}: the file differs from the model by up to {difference:.3g}, more than {tolerance:g}; nothing was published"
        )
    return difference
