"""The verified one-step form of a model, from which `sample`, `score`, `evaluate` and both exports start.

A model is compared with its one-step form once, until its weights change.
"""

import threading
import weakref
import zlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops, tree

from keras_seq.errors import KerasSeqError, ModelError, SteppingError
from keras_seq.keras_internals import all_layers
from keras_seq.models.checks import has_finite_weights, reason_of, require_sequence_model
from keras_seq.models.graph import StateOfSequence
from keras_seq.models.initial_states import initial_states
from keras_seq.models.inputs import ModelInput, possible_inputs, takes_one_hot
from keras_seq.models.logits import are_probabilities, as_logits, logits_position
from keras_seq.models.probe import probe_values, reads_tokens
from keras_seq.models.step_comparison import (
    Expected,
    expected_outputs,
    require_equal_steps,
    require_single_softmax,
    step_count,
)
from keras_seq.models.step_graph import StepGraph, step_graph


def step_model(model: keras.Model) -> keras.Model:
    """Returns the one-step form of a causal recurrent model. It shares every weight with `model`.

    Its inputs are `token` `(batch,)` int32, or `frame` `(batch, ...)` for a model over real-valued frames, and then
    `state_0`, `state_1`, ..., each `(batch, units)`. Its outputs are the model's outputs after the step, `(batch, ...)`, and
    then the new states in the same order. The states are zeros at the start of a sequence, unless the model has initial
    states of its own; `keras_seq.models.step_model.stepped(model).initial_states` has them in any case. Those of a model
    with an encoder come from `keras_seq.encode`.

    Of a model with several inputs that are read step by step, each has its own name. A model with strides takes as many
    frames in a step as the product of the strides, `(batch, frames, ...)`. A model that gives its answer after the last
    step gives the answer so far after each.

    The one-step form was compared with the model over 64 steps of random sequences, or more if it looks back further.

    Args:
        model: a built Sequential or Functional model, made of embeddings, recurrent layers, convolutions and pooling that
            look back, and layers that act on each time step independently.

    Raises:
        ArgumentError: `model` is not a Keras model.
        SteppingError: a layer looks across time or into the future. The message names the layer.
        ModelError: the outputs of the model are NaN.

    Example:
        >>> from keras_seq import language_model
        >>> decoder = step_model(language_model(10, units=[8, 4]))
        >>> [tensor.name for tensor in decoder.inputs]
        ['token', 'state_0', 'state_1']

        Each new token is read with the states that came with its logits. Do not mix NumPy arrays and tensors in one call.

        >>> token, states = ops.zeros(1, "int32"), [ops.zeros((1, 8)), ops.zeros((1, 4))]
        >>> for _ in range(5):
        ...     logits, *states = decoder([token, *states])
        ...     token = ops.argmax(logits, axis=-1)
        >>> logits.shape
        TensorShape([1, 10])
    """
    return stepped(model).decoder


