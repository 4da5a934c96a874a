"""The stateful form of a model: its recurrent layers carry their state from batch to batch."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_seq.models.clone import rebuilt


def stateful_copy(model: keras.Model, batch_size: int) -> keras.Model:
    """Returns a copy of `model`, weights included, with stateful recurrent layers, for batches of `batch_size` rows.

    Raises:
        ValueError: a recurrent layer is called more than once.

    Example:
        >>> from keras_seq import language_model
        >>> stateful_copy(language_model(10, units=[4]), batch_size=2).input_shape
        (2, None)
    """

    def stateful(layer: keras.layers.Layer) -> dict[str, Any]:
        config = layer.get_config()
        return {**config, "stateful": True} if isinstance(layer, keras.layers.RNN) else config

    copy = rebuilt(model, stateful, batch_size)
    for layer in _recurrent_layers(copy):
        if len(layer._inbound_nodes) > 1:
            raise ValueError(
                f"layer {layer.name!r} is called {len(layer._inbound_nodes)} times, and a stateful layer has one state "
                "only: give each place in the model a recurrent layer of its own"
            )
    return copy


def _recurrent_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """Returns the recurrent layers, those of nested models too."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)]


def is_stateful(model: keras.Model) -> bool:
    """Returns whether a recurrent layer of the model carries its state from batch to batch."""
    return any(layer.stateful for layer in _recurrent_layers(model))


def carried_states(model: keras.Model) -> list[keras.Variable]:
    """Returns the variables in which stateful layers carry their states; they are not among the model's own."""
    return [state for layer in _recurrent_layers(model) if layer.stateful for state in tree.flatten(layer.states)]


def read_states(model: keras.Model) -> list[np.ndarray]:
    """Returns the carried states, each `(batch, units)`: the rows of all replicas of its strategy, whose workers must all call it."""

    def gathered() -> list[tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        values = [tf.identity(state.value) for state in carried_states(model)]
        return values if replica.num_replicas_in_sync == 1 else [replica.all_gather(value, axis=0) for value in values]

    return [model.distribute_strategy.experimental_local_results(state)[0].numpy() for state in _run(model, gathered)]


def write_states(model: keras.Model, values: Sequence[np.ndarray]) -> None:
    """Sets the carried states to what `read_states` returned, with as many replicas as there were or another number."""

    def put() -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state, value in zip(carried_states(model), values, strict=True):
            rows = state.shape[0]
            state.value.assign(tf.convert_to_tensor(value)[replica * rows : (replica + 1) * rows])

    _run(model, put)


def reset_states(model: keras.Model) -> None:
    """Sets the carried state of every recurrent layer to zero."""

    def reset() -> None:
        # Keras's own reset_state fails on the nested states of stacked cells.
        for state in carried_states(model):
            state.value.assign(tf.zeros(state.shape, state.value.dtype))

    _run(model, reset)


def _run(model: keras.Model, function: Callable[[], Any]) -> Any:
    """Calls a function in each replica of the model's strategy."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return strategy.run(function)
    # A graph for one call; called itself, TensorFlow would warn that it is traced again and again.
    return tf.function(lambda: strategy.run(function), autograph=False).get_concrete_function()()
