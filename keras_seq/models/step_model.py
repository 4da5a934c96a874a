"""The verified one-step form of a model, from which `sample`, `score`, `evaluate` and both exports start.

A model is compared with its one-step form once, until its weights change.
"""

import threading
import weakref
import zlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_seq.errors import KerasSeqError, ModelError, SteppingError
from keras_seq.keras_internals import all_layers
from keras_seq.models.checks import has_finite_weights, reason_of, require_sequence_model
from keras_seq.models.initial_states import initial_states
from keras_seq.models.logits import are_probabilities, as_logits
from keras_seq.models.probe import probe_rows, reads_tokens, token_count
from keras_seq.models.step_comparison import require_equal_steps, require_single_softmax
from keras_seq.models.step_graph import step_graph
from keras_seq.models.whole_model import whole_outputs


def step_model(model: keras.Model) -> keras.Model:
    """Returns the one-step form of a causal recurrent model. It shares every weight with `model`.

    Its inputs are `token` `(batch,)` int32, or `frame` `(batch, ...)` for a model over real-valued frames, and then
    `state_0`, `state_1`, ..., each `(batch, units)`. Its outputs are the model's output after the step, `(batch, ...)`, and
    then the new states in the same order. The states are zeros at the start of a sequence, unless the model has initial
    states of its own; `keras_seq.models.step_model.stepped(model).initial_states` has them in any case.

    The one-step form was compared with the model over 64 steps of random sequences.

    Args:
        model: a built Sequential or Functional model with one input, made of embeddings, recurrent layers and layers that
            act on each time step independently.

    Raises:
        ArgumentError: `model` is not a Keras model.
        SteppingError: a layer looks across time or into the future, or has states that are not `(batch, units)`. The
            message names the layer.
        ModelError: the model gives its output only after the last step, or its outputs are NaN.

    Example:
        >>> from keras_seq import language_model
        >>> decoder = step_model(language_model(10, units=[8, 4]))
        >>> [tensor.name for tensor in decoder.inputs]
        ['token', 'state_0', 'state_1']
    """
    return stepped(model).decoder


class SteppedModel:
    """The verified one-step form of a model with the weights that it has.

    Args:
        model: a model that `require_sequence_model` accepts.
        ids: token ids of a text on which the forms are compared too, or None.

    Attributes:
        decoder: the model of a single step; see `step_model`.
        decode: `decoder` as a compiled function: value `(batch,)` or `(batch, ...)` and states -> output and states.
        reads_tokens: whether a step reads a token id, otherwise a frame.
        initial_states: the states before the first step, each `(units,)`, in the dtype of the decoder's inputs.
        graph: how the decoder was made.
        gives_probabilities: whether the outputs are probabilities instead of logits.
        gives_fractions: whether the outputs are between 0 and 1, but no probabilities.
        token_count: the number of token ids that the model reads, if `reads_tokens`.
        reads_in_parts: whether `SequenceReader` has compared its parts with the whole model.

    Raises:
        SteppingError: see `step_model`.
        ModelError: see `step_model`.
    """

    def __init__(self, model: keras.Model, ids: np.ndarray | None):
        self.reads_in_parts = False
        self.reads_tokens = reads_tokens(model)
        self.graph = step_graph(model, self._step_input(model))
        self.decoder = decoder = self.graph.decoder
        specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in decoder.inputs]
        self.decode = tf.function(
            lambda value, *states: decoder([value, *states], training=False), input_signature=specs, autograph=False
        )
        rows = probe_rows(model, self.reads_tokens, ids)
        whole = _probed_outputs(model, rows)
        self.initial_states = initial_states(model, self.graph, rows)
        require_equal_steps(model, self.graph, self.decode, self.initial_states, rows, whole)
        self.gives_probabilities: bool = are_probabilities(whole)
        self.gives_fractions = not self.gives_probabilities and bool(((whole > 0) & (whole < 1)).all())
        self.token_count = token_count(model)
        if self.gives_probabilities:
            require_single_softmax(model, self.graph, self.initial_states, rows)

    def _step_input(self, model: keras.Model) -> keras.KerasTensor:
        """Returns the symbolic token or frame of a single step."""
        if self.reads_tokens:
            return keras.Input((), dtype="int32", name="token")
        return keras.Input(model.inputs[0].shape[2:], dtype=model.inputs[0].dtype, name="frame")

    def logits_of(self, outputs: Any) -> Any:
        """Returns the logits that outputs `(..., vocabulary)` of the model stand for."""
        return as_logits(outputs, self.gives_probabilities)


