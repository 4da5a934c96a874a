"""Copies of models, such as those in files of Keras, with `keras_seq.GRU` in place of `keras.layers.GRU`."""

from typing import Any

import keras

from keras_seq import require
from keras_seq.errors import ModelError
from keras_seq.keras_internals import all_layers
from keras_seq.layers.gru import GRU
from keras_seq.models.carried_states import is_stateful, read_states, write_states
from keras_seq.models.clone import clone_with_configs
from keras_seq.models.graph import has_graph, label


def replace_layers(model: keras.Model) -> keras.Model:
    """Returns a copy of a model in which every `keras.layers.GRU` is a `keras_seq.GRU`, with the same weights.

    Those in nested models, in `Bidirectional` and in `TimeDistributed` are replaced too. Each keeps its name and all of its
    arguments. The other layers, also `SimpleRNN`, `LSTM`, `RNN` of cells and subclasses of `keras.layers.GRU`, stay what
    they are; those without variables are shared with `model`. The copy was compared with `model` on random sequences. It
    is not compiled: an optimizer and its state stay with `model`.

    Args:
        model: a built Sequential or Functional model.

    Raises:
        ArgumentError: `model` is not a Keras model.
        ModelError: `model` is subclassed or not built, a layer of the user's own creates a `keras.layers.GRU`, or a layer
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
            f"`model` must be a built Sequential or Functional model. Received: {label(model)}. Use `keras_seq.GRU` in its "
            "class, and load its weights with `load_weights`"
        )
    copy = clone_with_configs(model, _new_config, class_of=lambda layer: GRU if _is_stock(layer) else type(layer))
    _require_no_stock_layer(model, copy)
    if is_stateful(model):
        write_states(copy, read_states(model))
    return copy


def _is_stock(layer: keras.layers.Layer) -> bool:
    return type(layer) is keras.layers.GRU


def _new_config(layer: keras.layers.Layer) -> dict[str, Any] | None:
    """Returns the configuration of the copy of a layer; None for that which it has."""
    return _with_our_class(layer.get_config()) if any(map(_is_stock, all_layers(layer))) else None


def _require_no_stock_layer(model: keras.Model, copy: keras.Model) -> None:
    """Requires a copy without the stock layer, which is left where a layer of the user creates it."""
    holders = [
        layer
        for layer, copied in zip(all_layers(model), all_layers(copy), strict=True)
        if not _is_stock(copied) and any(map(_is_stock, all_layers(copied)))
    ]
    if holders:
        inner = next(filter(_is_stock, all_layers(holders[-1])))  # Inner layers come after the outer ones.
        raise ModelError(
            f"{label(holders[-1])} cannot be replaced: it creates {label(inner)} itself. Use ks.GRU in its class"
        )


def _with_our_class(config: Any) -> Any:
    """Returns a configuration in which the class of the layers inside is `keras_seq.GRU` if it was `keras.layers.GRU`."""
    if isinstance(config, dict):
        config = {name: _with_our_class(value) for name, value in config.items()}
        if config.get("module") == "keras.layers" and config.get("class_name") == "GRU":
            registered = keras.saving.get_registered_name(GRU)
            return {**config, "module": GRU.__module__, "registered_name": registered}
        return config
    if isinstance(config, list | tuple):
        return type(config)(map(_with_our_class, config))
    return config
