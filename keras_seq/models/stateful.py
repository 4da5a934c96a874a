"""The stateful form of a model: its recurrent layers carry their state from batch to batch."""

import collections
import itertools
from typing import Any

import keras
import numpy as np

from keras_seq.errors import ModelError
from keras_seq.models.clone import clone_with_configs
from keras_seq.models.step_model import SteppedModel, stepped


def stateful_copy(model: keras.Model, batch_size: int) -> keras.Model:
    """Returns a copy of `model`, weights included, with stateful recurrent layers, for batches of `batch_size` rows.

    The copy was compared with `model` on random sequences.

    Args:
        model: a causal recurrent model that meets the conditions of `step_model`.
        batch_size: number of rows.

    Raises:
        ArgumentError: `model` is not a Keras model.
        SteppingError: `model` looks into the future or across time, so its parts cannot be read one after the other.
        ModelError: a recurrent layer is called more than once, begins with states of its own, or a layer cannot be
            created from its configuration.

    Example:
        >>> from keras_seq import language_model
        >>> stateful_copy(language_model(10, units=[4]), batch_size=2).input_shape
        (2, None)
    """
    _require_one_zero_state_per_layer(stepped(model))

    def stateful_config(layer: keras.layers.Layer) -> dict[str, Any] | None:
        return {**layer.get_config(), "stateful": True} if isinstance(layer, keras.layers.RNN) else None

    return clone_with_configs(model, stateful_config, batch_size)


def _require_one_zero_state_per_layer(known: SteppedModel) -> None:
    """Requires a model whose recurrent layers Keras can carry and reset.

    Raises:
        ModelError: a layer has several states, or one that does not begin at zero.
    """
    steps, states = known.graph.layer_states, iter(known.initial_states)
    if not known.graph.is_recurrent:
        raise ModelError(
            "`model` must have recurrent layers alone that keep a state, one input and outputs for each step, because a "
            f"stateful layer of Keras carries nothing else. Received: {known.graph.summary}"
        )
    calls = collections.Counter(step.layer for step in steps)
    for step in steps:
        if calls[step.layer] > 1:
            raise ModelError(
                f"layer {step.layer.name!r} is called {calls[step.layer]} times, but a stateful layer has only one state. "
                "Create a separate recurrent layer for each call"
            )
        if step.has_given_states or any(map(np.any, itertools.islice(states, step.state_count))):
            raise ModelError(
                f"layer {step.layer.name!r} begins with a state that is not zero, but a stateful layer of Keras is reset to "
                "zero"
            )
