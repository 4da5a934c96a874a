"""Generates and scores text with a Keras model: `ks.generate`, `ks.sample` and `ks.score`.

They use the same token loop as every other runtime, with the one-step decoder of the model.
"""

from typing import Any, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation import generation
from keras_seq.generation import score as scoring
from keras_seq.generation.decoder_step import Step
from keras_seq.models.checks import require_logits
from keras_seq.models.step_model import step_model


class KerasStep(Step):
    """The one-step decoder of a Keras model.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`. It must meet
            the conditions of `step_model`.

    Raises:
        ArgumentError: `model` is not a Keras model.
        ModelError: the model does not end in logits.
        SteppingError: the model cannot be run one step at a time.
    """

    def __init__(self, model: keras.Model):
        require_logits(model)
        decoder = step_model(model)
        self.vocabulary_size: int = decoder.outputs[0].shape[-1]
        self._states = [(state.shape[1], keras.backend.standardize_dtype(state.dtype)) for state in decoder.inputs[1:]]
        self._decode = tf.function(lambda token, *states: decoder([token, *states], training=False))

    def initial_states(self) -> list[Any]:
        """Returns the zero states, each `(1, units)`."""
        return [np.zeros((1, units), dtype) for units, dtype in self._states]

    def __call__(self, token: int, states: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """Returns the logits after `token`, float32 `(vocabulary,)`, and the new states, each `(1, units)`."""
        logits, *states = self._decode(np.array([token], np.int32), *states)
        return logits.numpy()[0].astype(np.float32), states


def generate(
    model: keras.Model, vocabulary: Vocabulary, prompt: str = "", **options: Unpack[generation.Options]
) -> generation.Generation:
    """Returns an iterator over the pieces of a continuation of `prompt`, one per token. The prompt is not included.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: the vocabulary of the model.
        prompt: the text to continue. An empty prompt starts from `<s>` and the zero state.
        **options: `max_tokens`, `seed`, `temperature`, `stop` and others; see `keras_seq.generation.text.Options`.

    Raises:
        TypeError: an option does not exist; the message lists the options.
        ArgumentError: an argument is out of range.
        TextError: the prompt has characters outside the vocabulary.
        ConfigError: arguments contradict each other.
        ModelError: the model does not end in logits, one for each token of the vocabulary, or a logit is NaN.
        SteppingError: the model cannot be run one step at a time.

    Example:
        >>> from keras_seq import language_model
        >>> vocabulary = Vocabulary.from_text("to be or not to be")
        >>> writing = generate(language_model(len(vocabulary), units=[8]), vocabulary, "to ", max_tokens=5, seed=7)
        >>> for piece in writing:
        ...     writing.change(temperature=0.5)  # from the next token on
    """
    return generation.Generation(KerasStep(model), vocabulary, prompt, **options)


def sample(model: keras.Model, vocabulary: Vocabulary, prompt: str = "", **options: Unpack[generation.Options]) -> Any:
    """Returns a continuation of `prompt` as a `Text`, which is a `str`, or a list of them with `num_samples`.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: the vocabulary of the model.
        prompt: the text to continue. An empty prompt starts from `<s>` and the zero state.
        **options: `max_tokens`, `seed`, `temperature`, `stop` and others; see `keras_seq.generation.text.Options`.

    Raises:
        TypeError: an option does not exist; the message lists the options.
        ArgumentError: an argument is out of range.
        TextError: the prompt has characters outside the vocabulary.
        ConfigError: arguments contradict each other.
        ModelError: the model does not end in logits, one for each token of the vocabulary, or a logit is NaN.
        SteppingError: the model cannot be run one step at a time.

    Example:
        >>> from keras_seq import language_model
        >>> vocabulary = Vocabulary.from_text("to be or not to be")
        >>> model = language_model(len(vocabulary), units=[8])
        >>> text = sample(model, vocabulary, prompt="to ", max_tokens=5, top_k=3, seed=7, logprobs=True)
        >>> len(text.log_probabilities) <= 5
        True
        >>> [row == sample(model, vocabulary, seed=seed) for seed, row in
        ...  enumerate(sample(model, vocabulary, seed=0, num_samples=2))]
        [True, True]
    """
    return generation.sample(KerasStep(model), vocabulary, prompt, **options)


def score(model: keras.Model, vocabulary: Vocabulary, text: str, by_line: bool = False) -> scoring.Score:
    """Returns the log-probability of each token of a text, in nats, read from `<s>` and the zero state.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: the vocabulary of the model.
        text: the text to score; it may be empty.
        by_line: whether to score each line as a text of its own that ends with `<eos>`.

    Raises:
        TextError: the text has characters outside the vocabulary.
        ModelError: a logit is NaN, or the model does not fit the vocabulary.
        SteppingError: the model cannot be run one step at a time.

    Example:
        >>> from keras_seq import language_model
        >>> vocabulary = Vocabulary.from_text("to be or not to be")
        >>> score(language_model(len(vocabulary), units=[8]), vocabulary, "to be").log_probabilities.shape
        (5,)
    """
    return scoring.score(KerasStep(model), vocabulary, text, by_line=by_line)