class SteppedModel:
    """The verified one-step form of a model with the weights that it has.

    Args:
        model: a model that `require_sequence_model` accepts.
        inputs: what its inputs are.
        outputs: positions of the outputs that a step gives.
        ids: token ids of a text on which the forms are compared too, or None.

    Attributes:
        decoder: the model of a single step; see `step_model`.
        decode: `decoder` as a compiled function: values of the step, then states -> outputs of the step, then states.
        graph: how the decoder was made, and what its inputs and outputs are.
        starts: the states before the first step, each `(units,)`, in the dtype of the decoder's inputs; for those that the
            encoder gives, their positions among its outputs.
        gives_probabilities: whether the first output is probabilities instead of logits.
        gives_fractions: whether the first output is between 0 and 1, but no probabilities.
        reads_in_parts: whether `SequenceReader` has compared its parts with the whole model.

    Raises:
        SteppingError: see `step_model`.
        ModelError: see `step_model`.
    """

    def __init__(
        self, model: keras.Model, inputs: Sequence[ModelInput], outputs: Sequence[int], ids: np.ndarray | None
    ):
        self.reads_in_parts = False
        self.graph = step_graph(model, inputs, outputs)
        self.decoder = decoder = self.graph.decoder
        specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in decoder.inputs]
        self.decode = tf.function(
            lambda *given: decoder([*given], training=False), input_signature=specs, autograph=False
        )
        values = probe_values(model, inputs, self.graph.frames, self.graph.look_back, self.has_values_so_far, ids)
        expected = _probed_outputs(model, self.graph, values)
        self.starts = initial_states(model, self.graph, values)
        initial = self.states_before(self.graph.at_once(values), len(values[0]))
        require_equal_steps(model, self.graph, self.decode, initial, values, expected)
        first = expected[0].values
        self.gives_probabilities: bool = are_probabilities(first)
        self.gives_fractions = not self.gives_probabilities and bool(((first > 0) & (first < 1)).all())
        if self.gives_probabilities and len(expected) == 1:
            require_single_softmax(model, self.graph, initial, values)

    @property
    def reads_tokens(self) -> bool:
        """Whether a step reads a token id and nothing else."""
        return [given.is_token for given in self.step_inputs] == [True]

    @property
    def step_inputs(self) -> list[ModelInput]:
        """The inputs of the model that are read step by step."""
        return self.graph.stepwise(self.graph.inputs)

    @property
    def inputs_at_once(self) -> list[ModelInput]:
        """The inputs of the model that are given before the first step."""
        return self.graph.at_once(self.graph.inputs)

    @property
    def has_values_so_far(self) -> bool:
        """Whether the model gives an output once, after the last step."""
        return any(output.so_far for output in self.graph.outputs)

    @property
    def has_encoder(self) -> bool:
        """Whether the states before the first step depend on what is given at once."""
        return self.graph.encoder is not None

    @property
    def initial_states(self) -> list[np.ndarray]:
        """The states before the first step, each `(units,)`, in the dtype of the decoder's inputs.

        Raises:
            SteppingError: they depend on what is given at once.
        """
        states = [start for start in self.starts if not isinstance(start, int)]
        if len(states) < len(self.starts):
            names = ", ".join(f"`{given.name}`" for given in self.inputs_at_once)
            raise SteppingError(
                f"`states` must be given, because the model begins with states that depend on {names}; "
                "`keras_seq.encode` returns them"
            )
        return states

    def states_before(self, at_once: Sequence[Any], rows: int) -> list[np.ndarray]:
        """Returns the states before the first step, each `(rows, units)`.

        Args:
            at_once: a value `(rows, ...)` for each of `inputs_at_once`.
            rows: the number of rows.
        """
        encoded = []
        if self.graph.encoder is not None:
            pairs = zip(self.inputs_at_once, at_once, strict=True)
            given = [ops.convert_to_tensor(one, wanted.tensor.dtype) for wanted, one in pairs]
            encoded = tree.flatten(self.graph.encoder(given, training=False))
        tensors = self.decoder.inputs[-self.graph.state_count :]
        return [
            np.asarray(ops.cast(encoded[start], tensor.dtype)) if isinstance(start, int) else np.tile(start, (rows, 1))
            for start, tensor in zip(self.starts, tensors, strict=True)
        ]

    def logits_of(self, outputs: Any) -> Any:
        """Returns the logits that outputs `(..., vocabulary)` of the model stand for."""
        return as_logits(outputs, self.gives_probabilities)


def stepped_language_model(model: keras.Model, ids: np.ndarray | None = None) -> SteppedModel:
    """Returns the verified one-step form of a language model: token ids `(batch, time)` -> `(batch, time, vocabulary)`.

    A model of one-hot vectors `(batch, time, vocabulary)` reads token ids too. A model may give only the logits after the
    last token, `(batch, vocabulary)`; a step then gives those so far. Its other outputs are left out.

    Args:
        model: a model that ends in logits, or in probabilities, whose logarithms are the logits.
        ids: see `stepped`.

    Raises:
        ArgumentError: see `step_model`.
        SteppingError: see `step_model`.
        ModelError: the model does not read token ids or give one number for each token; or see `step_model`.
    """
    known = _stepped(model, ids, of_text=True)
    if not known.reads_tokens:
        given = ", ".join(
            f"{one.name} ({', '.join(map(str, ('batch', 'time', *one.tensor.shape[2:])))})" for one in known.step_inputs
        )
        raise ModelError(f"`model` must take token ids alone at each step. Received: {model.name}, which takes {given}")
    (output,) = known.graph.outputs
    if known.graph.frames > 1 or output.frames > 1 or output.delay:
        raise ModelError(
            f"`model` must give logits after each token. Received: {model.name}, whose convolutions need several tokens for "
            'an output; use strides=1 and padding="causal"'
        )
    if known.gives_fractions:
        raise ModelError(
            "`model` must give logits, or probabilities that sum to one. Received: "
            f"{model.name} with outputs between 0 and 1, as a sigmoid gives them; end it in a softmax, or in no activation"
        )
    size, count = known.decoder.outputs[0].shape[-1], known.step_inputs[0].token_count or 0
    if count < size:
        raise ModelError(
            f"`model` must read every token that it predicts. Received: {model.name} with embeddings of "
            f"{count} tokens and logits of {size}"
        )
    return known


