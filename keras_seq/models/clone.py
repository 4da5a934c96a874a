"""Copies of a model, weights included, whose layers have other configurations."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import tree

from keras_seq.errors import ModelError
from keras_seq.keras_internals import all_layers
from keras_seq.models.checks import reason_of
from keras_seq.models.difference import first_difference, tolerance_of
from keras_seq.models.graph import has_graph, label, run_top_level
from keras_seq.models.inputs import possible_inputs
from keras_seq.models.probe import probe_values, reads_tokens
from keras_seq.models.whole_model import outputs_by_call


def clone_with_configs(
    model: keras.Model,
    config_of: Callable[[keras.layers.Layer], dict[str, Any] | None],
    batch_size: int | None = None,
    class_of: Callable[[keras.layers.Layer], type[keras.layers.Layer]] = type,
) -> keras.Model:
    """Returns a copy of `model`, weights included, whose layers are created from other configurations.

    The copy shares operations, functions, initializers and layers without variables with the model. It was compared with
    the model on random sequences.

    Args:
        model: a built Sequential or Functional model. Nested models are copied in the same way.
        config_of: maps a layer of `model` to the configuration of its copy; None for the configuration that it has.
        batch_size: batch size of the inputs of the copy; None keeps that of `model`.
        class_of: maps a layer of `model` to the class of its copy. The classes of layers inside it are in its configuration.

    Raises:
        ModelError: a layer cannot be created from its configuration, or the copy of a layer gives other outputs; the
            message names it.
    """
    copies: dict[int, Any] = {}

    def copy_of(operation: Any) -> Any:
        if id(operation) not in copies:
            copies[id(operation)] = (
                clone_model(operation) if has_graph(operation) else _copy(operation, config_of, class_of)
            )
        return copies[id(operation)]

    def clone_model(part: keras.Model) -> keras.Model:
        inputs = [
            keras.Input(
                batch_shape=(batch_size or tensor.shape[0], *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name
            )
            for tensor in part.inputs
        ]
        if isinstance(part, keras.Sequential):
            return keras.Sequential([*inputs, *map(copy_of, part.layers)], name=part.name)
        outputs = run_top_level(part, inputs, lambda operation, args, kwargs: _call(copy_of(operation), args, kwargs))
        return keras.Model(
            tree.pack_sequence_as(part.input, inputs), tree.pack_sequence_as(part.output, outputs), name=part.name
        )

    copy = clone_model(model)
    for layer, copied in zip(all_layers(model), all_layers(copy), strict=True):
        if layer is not copied:
            # What saving a layer keeps. Some layers compute other values from their weights when these are loaded.
            variables: dict[str, Any] = {}
            layer.save_own_variables(variables)
            copied.load_own_variables(variables)
    _require_equal_outputs(model, copy)
    return copy


def _copy(
    operation: Any,
    config_of: Callable[[keras.layers.Layer], dict[str, Any] | None],
    class_of: Callable[[keras.layers.Layer], type[keras.layers.Layer]],
) -> Any:
    """Returns a copy of a layer; an operation without variables, or a layer that needs no other configuration, itself."""
    if not isinstance(operation, keras.layers.Layer):
        return operation
    # The user need not have registered the classes with Keras: the layer and the layers inside it have them.
    classes = {type(part).__name__: type(part) for part in all_layers(operation)}
    try:
        stand_in = _without_functions(operation)
        config = config_of(stand_in)
        if config is None and not operation.variables:
            return operation
        config = _with_objects(stand_in.get_config() if config is None else config, operation)
        with keras.saving.custom_object_scope(classes):
            if isinstance(operation, keras.layers.Lambda):  # Its `from_config` takes no functions.
                return type(operation)(**config)
            return class_of(operation).from_config(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{label(operation)} cannot be copied: {reason_of(error)}") from error


def _call(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return operation(*args, **kwargs)
    except Exception as error:  # Each custom layer has its own error classes.
        raise ModelError(f"{label(operation)} cannot be copied: its copy fails: {reason_of(error)}") from error


def _without_functions(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a stand-in for a layer, to ask for its configuration: `linear` is in place of the functions that it has.

    Some functions, such as a `functools.partial`, cannot be part of a configuration. The layer itself is not changed.
    """
    stand_in = object.__new__(type(layer))
    arguments = inspect.signature(type(layer).__init__).parameters
    for name, value in vars(layer).items():
        if isinstance(value, keras.layers.Layer):  # such as the cell of a recurrent layer
            value = _without_functions(value)
        elif name in arguments and isinstance(value, list | tuple):
            value = [_without_functions(one) if isinstance(one, keras.layers.Layer) else one for one in value]
        elif name in arguments and callable(value) and not hasattr(value, "get_config"):
            value = keras.activations.linear
        vars(stand_in)[name] = value
    return stand_in


def _with_objects(config: dict[str, Any], layer: keras.layers.Layer) -> dict[str, Any]:
    """Returns a configuration with the functions, initializers and other objects that a layer has, not serialized."""
    # The only layer whose attribute has another name than the argument.
    names = {"layer": "forward_layer"} if isinstance(layer, keras.layers.Bidirectional) else {}
    return {name: _with_object(value, getattr(layer, names.get(name, name), None)) for name, value in config.items()}


def _with_object(value: Any, held: Any) -> Any:
    if isinstance(held, keras.layers.Layer):
        is_config = isinstance(value, dict) and isinstance(value.get("config"), dict)
        return {**value, "config": _with_objects(value["config"], held)} if is_config else value
    if isinstance(value, list) and isinstance(held, list | tuple):
        return [_with_object(*pair) for pair in zip(value, held, strict=False)] if len(value) == len(held) else value
    is_object = callable(held) and not isinstance(held, type) and not inspect.ismethod(held)
    return held if is_object else value


def _require_equal_outputs(model: keras.Model, copy: keras.Model) -> None:
    """Requires the copies of all layers to give the outputs of the layers.

    Raises:
        ModelError: one does not; the message names it.
    """
    inputs = next(possible_inputs(model, reads_tokens(model), one_hot=False))
    values = probe_values(model, inputs, frames=1)
    rows = min(len(values[0]), *(part.inputs[0].shape[0] or len(values[0]) for part in (model, copy)))
    values = [one[:rows] for one in values]
    tolerance = tolerance_of(model)
    of_model, of_copy = outputs_by_call(model, inputs, values), outputs_by_call(copy, inputs, values)
    for (operation, expected), (_, outputs) in zip(of_model, of_copy, strict=True):
        for one, other in zip(expected, outputs, strict=True):
            difference = first_difference(one, other, tolerance) if one.ndim > 1 else None
            if difference is not None:
                raise ModelError(
                    f"{label(operation)} cannot be copied: it holds values that are neither weights nor arguments, and its "
                    f"copy differs by {difference.size:.3g}"
                )


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

    def float32_config(layer: keras.layers.Layer) -> dict[str, Any] | None:
        computes_in = {part.compute_dtype for part in all_layers(layer)}
        return _in_float32(layer.get_config()) if any(map(_is_other_float, computes_in)) else None

    return clone_with_configs(model, float32_config)


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
