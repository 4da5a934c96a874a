"""Checks that a model gives an output, or logits, after each token."""

from typing import Any

import keras


def require_each_step(model: keras.Model) -> None:
    """Refuses a model that does not give an output after each step.

    Raises:
        ValueError: so it is; a layer that gives the last one alone is named.
    """
    for output in model.outputs[:1] if getattr(model, "outputs", None) else []:
        if len(output.shape) < 2 or output.shape[1] != model.inputs[0].shape[1]:
            raise ValueError(
                f"`model` must give an output after each step, (batch, time, ...). Received: {model.name} with an output of "
                f"shape {output.shape}{_last_alone(model)}"
            )


def _last_alone(model: keras.Model) -> str:
    layers = [layer for layer in model.layers if getattr(layer, "return_sequences", True) is False]
    return f": layer {layers[-1].name!r} must have return_sequences=True" if layers else ""


def require_logits(model: keras.Model) -> None:
    """Refuses a model that does not give logits after each token.

    Of probabilities, a softmax would make every token about as likely as any other. A model that answers at the end of a
    text alone has never learned to go on from its beginning.

    Raises:
        ValueError: it is no Keras model; its last layer is a softmax, or has one as its activation; its output is not
            `(batch, time, vocabulary)`.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model; `keras.models.load_model` reads a file. Received: {model!r}")
    last: Any = model.layers[-1] if model.layers else None
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise ValueError(
            f"`model` must end in logits. Received: layer {last.name!r} with a softmax; build it without, train with "
            "from_logits=True, and give it the weights you have with `set_weights`"
        )
    for output in model.outputs[:1] if getattr(model, "outputs", None) else []:
        if len(output.shape) != 3:
            raise ValueError(
                "`model` must give logits after each token, (batch, time, vocabulary). "
                f"Received: {model.name} with an output of shape {output.shape}{_last_alone(model)}"
            )