# The one-step forms of each model, with the fingerprint of the model that they were made from.
_forms: "weakref.WeakKeyDictionary[keras.Model, tuple[Any, dict[Any, SteppedModel]]]" = weakref.WeakKeyDictionary()
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
    return _stepped(model, ids, of_text=False)


def _stepped(model: keras.Model, ids: np.ndarray | None, of_text: bool) -> SteppedModel:
    require_sequence_model(model)
    one_hot = of_text and takes_one_hot(model)
    outputs = [logits_position(model)] if of_text else list(range(len(model.outputs)))
    with _lock:
        fingerprint = _fingerprint(model)
        known_fingerprint, forms = _forms.get(model, (None, {}))
        if known_fingerprint != fingerprint:
            forms = {}
        if (one_hot, *outputs) not in forms:
            forms[one_hot, *outputs] = _made(model, one_hot, outputs, ids)
        _forms[model] = fingerprint, forms
        return forms[one_hot, *outputs]


def _made(model: keras.Model, one_hot: bool, outputs: list[int], ids: np.ndarray | None) -> SteppedModel:
    """Returns the one-step form for the first choice of inputs to read step by step that is right."""
    failures: list[SteppingError] = []
    for inputs in possible_inputs(model, reads_tokens(model), one_hot):
        try:
            return SteppedModel(model, inputs, outputs, ids)
        except SteppingError as error:
            failures.append(error)
        except KerasSeqError:
            raise
        except Exception as error:  # Keras, TensorFlow and custom layers have error classes of their own.
            failures.append(SteppingError(f"`model` cannot be stepped: {reason_of(error)}"))
            failures[-1].__cause__ = error
    if not failures:
        raise SteppingError(
            "`model` must have an input to read step by step, (batch, time, ...), and all of these with as many steps. "
            f"Received: {', '.join(str(tensor.shape) for tensor in model.inputs)}"
        )
    # A state that depends on the source of a translation, read step by step, shows that this was the wrong choice.
    raise next((error for error in failures if not isinstance(error, StateOfSequence)), failures[0])


def _probed_outputs(model: keras.Model, graph: StepGraph, values: list[np.ndarray]) -> list[Expected]:
    """Returns the outputs of the model on the probe.

    Raises:
        ModelError: the model fails, gives no output for each step, or one is NaN.
    """
    steps = step_count(graph, values)
    try:
        expected = expected_outputs(model, graph, values)
    except Exception as error:  # Each backend, and each custom layer, has its own error classes.
        raise ModelError(f"`model` fails on {steps} random steps of its input: {reason_of(error)}") from error
    for output, one in zip(graph.outputs, expected, strict=True):
        if not output.so_far and len(one.steps) != steps - output.delay:
            raise ModelError(
                "`model` must give an output after each step, (batch, time, ...). "
                f"Received: {model.name} with an output of shape {model.outputs[output.position].shape}"
            )
    if any(np.isnan(one.values).any() for one in expected):
        advice = (
            "although its weights are finite; use an operation that is defined for every input"
            if has_finite_weights(model)
            else "because a weight is not finite; train again with gradient clipping or a lower learning rate"
        )
        raise ModelError(f"`model` gives NaN on random steps, {advice}. Received: {model.name}")
    return expected


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
