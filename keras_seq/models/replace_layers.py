"""Copies of models, such as those in files of Keras, with the recurrent layers of keras_seq in place of Keras's."""

from typing import Any

import keras

from keras_seq import require
from keras_seq.errors import ModelError
from keras_seq.keras_internals import all_layers
from keras_seq.layers.gru import GRU
from keras_seq.layers.lstm import LSTM
from keras_seq.layers.simple_rnn import SimpleRNN
from keras_seq.models.carried_states import is_stateful, read_states, write_states
from keras_seq.models.clone import clone_with_configs
from keras_seq.models.graph import has_graph, label

_OURS: dict[type, type] = {keras.layers.GRU: GRU, keras.layers.LSTM: LSTM, keras.layers.SimpleRNN: SimpleRNN}


def replace_layers(model: keras.Model) -> keras.Model:
    """Returns a copy of a model with `GRU`, `LSTM` and `SimpleRNN` of keras_seq in place of Keras's, with the same weights.

    Layers in nested models, in `Bidirectional` and in `TimeDistributed` are replaced too. Each keeps its name and all of its
    arguments. The other layers, also `RNN` of cells and subclasses of these classes, stay what they are; those without
    variables are shared with `model`. The copy was compared with `model` on random sequences. It
    is not compiled: an optimizer and its state stay with `model`.

    Args:
        model: a built Sequential or Functional model.

    Raises:
        ArgumentError: `model` is not a Keras model.
        ModelError: `model` is subclassed or not built, a layer of the user's own creates one of these, or a layer
            cannot be created from its configuration; the message names the layer.

    Example:
        >>> model = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4, name="memory")])
        >>> type(replace_layers(model).get_layer("memory")).__module__
        'keras_seq.layers.gru'
    """
    require.that(
        isinstance(model, keras.Model), "model", "a Keras model, such as `keras.models.load_model` returns", model
    )
    if not has_graph(model):
        raise ModelError(
            f"`model` must be a built Sequential or Functional model. Received: {label(model)}. Use the layers of keras_seq "
            "in its class, and load its weights with `load_weights`"
        )
    copy = clone_with_configs(model, _new_config, class_of=lambda layer: _OURS.get(type(layer), type(layer)))
    _require_no_stock_layer(model, copy)
    if is_stateful(model):
        write_states(copy, read_states(model))
    return copy


def _is_stock(layer: keras.layers.Layer) -> bool:
    return type(layer) in _OURS


def _new_config(layer: keras.layers.Layer) -> dict[str, Any] | None:
    """Returns the configuration of the copy of a layer; None for that which it has."""
    return _with_our_class(layer.get_config()) if any(map(_is_stock, all_layers(layer))) else None


def _require_no_stock_layer(model: keras.Model, copy: keras.Model) -> None:
    """Requires a copy without stock layers, which are left where a layer of the user creates them."""
    holders = [
        layer
        for layer, copied in zip(all_layers(model), all_layers(copy), strict=True)
        if not _is_stock(copied) and any(map(_is_stock, all_layers(copied)))
    ]
    if holders:
        inner = next(filter(_is_stock, all_layers(holders[-1])))  # Inner layers come after the outer ones.
        raise ModelError(
            f"{label(holders[-1])} cannot be replaced: it creates {label(inner)} itself. Use ks.{type(inner).__name__} "
            "in its class"
        )


def _with_our_class(config: Any) -> Any:
    """Returns a configuration in which the layers inside have the class of keras_seq if they had that of Keras."""
    if isinstance(config, dict):
        config = {name: _with_our_class(value) for name, value in config.items()}
        ours = {stock.__name__: one for stock, one in _OURS.items()}.get(config.get("class_name", ""))
        if config.get("module") == "keras.layers" and ours is not None:
            return {**config, "module": ours.__module__, "registered_name": keras.saving.get_registered_name(ours)}
        return config
    if isinstance(config, list | tuple):
        return type(config)(map(_with_our_class, config))
    return config
