"""Text from a .tflite in LiteRT, token by token. Imports neither TensorFlow nor Keras."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Unpack

import numpy as np

from keras_seq.errors import ArgumentError, ModelError, shortened
from keras_seq.generation.decoder_step import Step, token_ids
from keras_seq.generation.generation import Generation, sample
from keras_seq.generation.integer_sampling import IntegerArithmetic
from keras_seq.generation.own_words import OwnWords
from keras_seq.generation.sampling import DRAW_SETTINGS, SamplingSettings, logit_bias
from keras_seq.generation.score import Score, score
from keras_seq.generation.states import TextStates, checked_arrays
from keras_seq.generation.suggest import Suggestion, suggest
from keras_seq.generation.text import Options
from keras_seq_export.errors import BundleError
from keras_seq_export.signatures import (
    LOG_PROBABILITY,
    NEXT_TOKEN,
    SAMPLE,
    TOKEN,
    UNIFORM,
    WRITE,
    WRITE_STEPS,
)
from keras_seq_export.tflite.decoder import LiteRTDecoder
from keras_seq_export.tflite.fixed_point import as_float32, as_stored
from keras_seq_export.tflite.learning.learner import Learner, LearningReport
from keras_seq_export.tflite.write_call import FEWEST, NotFiniteError, WriteCall


def _integer_arithmetic(path: str | os.PathLike[str], scale: float | None) -> IntegerArithmetic:
    try:
        return IntegerArithmetic(scale or 0)
    except ArgumentError as error:
        raise BundleError(f"{path} has a damaged model: the scale of its logits is {scale}") from error


class LiteRTSampler(Step):
    """A language model in one .tflite file. Threads may share a sampler.

    Args:
        path: a file with a vocabulary, written by `export_tflite`. If it has several rows, all of them read the same
            text.
        num_threads: threads of the runtime.

    Attributes:
        decoder: the steps of the file.
        vocabulary: the vocabulary inside the file.
        config: the configuration inside the file.
        card: the model card inside the file.
        vocabulary_size: number of logits.

    Raises:
        BundleError: the file is damaged, was not written by this package, or is not a model of text.
        ValueError: `num_threads` is not a positive integer.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 1):
        self.decoder = LiteRTDecoder(path, num_threads)
        vocabulary, self.config, self.card, _ = self.decoder.bundle
        if vocabulary is None:
            raise BundleError(f"{path} has no vocabulary, so it cannot write text: use LiteRTDecoder")
        self.vocabulary = vocabulary
        (self.vocabulary_size,) = self.decoder.output_shape
        if self.vocabulary_size != len(vocabulary):
            raise BundleError(f"{path} returns {self.vocabulary_size} logits for {len(vocabulary)} tokens")
        try:
            self._stored_bias = logit_bias(vocabulary, SamplingSettings(**self.config["sampling"]))
        except (TypeError, ValueError) as error:
            raise BundleError(f"{path} has damaged sampling defaults: {shortened(error)}") from error
        if self.decoder.is_integer:
            self.arithmetic = _integer_arithmetic(path, self.decoder.output_scale)
        self._learner = Learner(self.decoder, vocabulary) if self.decoder.has_learn else None
        self._last_settings: tuple[SamplingSettings | None, dict[str, np.ndarray]] = (None, {})
        self._compared_bias: tuple[np.ndarray | None, bool] = (None, False)

    def initial_states(self) -> Any:
        """Returns the states at the start of a text."""
        return self.decoder.initial_states()

    def states_of(self, arrays: Any) -> list[np.ndarray]:
        """Returns a caller's states, repeated for each row of the file."""
        self._require_explicit_states()
        shapes = [(1, *shape[1:]) for shape in self.decoder.state_shapes]
        named = zip(self.decoder.states.items(), checked_arrays(arrays, shapes), strict=True)
        return [np.repeat(as_stored(name, array, tensor), tensor.shape[0], axis=0) for (name, tensor), array in named]

    def arrays_of(self, states: Any) -> list[np.ndarray]:
        """Returns the states of the first row as new arrays, each `(1, units)`."""
        self._require_explicit_states()
        tensors = self.decoder.states.values()
        return [np.array(as_float32(state[:1], tensor)) for state, tensor in zip(states, tensors, strict=True)]

    def _require_explicit_states(self) -> None:
        if self.config["state"] == "internal":
            raise ModelError(
                "a .tflite with internal states neither takes nor returns `states`; export the model with "
                'state="explicit"'
            )

    def __call__(self, token: int, states: Any) -> tuple[np.ndarray, Any]:
        """Returns the logits `(vocabulary,)` after `token`, and the new states."""
        logits, states = self.decoder(np.full(self.decoder.batch, token_ids(token)), states)
        return logits[0], states

    def prefill(self, tokens: Sequence[int], states: Any) -> tuple[np.ndarray, Any]:
        """Returns the logits `(vocabulary,)` and the states after the last of the tokens, at least one."""
        logits, states = self.decoder.prefill(np.tile(token_ids(tokens, "tokens"), (self.decoder.batch, 1)), states)
        return logits[0], states

    def draw(
        self,
        token: int,
        states: Any,
        uniform: float,
        settings: SamplingSettings,
        logit_bias: np.ndarray,
        history: Sequence[int],
    ) -> tuple[int, Any]:
        """Returns the token sampled after `token`, and the new states.

        The file's own `sample` is three times as fast as NumPy. It is used unless there is a repetition penalty, or a
        bias other than the one in the file. An integer file has none.
        """
        if settings.repetition_penalty == 1 and self._is_stored_bias(logit_bias) and not self.decoder.is_integer:
            inputs = {TOKEN: np.full(self.decoder.batch, token_ids(token))}
            inputs[UNIFORM] = np.full(self.decoder.batch, uniform, np.float32)
            try:
                outputs, after = self.decoder.run(SAMPLE, inputs | self._settings_inputs(settings), states)
                if np.isfinite(outputs[LOG_PROBABILITY][0]):
                    return self._require_token(SAMPLE, int(outputs[NEXT_TOKEN][0])), after
            except BundleError as error:
                if not isinstance(error.__cause__, RuntimeError):
                    raise
            # The logits are not finite: LiteRT failed, or returned NaN. The host names them.
        return super().draw(token, states, uniform, settings, logit_bias, history)

    def draws(
        self,
        token: int,
        states: Any,
        uniforms: np.ndarray,
        settings: SamplingSettings,
        logit_bias: np.ndarray,
        history: Sequence[int],
        logprobs: bool = False,
    ) -> Iterator[tuple[int, Any, float | None]]:
        """Yields what `Step.draws` does; with the file's `write`, 32 tokens are drawn in one call."""
        in_file = settings.repetition_penalty == 1 and self._is_stored_bias(logit_bias) and not logprobs
        for start in range(0, len(uniforms), WRITE_STEPS):
            part = uniforms[start : start + WRITE_STEPS]
            call = self._write_call(token, states, part, settings) if in_file and len(part) >= FEWEST else None
            if call is None:
                for one in super().draws(token, states, part, settings, logit_bias, history, logprobs):
                    token, states, _ = one
                    yield one
                continue
            for index, drawn in enumerate(call.tokens):
                token, states = self._require_token(WRITE, drawn), call.states_before(index)
                yield token, states, None

    def _write_call(
        self, token: int, states: Any, uniforms: np.ndarray, settings: SamplingSettings
    ) -> WriteCall | None:
        """Returns the tokens drawn by `write`; None if the file has none, or the logits of a step are not finite."""
        if not self.decoder.has_write:
            return None
        try:
            return WriteCall(self.decoder, token, states, uniforms, self._settings_inputs(settings))
        except NotFiniteError:
            return None

    def _require_token(self, signature: str, drawn: int) -> int:
        if not 0 <= drawn < self.vocabulary_size:
            raise BundleError(
                f"the file has a damaged model: `{signature}` returned token {drawn} of {self.vocabulary_size}"
            )
        return drawn

    def _settings_inputs(self, settings: SamplingSettings) -> dict[str, np.ndarray]:
        """Returns the settings as inputs of a signature; those of the last call are not made again."""
        made, inputs = self._last_settings
        if made is not settings:
            inputs = self.decoder.settings_inputs(settings)
            self._last_settings = (settings, inputs)
        return inputs

    def _is_stored_bias(self, logit_bias: np.ndarray) -> bool:
        """Returns whether the file's `sample` adds this bias; the array of the last call is not compared again."""
        compared, answer = self._compared_bias
        if compared is not logit_bias:
            answer = np.array_equal(logit_bias, self._stored_bias)
            self._compared_bias = (logit_bias, answer)
        return answer

    def generate(self, prompt: str = "", **options: Unpack[Options]) -> Generation:
        """Returns an iterator over the pieces of a continuation, without the prompt.

        Args:
            prompt: the text to continue.
            **options: the options of `keras_seq.generate`; the defaults of the settings are those stored in the file.

        Raises:
            TypeError: an option does not exist; the message lists the options.
            ValueError: an argument is out of range, or the prompt has characters that the vocabulary lacks.
        """
        return Generation(self, self.vocabulary, prompt, **self._with_stored_settings(options))

    def sample(self, prompt: str = "", **options: Unpack[Options]) -> Any:
        """Returns a whole continuation as a `keras_seq.generation.text.Text`; a list of them with `num_samples`."""
        return sample(self, self.vocabulary, prompt, **self._with_stored_settings(options))

    def _with_stored_settings(self, options: Options) -> dict[str, Any]:
        stored = self.config["sampling"]
        if options.get("num_beams", 1) != 1:
            stored = {name: value for name, value in stored.items() if name not in DRAW_SETTINGS}
        return {**stored, **options}

    def score(self, text: str, by_line: bool = False, states: TextStates | Sequence[Any] | None = None) -> Score:
        """Returns the log-probability of each token of a text, in nats, as `keras_seq.score` does.

        Args:
            text: the text to score.
            by_line: whether each line is a text of its own that ends with `<eos>`; `config["by_line"]` says whether the
                model was trained this way.
            states: states to start from, as in `keras_seq.generation.text.Options`.

        Raises:
            ValueError: the text has characters that the vocabulary lacks, or `states` do not fit the model.
        """
        with self._unchanged():
            return score(self, self.vocabulary, text, by_line=by_line, states=states)

    def suggest(self, text: str = "", count: int = 3, states: Sequence[Any] | None = None) -> list[Suggestion]:
        """Returns the likeliest next words, or completions of the last word of a text, as `keras_seq.suggest` does."""
        with self._unchanged():
            return suggest(self, self.vocabulary, text, count, states)

    @property
    def learned_version(self) -> int:
        """How often what the model has learned was changed; a text is written by one version."""
        return self.decoder.learned_version

    @property
    def own_words(self) -> OwnWords | None:
        """The words in the texts that the model has learned from, which `suggest` prefers; None if it cannot learn."""
        if self._learner is None:
            return None
        with self.decoder.lock:  # Otherwise they could be those of another `learned_version`.
            return self._learner.words

    @property
    def learned_tokens(self) -> int:
        """Number of tokens that the model has learned from since it was exported, or since `forget`."""
        return 0 if self._learner is None else self._learner.tokens

    def learn(self, text: str, rate: float | None = None, by_line: bool | None = None) -> LearningReport:
        """Learns from a text, so that texts like it become more likely; for a file exported with `learn=True`.

        `suggest` then also prefers the words of the text (`keras_seq.generation.own_words`). What was learned stays in this
        object, on this device, until `save_learned` writes it to a file; it is not part of the .tflite. 64 tokens at a time
        are predicted, then learned. A text that another thread is writing meanwhile ends with an error, so that no text is
        written by two models; `score` and `suggest` wait.

        Args:
            text: the text, at least one token of it.
            rate: the learning rate; None for that of the file, which suits most texts.
            by_line: whether each line is a text of its own that ends with `<eos>`; None for how the model was trained.

        Raises:
            ModelError: the file cannot learn, or the rate is so large that learning diverged. What was learned before is
                kept.
            ArgumentError: `rate` is not a positive number, or the text is empty.
            TextError: the text has characters that the vocabulary lacks.

        Example:
            >>> import keras_seq as ks, tempfile
            >>> from keras_seq_export import export_tflite
            >>> vocabulary = ks.Vocabulary.from_text("to be or not to be")
            >>> path = tempfile.mkdtemp() + "/to_be.tflite"
            >>> model = ks.language_model(len(vocabulary), units=[8], embedding_dim=4)
            >>> _ = export_tflite(model, vocabulary, path, learn=True)
            >>> sampler = LiteRTSampler(path)
            >>> report = sampler.learn("not to be " * 20)
            >>> report.tokens, report.nats_per_token < report.model_nats_per_token
            (200, True)
        """
        return self._learns().learn(text, rate, by_line)

    def save_learned(self, path: str | os.PathLike[str]) -> None:
        """Writes what was learned to a file, or replaces the file. Only this model can load it.

        Raises:
            ModelError: the model cannot learn.
            LearnedFileError: the file cannot be written.
        """
        self._learns().save(path)

    def load_learned(self, path: str | os.PathLike[str]) -> None:
        """Replaces what was learned by what a file holds; after an error, what was learned before is kept.

        Raises:
            ModelError: the model cannot learn.
            LearnedFileError: the file cannot be read, is damaged, has another format, or belongs to another model.
        """
        self._learns().load(path)

    def forget(self) -> None:
        """Forgets what was learned: the model is again what it was when it was exported.

        Raises:
            ModelError: the model cannot learn.
        """
        self._learns().forget()

    def _unchanged(self) -> AbstractContextManager[Any]:
        """Lets other threads learn only before or after an answer; where nothing can be learned, they need not wait."""
        return contextlib.nullcontext() if self._learner is None else self.decoder.lock

    def _learns(self) -> Learner:
        if self._learner is None:
            raise ModelError("the file must have a signature `learn`, which export_tflite(..., learn=True) adds")
        return self._learner
