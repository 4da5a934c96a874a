"""One step of a .tflite in LiteRT. Imports neither TensorFlow nor Keras."""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_seq import require
from keras_seq.errors import ModelError, shortened
from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export.errors import BundleError
from keras_seq_export.signatures import (
    DECODE,
    ENCODE,
    GATES,
    GET_WEIGHTS,
    LEARN,
    LENGTH,
    PLURALS,
    PREFILL,
    SAMPLING_INPUTS,
    START,
    TOKEN,
    WEIGHTS,
    WRITE,
    is_integer,
    is_state,
    state_name,
    update_gate_name,
)
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.fixed_point import as_float32
from keras_seq_export.tflite.given_values import GivenValues
from keras_seq_export.tflite.history import BEGINNING, History
from keras_seq_export.tflite.signature import Signature, Tensor, tensors_of
from keras_seq_export.tflite.signature_checks import require_signatures


class LiteRTDecoder:
    """One step of any model that `export_tflite` wrote, over text or over frames. Threads may share a decoder.

    Use it with files that you trust. LiteRT is native code: a forged file can crash the process, or never return.
    `keras_seq_export.tflite.inspect` shows what is in a file without running it.

    A model with internal states keeps what it has read, 4 bytes for a token, to go back to earlier states by reading it
    again. After 16 MiB it keeps no more. The last states can still be used for the next step, but earlier ones cannot.

    The states of an integer file are int16. Frames are numbers of any dtype, which are rounded to the scale
    of its input; outputs are float32.

    Args:
        path: the file.
        num_threads: threads of the runtime.

    Attributes:
        bundle: the vocabulary, configuration and card inside the file.
        batch: rows of each call.
        inputs: names of the inputs of a step.
        outputs: names of the outputs of a step.
        delays: for each output, the number of steps after which it is known. Those of the steps before mean nothing.
        output_shape: shape of the first output of one row.
        output_scale: its scale in an integer file; None in others.
        lock: held during each call of the runtime.
        learned_version: how often what the file has learned was changed.

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
        self.calls = 0  # Odd while LiteRT runs: one more at the beginning and one more at the end of each call.
        self._path = path
        try:
            self._interpreter = Interpreter(model_path=os.fspath(path), num_threads=int(num_threads))
            self._read_signatures()
        except (ValueError, RuntimeError, LookupError) as error:
            if isinstance(error, BundleError):
                raise
            reason = shortened(str(error).partition("\n")[0])
            raise BundleError(f"{path} cannot be loaded: {reason}") from error
        # An interpreter has one set of buffers: threads that used it at the same time would overwrite each other's.
        self.lock = threading.RLock()
        self.learned_version = 0
        self._current: History | None = None  # What the internal states have read; None if unknown.

    def _read_signatures(self) -> None:
        self._runners = {
            name: self._interpreter.get_signature_runner(name) for name in self._interpreter.get_signature_list()
        }
        signatures = {
            name: Signature(tensors_of(runner.get_input_details()), tensors_of(runner.get_output_details()), {})
            for name, runner in self._runners.items()
        }
        config = self.bundle.config
        require_signatures(signatures, config, self.bundle.vocabulary is not None)
        inputs, outputs = signatures[DECODE].inputs, signatures[DECODE].outputs
        self._signatures, self._given = signatures, GivenValues(config)
        self._states = {name: inputs[name] for name in map(state_name, range(sum(map(is_state, inputs))))}
        self._output_shapes = {
            name: [(output, tensor.shape) for output, tensor in signature.outputs.items()]
            for name, signature in signatures.items()
        }
        self.inputs: list[str] = config.get("inputs") or [name for name in inputs if not is_state(name)]
        self.outputs: list[str] = config.get("outputs") or [name for name in outputs if not is_state(name)]
        self.delays: list[int] = config.get("delays") or [0] * len(self.outputs)
        self.batch: int = config["batch"]
        self.output_shape, self.output_scale = outputs[self.outputs[0]].shape[1:], outputs[self.outputs[0]].scale
        self._initial_states = self._read_initial_states()

    def _read_initial_states(self) -> list[np.ndarray]:
        """Returns what `start` returns; without this signature, the states begin at zero."""
        if not self._states or START not in self._runners:
            return [np.zeros(state.shape, state.dtype) for state in self._states.values()]
        return self._in_order(self._call(START, {}))

    def call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature without states, such as `get_weights`."""
        with self.lock:
            return self._call(signature, inputs)

    def _in_order(self, states: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [states[name] for name in self._states]

    def _call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature."""
        self.calls += 1
        try:
            outputs: dict[str, np.ndarray] = self._runners[signature](**inputs)
        except RuntimeError as error:
            reason = shortened(str(error).partition("\n")[0])
            raise BundleError(f"LiteRT cannot run `{signature}` of {self._path} with these inputs: {reason}") from error
        finally:
            self.calls += 1
        for name, shape in self._output_shapes[signature]:
            if outputs[name].shape != shape:
                received = f"`{name}` {outputs[name].shape}, which should be {shape}"
                raise BundleError(f"{self._path} has a damaged model: `{signature}` returned {received}")
        return outputs

    @property
    def states(self) -> dict[str, Tensor]:
        """Each state by name, in their order; none with internal states."""
        return self._states

    @property
    def state_shapes(self) -> list[tuple[int, ...]]:
        """The shape of each state, `(batch, units)`; empty with internal states."""
        return [state.shape for state in self._states.values()]

    @property
    def is_integer(self) -> bool:
        """Whether all numbers in the file are integers; states are then int16, and frames and outputs have a scale."""
        return is_integer(self.bundle.config)

    @property
    def has_write(self) -> bool:
        """Whether the file can draw several tokens in one call."""
        return WRITE in self._runners

    @property
    def has_gates(self) -> bool:
        """Whether the file gives the update gates of its GRU layers."""
        return GATES in self._runners

    @property
    def has_learn(self) -> bool:
        """Whether the file can learn."""
        return LEARN in self._runners

    @property
    def weights_shape(self) -> tuple[int, int]:
        """The shape of the weights of a file that can learn, `(vocabulary, features)`."""
        vocabulary_size, features = self._signatures[GET_WEIGHTS].outputs[WEIGHTS].shape
        return vocabulary_size, features

    @property
    def has_encoder(self) -> bool:
        """Whether the states at the start of a text or series come from `encode`."""
        return ENCODE in self._runners

    def initial_states(self) -> Any:
        """Returns the states at the start of a text or series: those that `start` returns, otherwise zeros.

        Raises:
            ModelError: they depend on what `encode` takes.
        """
        if self.has_encoder:
            raise ModelError(
                f"`states` must be given, because the model begins with those that its encoder gives for "
                f"{', '.join(self.bundle.config['at_once'])}; `encode` returns them"
            )
        if self._states:
            return [state.copy() for state in self._initial_states]
        return BEGINNING

    @property
    def source_steps(self) -> int | None:
        """The largest number of frames of a source that `encode` takes; None if it takes no source of any length."""
        sources = [name for name, length in self.bundle.config.get("at_once", {}).items() if length]
        return self._signatures[ENCODE].inputs[sources[0]].shape[1] if sources else None

    def encode(self, *values: np.ndarray) -> list[np.ndarray]:
        """Returns the states with which a text or series begins, as `keras_seq.encode` does.

        Args:
            *values: an array for each input of the encoder in its order: a source `(batch, frames, ...)`, of at most as
                many frames as the signature takes, or a context `(batch, ...)`. The axis of rows may be left out; all rows
                then begin alike.

        Raises:
            ModelError: the file has no encoder.
            ValueError: an array is missing or has another shape.
        """
        if not self.has_encoder:
            raise ModelError(f"the file must have a signature `{ENCODE}`. Received: {', '.join(self._runners)}")
        inputs = self._given.for_encoder(self._signatures[ENCODE].inputs, values)
        with self.lock:
            return self._in_order(self._call(ENCODE, inputs))

    def __call__(self, values: Any, states: Any) -> tuple[Any, Any]:
        """Returns the outputs of a step and the new states.

        Args:
            values: tokens `(batch,)` or frames `(batch, ...)`; for several inputs, a dictionary of them by name.
            states: the states before the step.

        Returns:
            The outputs `(batch, ...)`, a dictionary of them if there are several; and the new states.

        Raises:
            ValueError: tokens are not integers, or the shape is another one.
        """
        outputs, states = self.step(self._each(values), states)
        return self._named(outputs), states

    def prefill(self, values: Any, states: Any) -> tuple[Any, Any]:
        """Returns the outputs after the last of several steps `(batch, steps, ...)`, and the new states.

        This is faster than single steps, because the outputs of the other steps are not computed. See `__call__`.

        Raises:
            ValueError: tokens are not integers, or the shape is another one.
        """
        outputs, states = self.prefill_steps(self._each(values), states)
        return self._named(outputs), states

    def _each(self, values: Any) -> list[np.ndarray]:
        """Returns the value of each input."""
        if len(self.inputs) == 1 and not isinstance(values, Mapping):
            return [values]
        if not isinstance(values, Mapping) or sorted(values) != sorted(self.inputs):
            received = sorted(values) if isinstance(values, Mapping) else type(values).__name__
            raise ValueError(f"a step takes a dictionary with {', '.join(self.inputs)}. Received: {received}")
        return [values[name] for name in self.inputs]

    def _named(self, outputs: list[np.ndarray]) -> Any:
        return outputs[0] if len(outputs) == 1 else dict(zip(self.outputs, outputs, strict=True))

    def step(self, values: Sequence[np.ndarray], states: Any) -> tuple[list[np.ndarray], Any]:
        """Does what `__call__` does, with a list of inputs and of outputs."""
        outputs, states = self.run(DECODE, self.step_inputs(values), states)
        return self._outputs_of(DECODE, outputs), states

    def step_inputs(self, values: Sequence[Any]) -> dict[str, np.ndarray]:
        """Returns the inputs of `decode` without the states, given the value of each in their order."""
        tensors = self._signatures[DECODE].inputs
        return {
            name: self._given.as_input(name, tensors[name], one) for name, one in zip(self.inputs, values, strict=True)
        }

    def _outputs_of(self, signature: str, outputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Returns the outputs of a step in their order; those of an integer file as the numbers that they stand for."""
        tensors = self._signatures[signature].outputs
        return [as_float32(outputs[name], tensors[name]) for name in self.outputs]

    def prefill_steps(self, values: Sequence[np.ndarray], states: Any) -> tuple[list[np.ndarray], Any]:
        """Does what `prefill` does, with a list of inputs and of outputs."""
        tensors = self._signatures[DECODE].inputs
        arrays = [self._given.checked(name, tensors[name], one) for name, one in zip(self.inputs, values, strict=True)]
        count = arrays[0].shape[1] if arrays[0].ndim > 1 else 0
        if not count or any(one.shape[:2] != arrays[0].shape[:2] for one in arrays):
            shapes = ", ".join(str(one.shape) for one in arrays)
            raise ValueError(
                f"`prefill` takes arrays ({self.batch}, steps, ...) with as many steps. Received: {shapes}"
            )
        if self.is_integer:  # It has no `prefill`.
            for step in range(count):
                last, states = self.run(DECODE, self.step_inputs([one[:, step] for one in arrays]), states)
            return self._outputs_of(DECODE, last), states
        steps = self._prefill_input(self.inputs[0]).shape[1]
        for start in range(0, count, steps):
            part = [one[:, start : start + steps] for one in arrays]
            outputs, states = self.read(part, np.full(self.batch, part[0].shape[1]), states)
        return outputs, states

    def read(self, values: Sequence[np.ndarray], lengths: np.ndarray, states: Any) -> tuple[list[np.ndarray], Any]:
        """Reads the first `lengths` `(batch,)` of some steps `(batch, steps, ...)` in one call of `prefill`."""
        inputs = {LENGTH: lengths.astype(np.int32)}
        for name, one in zip(self.inputs, values, strict=True):
            tensor = self._prefill_input(name)
            steps = tensor.shape[1]
            missing = max(0, steps - one.shape[1]) if np.ndim(one) > 1 else 0
            padded = np.pad(one, [(0, 0), (0, missing), *[(0, 0)] * (np.ndim(one) - 2)]) if missing else one
            inputs[PLURALS.get(name, name)] = self._given.as_input(name, tensor, padded)
        outputs, states = self.run(PREFILL, inputs, states)
        return self._outputs_of(PREFILL, outputs), states

    def _prefill_input(self, name: str) -> Tensor:
        return self._signatures[PREFILL].inputs[PLURALS.get(name, name)]

    def run(self, signature: str, inputs: dict[str, np.ndarray], states: Any) -> tuple[dict[str, np.ndarray], Any]:
        """Runs a signature.

        Args:
            signature: its name.
            inputs: its inputs without the states.
            states: the states before it.

        Returns:
            Its outputs without the states, and the new states.

        Raises:
            BundleError: LiteRT rejects an input, such as a token outside the vocabulary, or the model is damaged.
            ModelError: the states are internal, and too much was read to go back to them.
        """
        with self.lock:
            if self._states:
                outputs = self._call(signature, inputs | dict(zip(self._states, states, strict=True)))
                return outputs, [outputs.pop(name) for name in self._states]
            if states is not self._current:
                self._restore(states)
            self._current = None  # The internal states are unknown if the runtime rejects the inputs.
            outputs = self._call(signature, inputs)
            # `sample` changes the states as `decode` does.
            read = inputs if signature == PREFILL else {name: inputs[name] for name in self.inputs}
            self._current = states.after(PREFILL if signature == PREFILL else DECODE, read)
            return outputs, self._current

    def update_gates(self, tokens: Any, states: Any) -> list[np.ndarray]:
        """Returns Γu of each GRU layer in the step that reads `tokens` from `states`, each `(batch, units)`.

        0 keeps the memory of a unit, 1 replaces it. The layers are in the order of their calls; other layers have states, but
        no gate. The new states are those of the step itself: call the decoder for them.

        Raises:
            ModelError: the file has no signature `gates`.
            ValueError: tokens are not integers, or the shape is another one.
        """
        if not self.has_gates:
            expected = f"the file must have a signature `{GATES}`, which export_tflite(..., gates=True) adds"
            raise ModelError(f"{expected}. Received: {', '.join(self._runners)}")
        token = self._given.as_input(TOKEN, self._signatures[GATES].inputs[TOKEN], tokens)
        inputs = {TOKEN: token, **dict(zip(self._states, states, strict=True))}
        with self.lock:
            gates = self._call(GATES, inputs)
        return [gates[update_gate_name(index)] for index in range(len(gates))]

    def settings_inputs(self, settings: SamplingSettings) -> dict[str, np.ndarray]:
        """Returns sampling settings as inputs of `sample` and `write`, each `(batch,)`; for a model of text."""
        values = {name: getattr(settings, name) for name in SAMPLING_INPUTS}
        values["top_k"] = min(settings.top_k, self.output_shape[0])
        return {name: np.full(self.batch, values[name], dtype) for name, dtype in SAMPLING_INPUTS.items()}

    def _restore(self, states: History) -> None:
        """Sets the internal states to `states` by reading everything again."""
        self._current = None
        if not states.is_complete:
            raise ModelError(
                f"these `states` can only be used for the step after them: {self._path} has internal states, and what it "
                f"has read, {states.size:,} bytes, is too long to be read again; use initial_states(), or export the "
                'model with state="explicit"'
            )
        for signature, inputs in states.calls():
            self._call(signature, inputs)
