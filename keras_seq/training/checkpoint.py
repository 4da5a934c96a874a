"""A checkpoint of a training run, from which it goes on as if it had not been interrupted."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from keras_seq.errors import TrainingError
from keras_seq.files import replacing
from keras_seq.models.stateful import read_states, write_states

_ABOUT = "about"


class HasState(Protocol):
    """A callback that a checkpoint must know something of; what `state` gives can be set again."""

    state: dict[str, float]


class Checkpoint(keras.callbacks.Callback):
    """Saves all that decides how a `fit` goes on, before its first epoch and after each; the last callback of the list.

    That is the weights, the optimizer with its moments and averages, the random states of dropout, the carried states of
    stateful layers, the number of the epoch, and what other callbacks remember. A run that was killed ends with the same
    weights, to the last bit, as one that was not, if its data goes on at the same place
    (`keras_seq.data.streams.Streams.from_batch`) and no clock decides (`CosineSchedule(minutes=...)` does). The file is always
    whole.

    Args:
        path: the `.npz` file.
        remembered: callbacks with a `state`, by name, such as `CosineSchedule` and `KeepBest`.
        belongs_to: what the run is of, such as the hash of its vocabulary; a checkpoint of something else is refused.
        writes: False in a worker that is not the chief: it takes part in saving, and loads what the chief saved.

    Attributes:
        epoch: epochs done, the `initial_epoch` of the `fit` that goes on.

    Example:
        >>> import tempfile, keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be, " * 9)
        >>> path = Path(tempfile.mkdtemp(), "checkpoint.npz")
        >>> def go_on(epochs):
        ...     model = ks.language_model(len(vocabulary), units=[4], embedding_dim=3)
        ...     model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        ...     checkpoint = Checkpoint(path)
        ...     if path.exists():
        ...         checkpoint.load()
        ...     data = ks.streams("to be or not to be, " * 9, vocabulary, batch_size=2, length=9)
        ...     options = dict(initial_epoch=checkpoint.epoch, callbacks=[checkpoint], shuffle=False, verbose=0)
        ...     return len(model.fit(data, epochs=epochs, **options).epoch)
        >>> go_on(2), go_on(5)  # the second call does the three epochs that are left
        (2, 3)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        remembered: Mapping[str, HasState] | None = None,
        belongs_to: Mapping[str, Any] | None = None,
        writes: bool = True,
    ):
        super().__init__()
        self._writes = writes
        self._path, self._remembered, self._belongs_to = Path(path), dict(remembered or {}), dict(belongs_to or {})
        self._last: tuple[list[np.ndarray], dict[str, Any]] | None = None  # what the file holds
        self._goes_on = False
        self.epoch = 0

    def load(self) -> None:
        """Reads the file; the model gets what is in it when `fit` begins.

        Raises:
            TrainingError: there is none, it is damaged, or it is of something else.
        """
        values, about = _read(self._path)
        for name, value in self._belongs_to.items():
            if about["belongs_to"].get(name) != value:
                raise TrainingError(f"{self._path} is the checkpoint of another {name}: it cannot go on with this one")
        self._last, self.epoch, self._goes_on = (values, about), about["epoch"], True

    def on_train_begin(self, logs: Any = None) -> None:
        """Puts back what was loaded, or saves the beginning."""
        self.model.optimizer.build(self.model.trainable_variables)
        if self._goes_on:
            self.restore()
            self._goes_on = False
        else:
            self.epoch = 0
            self.save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves."""
        self.epoch = epoch + 1
        self.save()

    def save(self) -> None:
        """Writes the file.

        Raises:
            TrainingError: it cannot be written; the one before is as it was.
        """
        values = [*map(ops.convert_to_numpy, self._variables()), *read_states(self.model)]
        state = {name: callback.state for name, callback in self._remembered.items()}
        about = {
            "epoch": self.epoch,
            "state": state,
            "belongs_to": self._belongs_to,
            "optimizer": self._optimizer(),
        }
        self._last = values, about
        if not self._writes:
            return
        arrays: dict[str, Any] = {f"{index}": value for index, value in enumerate(values)}
        arrays[_ABOUT] = np.array(json.dumps(about))
        try:
            with replacing(self._path) as partial, partial.open("wb") as file:
                np.savez(file, **arrays)
        except OSError as error:
            kept = "; the one before it is still there: make room, and go on from it" if self._path.exists() else ""
            raise TrainingError(
                f"the checkpoint {self._path} cannot be written ({error.strerror or error}){kept}"
            ) from error

    def restore(self) -> None:
        """Puts the model, its optimizer and the other callbacks back to the last checkpoint.

        Raises:
            TrainingError: it is of a model with other weights, or of another optimizer.
        """
        assert self._last is not None
        values, about = self._last
        variables, states = self._variables(), read_states(self.model)
        shapes = [(tuple(one.shape), keras.backend.standardize_dtype(one.dtype)) for one in (*variables, *states)]
        if about["optimizer"] != self._optimizer() or shapes != [(value.shape, value.dtype.name) for value in values]:
            raise TrainingError(
                f"{self._path} is the checkpoint of another model or optimizer: it cannot go on with this"
            )
        missing = [name for name in self._remembered if name not in about["state"]]
        if missing:
            raise TrainingError(f"{self._path} knows nothing of {', '.join(missing)}: it is of a fit without")
        for variable, value in zip(variables, values[: len(variables)], strict=True):
            variable.assign(value)
        write_states(self.model, values[len(variables) :])
        for name, callback in self._remembered.items():
            callback.state = about["state"][name]

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables]

    def _optimizer(self) -> str:
        return type(self.model.optimizer).__name__


def _read(path: Path) -> tuple[list[np.ndarray], dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file[_ABOUT]))
            values = [file[f"{index}"] for index in range(len(file.files) - 1)]
        if not {"epoch", "state", "belongs_to", "optimizer"} <= about.keys():
            raise ValueError("it does not say what it is of")
    except FileNotFoundError:
        raise TrainingError(f"{path.parent} has no checkpoint to go on from: its run is over, or never began") from None
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise TrainingError(f"the checkpoint {path} is damaged: {error}") from error
    return values, about
