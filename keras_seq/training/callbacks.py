"""Callbacks of `model.fit` for recurrent language models. Each can be used in your own `fit`."""

import math
import time
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_seq import require
from keras_seq.errors import ConfigError, DivergedError, ModelError
from keras_seq.files import replacing
from keras_seq.models.carried_states import read_states, reset_states, write_states
from keras_seq.training.checkpoint import Checkpoint
from keras_seq.training.config import CLIPPING_KINDS
from keras_seq.training.gradient_norms import GRADIENT_NORM
from keras_seq.training.writing import writing

_NOT_BEGUN = -1.0


class CarriedState(keras.callbacks.Callback):
    """Sets the carried states to zero where the streams start again, and keeps them apart from those of each evaluation.

    Args:
        batches: batches of one pass through the text; None if an epoch of `fit` is one pass.
    """

    def __init__(self, batches: int | None = None):
        super().__init__()
        self._batches, self._done, self._kept = batches, 0, list[Any]()

    def on_train_begin(self, logs: Any = None) -> None:
        """Checks that every pass and every epoch begin where the states can be reset.

        Raises:
            ConfigError: the length of an epoch is unknown although `batches` is given, or a pass or an epoch can begin in
                the middle of an execution of `steps_per_execution` batches.
        """
        steps, together = self.params["steps"], self.model.steps_per_execution
        if steps is None and self._batches is not None:
            raise ConfigError(
                "{} needs data with a known number of batches: set {}, or leave out {} if an epoch is one pass",
                *("batches", "steps_per_epoch", "batches"),
            )
        # Keras reads whole executions, also past `steps_per_epoch`.
        for count, what in ((steps, "an epoch"), (self._batches, "a pass through the text")):
            if count is not None and count % together:
                raise ConfigError(
                    f"{{}} must divide the {count} batches of {what}, because states can only be reset between two "
                    f"executions. Received: steps_per_execution={together}",
                    "steps_per_execution",
                )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Resets the states if each epoch is a pass through the text."""
        if self._batches is None:
            reset_states(self.model)
        else:
            self._done = epoch * self.params["steps"]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Resets the states at the first batch of a pass."""
        if self._batches is not None and (self._done + batch) % self._batches == 0:
            reset_states(self.model)

    def on_test_begin(self, logs: Any = None) -> None:
        """Saves the states of the training text and resets them for the validation text."""
        self._kept = read_states(self.model)
        reset_states(self.model)

    def on_test_end(self, logs: Any = None) -> None:
        """Restores the states of the training text."""
        write_states(self.model, self._kept)


