"""Every error class of keras_seq_export. The messages say what was expected, what was received and what to do."""

from typing import Any

from keras_seq.errors import KerasSeqError

_LONGEST = 200  # characters


def shortened(found: Any) -> str:
    """Returns the beginning of what was found in a damaged file, so that the message stays a sentence."""
    text = str(found)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class ExportError(KerasSeqError, RuntimeError):
    """An export was refused; nothing was published unless the message says so."""


class BundleError(KerasSeqError, ValueError):
    """A .tflite file is damaged, or was not written by this package."""


class ResultsError(KerasSeqError, ValueError):
    """A file of results belongs to another batch, or cannot be written."""


class SessionError(KerasSeqError, RuntimeError):
    """TensorFlow's C++ session refused a SavedModel or a request; the message is TensorFlow's own."""


class ServingError(KerasSeqError, RuntimeError):
    """A server cannot be reached, does not answer in time, or refuses a request."""
