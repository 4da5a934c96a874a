"""A checkpoint of a training run, from which it resumes with identical results."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from keras_seq import require
from keras_seq.errors import TrainingError
from keras_seq.files import replacing
from keras_seq.json_text import parse_json
from keras_seq.models.carried_states import read_states, write_states
from keras_seq.models.checks import reason_of
from keras_seq.training.stored_zip import require_stored
from keras_seq.training.writing import writing

_METADATA = "about"


class HasState(Protocol):
    """A callback with a `state` that a checkpoint stores and restores."""

    state: dict[str, float]


class Checkpoint(keras.callbacks.Callback):
    """Saves everything that `fit` needs to resume, before its first epoch and after each. It must be the last callback.

    The file holds the weights, the optimizer with its moments and averages, the random states of dropout, the carried
    states of stateful layers, the number of the epoch, and the state of other callbacks. A run that was killed ends with
    bit-identical weights if its data resumes at the same batch (`keras_seq.data.streams.Streams.from_batch`) and its
    length is given in epochs; `CosineSchedule(minutes=...)` depends on the clock. The file is always complete.

    Args:
        path: the `.npz` file to write.
        callbacks: callbacks with a `state`, by name, such as `CosineSchedule` and `KeepBest`.
        belongs_to: what identifies the run, such as the hash of its vocabulary; another run's checkpoint is refused.
        writes: False in a worker that is not the chief. It takes part in saving and loads the file of the chief.

    Attributes:
        epoch: number of finished epochs, the `initial_epoch` of the `fit` that resumes.

    Example:
        >>> import tempfile, keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be, " * 9)
        >>> path = Path(tempfile.mkdtemp(), "checkpoint.npz")
        >>> def train_until(epochs):
        ...     model = ks.language_model(len(vocabulary), units=[4], embedding_dim=3)
        ...     model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        ...     checkpoint = Checkpoint(path)
        ...     if path.exists():
        ...         checkpoint.load()
        ...     data = ks.streams("to be or not to be, " * 9, vocabulary, batch_size=2, length=9)
        ...     options = dict(initial_epoch=checkpoint.epoch, callbacks=[checkpoint], shuffle=False, verbose=0)
        ...     return len(model.fit(data, epochs=epochs, **options).epoch)
        >>> train_until(2), train_until(5)  # the second call trains the three remaining epochs
        (2, 3)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        callbacks: Mapping[str, HasState] | None = None,
        belongs_to: Mapping[str, Any] | None = None,
        writes: bool = True,
    ):
        super().__init__()
        self._writes = writes
        self._path, self._callbacks, self._belongs_to = Path(path), dict(callbacks or {}), dict(belongs_to or {})
        self._last: tuple[list[np.ndarray], dict[str, Any]] | None = None  # the content of the file
        self._resumes = False
        self.epoch = 0

    def load(self) -> None:
        """Reads the file. Its content is put into the model when `fit` begins.

        Raises:
            TrainingError: the file is missing, damaged, or belongs to another run.
        """
        values, metadata = _read(self._path)
        for name, value in self._belongs_to.items():
            if metadata["belongs_to"].get(name) != value:
                raise TrainingError(f"{self._path} belongs to another {name}: this run cannot resume from it")
        self._last, self.epoch, self._resumes = (values, metadata), metadata["epoch"], True

    def on_train_begin(self, logs: Any = None) -> None:
        """Restores what was loaded, or saves the untrained state."""
        self.model.optimizer.build(self.model.trainable_variables)
        if self._resumes:
            self.restore()
            self._resumes = False
        else:
            self.epoch = 0
            self.save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the state after the epoch."""
        self.epoch = epoch + 1
        self.save()

    def save(self) -> None:
        """Writes the file.

        Raises:
            TrainingError: it cannot be written; the previous file is unchanged.
        """
        values = [*map(ops.convert_to_numpy, self._variables()), *read_states(self.model)]
        state = {name: callback.state for name, callback in self._callbacks.items()}
        metadata = {
            "epoch": self.epoch,
            "state": state,
            "belongs_to": self._belongs_to,
            "optimizer": self._optimizer(),
        }
        self._last = values, metadata
        if not self._writes:
            return
        arrays: dict[str, Any] = {f"{index}": value for index, value in enumerate(values)}
        arrays[_METADATA] = np.array(json.dumps(metadata))
        with writing(self._path), replacing(self._path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)

    def restore(self) -> None:
        """Restores the model, its optimizer and the other callbacks from the last checkpoint.

        Raises:
            TrainingError: the checkpoint belongs to a model of another shape, to another optimizer or to other callbacks.
        """
        assert self._last is not None
        values, metadata = self._last
        variables, states = self._variables(), read_states(self.model)
        shapes = [(tuple(one.shape), keras.backend.standardize_dtype(one.dtype)) for one in (*variables, *states)]
        if metadata["optimizer"] != self._optimizer() or shapes != [
            (value.shape, value.dtype.name) for value in values
        ]:
            raise TrainingError(f"{self._path} belongs to another model or optimizer: this run cannot resume from it")
        for name, callback in self._callbacks.items():
            if metadata["state"].get(name, {}).keys() != callback.state.keys():
                raise TrainingError(f"{self._path} has no state of {name}: its run had no such callback")
        for variable, value in zip(variables, values[: len(variables)], strict=True):
            variable.assign(value)
        write_states(self.model, values[len(variables) :])
        for name, callback in self._callbacks.items():
            callback.state = metadata["state"][name]

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables]

    def _optimizer(self) -> str:
        return type(self.model.optimizer).__name__


def _read(path: Path) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Returns the arrays and the metadata. Neither is larger than the file."""
    try:
        parts = require_stored(path)
        with np.load(path, allow_pickle=False) as file:
            metadata = parse_json(str(file[_METADATA].item()))
            values = [file[f"{index}"] for index in range(len(parts) - 1)]
        _require_metadata(metadata)
    except FileNotFoundError:
        raise TrainingError(
            f"{path.parent} has no checkpoint to resume from: its run is finished or never started"
        ) from None
    except Exception as error:  # A damaged file raises errors of zip, struct and NumPy, which may ask for any memory.
        raise TrainingError(f"the checkpoint {path} is damaged: {reason_of(error)}") from error
    return values, metadata


def _require_metadata(metadata: Any) -> None:
    """Raises ValueError, which names the key, unless the metadata have the types that `Checkpoint.save` writes."""
    if not isinstance(metadata, dict):
        raise ValueError(f"{_METADATA} must be a JSON object")
    states = metadata.get("state")
    for key, holds, expected in (
        ("epoch", require.is_integer(metadata.get("epoch")) and 0 <= metadata["epoch"] < 2**31, "a number of epochs"),
        ("optimizer", isinstance(metadata.get("optimizer"), str), "a name"),
        ("belongs_to", isinstance(metadata.get("belongs_to"), dict), "an object"),
        ("state", isinstance(states, dict) and all(map(_is_state, states.values())), "objects of numbers"),
    ):
        if not holds:
            raise ValueError(f"{key} must be {expected}")


def _is_state(state: Any) -> bool:
    return isinstance(state, dict) and all(require.is_number(one) and not math.isnan(one) for one in state.values())
