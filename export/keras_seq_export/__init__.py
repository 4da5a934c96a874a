"""Everything that leaves Python training behind: SavedModel, .tflite and their runtimes.

Public names load on first use, so that `from keras_seq_export import LiteRTSampler` needs neither TensorFlow nor Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_seq_export.runtime import LiteRTDecoder, LiteRTSampler
    from keras_seq_export.saved_model import export_saved_model
    from keras_seq_export.serving import Client
    from keras_seq_export.serving_transports import ServingError
    from keras_seq_export.tflite import export_tflite
    from keras_seq_export.verify import ExportError

_MODULE_OF = {
    "Client": "keras_seq_export.serving",
    "ExportError": "keras_seq_export.verify",
    "LiteRTDecoder": "keras_seq_export.runtime",
    "LiteRTSampler": "keras_seq_export.runtime",
    "ServingError": "keras_seq_export.serving_transports",
    "export_saved_model": "keras_seq_export.saved_model",
    "export_tflite": "keras_seq_export.tflite",
}

__all__ = [
    "Client",
    "ExportError",
    "LiteRTDecoder",
    "LiteRTSampler",
    "ServingError",
    "export_saved_model",
    "export_tflite",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
