"""`keras-seq web --output`: writes the page into a folder, for any web server."""

import shutil
from pathlib import Path

from keras_seq_export.publishing import publishing_export
from keras_seq_export.tflite.page_files import litert_folder, page_files, page_folder


def page_output(
    output: str | Path,
    model: str | Path | None = None,
    litert: Path | None = None,
    demo: str | Path | None = None,
) -> int:
    """Writes the page with LiteRT.js and models into a new folder; returns the number of its bytes.

    Args:
        output: the folder, which must not exist.
        model: a .tflite that the page opens; None for the page's own.
        litert: the `node_modules` that has LiteRT.js; None for the result of `litert_folder`.
        demo: the directory of `keras-seq demo`, for a comparison of its models; None for no comparison.

    Raises:
        BundleError: a model was not written by this package, or is a file of integers.
        ConfigError: a model of the demo is missing.
        ExportError: the folder exists or cannot be written.
        ValueError: LiteRT.js is not installed.
    """
    page = page_files(page_folder(), litert or litert_folder(), model, demo)
    written = 0
    with publishing_export(Path(output)) as (partial,):
        for address in page.addresses():
            file = partial / address
            file.parent.mkdir(parents=True, exist_ok=True)
            content = page.content(address)
            if isinstance(content, bytes):
                file.write_bytes(content)
            else:
                shutil.copyfile(content, file)
            written += file.stat().st_size
    return written
