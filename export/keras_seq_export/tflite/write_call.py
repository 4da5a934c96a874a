"""Calls of the signature `write`, which draws many tokens at once. Imports neither TensorFlow nor Keras."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_seq.generation.decoder_step import token_ids
from keras_seq_export.errors import BundleError
from keras_seq_export.signatures import COUNT, LENGTH, LOG_PROBABILITIES, TOKEN, TOKENS, UNIFORMS, WRITE, WRITE_STEPS
from keras_seq_export.tflite.decoder import LiteRTDecoder


class WriteCall:
    """The tokens of a text that are drawn by one call of `write`.

    A text may have to go on differently after some of them, for example with other settings. The states there are those
    that a second call returns, which begins in the same way and draws only these tokens.

    Args:
        decoder: a file with the signature `write`.
        token: the token after which the first one is drawn.
        states: the states before the model reads it.
        uniforms: a uniform number for each token to draw, 1 to `WRITE_STEPS`.
        settings: the sampling settings as inputs of the signature, each `(batch,)`.
    """

    def __init__(
        self,
        decoder: LiteRTDecoder,
        token: int,
        states: Any,
        uniforms: np.ndarray,
        settings: Mapping[str, np.ndarray],
    ):
        padded = np.zeros((decoder.batch, WRITE_STEPS), np.float32)
        padded[:, : len(uniforms)] = uniforms
        self._inputs = {TOKEN: np.full(decoder.batch, token_ids(token)), UNIFORMS: padded, **settings}
        self._decoder, self._states, self._length = decoder, states, len(uniforms)

    def tokens(self) -> list[int] | None:
        """Returns the tokens, `<eos>` the last of them if it was drawn; None if the logits of a step are not finite.

        Raises:
            BundleError: the model is damaged.
        """
        try:
            outputs, self._last_states = self._run(self._length)
        except BundleError as error:
            if isinstance(error.__cause__, RuntimeError):
                return None
            raise
        self._count = int(outputs[COUNT][0])
        if not 0 < self._count <= self._length:
            raise BundleError(f"the file has a damaged model: `{WRITE}` drew {self._count} of {self._length} tokens")
        are_finite = np.isfinite(outputs[LOG_PROBABILITIES][0, : self._count]).all()
        return outputs[TOKENS][0, : self._count].tolist() if are_finite else None

    def states_before(self, index: int) -> Any:
        """Returns the states before the model reads the token at an index."""
        return self._last_states if index == self._count - 1 else StatesWithin(self, index)

    def compute_states(self, index: int) -> Any:
        """Returns what `states_before` stands for, which takes another call."""
        return self._run(index + 1)[1]

    def _run(self, length: int) -> tuple[dict[str, np.ndarray], Any]:
        lengths = np.full(self._decoder.batch, length, np.int32)
        return self._decoder.run(WRITE, {**self._inputs, LENGTH: lengths}, self._states)


class StatesWithin(Sequence[np.ndarray]):
    """The states before the model reads one of the tokens that a call draws; computed when they are first used.

    Args:
        call: the call.
        index: the index of the token.
    """

    def __init__(self, call: WriteCall, index: int):
        self._call, self._index = call, index

    @functools.cached_property
    def _arrays(self) -> Any:
        return self._call.compute_states(self._index)

    def __getitem__(self, index: Any) -> Any:
        """Returns a state, `(batch, units)`."""
        return self._arrays[index]

    def __len__(self) -> int:
        """Returns the number of states."""
        return len(self._arrays)
