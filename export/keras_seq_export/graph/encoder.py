"""The signature `encode`: what a model takes at once -> the states before the first step."""

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops, tree

from keras_seq.keras_internals import all_layers, mask_of, set_mask, with_inner_loop
from keras_seq.models.graph import label, run_graph
from keras_seq.models.inputs import ModelInput
from keras_seq.models.window_step import window_of
from keras_seq_export.errors import ExportError
from keras_seq_export.graph.endpoints import Endpoint, named_states
from keras_seq_export.graph.step import GraphStep, signature_dtype
from keras_seq_export.signatures import LENGTH

SOURCE_STEPS = 64  # frames of a source that one call of `encode` takes in a .tflite


def length_name(given: ModelInput, inputs: Sequence[ModelInput]) -> str | None:
    """Returns the name of the input for the length of one that is given at once; None if it is no source of any length."""
    if not given.has_length:
        return None
    return LENGTH if sum(one.has_length for one in inputs) == 1 else f"{given.name}_{LENGTH}"


def encode_endpoint(step: GraphStep, batch: int | None, source_steps: int | None = SOURCE_STEPS) -> Endpoint:
    """Returns the function and the input signature of `encode`.

    A source is padded to `source_steps` frames, of which the first `length` are read, at least one. The encoder sees the
    whole source, so it may look ahead, as a Bidirectional does.

    Args:
        step: the model.
        batch: the batch size; None leaves it open.
        source_steps: number of frames of a source of any length; None leaves it open.
    """
    inputs = step.stepped.inputs_at_once

    def encode(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        values, lengths = given[: len(inputs)], iter(given[len(inputs) :])
        masks = [
            tf.sequence_mask(next(lengths), tf.shape(value)[1]) if one.has_length else None
            for one, value in zip(inputs, values, strict=True)
        ]
        typed = [ops.cast(value, one.tensor.dtype) for one, value in zip(inputs, values, strict=True)]
        encoded = _encoded(step.stepped.graph.encoder, typed, masks)
        return named_states(_states(step, encoded, tf.shape(values[0])[0]))

    specs = [
        tf.TensorSpec(
            [batch, *([source_steps] if one.has_length else one.tensor.shape[1:2]), *one.tensor.shape[2:]],
            signature_dtype(one.tensor),
            one.name,
        )
        for one in inputs
    ]
    lengths = [name for name in (length_name(one, inputs) for one in inputs) if name is not None]
    return encode, [*specs, *(tf.TensorSpec([batch], tf.int32, name) for name in lengths)]


def _states(step: GraphStep, encoded: list[tf.Tensor], rows: tf.Tensor) -> list[tf.Tensor]:
    """Returns all states before the first step: those that the encoder gives, and those with a value of their own."""
    return [
        tf.cast(encoded[start], tf.float32)
        if isinstance(start, int)
        else tf.broadcast_to(tf.constant(start, tf.float32), [rows, len(start)])
        for start in step.stepped.starts
    ]


def _encoded(encoder: keras.Model, values: list[tf.Tensor], masks: list[tf.Tensor | None]) -> list[tf.Tensor]:
    """Returns the outputs of the encoder; frames outside the masks `(batch, frames)` do not affect them."""
    # The mask of each sequence by its identity, beside the sequence itself: an identity may be used again.
    known = {id(value): (value, mask) for value, mask in zip(values, masks, strict=True) if mask is not None}
    refused: list[ExportError] = []

    def call(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        sequence, mask = next(
            (known[id(one)] for one in tree.flatten((args, kwargs)) if id(one) in known), (None, None)
        )
        if mask is not None:
            args, kwargs = tree.map_structure(lambda one: _masked(one, mask, operation), (args, kwargs))
            if kwargs.get("mask") is not None:
                kwargs["mask"] = mask & tf.cast(kwargs["mask"], tf.bool)
        with with_inner_loop(_recurrent_layers(operation), _dense_loop):
            outputs = operation(*args, **kwargs)
        if sequence is not None and mask is not None:
            # A vector may have as many numbers as the source has frames, but is no sequence of vectors.
            rank = 2 if len(sequence.shape) == 2 else 3
            sequences = [one for one in tree.flatten(outputs) if _has_frames(one, mask, rank)]
            if _may_read_padding(operation, bool(sequences)):
                refused.append(_reads_padding(operation))
            known.update({id(one): (one, mask) for one in sequences})
        return outputs

    outputs = run_graph(encoder, values, call)
    if refused:  # Raised here, because Keras words an error inside a layer anew.
        raise refused[0]
    return outputs


def _recurrent_layers(operation: Any) -> list[keras.layers.RNN]:
    """Returns the recurrent layers in a layer; none for an operation."""
    parts = all_layers(operation) if isinstance(operation, keras.layers.Layer) else []
    return [layer for layer in parts if isinstance(layer, keras.layers.RNN)]


def _has_frames(value: Any, mask: tf.Tensor, rank: int = 3) -> bool:
    """Returns whether a value is a sequence `(batch, frames, ...)` of some rank at least, with the frames of a mask."""
    return len(getattr(value, "shape", ())) >= rank and value.shape[1] == mask.shape[1]


def _may_read_padding(operation: Any, keeps_frames: bool) -> bool:
    """Returns whether a call may mix the frames of a source with those after its end."""
    window = window_of(operation, looks_ahead=True)
    if window is not None and (window.stride > 1 or operation.padding == "valid"):
        keeps_frames = False
    takes_mask = "mask" in inspect.signature(operation.call).parameters
    return not keeps_frames and not takes_mask and not isinstance(operation, keras.layers.GlobalMaxPooling1D)


def _reads_padding(operation: Any) -> ExportError:
    return ExportError(
        f"{label(operation)} cannot be in the encoder of a source of any length: it does not ignore the frames after the end "
        "of the source; give the source a fixed length"
    )


def _masked(value: Any, mask: tf.Tensor, operation: Any) -> Any:
    """Returns an argument of a call, with a mask attached to a sequence; without its frames if the call takes no mask."""
    if not isinstance(operation, keras.layers.Layer) or not _has_frames(value, mask):
        return value
    if operation.supports_masking:
        own = mask_of(value)
        set_mask(value, mask if own is None else mask & tf.cast(own, tf.bool))
        return value
    # A convolution at the end of the source would see the padding, and a maximum would take it.
    is_maximum = isinstance(operation, keras.layers.GlobalMaxPooling1D)
    keeps = mask[(..., *[tf.newaxis] * (len(value.shape) - 2))]
    return tf.where(keeps, value, tf.fill(tf.shape(value), value.dtype.min) if is_maximum else tf.zeros_like(value))


def _dense_loop(
    layer: keras.layers.RNN, sequences: tf.Tensor, initial_state: Any, mask: Any, training: bool = False
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """Runs the cell of a recurrent layer over a sequence, as `keras.layers.RNN.inner_loop` does.

    Keras collects the outputs in a TensorArray, which a .tflite cannot hold; here they are in one tensor.
    """
    steps, states = sequences.shape[1], tree.flatten(initial_state)
    steps = tf.shape(sequences)[1] if steps is None else steps
    mask = tree.flatten(mask)[0] if mask is not None else None
    output, _ = layer.cell(sequences[:, 0], initial_state)
    blank = tf.zeros_like(output)
    count = steps if layer.return_sequences else 1
    outputs = tf.zeros_like(tf.repeat(output[:, None], count, axis=1))

    def step(position: tf.Tensor, last: tf.Tensor, outputs: tf.Tensor, *states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        frame = steps - 1 - position if layer.go_backwards else position
        output, new_states = layer.cell(
            tf.gather(sequences, frame, axis=1), tree.pack_sequence_as(initial_state, list(states))
        )
        new_states = tree.flatten(new_states)
        if mask is not None:
            keeps = tf.gather(mask, frame, axis=1)[:, None]
            output = tf.where(keeps, output, blank if layer.zero_output_for_mask else last)
            new_states = [tf.where(keeps, new, old) for new, old in zip(new_states, states, strict=True)]
        here = tf.one_hot(position if layer.return_sequences else 0, count, dtype=outputs.dtype)
        here = tf.reshape(here, [1, -1, *[1] * (len(outputs.shape) - 2)])
        return position + 1, output, outputs * (1 - here) + output[:, None] * here, *new_states

    _, last, outputs, *states = tf.while_loop(
        lambda position, *_: position < steps, step, (tf.constant(0), blank, outputs, *states)
    )
    return last, outputs, tree.pack_sequence_as(initial_state, states)
