"""The answers of a SavedModel that is being verified, with its warm-up requests run too."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_seq_export.errors import ExportError, SessionError
from keras_seq_export.saved_model.cpp_session import Request, run_in_cpp_session


def run_all(
    directory: Path, requests: Sequence[Request], warm_up: Mapping[str, dict[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """Returns the answers to the requests. All run in one C++ session, and the warm-up requests after them.

    Raises:
        ExportError: a request fails there.
    """
    warm_ups = [Request(signature, values) for signature, values in warm_up.items()]
    try:
        return run_in_cpp_session(directory, [*requests, *warm_ups])[: len(requests)]
    except SessionError as error:
        reason = str(error).partition("\n")[0][:300]
        raise ExportError(f"the SavedModel does not run in TensorFlow's C++ session: {reason}") from error
