"""`add_reserved_tokens`: the tokens that generation needs, for a model that was trained without them."""

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ModelError
from keras_seq.keras_internals import all_layers, call_that_made, calls_in_order
from keras_seq.layers.add_bias import AddBias
from keras_seq.layers.ngram_embedding import NgramEmbedding
from keras_seq.models.checks import reason_of
from keras_seq.models.clone import clone_with_configs
from keras_seq.models.difference import first_difference, tolerance_of
from keras_seq.models.graph import has_graph, label, run_top_level
from keras_seq.models.inputs import is_integer, possible_inputs
from keras_seq.models.logits import are_probabilities, as_logits
from keras_seq.models.probe import probe_values
from keras_seq.models.whole_model import whole_outputs

# How far the logits of new tokens are below the largest logit: a probability of 1e-13 is not drawn, but can be learned.
_BELOW = 30.0
_AFTER_LOGITS = (keras.layers.Activation, keras.layers.Softmax, keras.layers.Dropout, keras.layers.Identity)


def add_reserved_tokens(model: keras.Model, vocabulary: Vocabulary) -> tuple[keras.Model, Vocabulary]:
    """Returns a copy of a model, and its vocabulary, with those of `<pad>`, `<s>` and `<eos>` that were missing.

    The new tokens get the ids after the others, which keep theirs. Their embeddings are zeros, so that `<s>` is a zero
    first input. Their logits are so low that they are not drawn (a probability of 1e-13) until the model is trained with
    them, as `keras_seq.streams` and `keras_seq.lines` do. All other weights are those of `model`; on random tokens, the
    other outputs were compared with the model's. The copy is not compiled.

    Args:
        model: a Sequential or Functional model: token ids `(batch, time)` -> logits or probabilities `(batch, time,
            vocabulary)`. `Embedding` layers read the ids. The last layer that has weights is a `Dense` layer, also in
            `TimeDistributed`, or a `ReversibleEmbedding`; an `AddBias` and a softmax may follow. It has no `NgramEmbedding`.
        vocabulary: its vocabulary.

    Raises:
        ArgumentError: `model` is not a Keras model, or `vocabulary` is not a Vocabulary.
        ModelError: the model has another number of outputs than the vocabulary has tokens, reads its ids or makes its
            logits in another way, or cannot be copied; the message names the layer.

    Example:
        >>> import keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_tokens(["", "[UNK]", "the", "cat", "sat."])
        >>> model = keras.Sequential([
        ...     keras.Input((None,), dtype="int32"),
        ...     keras.layers.Embedding(5, 3),
        ...     keras.layers.GRU(4, return_sequences=True),
        ...     keras.layers.Dense(5, activation="softmax"),
        ... ])
        >>> model, vocabulary = ks.add_reserved_tokens(model, vocabulary)
        >>> vocabulary.tokens[5:], model.output_shape
        (('<s>', '<eos>'), (None, None, 7))
        >>> isinstance(ks.sample(model, vocabulary, "the cat", max_tokens=5), str)
        True
    """
    require.that(isinstance(model, keras.Model), "model", "a Keras model", model)
    require.that(isinstance(vocabulary, Vocabulary), "vocabulary", "a Vocabulary", vocabulary)
    if not has_graph(model) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"`model` must be a built Sequential or Functional model of one input and one output. Received: {label(model)}"
        )
    if model.outputs[0].shape[-1] != len(vocabulary):
        raise ModelError(
            f"`model` must give one logit per token of the vocabulary, {len(vocabulary)}. "
            f"Received: {model.outputs[0].shape[-1]} logits"
        )
    if not vocabulary.missing:
        return model, vocabulary
    if any(isinstance(layer, NgramEmbedding) for layer in all_layers(model)):
        raise ModelError(
            "tokens cannot be added to a model with n-grams, whose rows depend on the number of tokens; train one with a "
            "vocabulary that has the reserved tokens, as `Vocabulary.from_text` gives"
        )
    extended = Vocabulary([*vocabulary.tokens, *vocabulary.missing])
    return _extended_model(model, len(vocabulary), len(vocabulary.missing)), extended


