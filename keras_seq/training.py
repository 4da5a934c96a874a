"""Training in `model.fit`: the optimizer with its clipping, and callbacks that a user's own `fit` can take too."""

import math
import time
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_seq.checkpoint import Checkpoint
from keras_seq.files import replacing
from keras_seq.gradients import CLIPPINGS, GRADIENT_NORM
from keras_seq.runs import TrainingError
from keras_seq.stateful import read_states, reset_states, write_states


def compile_model(
    model: keras.Model,
    learning_rate: float = 6e-3,
    clipnorm: float | None = None,
    global_clipnorm: float | None = None,
    clipvalue: float | None = None,
    *,
    optimizer: str = "adam",
    weight_decay: float | None = None,
    ema_momentum: float | None = None,
    label_smoothing: float = 0.0,
) -> None:
    """Compiles a language model with a stock optimizer, a clipped gradient and the mean cross-entropy in nats a token.

    Args:
        model: token ids -> logits.
        learning_rate: the optimizer's step size.
        clipnorm: rescales each weight's own gradient when its norm passes this. Of an embedding Keras takes the norm of the
            rows as they were looked up, those of one token not added; with `clipvalue` likewise (BUILD.md, Embeddings).
        global_clipnorm: rescales all gradients together when their common norm passes this (Pascanu et al. 2013,
            arXiv 1211.5063).
        clipvalue: cuts every element of the gradients at plus and minus this.
        optimizer: Keras's name of it: `adam`, `adamw`, `sgd`, `rmsprop`, ...
        weight_decay: share of each weight, biases apart, that a step at learning rate 1 takes away.
        ema_momentum: in (0, 1): the optimizer averages the weights over its steps, `keras.callbacks.SwapEMAWeights` puts
            the average in for validation (Polyak & Juditsky 1992).
        label_smoothing: share of the target that is spread over all tokens (Szegedy et al. 2016, arXiv 1512.00567); the
            metric `nats` is without it.

    Raises:
        ValueError: a number out of range, two ways to clip at once, or an optimizer that Keras does not have.
    """
    clipping = {
        name: threshold
        for name, threshold in zip(CLIPPINGS, (clipnorm, global_clipnorm, clipvalue), strict=True)
        if threshold is not None
    }
    if len(clipping) > 1:
        raise ValueError(f"only one of {', '.join(CLIPPINGS)} can be set. Received: {', '.join(clipping)}")
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    for name, value in {"learning_rate": learning_rate, **clipping, **decay}.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"`{name}` must be positive and finite. Received: {name}={value!r}")
    average = {} if ema_momentum is None else {"use_ema": True, "ema_momentum": ema_momentum}
    if ema_momentum is not None and not 0 < ema_momentum < 1:
        raise ValueError(f"`ema_momentum` must be between 0 and 1. Received: ema_momentum={ema_momentum!r}")
    settings = {"learning_rate": learning_rate, **clipping, **decay, **average}
    try:
        made = keras.optimizers.get({"class_name": optimizer, "config": settings})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"`optimizer` must be one of Keras's that take a learning rate, such as adam. Received: {optimizer!r}"
        ) from error
    made.exclude_from_weight_decay(var_names=["bias"])
    # The mask of padded lines comes as sample weights: the mean is over real tokens.
    reduction = "mean_with_sample_weight"
    loss: keras.losses.Loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing` must be in [0, 1). Received: label_smoothing={label_smoothing!r}")
    if label_smoothing:
        loss = SmoothedCrossentropy(label_smoothing, reduction=reduction)
    # XLA was slower here: 114 ms a step against 85 at 256 units, batch 64, 64 steps; 44 against 28 at 128 units.
    model.compile(made, loss, weighted_metrics=[NatsPerToken()], jit_compile=False)


@keras.saving.register_keras_serializable(package="keras_seq")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits where a share of each target is spread over all tokens alike.

    Keras smooths only targets in one-hot form, `(batch, time, vocabulary)`.

    Args:
        smoothing: the share, in [0, 1).
        **options: as of every Keras loss.
    """

    def __init__(self, smoothing: float, **options: Any):
        super().__init__(**options)
        self._smoothing = smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Targets `(batch, time)`, logits `(batch, time, vocabulary)` -> nats `(batch, time)`."""
        exact = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        uniform = ops.logsumexp(y_pred, axis=-1) - ops.mean(y_pred, axis=-1)
        return (1 - self._smoothing) * exact + self._smoothing * uniform

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "smoothing": self._smoothing}


@keras.saving.register_keras_serializable(package="keras_seq")
class NatsPerToken(keras.metrics.Metric):
    """The mean cross-entropy of all tokens of an epoch, in nats; masked tokens do not count.

    Keras's own loss is a mean of the batches' means, whatever number of tokens each has.
    """

    def __init__(self, name: str = "nats", **options: Any):
        super().__init__(name=name, **options)
        self._nats = self.add_weight(name="nats", initializer="zeros")
        self._tokens = self.add_weight(name="tokens", initializer="zeros")

    def update_state(self, targets: Any, logits: Any, sample_weight: Any = None) -> None:
        """Adds a batch: targets `(batch, time)`, logits `(batch, time, vocabulary)`, mask `(batch, time)` or None."""
        # The loss's own class: its graph is then the same as that of the training loss, and is computed once.
        nats = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)(targets, logits)
        mask = ops.ones_like(nats) if sample_weight is None else ops.cast(sample_weight, nats.dtype)
        self._nats.assign_add(ops.sum(nats * mask))
        self._tokens.assign_add(ops.sum(mask))

    def result(self) -> Any:
        """Returns the mean."""
        return self._nats / self._tokens


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


class Diverged(TrainingError):
    """A run whose loss or gradient is no longer a number, or that predicts worse than a guess."""


class StopWhenNotFinite(keras.callbacks.Callback):
    """Ends the run with an error, `Diverged`, when the loss or the gradient's norm is no longer a finite number.

    After `GradientNorms` in the list it sees the gradient too, a step sooner.
    """

    def __init__(self) -> None:
        super().__init__()
        self._norm = math.nan

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Knows the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Raises Diverged naming the batch."""
        reason = self.divergence(batch, logs)
        if reason is not None:
            raise Diverged(reason)

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
        """Goes back; raises Diverged after too many attempts."""
        reason = self.divergence(batch, logs)
        if reason is None:
            return
        self._tried += 1
        if self._tried > self._attempts:
            raise Diverged(f"{reason}; {self._attempts} times at half the rate of before did not help")
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
