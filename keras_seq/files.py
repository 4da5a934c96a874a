"""Files that are whole or absent."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Gives a temporary path beside `target` to write to, and renames it at the end: a reader never meets half a file.

    After an error the temporary file is gone, and a file that was there before is as it was.
    """
    temporary = target.with_name(f".partial-{os.getpid()}-{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
