"""A .tflite in LiteRT: its steps one by one, and text token by token. Imports neither TensorFlow nor Keras."""

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_seq.generation.decoder_step import Step
from keras_seq.generation.generation import Generation, sample
from keras_seq.generation.sampling import DRAWING, SamplingSettings, logit_bias
from keras_seq.generation.score import Score, score
from keras_seq.generation.text import Options
from keras_seq_export.errors import BundleError
from keras_seq_export.signatures import (
    DECODE,
    FRAME,
    FRAMES,
    LENGTH,
    LOG_PROBABILITY,
    LOGITS,
    NEXT_TOKEN,
    OUTPUT,
    PREFILL,
    RESET,
    SAMPLE,
    SAMPLING_INPUTS,
    TOKEN,
    TOKENS,
    UNIFORM,
    is_state,
)
from keras_seq_export.tflite.bundle import CONFIG, read_bundle


class _Read(NamedTuple):
    """What a model that keeps its states to itself has read: it stands for these states.

    Attributes:
        before: what it had read before; None at the beginning.
        signature: by which it read then.
        inputs: of the signature.
    """

    before: "_Read | None"
    signature: str
    inputs: dict[str, np.ndarray]


class LiteRTDecoder:
    """One step of any model that `export_tflite` wrote, of text or of frames. Threads may share one.

    Args:
        path: the file.
        num_threads: threads of the runtime.

    Attributes:
        bundle: the vocabulary, configuration and card inside the file.
        batch: how many rows it takes.
        output_shape: of one row's output.

    Raises:
        BundleError: the file is damaged or is not of this package.
        ValueError: `num_threads` is not a positive integer.

    Example:
        >>> import keras, tempfile
        >>> from keras_seq_export import export_tflite
        >>> frames = keras.Input((None, 3))
        >>> model = keras.Model(frames, keras.layers.GRU(4, return_sequences=True)(frames))
        >>> path = tempfile.mkdtemp() + "/sensor.tflite"
        >>> report = export_tflite(model, None, path)
        >>> decoder = LiteRTDecoder(path)
        >>> output, states = decoder(np.ones((1, 3), np.float32), decoder.initial_states())
        >>> output.shape
        (1, 4)
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 1):
        if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
            raise ValueError(f"`num_threads` must be a positive integer. Received: num_threads={num_threads!r}")
        self.bundle = read_bundle(path)
        try:
            self._interpreter = Interpreter(model_path=os.fspath(path), num_threads=num_threads)
            self._read_signatures()
        except (ValueError, RuntimeError, LookupError) as error:
            raise BundleError(f"{path} cannot be loaded: {str(error).partition(chr(10))[0]}") from error
        # One interpreter has one set of buffers: two threads at once would read each other's numbers.
        self.lock = threading.RLock()
        self._now: _Read | None = None  # What the states inside the model have read; None, unknown.

    def _read_signatures(self) -> None:
        self._runners = {
            name: self._interpreter.get_signature_runner(name) for name in self._interpreter.get_signature_list()
        }
        details = self._runners[DECODE].get_input_details()
        prefill = self._runners[PREFILL].get_input_details()
        outputs = self._runners[DECODE].get_output_details()
        names = sorted(filter(is_state, details), key=lambda name: int(name.rpartition("_")[2]))
        self._states = {name: tuple(details[name]["shape"]) for name in names}
        self._one, self._several = (TOKEN, TOKENS) if TOKEN in details else (FRAME, FRAMES)
        self._steps = int(prefill[self._several]["shape"][1])
        self._output = LOGITS if LOGITS in outputs else OUTPUT
        self.batch, *shape = map(int, details[self._one]["shape"])
        self._shape, self._dtype = tuple(shape), details[self._one]["dtype"]
        self.output_shape = tuple(map(int, outputs[self._output]["shape"][1:]))
        config = self.bundle.config
        state = "explicit" if self._states else "internal"
        if (config["batch"], config["state"]) != (self.batch, state) or (state == "internal") != (
            RESET in self._runners
        ):
            raise ValueError(f"its {CONFIG} does not fit its signatures")

    def initial_states(self) -> Any:
        """Returns the zero states."""
        if self._states:
            return [np.zeros(shape, np.float32) for shape in self._states.values()]
        return _Read(None, RESET, {})

    def __call__(self, values: np.ndarray, states: Any) -> tuple[np.ndarray, Any]:
        """Returns the outputs `(batch, ...)` after tokens `(batch,)` or frames `(batch, ...)`, and the new states."""
        values = self._checked(values, (self.batch, *self._shape))
        outputs, states = self.run(DECODE, {self._one: values}, states)
        return outputs[self._output], states

    def prefill(self, values: np.ndarray, states: Any) -> tuple[np.ndarray, Any]:
        """Returns the outputs `(batch, ...)` after the last of several steps `(batch, steps, ...)`, and the new states.

        Sooner than step by step, by the more the larger the vocabulary.
        """
        count = np.shape(values)[1] if np.ndim(values) > 1 else 0
        values = self._checked(values, (self.batch, max(count, 1), *self._shape))
        for start in range(0, count, self._steps):
            piece = values[:, start : start + self._steps]
            rest = [(0, 0), (0, self._steps - piece.shape[1]), *([(0, 0)] * len(self._shape))]
            inputs = {self._several: np.pad(piece, rest), LENGTH: np.full(self.batch, piece.shape[1], np.int32)}
            outputs, states = self.run(PREFILL, inputs, states)
        return outputs[self._output], states

    def run(self, signature: str, inputs: dict[str, np.ndarray], states: Any) -> tuple[dict[str, np.ndarray], Any]:
        """Runs a signature; returns its outputs but the states, and the states after it.

        Args:
            signature: its name.
            inputs: its inputs but the states.
            states: before it.

        Raises:
            RuntimeError: LiteRT refuses an input, such as a token that the model does not know.
        """
        runner = self._runners[signature]
        with self.lock:
            if self._states:
                outputs = runner(**inputs, **dict(zip(self._states, states, strict=True)))
                return outputs, [outputs.pop(name) for name in self._states]
            if states is not self._now:
                self._read_again(states)
            self._now = None  # Should the runtime refuse the inputs, nobody knows.
            outputs = runner(**inputs)
            # A draw leaves the states of the step before it.
            reads = inputs if signature == PREFILL else {self._one: inputs[self._one]}
            copies = {name: array.copy() for name, array in reads.items()}
            self._now = _Read(states, PREFILL if signature == PREFILL else DECODE, copies)
            return outputs, self._now

    def _read_again(self, states: _Read) -> None:
        """Brings the states inside the model to where they were after it had read `states`."""
        self._now = None
        chain: list[_Read] = []
        before: _Read | None = states
        while before is not None:
            chain.append(before)
            before = before.before
        for read in reversed(chain):
            self._runners[read.signature](**read.inputs)

    def _checked(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the values as an array; another shape would change that of the model in the runtime."""
        array = np.ascontiguousarray(values, self._dtype)
        if array.shape != shape:
            raise ValueError(f"the model takes an array of shape {shape}. Received: {array.shape}")
        return array


