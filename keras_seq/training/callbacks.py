"""Training in `model.fit`: the optimizer with its clipping, and callbacks that a user's own `fit` can take too."""

import math
import time
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_seq.errors import DivergedError
from keras_seq.files import replacing
from keras_seq.models.stateful import read_states, reset_states, write_states
from keras_seq.training.checkpoint import Checkpoint
from keras_seq.training.gradient_norms import CLIPPINGS, GRADIENT_NORM


class CarriedState(keras.callbacks.Callback):
    """Starts stateful layers from zero where the streams begin anew, and around every evaluation.

    Args:
        batches: batches of one pass through the text; None where an epoch of `fit` is one pass.
    """

    def __init__(self, batches: int | None = None):
        super().__init__()
        self._batches, self._done, self._kept = batches, 0, list[Any]()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the streams anew, if an epoch is a pass."""
        if self._batches is None:
            reset_states(self.model)
        else:
            self._done = epoch * self.params["steps"]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Starts the streams anew at the first batch of a pass."""
        if self._batches is not None and (self._done + batch) % self._batches == 0:
            reset_states(self.model)

    def on_test_begin(self, logs: Any = None) -> None:
        """The validation text does not go on from the training text."""
        self._kept = read_states(self.model)
        reset_states(self.model)

    def on_test_end(self, logs: Any = None) -> None:
        """The training text goes on where it was."""
        write_states(self.model, self._kept)


class CosineSchedule(keras.callbacks.Callback):
    """Raises the learning rate to that of `compile`, then lowers it along a half cosine to zero; ends the run with its minutes.

    Loshchilov & Hutter 2017, arXiv 1608.03983.

    Args:
        epochs: length of the run in epochs.
        minutes: length of the run in minutes of training. Exactly one of the two is given.
        warmup: share of the run over which the rate rises, from zero along a line.

    Attributes:
        scale: what the rate is multiplied by; lowered where a run has to go back.
    """

    def __init__(self, epochs: int | None = None, minutes: float | None = None, warmup: float = 0.0):
        super().__init__()
        if (epochs is None) == (minutes is None):
            raise ValueError(f"exactly one of `epochs` and `minutes` is needed. Received: {epochs=}, {minutes=}")
        length = epochs if minutes is None else minutes
        if not (length and math.isfinite(length) and length > 0):
            raise ValueError(f"the length of the run must be positive. Received: {epochs=}, {minutes=}")
        if not 0 <= warmup < 1:
            raise ValueError(f"`warmup` must be a share of the run, from 0 to below 1. Received: warmup={warmup!r}")
        self._epochs, self._minutes, self._warmup = epochs, minutes, warmup
        self._batches = 0
        self.scale = 1.0

    @property
    def state(self) -> dict[str, float]:
        """What a run that goes on must know."""
        return {"scale": self.scale, "seconds": time.monotonic() - self._start}

    @state.setter
    def state(self, state: dict[str, float]) -> None:
        self.scale, self._start = state["scale"], time.monotonic() - state["seconds"]

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts the clock."""
        if self._epochs is not None and self.params["steps"] is None:
            raise ValueError(
                "`epochs` needs data with a known number of batches: set `steps_per_epoch`, or use `minutes`"
            )
        self.scale, self._start = 1.0, time.monotonic()
        self._peak = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Finds its place: a run that goes on does not begin with epoch 0."""
        self._batches = epoch * (self.params["steps"] or 0)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the learning rate of the batch."""
        progress = min(1.0, self._progress())
        rise = min(1.0, progress / self._warmup) if self._warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * max(0.0, progress - self._warmup) / (1 - self._warmup)))
        self.model.optimizer.learning_rate.assign(self._peak * self.scale * rise * fall)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Ends the run when its minutes are over."""
        self._batches += 1
        if self._minutes is not None and self._progress() >= 1:
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Gives the learning rate back, for a second `fit`."""
        self.model.optimizer.learning_rate.assign(self._peak)

    def _progress(self) -> float:
        if self._minutes is not None:
            return (time.monotonic() - self._start) / (60 * self._minutes)
        assert self._epochs is not None
        return self._batches / (self._epochs * self.params["steps"])


class StopWhenNotFinite(keras.callbacks.Callback):
    """Ends the run with an error, `DivergedError`, when the loss or the gradient's norm is no longer a finite number.

    After `GradientNorms` in the list it sees the gradient too, a step sooner.
    """

    def __init__(self) -> None:
        super().__init__()
        self._norm = math.nan

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Knows the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Raises DivergedError naming the batch."""
        reason = self.divergence(batch, logs)
        if reason is not None:
            raise DivergedError(reason)

    def divergence(self, batch: int, logs: dict[str, float] | None) -> str | None:
        """Returns what became of the run at this batch, and why; None while it is well."""
        for name, what in ((GRADIENT_NORM, "the gradient's norm"), ("loss", "the loss")):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                before = "" if math.isnan(self._norm) else f" (the gradient's norm was {self._norm:.3g} before)"
                place = f"batch {batch + 1} of epoch {self._epoch + 1}"
                return f"{what} became {value} at {place}{before}: {self._cause()}"
        self._norm = (logs or {}).get(GRADIENT_NORM, math.nan)
        return None

    def _cause(self) -> str:
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)  # of a LossScaleOptimizer
        rate = float(ops.convert_to_numpy(optimizer.learning_rate))
        clipped = [f"{name}={value:g}" for name in CLIPPINGS if (value := getattr(optimizer, name)) is not None]
        if not clipped:
            return f"the gradients exploded, and nothing clips them; set a `clipnorm` (learning rate {rate:.3g})"
        return (
            f"the steps are too long (learning rate {rate:.3g}, {clipped[0]}); lower the learning rate or the threshold"
        )


