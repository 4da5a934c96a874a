"""The loss with label smoothing, and the metric in nats per token."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_seq")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits with label smoothing (Szegedy et al. 2016, arXiv 1512.00567).

    A fraction of each target is spread over all tokens equally. Keras smooths only one-hot targets,
    `(batch, time, vocabulary)`.

    Args:
        smoothing: the fraction, in [0, 1).
        **options: the arguments of every Keras loss.
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
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "smoothing": self._smoothing}


@keras.saving.register_keras_serializable(package="keras_seq")
class NatsPerToken(keras.metrics.Metric):
    """Mean cross-entropy over all tokens of an epoch, in nats; masked tokens do not count.

    Keras's own loss is the mean of the means of the batches, whatever the number of tokens in each batch.
    """

    def __init__(self, name: str = "nats", **options: Any):
        super().__init__(name=name, **options)
        self._nats = self.add_weight(name="nats", initializer="zeros")
        self._tokens = self.add_weight(name="tokens", initializer="zeros")

    def update_state(self, targets: Any, logits: Any, sample_weight: Any = None) -> None:
        """Adds a batch: targets `(batch, time)`, logits `(batch, time, vocabulary)`, mask `(batch, time)` or None."""
        # The class of the training loss: both then have the same graph, which TensorFlow computes once.
        nats = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)(targets, logits)
        mask = ops.ones_like(nats) if sample_weight is None else ops.cast(sample_weight, nats.dtype)
        self._nats.assign_add(ops.sum(nats * mask))
        self._tokens.assign_add(ops.sum(mask))

    def result(self) -> Any:
        """Returns the mean in nats per token."""
        return self._nats / self._tokens
