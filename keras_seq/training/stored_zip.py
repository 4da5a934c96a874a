"""Zip files without compression, as Keras and NumPy write them."""

import zipfile
from pathlib import Path


def require_stored(path: Path) -> list[str]:
    """Returns the names of the parts of a zip file, and refuses one whose parts would inflate.

    Raises:
        ValueError: a part is compressed, or the parts are larger than the file.
        zipfile.BadZipFile: it is not a zip file.
        OSError: it cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("its parts must be stored without compression")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("its parts are larger than the file")
    return [part.filename for part in parts]