class CosineSchedule(keras.callbacks.Callback):
    """Raises the learning rate to that of `compile`, then lowers it to zero along half a cosine (arXiv 1608.03983).

    A run given in minutes also ends when they are over. With `steps_per_execution`, all batches of an execution have the
    mean of their rates.

    Args:
        epochs: length of the run in epochs.
        minutes: length of the run in minutes of training. Exactly one of `epochs` and `minutes` is given.
        warmup: fraction of the run over which the rate rises linearly from zero, in [0, 1). In a run given in minutes it
            begins with the second batch: during the first one, TensorFlow compiles for seconds.

    Attributes:
        scale: factor of the rate; `RollBack` lowers it.
    """

    def __init__(self, epochs: int | None = None, minutes: float | None = None, warmup: float = 0.0):
        super().__init__()
        if (epochs is None) == (minutes is None):
            raise ValueError(f"exactly one of `epochs` and `minutes` must be given. Received: {epochs=}, {minutes=}")
        if minutes is None:
            require.positive_number("epochs", epochs)
        else:
            require.positive_number("minutes", minutes)
        require.fraction("warmup", warmup)
        self._epochs, self._minutes, self._warmup = epochs, minutes, warmup
        self._warmup_start = _NOT_BEGUN  # fraction of the minutes before the second batch
        self.scale = 1.0

    @property
    def state(self) -> dict[str, float]:
        """What a checkpoint stores of the callback."""
        seconds = time.monotonic() - self._start
        return {"scale": self.scale, "seconds": seconds, "warmup_start": self._warmup_start}

    @state.setter
    def state(self, state: dict[str, float]) -> None:
        self.scale, self._start = state["scale"], time.monotonic() - state["seconds"]
        self._warmup_start = state["warmup_start"]

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts the clock.

        Raises:
            ConfigError: the number of batches in an epoch is unknown although `epochs` is given, or the learning rate of
                `compile` is not a number.
        """
        if self._epochs is not None and self.params["steps"] is None:
            raise ConfigError(
                "{} needs data with a known number of batches: set {}, or give {}",
                *("epochs", "steps_per_epoch", "minutes"),
            )
        rate = self.model.optimizer.learning_rate
        if not isinstance(rate, keras.Variable):
            raise ConfigError(
                "{} must be a number, which `CosineSchedule` then changes. Received: a schedule or a function; leave out one "
                "of the two",
                "learning_rate",
            )
        self.scale, self._start, self._warmup_start = 1.0, time.monotonic(), _NOT_BEGUN
        self._peak = float(ops.convert_to_numpy(rate))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Sets the position in the run; a resumed run does not start with epoch 0."""
        self._first = epoch * (self.params["steps"] or 0)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the learning rate of the batch, or of all batches in an execution."""
        factors = [self._factor(min(1.0, progress)) for progress in self._progress(batch)]
        self.model.optimizer.learning_rate.assign(self._peak * self.scale * sum(factors) / len(factors))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Ends the run if its minutes are over; begins the warm-up after the first batch."""
        if self._minutes is None:
            return
        elapsed = self._elapsed(self._minutes)
        if self._warmup_start == _NOT_BEGUN:
            self._warmup_start = elapsed
        if elapsed >= 1:
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Restores the learning rate of `compile`, for another `fit`."""
        self.model.optimizer.learning_rate.assign(self._peak)

    def _progress(self, batch: int) -> list[float]:
        """Returns the finished fraction of the run before each batch of the execution that begins with this batch."""
        if self._minutes is not None:
            return [self._elapsed(self._minutes)]
        assert self._epochs is not None
        steps = self.params["steps"]
        end = min(batch + self.model.steps_per_execution, max(steps, batch + 1))
        return [(self._first + one) / (self._epochs * steps) for one in range(batch, end)]

    def _elapsed(self, minutes: float) -> float:
        """Returns the fraction of the minutes that is over."""
        return (time.monotonic() - self._start) / (60 * minutes)

    def _factor(self, progress: float) -> float:
        """Returns the learning rate at a fraction of the run, relative to the peak."""
        rise = min(1.0, (progress - max(0.0, self._warmup_start)) / self._warmup) if self._warmup else 1.0
        return rise * 0.5 * (1 + math.cos(math.pi * max(0.0, progress - self._warmup) / (1 - self._warmup)))


class StopWhenNotFinite(keras.callbacks.Callback):
    """Raises `DivergedError` when the loss or the norm of the gradients is no longer finite.

    Placed after `GradientNorms` in the list, it checks the gradients too, which overflow one step earlier.
    """

    def __init__(self) -> None:
        super().__init__()
        self._norm = math.nan

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remembers the epoch for the error message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Raises DivergedError if the run diverged; the message names the batch, the norm and the likely cause."""
        reason = self.divergence(batch, logs)
        if reason is not None:
            raise DivergedError(reason)

    def divergence(self, batch: int, logs: dict[str, float] | None) -> str | None:
        """Returns why the run diverged at this batch, or None if it did not."""
        for name, what in ((GRADIENT_NORM, "the gradient's norm"), ("loss", "the loss")):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                before = "" if math.isnan(self._norm) else f" (the gradient's norm was {self._norm:.3g} before)"
                together = self.model.steps_per_execution  # Only the end of an execution is seen.
                batches = f"batch {batch + 1}" if together == 1 else f"batches {batch + 2 - together} to {batch + 1}"
                return f"{what} became {value} at {batches} of epoch {self._epoch + 1}{before}: {self._cause()}"
        self._norm = (logs or {}).get(GRADIENT_NORM, self._norm)
        return None

    def _cause(self) -> str:
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)  # of a LossScaleOptimizer
        rate = float(ops.convert_to_numpy(optimizer.learning_rate))
        clipped = [
            f"{kind}={threshold:g}" for kind in CLIPPING_KINDS if (threshold := getattr(optimizer, kind)) is not None
        ]
        if not clipped:
            return f"the gradients exploded and are not clipped; set a threshold, such as clipnorm=1 (learning rate {rate:.3g})"
        return (
            f"the steps are too long (learning rate {rate:.3g}, {clipped[0]}); lower the learning rate or the threshold"
        )


