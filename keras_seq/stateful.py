"""The stateful form of a model: its recurrent layers carry their state from batch to batch."""

from typing import Any

import keras
from keras import ops, tree

from keras_seq.copying import rebuilt


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


def reset_states(model: keras.Model) -> None:
    """Sets the carried state of every recurrent layer to zero."""
    # Keras's own reset_state fails on the nested states of stacked cells.
    for state in carried_states(model):
        state.assign(ops.zeros_like(state))
