"""Training in `model.fit`: the optimizer with its clipping, and callbacks that a user's own `fit` can take too."""

import math
import time
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_seq.files import replacing
from keras_seq.runs import TrainingError
from keras_seq.stateful import reset_states

CLIPPINGS = ("clipnorm", "global_clipnorm", "clipvalue")


def compile_model(
    model: keras.Model,
    learning_rate: float = 6e-3,
    clipnorm: float | None = None,
    global_clipnorm: float | None = None,
    clipvalue: float | None = None,
) -> None:
    """Compiles a language model with Adam, a clipped gradient and the mean cross-entropy in nats a token.

    Args:
        model: token ids -> logits.
        learning_rate: Adam's step size.
        clipnorm: rescales each weight's own gradient when its norm passes this.
        global_clipnorm: rescales all gradients together when their common norm passes this (Pascanu et al. 2013,
            arXiv 1211.5063).
        clipvalue: cuts every element of the gradients at plus and minus this.

    Raises:
        ValueError: a number that is not positive, or two ways to clip at once.
    """
    clipping = {
        name: threshold
        for name, threshold in zip(CLIPPINGS, (clipnorm, global_clipnorm, clipvalue), strict=True)
        if threshold is not None
    }
    if len(clipping) > 1:
        raise ValueError(f"only one of {', '.join(CLIPPINGS)} can be set. Received: {', '.join(clipping)}")
    for name, value in {"learning_rate": learning_rate, **clipping}.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"`{name}` must be positive and finite. Received: {name}={value!r}")
    # The mask of padded lines comes as sample weights: the mean is over real tokens.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    # XLA was slower here: 114 ms a step against 85 at 256 units, batch 64, 64 steps; 44 against 28 at 128 units.
    optimizer = keras.optimizers.Adam(learning_rate, **clipping)
    model.compile(optimizer, loss, weighted_metrics=[NatsPerToken()], jit_compile=False)


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
    """Starts stateful layers from zero at the beginning of an epoch and around every evaluation."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the streams anew."""
        reset_states(self.model)

    def on_test_begin(self, logs: Any = None) -> None:
        """The validation text does not go on from the training text."""
        reset_states(self.model)


class CosineSchedule(keras.callbacks.Callback):
    """Lowers the learning rate along a half cosine to zero, over epochs or minutes; ends the run with the minutes.

    Args:
        epochs: length of the run in epochs.
        minutes: length of the run in minutes of training. Exactly one of the two is given.
    """

    def __init__(self, epochs: int | None = None, minutes: float | None = None):
        super().__init__()
        if (epochs is None) == (minutes is None):
            raise ValueError(f"exactly one of `epochs` and `minutes` is needed. Received: {epochs=}, {minutes=}")
        length = epochs if minutes is None else minutes
        if not (length and math.isfinite(length) and length > 0):
            raise ValueError(f"the length of the run must be positive. Received: {epochs=}, {minutes=}")
        self._epochs, self._minutes = epochs, minutes
        self._batches = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts the clock."""
        if self._epochs is not None and self.params["steps"] is None:
            raise ValueError(
                "`epochs` needs data with a known number of batches: set `steps_per_epoch`, or use `minutes`"
            )
        self._batches = 0
        self._start = time.monotonic()
        self._peak = float(self.model.optimizer.learning_rate)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the learning rate of the batch."""
        progress = min(1.0, self._progress())
        self.model.optimizer.learning_rate.assign(self._peak * 0.5 * (1 + math.cos(math.pi * progress)))

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
    """Ends the run with an error when the loss is no longer a finite number."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Raises TrainingError naming the batch."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} at batch {batch + 1} of the epoch: the gradients exploded; "
                "clip their norm lower, or lower the learning rate"
            )


class KeepBest(keras.callbacks.Callback):
    """Keeps the model with the fewest nats a token on the validation text, in a file that is always whole.

    The model in training must be compiled with `NatsPerToken`, as `compile_model` does.

    Args:
        model: gets the best weights; the model in training can be its `stateful_copy`.
        path: the `.keras` file it is saved to.
    """

    def __init__(self, model: keras.Model, path: Path):
        super().__init__()
        self._best_model, self._path = model, Path(path)
        self.best = math.inf

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the model if no epoch was better."""
        nats = (logs or {}).get("val_nats", math.inf)
        if nats < self.best:
            self.best = nats
            self._best_model.set_weights(self.model.get_weights())
            save_model(self._best_model, self._path)


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a model to a `.keras` file that is always whole."""
    with replacing(path) as partial:
        model.save(partial)