def stepped_language_model(model: keras.Model, ids: np.ndarray | None = None) -> SteppedModel:
    """Returns the verified one-step form of a language model: token ids `(batch, time)` -> `(batch, time, vocabulary)`.

    Args:
        model: a model that ends in logits, or in probabilities, whose logarithms are the logits.
        ids: see `stepped`.

    Raises:
        ArgumentError: see `step_model`.
        SteppingError: see `step_model`.
        ModelError: the model does not read token ids or give one number for each token; or see `step_model`.
    """
    known = stepped(model, ids)
    if not known.reads_tokens:
        shape = ("batch", "time", *model.inputs[0].shape[2:])
        raise ModelError(
            f"`model` must take token ids. Received: {model.name}, which takes real values ({', '.join(map(str, shape))})"
        )
    if len(model.outputs[0].shape) != 3:
        raise ModelError(
            "`model` must give logits after each token, (batch, time, vocabulary). "
            f"Received: {model.name} with an output of shape {model.outputs[0].shape}"
        )
    if known.gives_fractions:
        raise ModelError(
            "`model` must give logits, or probabilities that sum to one. Received: "
            f"{model.name} with outputs between 0 and 1, as a sigmoid gives them; end it in a softmax, or in no activation"
        )
    if known.token_count < model.outputs[0].shape[-1]:
        raise ModelError(
            f"`model` must read every token that it predicts. Received: {model.name} with embeddings of "
            f"{known.token_count} tokens and logits of {model.outputs[0].shape[-1]}"
        )
    return known


# The one-step form of each model, with the fingerprint of the model that it was made from.
_stepped: "weakref.WeakKeyDictionary[keras.Model, tuple[Any, SteppedModel]]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def stepped(model: keras.Model, ids: np.ndarray | None = None) -> SteppedModel:
    """Returns the verified one-step form of a model. It is made again when the weights have changed.

    The first call takes some tenths of a second, a later one about a millisecond.

    Args:
        model: see `step_model`.
        ids: token ids of the user's text, on which the forms are compared too; or None.

    Raises:
        ArgumentError: see `step_model`.
        SteppingError: see `step_model`.
        ModelError: see `step_model`.
    """
    require_sequence_model(model)
    with _lock:
        fingerprint = _fingerprint(model)
        known_fingerprint, known = _stepped.get(model, (None, None))
        if known is None or known_fingerprint != fingerprint:
            known = _made(model, ids)
            _stepped[model] = fingerprint, known
    return known


def _made(model: keras.Model, ids: np.ndarray | None) -> SteppedModel:
    try:
        return SteppedModel(model, ids)
    except KerasSeqError:
        raise
    except Exception as error:  # Keras, TensorFlow and custom layers have error classes of their own.
        raise SteppingError(f"`model` cannot be stepped: {reason_of(error)}") from error


def _probed_outputs(model: keras.Model, rows: np.ndarray) -> np.ndarray:
    """Returns the outputs of the model on the probe.

    Raises:
        ModelError: the model fails, gives no output after each step, or one is NaN.
    """
    try:
        outputs = whole_outputs(model, rows)
    except Exception as error:  # Each backend, and each custom layer, has its own error classes.
        raise ModelError(f"`model` fails on {rows.shape[1]} random steps of its input: {reason_of(error)}") from error
    if outputs.shape[:2] != rows.shape[:2]:
        raise ModelError(
            "`model` must give an output after each step, (batch, time, ...). "
            f"Received: {model.name} with an output of shape {model.outputs[0].shape}"
        )
    if np.isnan(outputs).any():
        advice = (
            "although its weights are finite; use an operation that is defined for every input"
            if has_finite_weights(model)
            else "because a weight is not finite; train again with gradient clipping or a lower learning rate"
        )
        raise ModelError(f"`model` gives NaN on random steps, {advice}. Received: {model.name}")
    return outputs


def _fingerprint(model: keras.Model) -> tuple[Any, ...]:
    """Returns values that differ if a weight, an attribute of a layer or the graph of the model has changed.

    Of a weight with more than 65,536 numbers, only so many are looked at.
    """
    attributes = [_attributes(layer) for layer in all_layers(model)]
    return id(model.outputs[0]), *attributes, *(_checksum(weight) for weight in model.weights)


def _attributes(layer: keras.layers.Layer) -> tuple[Any, ...]:
    """Returns the public attributes of a layer that are numbers, strings or functions."""
    public = [(name, value) for name, value in vars(layer).items() if not name.startswith("_")]
    plain = [(name, repr(value)) for name, value in public if isinstance(value, bool | int | float | str | None)]
    return *plain, *((name, id(value)) for name, value in public if callable(value))


def _checksum(weight: keras.Variable) -> int:
    flat = keras.ops.reshape(weight, (-1,))
    return zlib.crc32(np.asarray(flat[:: max(1, flat.shape[0] // 2**16)]).tobytes())
