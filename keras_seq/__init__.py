"""Small recurrent language models in Keras: from a text to a one-step decoder.

Public names load on first use: `import keras_seq` alone imports neither TensorFlow nor Keras. Where Keras is imported
already it learns the layers, so that it can load models with them.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_seq.agreement import agreement_corpus
    from keras_seq.batches import lines, streams
    from keras_seq.checkpoint import Checkpoint
    from keras_seq.corpora import Corpus, load_corpus
    from keras_seq.encoding import encode_corpus
    from keras_seq.evaluation import evaluate
    from keras_seq.flow import gradient_flow
    from keras_seq.gradients import GradientNorms
    from keras_seq.gru import GRU, ChronoInitializer, GRUCell
    from keras_seq.models import language_model
    from keras_seq.runs import load_run
    from keras_seq.sampled_softmax import SampledSoftmax
    from keras_seq.stateful import stateful_copy
    from keras_seq.stepping import step_model
    from keras_seq.text import generate, sample, score
    from keras_seq.training import (
        CarriedState,
        CosineSchedule,
        KeepBest,
        NatsPerToken,
        RollBack,
        SmoothedCrossentropy,
        StopWhenNotFinite,
    )
    from keras_seq.vocabulary import Vocabulary

_MODULE_OF = {
    "CarriedState": "keras_seq.training",
    "Checkpoint": "keras_seq.checkpoint",
    "ChronoInitializer": "keras_seq.gru",
    "Corpus": "keras_seq.corpora",
    "CosineSchedule": "keras_seq.training",
    "GRU": "keras_seq.gru",
    "GRUCell": "keras_seq.gru",
    "GradientNorms": "keras_seq.gradients",
    "KeepBest": "keras_seq.training",
    "NatsPerToken": "keras_seq.training",
    "RollBack": "keras_seq.training",
    "SampledSoftmax": "keras_seq.sampled_softmax",
    "SmoothedCrossentropy": "keras_seq.training",
    "StopWhenNotFinite": "keras_seq.training",
    "Vocabulary": "keras_seq.vocabulary",
    "agreement_corpus": "keras_seq.agreement",
    "encode_corpus": "keras_seq.encoding",
    "evaluate": "keras_seq.evaluation",
    "generate": "keras_seq.text",
    "gradient_flow": "keras_seq.flow",
    "language_model": "keras_seq.models",
    "lines": "keras_seq.batches",
    "load_corpus": "keras_seq.corpora",
    "load_run": "keras_seq.runs",
    "sample": "keras_seq.text",
    "score": "keras_seq.text",
    "stateful_copy": "keras_seq.stateful",
    "step_model": "keras_seq.stepping",
    "streams": "keras_seq.batches",
}

__version__ = "0.1.0"
__all__ = [  # noqa: RUF022 (the order of the road, from text to sample)
    "Corpus",
    "load_corpus",
    "encode_corpus",
    "agreement_corpus",
    "Vocabulary",
    "streams",
    "lines",
    "GRU",
    "GRUCell",
    "ChronoInitializer",
    "language_model",
    "stateful_copy",
    "NatsPerToken",
    "SmoothedCrossentropy",
    "SampledSoftmax",
    "CarriedState",
    "CosineSchedule",
    "GradientNorms",
    "StopWhenNotFinite",
    "RollBack",
    "KeepBest",
    "Checkpoint",
    "load_run",
    "evaluate",
    "gradient_flow",
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


if "keras" in sys.modules:
    importlib.import_module("keras_seq.gru")
