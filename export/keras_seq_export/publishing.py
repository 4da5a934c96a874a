"""Publishing an export: a file appears under its name only after it has been verified."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from keras_seq import files
from keras_seq_export.errors import ExportError

# The operating system's reasons why a file cannot be written.
_REASONS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR)


@contextlib.contextmanager
def publishing_export(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Yields a temporary path for each target and publishes them at the end, as `keras_seq.files.publishing` does.

    Raises:
        ExportError: the first target exists, or the folder cannot be written.
    """
    try:
        with files.publishing(*targets) as partials:
            yield partials
    except ExportError:
        raise
    except Exception as error:
        cause = error if isinstance(error, OSError) else system_error(error)
        if cause is None:
            raise
        # The operating system's errors have a number; the refusal of an existing target has a sentence.
        if isinstance(cause, FileExistsError) and cause.errno is None:
            raise ExportError(str(cause)) from error
        raise ExportError(files.why_not_written(targets[0], cause)) from error


def system_error(error: Exception) -> OSError | None:
    """Returns the error of the operating system that TensorFlow reports as text in one of its own; None for others."""
    tensorflow = sys.modules.get("tensorflow")  # Whoever gets one of its errors has imported it.
    if tensorflow is None or not isinstance(error, tensorflow.errors.OpError):
        return None
    return next((OSError(code, os.strerror(code)) for code in _REASONS if os.strerror(code) in str(error)), None)
