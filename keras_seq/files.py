"""Files that are whole or absent, and tables of numbers."""

import contextlib
import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Gives a temporary path beside `target` to write to, and renames it at the end: a reader never meets half a file.

    After an error the temporary file is gone, and a file that was there before is as it was.
    """
    temporary = target.with_name(f".partial-{os.getpid()}-{target.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def read_columns(table: Path) -> dict[str, np.ndarray]:
    """Returns the columns of a `.csv` of numbers by their names in its first line."""
    with table.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, np.array(rows, float).T, strict=True))
