"""Publishing an export: a file appears under its name only after it has been verified."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from keras_seq import files
from keras_seq_export.errors import ExportError


@contextlib.contextmanager
def publishing_export(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Yields a temporary path for each target and publishes them at the end, as `keras_seq.files.publishing` does.

    Raises:
        ExportError: the first target exists, or the folder cannot be written.
    """
    try:
        with files.publishing(*targets) as partials:
            yield partials
    except OSError as error:
        # The operating system's errors have a number; the refusal of an existing target has a sentence.
        if isinstance(error, FileExistsError) and error.errno is None:
            raise ExportError(str(error)) from error
        where = f" ({error.filename})" if error.filename else ""
        raise ExportError(f"{targets[0]} cannot be written: {error.strerror or error}{where}") from error
