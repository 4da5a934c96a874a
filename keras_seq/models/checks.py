"""Checks that a model gives an output, or logits, after each token."""

from typing import Any

import keras

from keras_seq.errors import ArgumentError, ModelError


def require_each_step(model: keras.Model) -> None:
    """Requires a model that gives an output after each step.

    Raises:
        ModelError: the output has no time axis, or another length than the input. The message names a recurrent layer
            that returns only its last output.
    """
    for output in model.outputs[:1] if getattr(model, "outputs", None) else []:
        if len(output.shape) < 2 or output.shape[1] != model.inputs[0].shape[1]:
            raise ModelError(
                f"`model` must give an output after each step, (batch, time, ...). Received: {model.name} with an output of "
                f"shape {output.shape}{_hint_about_return_sequences(model)}"
            )


def require_logits(model: keras.Model) -> None:
    """Requires a model that gives logits after each token.

    A softmax over probabilities instead of logits would make all tokens almost equally likely. A model with a single
    output at the end of a text has never learned to predict the tokens before it.

    Raises:
        ArgumentError: `model` is not a Keras model.
        ModelError: its last layer is a softmax or has one as its activation, or its output is not `(batch, time, vocabulary)`.
    """
    if not isinstance(model, keras.Model):
        raise ArgumentError("model", "a Keras model, such as `keras.models.load_model` returns for a file", model)
    last: Any = model.layers[-1] if model.layers else None
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise ModelError(
            f"`model` must end in logits. Received: layer {last.name!r} with a softmax. Build the model without it, copy "
            "the weights with `set_weights`, and train with from_logits=True"
        )
    for output in model.outputs[:1] if getattr(model, "outputs", None) else []:
        if len(output.shape) != 3:
            raise ModelError(
                "`model` must give logits after each token, (batch, time, vocabulary). "
                f"Received: {model.name} with an output of shape {output.shape}{_hint_about_return_sequences(model)}"
            )


def _hint_about_return_sequences(model: keras.Model) -> str:
    layers = [layer for layer in model.layers if getattr(layer, "return_sequences", True) is False]
    return f": layer {layers[-1].name!r} must have return_sequences=True" if layers else ""
