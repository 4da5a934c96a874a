"""Running a .tflite in LiteRT: single steps, or text token by token. Imports neither TensorFlow nor Keras."""

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_seq import require
from keras_seq.generation.decoder_step import Step, token_ids
from keras_seq.generation.generation import Generation, sample
from keras_seq.generation.sampling import DRAW_SETTINGS, SamplingSettings, logit_bias
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
    START,
    TOKEN,
    TOKENS,
    UNIFORM,
    is_state,
)
from keras_seq_export.tflite.bundle import CONFIG, read_bundle


class _History(NamedTuple):
    """Everything that a model with internal states has read; it stands for the states after it.

    Attributes:
        previous: the history before the last call; None before the first.
        signature: the signature of the last call.
        inputs: its inputs.
    """

    previous: "_History | None"
    signature: str
    inputs: dict[str, np.ndarray]


class LiteRTDecoder:
    """One step of any model that `export_tflite` wrote, over text or over frames. Threads may share a decoder.

    Args:
        path: the file.
        num_threads: threads of the runtime.

    Attributes:
        bundle: the vocabulary, configuration and card inside the file.
        batch: rows of each call.
        output_shape: shape of the output of one row.
        lock: held during each call of the runtime.

    Raises:
        BundleError: the file is damaged or was not written by this package.
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
        require.positive_integer("num_threads", num_threads)
        self.bundle = read_bundle(path)
        try:
            self._interpreter = Interpreter(model_path=os.fspath(path), num_threads=int(num_threads))
            self._read_signatures()
        except (ValueError, RuntimeError, LookupError) as error:
            raise BundleError(f"{path} cannot be loaded: {str(error).partition(chr(10))[0]}") from error
        # An interpreter has one set of buffers: threads that used it at the same time would overwrite each other's.
        self.lock = threading.RLock()
        self._current: _History | None = None  # What the internal states have read; None if unknown.

    def _read_signatures(self) -> None:
        self._runners = {
            name: self._interpreter.get_signature_runner(name) for name in self._interpreter.get_signature_list()
        }
        inputs = self._runners[DECODE].get_input_details()
        prefill_inputs = self._runners[PREFILL].get_input_details()
        outputs = self._runners[DECODE].get_output_details()
        names = sorted(filter(is_state, inputs), key=lambda name: int(name.rpartition("_")[2]))
        self._state_shapes = {name: tuple(inputs[name]["shape"]) for name in names}
        self._step_input, self._prefill_input = (TOKEN, TOKENS) if TOKEN in inputs else (FRAME, FRAMES)
        self._prefill_steps = int(prefill_inputs[self._prefill_input]["shape"][1])
        self._output = LOGITS if LOGITS in outputs else OUTPUT
        self.batch, *shape = map(int, inputs[self._step_input]["shape"])
        self._value_shape, self._dtype = tuple(shape), inputs[self._step_input]["dtype"]
        self.output_shape = tuple(map(int, outputs[self._output]["shape"][1:]))
        self._require_config()
        self._initial_states = self._read_initial_states()

    def _require_config(self) -> None:
        """Refuses a file whose configuration does not describe its signatures."""
        config = self.bundle.config
        state = "explicit" if self._state_shapes else "internal"
        same = (config["batch"], config["state"]) == (self.batch, state)
        if not same or (state == "internal") != (RESET in self._runners):
            raise ValueError(f"its {CONFIG} does not fit its signatures")

    def _read_initial_states(self) -> list[np.ndarray]:
        """Returns what `start` returns; without this signature, the states begin at zero."""
        if not self._state_shapes or START not in self._runners:
            return [np.zeros(shape, np.float32) for shape in self._state_shapes.values()]
        started = self._runners[START]()
        if {name: value.shape for name, value in started.items()} != self._state_shapes:
            raise ValueError(f"its signature {START} does not return the states of {DECODE}")
        return [started[name] for name in self._state_shapes]

    def initial_states(self) -> Any:
        """Returns the states at the start of a text or series: those that `start` returns, otherwise zeros."""
        if self._state_shapes:
            return [state.copy() for state in self._initial_states]
        return _History(None, RESET, {})

    def __call__(self, values: np.ndarray, states: Any) -> tuple[np.ndarray, Any]:
        """Returns the outputs `(batch, ...)` after tokens `(batch,)` or frames `(batch, ...)`, and the new states.

        Raises:
            ValueError: tokens are not integers, or the shape is another one.
        """
        values = self._as_input(values, (self.batch, *self._value_shape))
        outputs, states = self.run(DECODE, {self._step_input: values}, states)
        return outputs[self._output], states

    def prefill(self, values: np.ndarray, states: Any) -> tuple[np.ndarray, Any]:
        """Returns the outputs `(batch, ...)` after the last of several steps `(batch, steps, ...)`, and the new states.

        This is faster than single steps, because the outputs of the other steps are not computed.

        Raises:
            ValueError: tokens are not integers, or the shape is another one.
        """
        count = np.shape(values)[1] if np.ndim(values) > 1 else 0
        values = self._as_input(values, (self.batch, max(count, 1), *self._value_shape))
        for start in range(0, count, self._prefill_steps):
            chunk = values[:, start : start + self._prefill_steps]
            length = chunk.shape[1]
            padding = [(0, 0), (0, self._prefill_steps - length), *([(0, 0)] * len(self._value_shape))]
            inputs = {self._prefill_input: np.pad(chunk, padding), LENGTH: np.full(self.batch, length, np.int32)}
            outputs, states = self.run(PREFILL, inputs, states)
        return outputs[self._output], states

    def run(self, signature: str, inputs: dict[str, np.ndarray], states: Any) -> tuple[dict[str, np.ndarray], Any]:
        """Runs a signature.

        Args:
            signature: its name.
            inputs: its inputs without the states.
            states: the states before it.

        Returns:
            Its outputs without the states, and the new states.

        Raises:
            RuntimeError: LiteRT rejects an input, such as a token outside the vocabulary.
        """
        runner = self._runners[signature]
        with self.lock:
            if self._state_shapes:
                outputs = runner(**inputs, **dict(zip(self._state_shapes, states, strict=True)))
                return outputs, [outputs.pop(name) for name in self._state_shapes]
            if states is not self._current:
                self._restore(states)
            self._current = None  # The internal states are unknown if the runtime rejects the inputs.
            outputs = runner(**inputs)
            # `sample` changes the states as `decode` does.
            read = inputs if signature == PREFILL else {self._step_input: inputs[self._step_input]}
            copies = {name: array.copy() for name, array in read.items()}
            self._current = _History(states, PREFILL if signature == PREFILL else DECODE, copies)
            return outputs, self._current

    def _restore(self, states: _History) -> None:
        """Sets the internal states to `states` by reading everything again."""
        self._current = None
        calls: list[_History] = []
        call: _History | None = states
        while call is not None:
            calls.append(call)
            call = call.previous
        for call in reversed(calls):
            self._runners[call.signature](**call.inputs)

    def _as_input(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the values as an array; refuses another shape, to which the runtime would resize the model."""
        checked = token_ids(values, "values") if self._step_input == TOKEN else values
        array = np.ascontiguousarray(checked, self._dtype)
        if array.shape != shape:
            raise ValueError(f"the model takes an array of shape {shape}. Received: {array.shape}")
        return array


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
            raise BundleError(f"{path} has damaged sampling defaults: {error}") from error
        # Reused for each token, so that the loop allocates nothing.
        batch = self.decoder.batch
        self._inputs = {TOKEN: np.zeros(batch, np.int32), UNIFORM: np.zeros(batch, np.float32)}
        self._settings_inputs = {name: np.zeros(batch, dtype) for name, dtype in SAMPLING_INPUTS.items()}
        self._inputs |= self._settings_inputs
        self._filled_settings: SamplingSettings | None = None
        self._compared_bias: tuple[np.ndarray | None, bool] = (None, False)

    def initial_states(self) -> Any:
        """Returns the states at the start of a text."""
        return self.decoder.initial_states()

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
        bias other than the one in the file.
        """
        if settings.repetition_penalty == 1 and self._is_stored_bias(logit_bias):
            with self.decoder.lock:
                self._fill_inputs(token, uniform, settings)
                with contextlib.suppress(RuntimeError):  # LiteRT met logits that are not finite; the host names them.
                    outputs, after = self.decoder.run(SAMPLE, self._inputs, states)
                    if np.isfinite(outputs[LOG_PROBABILITY][0]):
                        return int(outputs[NEXT_TOKEN][0]), after
        return super().draw(token, states, uniform, settings, logit_bias, history)

    def _fill_inputs(self, token: int, uniform: float, settings: SamplingSettings) -> None:
        self._inputs[TOKEN][:], self._inputs[UNIFORM][:] = token_ids(token), uniform
        if settings is self._filled_settings:
            return
        self._filled_settings = None
        for name, array in self._settings_inputs.items():
            array[:] = getattr(settings, name) if name != "top_k" else min(settings.top_k, self.vocabulary_size)
        self._filled_settings = settings

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

    def score(self, text: str, by_line: bool = False) -> Score:
        """Returns the log-probability of each token of a text, in nats, as `keras_seq.score` does.

        Args:
            text: the text to score.
            by_line: whether each line is a text of its own that ends with `<eos>`; `config["by_line"]` says whether the
                model was trained this way.
        """
        return score(self, self.vocabulary, text, by_line=by_line)
