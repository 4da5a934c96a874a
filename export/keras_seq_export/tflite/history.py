"""What a model with internal states has read, so that it can go back to earlier states by reading it again."""

from typing import Final, NamedTuple

import numpy as np

from keras_seq_export.signatures import DECODE, RESET

_BLOCK: Final = 256  # single steps that are stored as one array: 4 bytes for a token instead of 435 for its objects
MOST_BYTES: Final = 1 << 24  # of the inputs: four million tokens


class History(NamedTuple):
    """Everything that a model with internal states has read; it stands for the states after it.

    Attributes:
        previous: the history before the last call; None before the first, or if it is too long to be kept.
        signature: the signature of the last call.
        inputs: its inputs; those of several steps `(steps, batch, ...)` if `steps` is above 1.
        steps: number of calls that `inputs` holds.
        singles: number of calls of `decode` at the end that are not stored together yet.
        size: bytes of all inputs.
        is_complete: whether all that was read is kept. Otherwise the model can go on, but not go back to here.
    """

    previous: "History | None"
    signature: str
    inputs: dict[str, np.ndarray]
    steps: int = 1
    singles: int = 0
    size: int = 0
    is_complete: bool = True

    def after(self, signature: str, inputs: dict[str, np.ndarray]) -> "History":
        """Returns the history after another call, whose inputs are copied."""
        copies = {name: array.copy() for name, array in inputs.items()}
        size = self.size + sum(array.nbytes for array in copies.values())
        if not self.is_complete or size > MOST_BYTES:
            return History(None, signature, {}, size=size, is_complete=False)
        singles = self.singles + 1 if signature == DECODE else 0
        added = History(self, signature, copies, singles=singles, size=size)
        return added if singles < _BLOCK else added._together()

    def _together(self) -> "History":
        """Returns the same history with the single calls at its end stored together."""
        calls: list[History] = []
        first: History | None = self
        for _ in range(self.singles):
            assert first is not None
            calls.append(first)
            first = first.previous
        inputs = {name: np.stack([call.inputs[name] for call in reversed(calls)]) for name in self.inputs}
        return History(first, DECODE, inputs, steps=len(calls), size=self.size)

    def calls(self) -> list[tuple[str, dict[str, np.ndarray]]]:
        """Returns all calls in their order, each with its signature and inputs."""
        parts: list[History] = []
        part: History | None = self
        while part is not None:
            parts.append(part)
            part = part.previous
        found = []
        for part in reversed(parts):
            if part.steps == 1:
                found.append((part.signature, part.inputs))
            else:
                steps = range(part.steps)
                found += [(part.signature, {name: array[i] for name, array in part.inputs.items()}) for i in steps]
        return found


BEGINNING: Final = History(None, RESET, {})
