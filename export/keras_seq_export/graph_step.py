"""One step of a model inside a graph, and the signature `decode` made of it: what both exporters save."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_seq.reading import check_vocabulary
from keras_seq.stepping import require_logits, step_model
from keras_seq.vocabulary import Vocabulary
from keras_seq_export.signatures import LOGITS, TOKEN, state_name
from keras_seq_export.verify import ExportError


class GraphStep:
    """The one-step decoder with float32 logits and states, whatever the model's own dtype.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary.

    Attributes:
        units: the size of each state.
        dtypes: the model's own dtype of each state.

    Raises:
        ExportError: a weight is not finite.
        ValueError: `model` cannot be stepped, ends in a softmax, does not take token ids, or is not of this vocabulary.
    """

    def __init__(self, model: keras.Model, vocabulary: Vocabulary):
        require_logits(model)
        if not all(np.isfinite(np.asarray(weight, np.float32)).all() for weight in model.weights):
            raise ExportError(
                "the model's weights must be finite numbers, and some are not: the training diverged; train again with a "
                "clipped gradient or a lower learning rate"
            )
        self._decoder = step_model(model)
        token, *states = self._decoder.inputs
        if keras.backend.standardize_dtype(token.dtype) != "int32":
            raise ValueError(f"`model` must take token ids. Received: {model.name}, which takes {token.dtype}")
        check_vocabulary(vocabulary, self._decoder.outputs[0].shape[-1])
        self.units: list[int] = [state.shape[1] for state in states]
        self.dtypes = [keras.backend.standardize_dtype(state.dtype) for state in states]

    def initial_states(self, batch: tf.Tensor) -> list[tf.Tensor]:
        """Returns zeros, each `(batch, units)`."""
        return [tf.zeros([batch, units]) for units in self.units]

    def __call__(self, token: tf.Tensor, states: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Token `(batch,)` and states -> logits `(batch, vocabulary)` and the new states."""
        states = [tf.cast(state, dtype) for state, dtype in zip(states, self.dtypes, strict=True)]
        logits, *states = self._decoder([token, *states], training=False)
        return tf.cast(logits, tf.float32), [tf.cast(state, tf.float32) for state in states]

    def state_specs(self, batch: int | None) -> list[tf.TensorSpec]:
        """Returns the input signature of the states."""
        return [tf.TensorSpec([batch, units], tf.float32, state_name(index)) for index, units in enumerate(self.units)]


def named_states(states: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the new states under their names in every signature."""
    # The identity keeps names apart where an output is the input of another.
    return {state_name(index): tf.identity(state) for index, state in enumerate(states)}


def decode_endpoint(
    step: GraphStep, batch: int | None
) -> tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]:
    """Returns the function and the input signature of `decode`."""

    def decode(token: tf.Tensor, *states: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, new_states = step(token, states)
        return {LOGITS: logits, **named_states(new_states)}

    return decode, [tf.TensorSpec([batch], tf.int32, TOKEN), *step.state_specs(batch)]
