"""Exports of a trained model, as a SavedModel, a .tflite file or a C header, and the runtimes and clients that use them.

Public names load on first use, so `from keras_seq_export import LiteRTSampler` needs neither TensorFlow nor Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_seq_export.client.client import Client
    from keras_seq_export.errors import ExportError, ServingError
    from keras_seq_export.micro.export import export_c
    from keras_seq_export.saved_model.export import export_saved_model
    from keras_seq_export.tflite.decoder import LiteRTDecoder
    from keras_seq_export.tflite.export import export_tflite
    from keras_seq_export.tflite.runtime import LiteRTSampler

_MODULE_OF = {
    "Client": "keras_seq_export.client.client",
    "ExportError": "keras_seq_export.errors",
    "LiteRTDecoder": "keras_seq_export.tflite.decoder",
    "LiteRTSampler": "keras_seq_export.tflite.runtime",
    "ServingError": "keras_seq_export.errors",
    "export_c": "keras_seq_export.micro.export",
    "export_saved_model": "keras_seq_export.saved_model.export",
    "export_tflite": "keras_seq_export.tflite.export",
}

__all__ = [
    "Client",
    "ExportError",
    "LiteRTDecoder",
    "LiteRTSampler",
    "ServingError",
    "export_c",
    "export_saved_model",
    "export_tflite",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