class RollBack(StopWhenNotFinite):
    """Returns to the last checkpoint when the loss or the gradient is not finite, and continues at half the learning rate.

    The batches since the checkpoint are not read again.

    Args:
        checkpoint: the checkpoint to return to.
        schedule: the schedule whose rate is halved.
        attempts: how often to return in one epoch before the run ends with `DivergedError`.
    """

    def __init__(self, checkpoint: Checkpoint, schedule: CosineSchedule, attempts: int = 5):
        super().__init__()
        self._checkpoint, self._schedule, self._attempts = checkpoint, schedule, attempts

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Resets the count of attempts."""
        super().on_epoch_begin(epoch, logs)
        self._tried = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Returns to the checkpoint; raises DivergedError after too many attempts."""
        reason = self.divergence(batch, logs)
        if reason is None:
            return
        self._tried += 1
        if self._tried > self._attempts:
            raise DivergedError(f"{reason}; halving the learning rate {self._attempts} times did not help")
        state = self._schedule.state
        self._checkpoint.restore()
        self._schedule.state = {**state, "scale": state["scale"] / 2}
        self.model.reset_metrics()
        position = f"the checkpoint after epoch {self._checkpoint.epoch}" if self._checkpoint.epoch else "the start"
        print(f"\n{reason}; returning to {position}, at half the learning rate")


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights with the fewest nats per token on the validation text, and saves them to a file.

    The model in training must be compiled with `NatsPerToken`, as `compile_model` does. Place this callback before
    `keras.callbacks.SwapEMAWeights` in the list: it then keeps the averaged weights, which were evaluated.

    Args:
        model: receives the best weights; the model in training can be its `stateful_copy`.
        path: the `.keras` file to write; None writes none.
    """

    def __init__(self, model: keras.Model, path: Path | None):
        super().__init__()
        self._best_model, self._path = model, None if path is None else Path(path)
        self.best = math.inf

    @property
    def state(self) -> dict[str, float]:
        """What a checkpoint stores of the callback."""
        return {"best": self.best}

    @state.setter
    def state(self, state: dict[str, float]) -> None:
        self.best = state["best"]

    def on_test_end(self, logs: Any = None) -> None:
        """Saves the model if this evaluation is the best so far.

        Raises:
            ModelError: the model is compiled without `NatsPerToken`.
        """
        nats = (logs or {}).get("nats")
        if nats is None:
            raise ModelError("`KeepBest` needs a model compiled with weighted_metrics=[keras_seq.NatsPerToken()]")
        if nats < self.best:
            self.best = nats
            self._best_model.set_weights(self.model.get_weights())
            if self._path is not None:
                save_model(self._best_model, self._path)


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a model to a `.keras` file; an existing file is replaced only when the new one is complete.

    Raises:
        TrainingError: it cannot be written.
    """
    with writing(path), replacing(path) as partial:
        model.save(partial)
