"""Every error class of keras_seq_export. The messages say what was expected, what was received and what to do."""

from keras_seq.errors import KerasSeqError


class ExportError(KerasSeqError, RuntimeError):
    """An export was refused; nothing was published unless the message says so."""


class BundleError(KerasSeqError, ValueError):
    """A .tflite file is damaged, or was not written by this package."""

    page = "docs/tflite.md"


class LearnedFileError(KerasSeqError, ValueError):
    """A file of what a model has learned is damaged, belongs to another model, or cannot be read or written."""

    page = "docs/learning.md#what-is-refused"


class ResultsError(KerasSeqError, ValueError):
    """A file of results belongs to another batch, or cannot be written."""

    page = "docs/formats.md#results-of-a-batch"


class SessionError(KerasSeqError, RuntimeError):
    """TensorFlow's C++ session refused a SavedModel or a request; the message is TensorFlow's own."""


class ServingError(KerasSeqError, RuntimeError):
    """A server cannot be reached, does not answer in time, or refuses a request."""

    page = "docs/serving.md"
