"""Text from a Keras model, and how likely a text is to it: its one-step decoder in the loop that all runtimes share."""

from typing import Any, Unpack

import keras
import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation import generation
from keras_seq.generation import score as scoring
from keras_seq.generation.decoder_step import Step
from keras_seq.models.checks import require_logits
from keras_seq.models.step_model import step_model


class KerasStep(Step):
    """A Keras model as a step: one token and the states in, logits and new states out.

    Args:
        model: a causal recurrent model over sequences, as `step_model` takes it.
    """

    def __init__(self, model: keras.Model):
        import tensorflow as tf

        require_logits(model)
        decoder = step_model(model)
        self.vocabulary_size: int = decoder.outputs[0].shape[-1]
        self._states = [(state.shape[1], keras.backend.standardize_dtype(state.dtype)) for state in decoder.inputs[1:]]
        self._decode = tf.function(lambda token, *states: decoder([token, *states], training=False))

    def initial_states(self) -> list[Any]:
        """Returns the zero states, each `(1, units)`."""
        return [np.zeros((1, units), dtype) for units, dtype in self._states]

    def __call__(self, token: int, states: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """Returns the logits `(vocabulary,)` float32 after `token`, and the new states."""
        logits, *states = self._decode(np.array([token], np.int32), *states)
        return logits.numpy()[0].astype(np.float32), states


def generate(
    model: keras.Model, vocabulary: Vocabulary, prompt: str = "", **options: Unpack[generation.Options]
) -> generation.Generation:
    """Returns an iterator over the pieces of a text that goes on after `prompt`; the prompt itself is not among them.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary.
        prompt: the text to go on from; empty starts from `<s>` and the zero state.
        **options: `max_tokens`, `seed`, `temperature`, `stop` and others: see `keras_seq.generation.text.Options`.

    Raises:
        TypeError: an option has another name; the names are given.
        ValueError: an argument is out of range, or the prompt has characters that the vocabulary lacks.

    Example:
        >>> from keras_seq import language_model
        >>> vocabulary = Vocabulary.from_text("to be or not to be")
        >>> writing = generate(language_model(len(vocabulary), units=[8]), vocabulary, "to ", max_tokens=5, seed=7)
        >>> for piece in writing:
        ...     writing.change(temperature=0.5)  # from the next token on
    """
    return generation.Generation(KerasStep(model), vocabulary, prompt, **options)


def sample(model: keras.Model, vocabulary: Vocabulary, prompt: str = "", **options: Unpack[generation.Options]) -> Any:
    """Returns the text that `generate` gives, whole: a `Text`, which is a `str`; with `num_samples` a list of them.

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
        vocabulary: its vocabulary.
        text: what to score.
        by_line: whether each line is a text of its own, ended by `<eos>`.

    Raises:
        ValueError: the text has characters that the vocabulary lacks.

    Example:
        >>> from keras_seq import language_model
        >>> vocabulary = Vocabulary.from_text("to be or not to be")
        >>> score(language_model(len(vocabulary), units=[8]), vocabulary, "to be").log_probabilities.shape
        (5,)
    """
    return scoring.score(KerasStep(model), vocabulary, text, by_line=by_line)