def _extended_model(model: keras.Model, size: int, added: int) -> keras.Model:
    """Returns a copy of a model of `size` tokens that has `added` more."""
    copy = clone_with_configs(model, lambda layer: None)
    last, *biases = _last_layers(copy)
    changed = {id(layer): layer for layer in [*_embeddings(copy, size), last, *biases]}
    larger = {key: _larger(layer, size + added) for key, layer in changed.items()}
    has_no_bias = isinstance(last, keras.layers.Embedding) and not biases
    logit_bias = _logit_bias(last, size + added) if has_no_bias else None

    def call(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            outputs = larger.get(id(operation), operation)(*args, **kwargs)
            return logit_bias(outputs) if logit_bias is not None and kwargs.get("reverse") else outputs
        except Exception as error:  # Each custom layer has its own error classes.
            raise ModelError(f"{label(operation)} cannot take {added} more tokens: {reason_of(error)}") from error

    (tensor,) = copy.inputs
    given = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
    if isinstance(copy, keras.Sequential):
        extended = keras.Sequential([given, *(larger.get(id(layer), layer) for layer in copy.layers)], name=copy.name)
    else:
        inputs, outputs = tree.pack_sequence_as(copy.input, [given]), run_top_level(copy, [given], call)
        extended = keras.Model(inputs, tree.pack_sequence_as(copy.output, outputs), name=copy.name)
    for key, layer in changed.items():
        _take_weights(larger[key], layer, size, added)
    with_bias = larger[id(biases[-1])] if biases else logit_bias or _dense(larger[id(last)])
    _lower(model, extended, with_bias.bias, size)
    return extended


def _last_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layer that makes the logits of a model, and then the one that adds a bias to those of tied embeddings."""
    tensor, biases = model.outputs[0], []
    while isinstance((made := call_that_made(tensor)).operation, (*_AFTER_LOGITS, AddBias)):
        tensor = made.inputs[0]
        if isinstance(made.operation, AddBias):
            biases.append(made.operation)
    layer = made.operation
    is_only_call = sum(call.operation is layer for call in calls_in_order(model)) == 1
    if isinstance(layer, keras.layers.ReversibleEmbedding) and made.kwargs.get("reverse"):
        return [layer, *biases]
    dense = _dense(layer)
    if not isinstance(dense, keras.layers.Dense) or not is_only_call:
        raise ModelError(
            "tokens can be added to a model whose logits come from one call of a Dense layer, or of a ReversibleEmbedding. "
            f"Received: {label(layer)} at its end"
        )
    if dense.activation not in (keras.activations.linear, keras.activations.softmax):
        raise ModelError(
            f"tokens can be added to a model that ends in logits or in a softmax. Received: {label(layer)} with the activation "
            f"{getattr(dense.activation, '__name__', dense.activation)}"
        )
    return [layer, *biases]


def _dense(layer: Any) -> Any:
    return layer.layer if isinstance(layer, keras.layers.TimeDistributed) else layer


def _embeddings(model: keras.Model, size: int) -> list[keras.layers.Layer]:
    """Returns the embeddings that read the token ids of a model, after the check that nothing else reads them."""
    ids = {id(model.inputs[0])}
    layers = []
    for call in calls_in_order(model):
        if not any(id(given) in ids for given in call.inputs):
            continue
        if isinstance(call.operation, keras.layers.Embedding):
            layers.append(call.operation)
        elif isinstance(call.operation, keras.layers.Layer) or not all(map(is_integer, call.outputs)):
            raise ModelError(
                "tokens can be added to a model that reads its token ids with Embedding layers. Received: a model that reads "
                f"them with {label(call.operation)}"
            )
        else:  # such as a cast of the ids, or the comparison that makes a mask
            ids.update(id(output) for output in call.outputs if output.dtype != "bool")
    few = [layer for layer in layers if layer.input_dim < size]
    if few or not layers:
        what = f"{few[0].input_dim} rows in {label(few[0])}" if few else "no Embedding layer"
        raise ModelError(f"the embeddings must have one row per token of the vocabulary, {size}. Received: {what}")
    return layers


def _larger(layer: keras.layers.Layer, size: int) -> keras.layers.Layer:
    """Returns a layer with the same configuration for `size` tokens."""
    config = layer.get_config()
    if isinstance(layer, keras.layers.Embedding):
        config["input_dim"] = max(config["input_dim"], size)
    elif not isinstance(layer, AddBias):
        dense = config["layer"]["config"] if isinstance(layer, keras.layers.TimeDistributed) else config
        dense |= {"units": size, "use_bias": True}
    return type(layer).from_config(config)


def _logit_bias(layer: keras.layers.ReversibleEmbedding, size: int) -> keras.layers.Layer:
    """Returns a layer that adds a bias to the logits of tied embeddings of stock Keras, which have none.

    It also multiplies each logit by a weight, which is 1. Keras has no layer that only adds a bias, and with `AddBias`, a
    model of stock layers could no longer be loaded without this package.
    """
    return keras.layers.EinsumDense(
        "...v,v->...v", (size,), bias_axes="v", kernel_initializer="ones", name="logit_bias", dtype=layer.dtype_policy
    )


def _take_weights(larger: keras.layers.Layer, layer: keras.layers.Layer, size: int, added: int) -> None:
    """Gives a layer the weights of the smaller one, and zeros for the tokens from `size` on."""
    known = {variable.name: np.asarray(variable) for variable in layer.variables}
    for variable in larger.variables:
        values = np.zeros(variable.shape, np.float32)
        if variable.name in known:  # A bias may be new.
            values[tuple(map(slice, known[variable.name].shape))] = known[variable.name]
        if (
            isinstance(layer, keras.layers.Embedding) and layer.input_dim > size
        ):  # It had more rows than there were tokens.
            values[size : size + added] = 0
        variable.assign(values)


def _lower(model: keras.Model, extended: keras.Model, bias: keras.Variable, size: int) -> None:
    """Sets the bias of the tokens from `size` on, after which the outputs for the others must be those of `model`.

    Raises:
        ModelError: they are not, or the outputs of the new tokens are not low.
    """
    inputs = next(possible_inputs(model, tokens=True, one_hot=False))
    values = [np.minimum(one, size - 1) for one in probe_values(model, inputs, frames=1)]

    def logits_of(part: keras.Model) -> np.ndarray:
        (outputs,) = whole_outputs(part, next(possible_inputs(part, tokens=True, one_hot=False)), values)
        logits = np.asarray(as_logits(outputs, are_probabilities(outputs)))
        return logits if logits.ndim > 2 else logits[:, None]  # of the last step only

    logits = logits_of(extended)
    lowest = float((logits[..., :size].max(axis=-1) - logits[..., size]).min()) - _BELOW
    bias.assign(np.where(np.arange(bias.shape[0]) < size, np.asarray(bias), lowest))
    logits = logits_of(extended)
    is_same = first_difference(logits_of(model), logits[..., :size], tolerance_of(model)) is None
    if not is_same or not (logits[..., size:] < logits[..., :size].max(axis=-1, keepdims=True) - _BELOW / 2).all():
        raise ModelError(
            f"tokens cannot be added to {label(model)}: the outputs for its own tokens would change, or the new ones be drawn"
        )
