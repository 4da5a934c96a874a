"""Generates and scores text with a Keras model: `ks.generate`, `ks.sample`, `ks.score` and `ks.suggest`.

They use the same token loop as every other runtime, with the one-step decoder of the model.
"""

import threading
from collections.abc import Sequence
from typing import Any, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_seq import forks, require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ModelError
from keras_seq.generation import generation
from keras_seq.generation import score as scoring
from keras_seq.generation import suggest as suggesting
from keras_seq.generation.decoder_step import Step, token_ids
from keras_seq.generation.states import TextStates, checked_arrays
from keras_seq.models.step_model import stepped_language_model

_SECONDS_TO_ANSWER = 10  # in which TensorFlow runs a graph of one operation in a forked process
_answers: bool | None = None  # whether it does; None if it was not asked yet


class KerasStep(Step):
    """The one-step decoder of a Keras model.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`, or
            probabilities, whose logarithms are the logits. It must meet the conditions of `step_model`.
        ids: token ids of a text on which the one-step decoder is compared with the model; or None.

    Raises:
        ArgumentError: `model` is not a Keras model.
        ModelError: the model does not give one number for each token, or gives NaN; or TensorFlow does not run in this
            process, because it was forked from one that had used it.
        SteppingError: the model cannot be run one step at a time.
    """

    def __init__(self, model: keras.Model, ids: np.ndarray | None = None):
        if forks.had_tensorflow:
            _require_answer()
        self._stepped = stepped_language_model(model, ids)
        self.vocabulary_size: int = self._stepped.decoder.outputs[0].shape[-1]

    def initial_states(self) -> list[Any]:
        """Returns the states before the first token, each `(1, units)`."""
        return [state[None] for state in self._stepped.initial_states]

    def states_of(self, arrays: Any) -> list[Any]:
        """Returns a caller's states in the dtypes of the model."""
        inputs = [tensor for tensor in self._stepped.decoder.inputs if tensor.name.startswith("state_")]
        checked = checked_arrays(arrays, [(1, *tensor.shape[1:]) for tensor in inputs])
        return [array.astype(tensor.dtype) for array, tensor in zip(checked, inputs, strict=True)]

    def arrays_of(self, states: list[Any]) -> list[np.ndarray]:
        """Returns states as new float32 arrays, each `(1, units)`."""
        return [np.array(state).astype(np.float32) for state in states]

    def __call__(self, token: int, states: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """Returns the logits after `token`, float32 `(vocabulary,)`, and the new states, each `(1, units)`."""
        if forks.had_tensorflow:
            _require_answer()
        outputs, *states = self._stepped.decode(token_ids([token]), *states)
        return np.asarray(self._stepped.logits_of(outputs), np.float32)[0], states


def generate(
    model: keras.Model, vocabulary: Vocabulary, prompt: str = "", **options: Unpack[generation.Options]
) -> generation.Generation:
    """Returns an iterator over the pieces of a continuation of `prompt`, one per token. The prompt is not included.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`, or
            probabilities, whose logarithms are the logits.
        vocabulary: the vocabulary of the model.
        prompt: the text to continue. An empty prompt starts from `<s>` and the initial states.
        **options: `max_tokens`, `seed`, `temperature`, `stop` and others; see `keras_seq.generation.text.Options`.

    Raises:
        TypeError: an option does not exist; the message lists the options.
        ArgumentError: an argument is out of range.
        TextError: the prompt has characters outside the vocabulary.
        ConfigError: arguments contradict each other.
        ModelError: the model does not give one number for each token of the vocabulary, or one is NaN.
        SteppingError: the model cannot be run one step at a time.

    Example:
        >>> from keras_seq import language_model
        >>> vocabulary = Vocabulary.from_text("to be or not to be")
        >>> writing = generate(language_model(len(vocabulary), units=[8]), vocabulary, "to ", max_tokens=5, seed=7)
        >>> for piece in writing:
        ...     writing.change(temperature=0.5)  # from the next token on
    """
    return generation.Generation(_step(model, vocabulary, prompt, "prompt"), vocabulary, prompt, **options)


def sample(model: keras.Model, vocabulary: Vocabulary, prompt: str = "", **options: Unpack[generation.Options]) -> Any:
    """Returns a continuation of `prompt` as a `Text`, which is a `str`, or a list of them with `num_samples`.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`, or
            probabilities, whose logarithms are the logits.
        vocabulary: the vocabulary of the model.
        prompt: the text to continue. An empty prompt starts from `<s>` and the initial states.
        **options: `max_tokens`, `seed`, `temperature`, `stop` and others; see `keras_seq.generation.text.Options`.

    Raises:
        TypeError: an option does not exist; the message lists the options.
        ArgumentError: an argument is out of range.
        TextError: the prompt has characters outside the vocabulary.
        ConfigError: arguments contradict each other.
        ModelError: the model does not give one number for each token of the vocabulary, or one is NaN.
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
    return generation.sample(_step(model, vocabulary, prompt, "prompt"), vocabulary, prompt, **options)


def score(
    model: keras.Model,
    vocabulary: Vocabulary,
    text: str,
    by_line: bool = False,
    states: TextStates | Sequence[Any] | None = None,
) -> scoring.Score:
    """Returns the log-probability of each token of a text, in nats, read from `<s>` and the initial states.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`, or
            probabilities, whose logarithms are the logits.
        vocabulary: the vocabulary of the model.
        text: the text to score; it may be empty.
        by_line: whether to score each line as a text of its own that ends with `<eos>`.
        states: states to start from, as in `keras_seq.generation.text.Options`.

    Raises:
        ArgumentError: `states` do not fit the model.
        TextError: the text has characters outside the vocabulary.
        ConfigError: each line should be a text of its own, but `states` are those of an earlier text.
        ModelError: a logit is NaN, or the model does not fit the vocabulary.
        SteppingError: the model cannot be run one step at a time.

    Example:
        >>> from keras_seq import language_model
        >>> vocabulary = Vocabulary.from_text("to be or not to be")
        >>> score(language_model(len(vocabulary), units=[8]), vocabulary, "to be").log_probabilities.shape
        (5,)
    """
    step = _step(model, vocabulary, text, "text", by_line)
    return scoring.score(step, vocabulary, text, by_line=by_line, states=states)


def suggest(
    model: keras.Model,
    vocabulary: Vocabulary,
    text: str = "",
    count: int = 3,
    states: Sequence[Any] | None = None,
) -> list[suggesting.Suggestion]:
    """Returns the likeliest next words, or completions of the word that has been begun at the end of a text.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`, or
            probabilities, whose logarithms are the logits.
        vocabulary: the vocabulary of the model.
        text: the text up to the caret. The model reads it from `<s>`.
        count: number of suggestions, 1 to 100. There are fewer if no other word fits, or if a model of characters finds
            no more within 64 steps.
        states: states to start from in place of the model's own, such as those of an encoder.

    Returns:
        Suggestions, each with the whole word as its `text`, the missing part of it as `insert`, and its `probability`
        given all that was typed; the most likely first.

    Raises:
        ArgumentError: `count` is out of range, or `states` do not fit the model or are those of an earlier text.
        TextError: the text has characters outside the vocabulary.
        ModelError: a logit is NaN, or the model does not fit the vocabulary.
        SteppingError: the model cannot be run one step at a time.

    Example:
        >>> from keras_seq import language_model
        >>> vocabulary = Vocabulary.from_text("to be or not to be", level="word")
        >>> [(one.text, one.insert) for one in suggest(language_model(len(vocabulary), units=[8]), vocabulary, "to b")]
        [('be', 'e')]
    """
    return suggesting.suggest(_step(model, vocabulary, text, "text"), vocabulary, text, count, states)


def _step(model: keras.Model, vocabulary: Vocabulary, text: str, name: str, by_line: bool = False) -> KerasStep:
    """Returns the one-step decoder of a model, which was compared with the model on the beginning of a text too."""
    require.that(isinstance(vocabulary, Vocabulary), "vocabulary", "a Vocabulary", vocabulary)
    encode = vocabulary.encode_lines if by_line is True else vocabulary.encode
    return KerasStep(model, encode(text, name=name))


def _require_answer() -> None:
    """Requires TensorFlow to run graphs in this forked process, where it may wait forever for threads that it lacks."""
    global _answers
    if _answers is None:
        asked = threading.Thread(target=tf.function(lambda: tf.constant(1) + 1), daemon=True)
        asked.start()
        asked.join(_SECONDS_TO_ANSWER)
        _answers = not asked.is_alive()
    if not _answers:
        raise ModelError(
            "TensorFlow does not run in this process, because it was forked from one that had used TensorFlow: start the "
            'process with multiprocessing.get_context("spawn"), or fork before TensorFlow runs anything'
        )