class RollBack(StopWhenNotFinite):
    """Goes back to the last checkpoint when the loss or the gradient is not finite, and on at half the learning rate.

    The text goes on; the batches since the checkpoint are not read again.

    Args:
        checkpoint: where to go back to.
        schedule: whose rate is halved.
        attempts: how often in one epoch; then the run ends with an error.
    """

    def __init__(self, checkpoint: Checkpoint, schedule: CosineSchedule, attempts: int = 5):
        super().__init__()
        self._checkpoint, self._schedule, self._attempts = checkpoint, schedule, attempts

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Counts anew."""
        super().on_epoch_begin(epoch, logs)
        self._tried = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Goes back; raises DivergedError after too many attempts."""
        reason = self.divergence(batch, logs)
        if reason is None:
            return
        self._tried += 1
        if self._tried > self._attempts:
            raise DivergedError(f"{reason}; {self._attempts} times at half the rate of before did not help")
        scale, seconds = self._schedule.scale, self._schedule.state["seconds"]
        self._checkpoint.restore()
        self._schedule.state = {"scale": scale / 2, "seconds": seconds}
        self.model.reset_metrics()
        place = f"the checkpoint after epoch {self._checkpoint.epoch}" if self._checkpoint.epoch else "the beginning"
        print(f"\n{reason}; back to {place}, at half the learning rate")


class KeepBest(keras.callbacks.Callback):
    """Keeps the model with the fewest nats a token on the validation text, in a file that is always whole.

    The model in training must be compiled with `NatsPerToken`, as `compile_model` does. Before
    `keras.callbacks.SwapEMAWeights` in the list it keeps the averaged weights that were evaluated.

    Args:
        model: gets the best weights; the model in training can be its `stateful_copy`.
        path: the `.keras` file it is saved to; None saves none.
    """

    def __init__(self, model: keras.Model, path: Path | None):
        super().__init__()
        self._best_model, self._path = model, None if path is None else Path(path)
        self.best = math.inf

    @property
    def state(self) -> dict[str, float]:
        """What a run that goes on must know."""
        return {"best": self.best}

    @state.setter
    def state(self, state: dict[str, float]) -> None:
        self.best = state["best"]

    def on_test_end(self, logs: Any = None) -> None:
        """Saves the model if no evaluation was better."""
        nats = (logs or {}).get("nats", math.inf)
        if nats < self.best:
            self.best = nats
            self._best_model.set_weights(self.model.get_weights())
            if self._path is not None:
                save_model(self._best_model, self._path)


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a model to a `.keras` file that is always whole."""
    with replacing(path) as partial:
        model.save(partial)
