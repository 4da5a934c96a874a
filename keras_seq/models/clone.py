"""Copies of a model whose layers are configured in another way, weights included."""

from collections.abc import Callable
from typing import Any

import keras
from keras import tree


def rebuilt(
    model: keras.Model,
    configure: Callable[[keras.layers.Layer], dict[str, Any]],
    batch_size: int | None = None,
) -> keras.Model:
    """Returns a copy of `model` whose layers have the configurations that `configure` gives.

    Args:
        model: a built Sequential or Functional model; models inside it are copied likewise.
        configure: a layer -> the configuration of its copy.
        batch_size: of the copy's inputs; None leaves it as it is.
    """

    def layer_copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            return model_copy(layer)
        # Classes that the user has not registered with Keras are those of the layers that are there.
        own = {type(part).__name__: type(part) for part in layer._flatten_layers()}
        try:
            with keras.saving.custom_object_scope(own):
                return type(layer).from_config(configure(layer))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}) cannot be copied: {str(error).partition(chr(10))[0]}"
            ) from error

    def model_copy(part: keras.Model) -> keras.Model:
        inputs = [
            keras.Input(
                batch_shape=(batch_size or tensor.shape[0], *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name
            )
            for tensor in part.inputs
        ]
        structure = inputs if isinstance(part, keras.Sequential) else tree.pack_sequence_as(part.input, inputs)
        return keras.models.clone_model(part, input_tensors=structure, clone_function=layer_copy)

    copy = model_copy(model)
    copy.set_weights(model.get_weights())
    return copy


def float32_copy(model: keras.Model) -> keras.Model:
    """Returns a copy of a model in half, mixed or double precision that computes in float32.

    Raises:
        ValueError: a layer cannot be made again from its configuration; named.

    Example:
        >>> import keras_seq as ks
        >>> keras.config.set_dtype_policy("mixed_float16")
        >>> half = ks.language_model(10, units=[4])
        >>> keras.config.set_dtype_policy("float32")
        >>> half.get_layer("gru_0").compute_dtype, float32_copy(half).get_layer("gru_0").compute_dtype
        ('float16', 'float32')
    """
    return rebuilt(model, lambda layer: _in_float32(layer.get_config()))


def _in_float32(config: Any) -> Any:
    """Returns a configuration, cells and wrapped layers in it too, with half and mixed precision made float32."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return "float32" if _is_other_float(config["config"]["name"]) else config
        named = {"dtype": "float32"} if _is_other_float(config.get("dtype")) else {}
        return {key: _in_float32(value) for key, value in config.items()} | named
    if isinstance(config, list | tuple):
        return type(config)(map(_in_float32, config))
    return config


def other_floats(model: keras.Model) -> list[str]:
    """Returns the floating-point dtypes other than float32 in which layers of a model compute."""
    return sorted({layer.compute_dtype for layer in model._flatten_layers() if _is_other_float(layer.compute_dtype)})


def _is_other_float(dtype: object) -> bool:
    return isinstance(dtype, str) and (dtype.endswith("float16") or dtype == "float64")
