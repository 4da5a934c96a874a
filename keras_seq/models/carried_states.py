"""The states that stateful recurrent layers carry from batch to batch."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_seq.keras_internals import all_layers


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
