"""The signature `encode`: what a model takes at once -> the states before the first step."""

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops, tree

from keras_seq.keras_internals import all_layers, mask_of, with_inner_loop
from keras_seq.models.graph import run_graph
from keras_seq.models.inputs import ModelInput
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

    def call(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first, of_source = next(
            (known[id(one)] for one in tree.flatten((args, kwargs)) if id(one) in known), (None, None)
        )
        mask = of_source if len(getattr(first, "shape", ())) > 2 else None
        if mask is not None and "mask" in inspect.signature(operation.call).parameters:
            own = mask_of(first) if kwargs.get("mask") is None else kwargs["mask"]
            kwargs = {**kwargs, "mask": mask if own is None else mask & tf.cast(own, tf.bool)}
        elif mask is not None and isinstance(operation, keras.layers.Layer):
            # A convolution at the end of the source would see the padding.
            args = tree.map_structure(lambda one: _zeroed(one, mask), args)
        loops = (
            []
            if not isinstance(operation, keras.layers.Layer)
            else [layer for layer in all_layers(operation) if isinstance(layer, keras.layers.RNN)]
        )
        with with_inner_loop(loops, _dense_loop):
            outputs = operation(*args, **kwargs)
        if of_source is not None:
            sequences = [one for one in tree.flatten(outputs) if len(getattr(one, "shape", ())) > 2]
            known.update({id(one): (one, of_source) for one in sequences if one.shape[1] == of_source.shape[1]})
        return outputs

    return run_graph(encoder, values, call)


def _zeroed(value: Any, mask: tf.Tensor) -> Any:
    """Returns frames with zeros outside a mask; anything else as it is."""
    if len(getattr(value, "shape", ())) < 3 or value.shape[1] != mask.shape[1]:
        return value
    keeps = mask[(..., *[tf.newaxis] * (len(value.shape) - 2))]
    return tf.where(keeps, value, tf.zeros_like(value))


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
