"""Every error class of the package."""


class ExportError(RuntimeError):
    """An export that was refused; nothing was published, unless the message says so."""


class SessionError(RuntimeError):
    """The C++ session refused the SavedModel or a request; the message is the runtime's own."""


class ServingError(RuntimeError):
    """A server cannot be asked, is not there, does not answer in time, or refuses a request; the message says which."""


class BundleError(ValueError):
    """A .tflite file that is damaged, or that this package did not write."""
