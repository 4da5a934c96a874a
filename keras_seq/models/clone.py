"""Copies of a model, weights included, whose layers have other configurations."""

from collections.abc import Callable
from typing import Any

import keras
from keras import tree

from keras_seq.errors import ModelError
from keras_seq.keras_internals import all_layers


def clone_with_configs(
    model: keras.Model,
    config_of: Callable[[keras.layers.Layer], dict[str, Any]],
    batch_size: int | None = None,
) -> keras.Model:
    """Returns a copy of `model`, weights included, whose layers are created from other configurations.

    Args:
        model: a built Sequential or Functional model. Nested models are copied in the same way.
        config_of: maps a layer of `model` to the configuration of its copy.
        batch_size: batch size of the inputs of the copy; None keeps that of `model`.

    Raises:
        ModelError: a layer cannot be created from its configuration; the message names it.
    """

    def clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            return clone_model(layer)
        # The user need not have registered the classes with Keras: the layer and the layers inside it have them.
        classes = {type(part).__name__: type(part) for part in all_layers(layer)}
        try:
            with keras.saving.custom_object_scope(classes):
                return type(layer).from_config(config_of(layer))
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"layer {layer.name!r} ({type(layer).__name__}) cannot be copied: {str(error).partition(chr(10))[0]}"
            ) from error

    def clone_model(part: keras.Model) -> keras.Model:
        inputs = [
            keras.Input(
                batch_shape=(batch_size or tensor.shape[0], *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name
            )
            for tensor in part.inputs
        ]
        structure = inputs if isinstance(part, keras.Sequential) else tree.pack_sequence_as(part.input, inputs)
        return keras.models.clone_model(part, input_tensors=structure, clone_function=clone_layer)

    copy = clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def float32_copy(model: keras.Model) -> keras.Model:
    """Returns a copy of a model in half, mixed or double precision that computes in float32.

    Raises:
        ModelError: a layer cannot be created from its configuration; the message names it.

    Example:
        >>> import keras_seq as ks
        >>> keras.config.set_dtype_policy("mixed_float16")
        >>> half = ks.language_model(10, units=[4])
        >>> keras.config.set_dtype_policy("float32")
        >>> half.get_layer("gru_0").compute_dtype, float32_copy(half).get_layer("gru_0").compute_dtype
        ('float16', 'float32')
    """
    return clone_with_configs(model, lambda layer: _in_float32(layer.get_config()))


def _in_float32(config: Any) -> Any:
    """Returns a configuration in which every other floating-point dtype, also of cells and wrapped layers, is float32."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return "float32" if _is_other_float(config["config"]["name"]) else config
        dtype = {"dtype": "float32"} if _is_other_float(config.get("dtype")) else {}
        return {key: _in_float32(value) for key, value in config.items()} | dtype
    if isinstance(config, list | tuple):
        return type(config)(map(_in_float32, config))
    return config


def dtypes_other_than_float32(model: keras.Model) -> list[str]:
    """Returns the names of the other floating-point dtypes in which layers of a model compute."""
    return sorted({layer.compute_dtype for layer in all_layers(model) if _is_other_float(layer.compute_dtype)})


def _is_other_float(dtype: object) -> bool:
    return isinstance(dtype, str) and (dtype.endswith("float16") or dtype == "float64")
