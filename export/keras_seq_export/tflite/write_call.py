"""Calls of the signature `write`, which draws many tokens at once. Imports neither TensorFlow nor Keras."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_seq.generation.decoder_step import token_ids
from keras_seq_export.errors import BundleError
from keras_seq_export.signatures import (
    COUNT,
    LENGTH,
    LOG_PROBABILITIES,
    SAMPLE,
    TOKEN,
    TOKENS,
    UNIFORM,
    UNIFORMS,
    WRITE,
    WRITE_STEPS,
)
from keras_seq_export.tflite.decoder import LiteRTDecoder

# For fewer tokens, calls of `sample` take less time than one of `write`, whose loop takes 100 us to begin.
FEWEST = 8


class NotFiniteError(Exception):
    """The logits of a step are not finite."""


class WriteCall:
    """The tokens of a text that one call of `write` draws, and the states before the model reads each of them.

    Only the states before the last token come with the call. The others, which are needed when the text goes on
    differently after some of the tokens, are computed by a second call that draws fewer.

    Args:
        decoder: a file with the signature `write`.
        token: the token after which the first one is drawn.
        states: the states before the model reads it.
        uniforms: a uniform number for each token to draw, 1 to `WRITE_STEPS`.
        settings: the sampling settings as inputs of the signature, each `(batch,)`.

    Attributes:
        tokens: the tokens; `<eos>` is the last of them if it was drawn.

    Raises:
        NotFiniteError: the logits of a step are not finite.
        BundleError: the model is damaged.
    """

    def __init__(
        self,
        decoder: LiteRTDecoder,
        token: int,
        states: Any,
        uniforms: np.ndarray,
        settings: Mapping[str, np.ndarray],
    ):
        self._learned_version = decoder.learned_version
        self._decoder, self._uniforms, self._settings, self._first = decoder, uniforms, settings, token
        try:
            outputs, after = self._run(token, states, uniforms)
        except BundleError as error:
            if isinstance(error.__cause__, RuntimeError):
                raise NotFiniteError from error
            raise
        count = int(outputs[COUNT][0])
        if not 0 < count <= len(uniforms):
            raise BundleError(f"the file has a damaged model: `{WRITE}` drew {count} of {len(uniforms)} tokens")
        if not np.isfinite(outputs[LOG_PROBABILITIES][0, :count]).all():
            raise NotFiniteError
        self.tokens: list[int] = outputs[TOKENS][0, :count].tolist()
        self._states = {0: states, count: after}  # after so many draws

    def states_after(self, count: int) -> Any:
        """Returns the states after the first `count` draws: before the model reads the last of these tokens."""
        with self._decoder.lock:
            return self._states_after(count)

    def _states_after(self, count: int) -> Any:
        if count not in self._states:
            start = max(known for known in self._states if known < count)
            token, states = self.tokens[start - 1] if start else self._first, self._states[start]
            # After the model has learned, `write` would draw other tokens. The states depend on the tokens alone.
            if count - start < FEWEST or self._decoder.learned_version != self._learned_version:
                for index in range(start, count):
                    states = self._sample(token, states, self._uniforms[index])
                    token = self.tokens[index]
            else:
                _, states = self._run(token, states, self._uniforms[start:count])
            self._states[count] = states
        return self._states[count]

    def states_before(self, index: int) -> Any:
        """Returns the states before the model reads a token; those that would take a call are computed when used."""
        count = index + 1
        return self._states[count] if count in self._states else StatesWithin(self, count)

    def _sample(self, token: int, states: Any, number: float) -> Any:
        """Returns the states after a token, from `sample`, which returns those of `write` bit for bit."""
        batch = self._decoder.batch
        inputs = {TOKEN: np.full(batch, token_ids(token)), UNIFORM: np.full(batch, number, np.float32)}
        return self._decoder.run(SAMPLE, inputs | dict(self._settings), states)[1]

    def _run(self, token: int, states: Any, uniforms: np.ndarray) -> tuple[dict[str, np.ndarray], Any]:
        batch = self._decoder.batch
        padded = np.zeros((batch, WRITE_STEPS), np.float32)
        padded[:, : len(uniforms)] = uniforms
        length = np.full(batch, len(uniforms), np.int32)
        inputs = {TOKEN: np.full(batch, token_ids(token)), UNIFORMS: padded, LENGTH: length, **self._settings}
        return self._decoder.run(WRITE, inputs, states)


class StatesWithin(Sequence[np.ndarray]):
    """The states after some of the draws of a call. They are computed when they are first used."""

    def __init__(self, call: WriteCall, count: int):
        self._call, self._count = call, count

    def __getitem__(self, index: Any) -> Any:
        """Returns a state, `(batch, units)`."""
        return self._call.states_after(self._count)[index]

    def __len__(self) -> int:
        """Returns the number of states."""
        return len(self._call.states_after(self._count))
