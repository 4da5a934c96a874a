"""Text from a Keras model: the one-step decoder driven by the token loop that every Python runtime shares."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_seq.generation import generate as generate_with
from keras_seq.stepping import require_logits, step_model
from keras_seq.vocabulary import Vocabulary


class KerasStep:
    """A Keras model as a `keras_seq.generation.Step`: one token and the states in, logits and new states out.

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
    model: keras.Model,
    vocabulary: Vocabulary,
    prompt: str = "",
    *,
    max_tokens: int = 200,
    seed: int | None = None,
    **settings: Any,
) -> Iterator[str]:
    """Returns an iterator over the pieces of a text that goes on after `prompt`; the prompt itself is not among them.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary.
        prompt: the text to go on from; empty starts from `<s>` and the zero state.
        max_tokens: how many tokens to draw at most; `<eos>` ends the text before.
        seed: seed of the draws; the same seed gives the same text in every runtime. None takes a new one.
        **settings: `temperature`, `top_k`, `top_p`, `min_p`, `repetition_penalty`, `allow_unk`: see
            `keras_seq.sampling.SamplingSettings`.

    Raises:
        ValueError: an argument is out of range, or the prompt has characters that the vocabulary lacks.
    """
    return generate_with(KerasStep(model), vocabulary, prompt, max_tokens=max_tokens, seed=seed, **settings)


def sample(
    model: keras.Model,
    vocabulary: Vocabulary,
    prompt: str = "",
    *,
    max_tokens: int = 200,
    seed: int | None = None,
    **settings: Any,
) -> str:
    """Returns the text that `generate` gives, whole.

    Example:
        >>> from keras_seq import language_model
        >>> vocabulary = Vocabulary.from_text("to be or not to be")
        >>> model = language_model(len(vocabulary), units=[8])
        >>> len(sample(model, vocabulary, prompt="to ", max_tokens=5, top_k=3, seed=7)) <= 5
        True
    """
    return "".join(generate(model, vocabulary, prompt, max_tokens=max_tokens, seed=seed, **settings))
