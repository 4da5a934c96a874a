"""Checks of a model before its one-step form is made: what kind of model it is, and what it takes."""

import re
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_seq.errors import ArgumentError, SteppingError
from keras_seq.models.graph import has_graph, in_inference


def require_sequence_model(model: Any) -> None:
    """Requires a Sequential or Functional model that takes a sequence.

    Raises:
        ArgumentError: `model` is not a Keras model.
        SteppingError: it is a subclassed model or not built, or takes strings or no sequence.
    """
    if not isinstance(model, keras.Model):
        expected = "a Keras model, such as `keras.models.load_model` returns for a file"
        if any(base.__module__.startswith("tf_keras") for base in type(model).__mro__):
            expected = "a model of Keras 3: build it with `keras` and copy the weights with `set_weights`"
        raise ArgumentError("model", expected, model)
    if not has_graph(model):
        raise SteppingError(
            f"`model` must be a built Sequential or Functional model. Received: {_without_graph(model)}"
        )
    if any(keras.backend.standardize_dtype(tensor.dtype) == "string" for tensor in model.inputs):
        raise SteppingError(
            f"`model` must take token ids or frames. Received: {model.name}, which takes strings. Encode the text before "
            "the model, with a Vocabulary, and build the model from the layer after the encoding on"
        )
    if all(len(tensor.shape) < 2 for tensor in model.inputs):
        shapes = ", ".join(str(tensor.shape) for tensor in model.inputs)
        raise SteppingError(f"`model` must take sequences, (batch, time, ...). Received: an input of shape {shapes}")


def has_finite_weights(model: keras.Model) -> bool:
    """Returns whether no weight of a model is NaN or infinite."""
    return all(np.isfinite(np.asarray(weight, np.float32)).all() for weight in model.weights)


def reason_of(error: Exception) -> str:
    """Returns the first line of an error message that is not Keras's own heading, without terminal colours.

    At most 500 characters of it: the message may repeat what a damaged file holds.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).rpartition("Error encountered:")[-1]
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("Exception encountered when calling")]
    return lines[0][:500] if lines else type(error).__name__


def _without_graph(model: keras.Model) -> str:
    """Returns what a model without a graph is, and how to make a Functional model of it."""
    kind = type(model).__name__
    if isinstance(model, keras.Sequential):
        return f"{kind}, which is not built: begin it with keras.Input((None,), dtype='int32') for token ids"
    line = _functional_line(model)
    if line is None:
        return f"{kind}, a subclass of keras.Model: build it from its layers as keras.Model(inputs, outputs)"
    return (
        f"{kind}, a subclass of keras.Model. If its `call` applies its layers in this order, this is a Functional model "
        f"with the same weights, for a model m and i = keras.Input((None,), dtype='int32'): {line}"
    )


def _functional_line(model: keras.Model) -> str | None:
    """Returns the Python expression that calls the layers of a model one after the other, in the order of creation.

    None if there is no such expression, or if it is another model.
    """
    names = {id(value): name for name, value in vars(model).items() if isinstance(value, keras.layers.Layer)}
    if not model.layers or not all(id(layer) in names for layer in model.layers):
        return None
    if model.built and not _applies_layers_in_order(model):
        return None
    line = "i"
    for layer in model.layers:
        line = f"m.{names[id(layer)]}({line})" + ("[0]" if getattr(layer, "return_state", False) else "")
    return f"keras.Model(i, {line})"


def _applies_layers_in_order(model: keras.Model) -> bool:
    """Returns whether a model does, on some tokens, what its layers do one after the other."""
    ids = keras.ops.convert_to_tensor([[1, 0, 1, 1]], "int32")

    def one_after_the_other() -> Any:
        values = ids
        for layer in model.layers:
            values = tree.flatten(layer(values))[0]
        return values

    try:
        return np.allclose(tree.flatten(model(ids, training=False))[0], in_inference(one_after_the_other), atol=1e-5)
    except Exception:  # Each custom layer has its own error classes.
        return False
