"""The loss and the metric of a language model, in nats."""

from typing import Any

import keras
from keras import ops


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
