"""Small recurrent language models in Keras: from a text to a one-step decoder.

Public names load on first use: `import keras_seq` alone imports neither TensorFlow nor Keras. Where Keras is imported
already it learns the layers, so that it can load models with them.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

import keras_seq.forks  # noqa: F401 (a fork is noticed only if this is imported before it)
from keras_seq.version import __version__ as __version__

if TYPE_CHECKING:
    from keras_seq.analysis.dynamic_evaluation import DynamicEvaluation
    from keras_seq.analysis.evaluate import evaluate
    from keras_seq.analysis.gradient_flow import gradient_flow
    from keras_seq.data.agreement import agreement_corpus
    from keras_seq.data.corpus import Corpus
    from keras_seq.data.encode import encode_corpus
    from keras_seq.data.lines import lines
    from keras_seq.data.load import load_corpus
    from keras_seq.data.streams import streams
    from keras_seq.data.vocabulary import Vocabulary
    from keras_seq.generation.keras_step import generate, sample, score, suggest
    from keras_seq.generation.states import TextStates
    from keras_seq.layers.chrono_initializer import ChronoInitializer
    from keras_seq.layers.gru import GRU
    from keras_seq.layers.gru_cell import GRUCell
    from keras_seq.layers.lstm import LSTM
    from keras_seq.layers.ngram_embedding import NgramEmbedding
    from keras_seq.layers.simple_rnn import SimpleRNN
    from keras_seq.models.encode import encode
    from keras_seq.models.keras2_file import load_keras2
    from keras_seq.models.language_model import language_model
    from keras_seq.models.replace_layers import replace_layers
    from keras_seq.models.reserved_tokens import add_reserved_tokens
    from keras_seq.models.sampled_softmax import SampledSoftmax
    from keras_seq.models.stateful import stateful_copy
    from keras_seq.models.step_model import step_model
    from keras_seq.training.callbacks import CarriedState, CosineSchedule, KeepBest, RollBack, StopWhenNotFinite
    from keras_seq.training.checkpoint import Checkpoint
    from keras_seq.training.gradient_norms import GradientNorms
    from keras_seq.training.losses import NatsPerToken, SmoothedCrossentropy
    from keras_seq.training.run_directory import load_run

_MODULE_OF = {
    "CarriedState": "keras_seq.training.callbacks",
    "Checkpoint": "keras_seq.training.checkpoint",
    "ChronoInitializer": "keras_seq.layers.chrono_initializer",
    "Corpus": "keras_seq.data.corpus",
    "CosineSchedule": "keras_seq.training.callbacks",
    "DynamicEvaluation": "keras_seq.analysis.dynamic_evaluation",
    "GRU": "keras_seq.layers.gru",
    "GRUCell": "keras_seq.layers.gru_cell",
    "GradientNorms": "keras_seq.training.gradient_norms",
    "KeepBest": "keras_seq.training.callbacks",
    "LSTM": "keras_seq.layers.lstm",
    "NatsPerToken": "keras_seq.training.losses",
    "NgramEmbedding": "keras_seq.layers.ngram_embedding",
    "RollBack": "keras_seq.training.callbacks",
    "SampledSoftmax": "keras_seq.models.sampled_softmax",
    "SimpleRNN": "keras_seq.layers.simple_rnn",
    "SmoothedCrossentropy": "keras_seq.training.losses",
    "StopWhenNotFinite": "keras_seq.training.callbacks",
    "TextStates": "keras_seq.generation.states",
    "Vocabulary": "keras_seq.data.vocabulary",
    "add_reserved_tokens": "keras_seq.models.reserved_tokens",
    "agreement_corpus": "keras_seq.data.agreement",
    "encode": "keras_seq.models.encode",
    "encode_corpus": "keras_seq.data.encode",
    "evaluate": "keras_seq.analysis.evaluate",
    "generate": "keras_seq.generation.keras_step",
    "gradient_flow": "keras_seq.analysis.gradient_flow",
    "language_model": "keras_seq.models.language_model",
    "lines": "keras_seq.data.lines",
    "load_corpus": "keras_seq.data.load",
    "load_keras2": "keras_seq.models.keras2_file",
    "load_run": "keras_seq.training.run_directory",
    "replace_layers": "keras_seq.models.replace_layers",
    "sample": "keras_seq.generation.keras_step",
    "score": "keras_seq.generation.keras_step",
    "stateful_copy": "keras_seq.models.stateful",
    "step_model": "keras_seq.models.step_model",
    "streams": "keras_seq.data.streams",
    "suggest": "keras_seq.generation.keras_step",
}

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
    "LSTM",
    "SimpleRNN",
    "NgramEmbedding",
    "ChronoInitializer",
    "language_model",
    "load_keras2",
    "replace_layers",
    "add_reserved_tokens",
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
    "DynamicEvaluation",
    "gradient_flow",
    "step_model",
    "encode",
    "generate",
    "sample",
    "score",
    "suggest",
    "TextStates",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__


if "keras" in sys.modules:
    importlib.import_module("keras_seq.layers.registered")