class LiteRTSampler(Step):
    """A language model in one .tflite file. Threads may share one.

    Args:
        path: a file that `export_tflite` wrote, with a vocabulary. Of one for several rows, all read the same.
        num_threads: threads of the runtime.

    Attributes:
        vocabulary: the vocabulary inside the file.
        config: the configuration inside the file.
        card: the model card inside the file.
        vocabulary_size: how many logits the model gives.

    Raises:
        BundleError: the file is damaged, is not of this package, or no model of text.
        ValueError: `num_threads` is not a positive integer.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 1):
        self._decoder = LiteRTDecoder(path, num_threads)
        vocabulary, self.config, self.card, _ = self._decoder.bundle
        if vocabulary is None:
            raise BundleError(f"{path} holds no vocabulary, so it writes no text: read it with LiteRTDecoder")
        self.vocabulary = vocabulary
        (self.vocabulary_size,) = self._decoder.output_shape
        if self.vocabulary_size != len(vocabulary):
            raise BundleError(f"{path} gives {self.vocabulary_size} logits for {len(vocabulary)} tokens")
        try:
            self._stored_bias = logit_bias(vocabulary, SamplingSettings(**self.config["sampling"]))
        except (TypeError, ValueError) as error:
            raise BundleError(f"{path} holds damaged sampling defaults: {error}") from error
        # Filled anew for each draw, so that nothing is made in the loop.
        batch = self._decoder.batch
        self._inputs = {TOKEN: np.zeros(batch, np.int32), UNIFORM: np.zeros(batch, np.float32)}
        self._settings = {name: np.zeros(batch, dtype) for name, dtype in SAMPLING_INPUTS.items()}
        self._inputs |= self._settings
        self._filled: SamplingSettings | None = None
        self._asked: tuple[np.ndarray | None, bool] = (None, False)

    def initial_states(self) -> Any:
        """Returns the zero states."""
        return self._decoder.initial_states()

    def __call__(self, token: int, states: Any) -> tuple[np.ndarray, Any]:
        """Returns the logits `(vocabulary,)` after `token`, and the new states."""
        logits, states = self._decoder(np.full(self._decoder.batch, token, np.int32), states)
        return logits[0], states

    def prefill(self, tokens: Sequence[int], states: Any) -> tuple[np.ndarray, Any]:
        """Returns the logits `(vocabulary,)` and the states after the last of the tokens, at least one."""
        logits, states = self._decoder.prefill(np.tile(np.array(tokens, np.int32), (self._decoder.batch, 1)), states)
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
        """Returns the token drawn after `token`, and the new states.

        The file's own `sample` draws, three times as fast as NumPy, unless the history is asked for, or a bias that is not
        that of the file.
        """
        if settings.repetition_penalty == 1 and self._has_bias(logit_bias):
            with self._decoder.lock:
                self._fill(token, uniform, settings)
                with contextlib.suppress(RuntimeError):  # LiteRT met logits that are no numbers; the host tells so.
                    outputs, after = self._decoder.run(SAMPLE, self._inputs, states)
                    if np.isfinite(outputs[LOG_PROBABILITY][0]):
                        return int(outputs[NEXT_TOKEN][0]), after
        return super().draw(token, states, uniform, settings, logit_bias, history)

    def _fill(self, token: int, uniform: float, settings: SamplingSettings) -> None:
        self._inputs[TOKEN][:], self._inputs[UNIFORM][:] = token, uniform
        if settings is self._filled:
            return
        self._filled = None
        for name, array in self._settings.items():
            array[:] = getattr(settings, name) if name != "top_k" else min(settings.top_k, self.vocabulary_size)
        self._filled = settings

    def _has_bias(self, logit_bias: np.ndarray) -> bool:
        """Whether the file's `sample` adds this to the logits; the array asked for last is not looked at again."""
        asked, answer = self._asked
        if asked is not logit_bias:
            answer = np.array_equal(logit_bias, self._stored_bias)
            self._asked = (logit_bias, answer)
        return answer

    def generate(self, prompt: str = "", **options: Unpack[Options]) -> Generation:
        """Returns an iterator over the pieces of a continuation, without the prompt.

        Args:
            prompt: the text to go on from.
            **options: as of `keras_seq.generate`; settings not given are those stored in the file.

        Raises:
            TypeError: an option has another name; the names are given.
            ValueError: an argument is out of range, or the prompt has characters that the vocabulary lacks.
        """
        return Generation(self, self.vocabulary, prompt, **self._with_stored(options))

    def sample(self, prompt: str = "", **options: Unpack[Options]) -> Any:
        """Returns what `generate` gives, whole: a `keras_seq.generation.text.Text`; with `num_samples` a list of them."""
        return sample(self, self.vocabulary, prompt, **self._with_stored(options))

    def _with_stored(self, options: Options) -> dict[str, Any]:
        stored = self.config["sampling"]
        if options.get("num_beams", 1) != 1:
            stored = {name: value for name, value in stored.items() if name not in DRAWING}
        return {**stored, **options}

    def score(self, text: str, by_line: bool = False) -> Score:
        """Returns the log-probability of each token of a text, in nats, as `keras_seq.score` does.

        Args:
            text: what to score.
            by_line: whether each line is a text of its own, ended by `<eos>`; `config["by_line"]` says whether the model
                learned so.
        """
        return score(self, self.vocabulary, text, by_line=by_line)
