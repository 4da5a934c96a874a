"""The loss with label smoothing, and the metric in nats per token."""

import math
import warnings
from typing import Any

import keras
from keras import ops

from keras_seq.keras_internals import mask_of
from keras_seq.models.logits import are_probabilities, as_logits
from keras_seq.models.token_weights import token_weights

# Positions of a batch that tell probabilities from logits: looking at all outputs would cost time at a large vocabulary.
_POSITIONS = 64


@keras.saving.register_keras_serializable(package="keras_seq")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy with label smoothing (Szegedy et al. 2016, arXiv 1512.00567).

    A fraction of each target is spread over all tokens equally. Keras smooths only one-hot targets,
    `(batch, time, vocabulary)`. The outputs can be logits or probabilities, as for `NatsPerToken`.

    Args:
        smoothing: the fraction, in [0, 1).
        **options: the arguments of every Keras loss.
    """

    def __init__(self, smoothing: float, **options: Any):
        super().__init__(**options)
        self._smoothing = smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Targets `(batch, time)`, logits or probabilities `(batch, time, vocabulary)` -> nats `(batch, time)`."""
        first = _first_positions(y_pred)
        logits = ops.cond(
            are_probabilities(first), lambda: ops.cast(as_logits(y_pred, True), y_pred.dtype), lambda: y_pred
        )
        exact = keras.losses.sparse_categorical_crossentropy(y_true, logits, from_logits=True)
        uniform = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
        nats = (1 - self._smoothing) * exact + self._smoothing * uniform
        return ops.where(_are_thinned(first), math.nan, nats)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "smoothing": self._smoothing}


@keras.saving.register_keras_serializable(package="keras_seq")
class NatsPerToken(keras.metrics.Metric):
    """Mean cross-entropy over all tokens of an epoch, in nats, weighted by the sample weights; masked tokens do not count.

    Keras's own loss is the mean of the means of the batches, whatever the number of tokens in each batch.

    The model can return logits or end in a softmax of any form; the numbers of each batch decide. A Dropout after the
    softmax makes them neither in training: the metric is then NaN. It is right in validation.
    """

    def __init__(self, name: str = "nats", **options: Any):
        super().__init__(name=name, **options)
        self._nats = self.add_weight(name="nats", initializer="zeros")
        self._tokens = self.add_weight(name="tokens", initializer="zeros")

    def update_state(self, targets: Any, outputs: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            targets: token ids `(batch, time)` or `(batch, time, 1)`.
            outputs: logits or probabilities `(batch, time, vocabulary)`, with the mask of the layers.
            sample_weight: for each row, `(batch,)` or `(batch, 1)`, or for each token, `(batch, time)` or `(batch, time, 1)`.
        """
        weights = token_weights(ops.shape(outputs)[:-1], sample_weight, mask_of(outputs))
        self._nats.assign_add(ops.sum(_nats(targets, outputs) * weights))
        self._tokens.assign_add(ops.sum(weights))

    def result(self) -> Any:
        """Returns the mean in nats per token."""
        return self._nats / self._tokens


def _nats(targets: Any, outputs: Any) -> Any:
    """Returns the cross-entropy at each position, `(batch, time)`."""
    with warnings.catch_warnings(action="ignore"):  # Keras warns about a softmax, which is handled below.
        # The class of the training loss: both then have the same graph, which TensorFlow computes once.
        of_logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)(targets, outputs)
    ids = ops.reshape(ops.cast(targets, "int32"), (*ops.shape(of_logits), 1))
    of_probabilities = -as_logits(ops.take_along_axis(outputs, ids, axis=-1), True)[..., 0]
    first = _first_positions(outputs)
    nats = ops.where(are_probabilities(first), of_probabilities, of_logits)
    return ops.where(_are_thinned(first), math.nan, nats)


def _first_positions(outputs: Any) -> Any:
    return ops.reshape(outputs, (-1, outputs.shape[-1]))[:_POSITIONS]


def _are_thinned(outputs: Any) -> Any:
    """Returns whether outputs are probabilities of which a Dropout has set some to zero, so that only the mean sum is one."""
    some_are_zero = ops.logical_and(ops.all(outputs >= 0), ops.any(outputs == 0))
    mean_sum = ops.mean(ops.sum(outputs, axis=-1))
    is_near_one = ops.logical_and(mean_sum > 0.5, mean_sum < 2)
    return ops.logical_and(ops.logical_and(some_are_zero, is_near_one), ops.logical_not(are_probabilities(outputs)))
