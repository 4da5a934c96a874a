"""Small recurrent language models in Keras: from a text to a one-step decoder.

Public names load on first use: `import keras_seq` alone imports neither TensorFlow nor Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_seq.agreement import agreement_corpus
    from keras_seq.batches import lines, streams
    from keras_seq.corpora import Corpus, load_corpus
    from keras_seq.gru import GRU, ChronoInitializer, GRUCell
    from keras_seq.models import language_model
    from keras_seq.stepping import step_model
    from keras_seq.text import generate, sample, score
    from keras_seq.vocabulary import Vocabulary

_MODULE_OF = {
    "ChronoInitializer": "keras_seq.gru",
    "Corpus": "keras_seq.corpora",
    "GRU": "keras_seq.gru",
    "GRUCell": "keras_seq.gru",
    "Vocabulary": "keras_seq.vocabulary",
    "agreement_corpus": "keras_seq.agreement",
    "generate": "keras_seq.text",
    "language_model": "keras_seq.models",
    "lines": "keras_seq.batches",
    "load_corpus": "keras_seq.corpora",
    "sample": "keras_seq.text",
    "score": "keras_seq.text",
    "step_model": "keras_seq.stepping",
    "streams": "keras_seq.batches",
}

__version__ = "0.1.0"
__all__ = [  # noqa: RUF022 (the order of the road, from text to sample)
    "Corpus",
    "load_corpus",
    "agreement_corpus",
    "Vocabulary",
    "streams",
    "lines",
    "GRU",
    "GRUCell",
    "ChronoInitializer",
    "language_model",
    "step_model",
    "generate",
    "sample",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
