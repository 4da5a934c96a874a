"""The stateful form of a model: its recurrent layers carry their state from batch to batch."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_seq.errors import ModelError
from keras_seq.keras_internals import all_layers, call_count
from keras_seq.models.clone import clone_with_configs


def stateful_copy(model: keras.Model, batch_size: int) -> keras.Model:
    """Returns a copy of `model`, weights included, with stateful recurrent layers, for batches of `batch_size` rows.

    Raises:
        ModelError: a recurrent layer is called more than once, or a layer cannot be created from its configuration.

    Example:
        >>> from keras_seq import language_model
        >>> stateful_copy(language_model(10, units=[4]), batch_size=2).input_shape
        (2, None)
    """

    def stateful_config(layer: keras.layers.Layer) -> dict[str, Any]:
        config = layer.get_config()
        return {**config, "stateful": True} if isinstance(layer, keras.layers.RNN) else config

    copy = clone_with_configs(model, stateful_config, batch_size)
    for layer in _recurrent_layers(copy):
        if (calls := call_count(layer)) > 1:
            raise ModelError(
                f"layer {layer.name!r} is called {calls} times, but a stateful layer has only one state. "
                "Create a separate recurrent layer for each call"
            )
    return copy


def _recurrent_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """Returns the recurrent layers, including those of nested models."""
    return [layer for layer in all_layers(model) if isinstance(layer, keras.layers.RNN)]


def is_stateful(model: keras.Model) -> bool:
    """Returns whether a recurrent layer of the model carries its state from batch to batch."""
    return any(layer.stateful for layer in _recurrent_layers(model))


def carried_states(model: keras.Model) -> list[keras.Variable]:
    """Returns the variables that hold the states of stateful layers. They are not among the variables of the model."""
    return [state for layer in _recurrent_layers(model) if layer.stateful for state in tree.flatten(layer.states)]


def read_states(model: keras.Model) -> list[np.ndarray]:
    """Returns the carried states, each `(batch, units)`.

    Under a strategy these are the rows of all replicas, and all workers must call this function.
    """

    def gather() -> list[tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        values = [tf.identity(state.value) for state in carried_states(model)]
        return values if replica.num_replicas_in_sync == 1 else [replica.all_gather(value, axis=0) for value in values]

    states = _run_in_replicas(model, gather)
    return [model.distribute_strategy.experimental_local_results(state)[0].numpy() for state in states]


def write_states(model: keras.Model, values: Sequence[np.ndarray]) -> None:
    """Sets the carried states to values from `read_states`. The number of replicas may differ."""

    def assign() -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state, value in zip(carried_states(model), values, strict=True):
            rows = state.shape[0]
            state.value.assign(tf.convert_to_tensor(value)[replica * rows : (replica + 1) * rows])

    _run_in_replicas(model, assign)


def reset_states(model: keras.Model) -> None:
    """Sets the carried state of every recurrent layer to zero."""

    def reset() -> None:
        # `RNN.reset_state` of Keras fails on the nested states of stacked cells.
        for state in carried_states(model):
            state.value.assign(tf.zeros(state.shape, state.value.dtype))

    _run_in_replicas(model, reset)


def _run_in_replicas(model: keras.Model, function: Callable[[], Any]) -> Any:
    """Calls a function in each replica of the model's strategy, and returns its results by replica."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return strategy.run(function)
    # A graph for a single call: calling the `tf.function` itself would warn about repeated tracing.
    return tf.function(lambda: strategy.run(function), autograph=False).get_concrete_function()()
