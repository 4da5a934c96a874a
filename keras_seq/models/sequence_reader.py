"""Reads a long sequence in parts, with the states of a model handed from one part to the next."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops, tree

from keras_seq.errors import SteppingError
from keras_seq.keras_internals import layer_with
from keras_seq.models.difference import first_difference, tolerance_of
from keras_seq.models.graph import run_graph
from keras_seq.models.probe import probe_values
from keras_seq.models.recurrent_call import RecurrentCall, state_shapes
from keras_seq.models.step_calls import LayerStates
from keras_seq.models.step_model import SteppedModel
from keras_seq.models.whole_model import whole_outputs


class SequenceReader:
    """Runs a language model over parts of texts. It does not change the states that the model carries.

    The parts are read by the model's own layers; if these are not only recurrent ones, by one step after the other.

    Args:
        model: the model over sequences.
        stepped: its verified one-step form, whose states it has.

    Attributes:
        steps: the number of steps that each part has, except for the last; None for any.
    """

    def __init__(self, model: keras.Model, stepped: SteppedModel):
        self._by_layers = stepped.graph.is_recurrent
        self.steps: int | None = model.inputs[0].shape[1] if self._by_layers else None
        self._model, self._stepped = model, stepped
        self._steps_by_position = {step.position: step for step in stepped.graph.layer_states}
        self._functions: dict[tuple[int, ...], Any] = {}
        if self._by_layers and not stepped.reads_in_parts:
            self._require_equal_parts()
            stepped.reads_in_parts = True

    def whole(self, values: np.ndarray, at_once: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Returns the outputs `(rows, steps, ...)` float32 for whole sequences, read from the start.

        The model itself gives them. What it does not give, steps after those that it takes and values so far, its verified
        one-step form and its layers give.

        Args:
            values: token ids or frames `(rows, steps, ...)`.
            at_once: for each input that is given at once, a value `(rows, ...)`.
        """
        graph = self._stepped.graph
        time = self._stepped.step_inputs[0].tensor.shape[1] or values.shape[1]
        states = self._stepped.states_before(at_once, len(values))
        if graph.outputs[0].so_far:
            return self(values, states)[0]
        first = graph.merged([values[:, :time]], at_once)
        outputs = [whole_outputs(self._model, graph.inputs, first)[self._position][:, : values.shape[1]]]
        if values.shape[1] > time:
            _, states = self(values[:, :time], states)
        for start in range(time, values.shape[1], time):
            part, states = self(values[:, start : start + time], states)
            outputs.append(part)
        return np.concatenate(outputs, axis=1)

    def initial_states(self, rows: int) -> list[np.ndarray]:
        """Returns the states before the first step, each `(rows, units)`."""
        return [np.tile(state, (rows, 1)) for state in self._stepped.initial_states]

    def __call__(self, values: np.ndarray, states: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """Returns the outputs `(rows, steps, ...)` float32 for token ids `(rows, steps)` or frames, and the states after.

        A last part may have fewer steps than `steps`. The states after it are then of no use.
        """
        count = values.shape[1]
        missing = max(0, (self.steps or 0) - count)
        values = np.pad(values, [(0, 0), (0, missing), *[(0, 0)] * (values.ndim - 2)])
        dtype = self._stepped.decoder.inputs[0].dtype
        given = [tf.constant(values, dtype), *map(tf.convert_to_tensor, states)]
        # A graph for each shape: with an unknown number of steps, Keras 3.15 computes something else in some layers, such
        # as a TimeDistributed softmax.
        if values.shape not in self._functions:
            specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in given]
            run = self._run_layers if self._by_layers else self._run_steps
            self._functions[values.shape] = tf.function(run, autograph=False).get_concrete_function(*specs)
        outputs, states = self._functions[values.shape](*given)
        return np.asarray(outputs[:, :count], np.float32), states

    def run(self, values: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Does what a call does, in a graph: it takes and returns tensors, which gradients of the weights pass through.

        A part may have any number of steps, and the states after it are of use. The outputs have the dtype of the model.
        """
        by_layers = self._by_layers and self.steps in (None, values.shape[1])
        values = tf.cast(values, self._stepped.decoder.inputs[0].dtype)
        return (self._run_layers if by_layers else self._run_steps)(values, *states)

    def _require_equal_parts(self) -> None:
        """Requires two parts to be the whole.

        Raises:
            SteppingError: they are not.
        """
        inputs = self._stepped.graph.inputs
        (rows,) = probe_values(self._model, inputs, frames=1)
        states, outputs = self.initial_states(len(rows)), list[np.ndarray]()
        steps = self.steps or -(-rows.shape[1] // 2)
        for start in range(0, rows.shape[1], steps):
            part, states = self(rows[:, start : start + steps], states)
            outputs.append(part)
        whole = whole_outputs(self._model, inputs, [rows])[self._position][:, : rows.shape[1]]
        difference = first_difference(whole, np.concatenate(outputs, axis=1), tolerance_of(self._model))
        if difference is not None:
            raise SteppingError(
                f"`model` cannot be read in parts: its outputs differ by {difference.size:.3g} at step {difference.step}"
            )

    @property
    def _position(self) -> int:
        return self._stepped.graph.outputs[0].position

    def _run_layers(self, values: Any, *states: Any) -> tuple[Any, list[Any]]:
        """Runs the model's own layers over a part."""
        before, after, positions = list(states), list[Any](), iter(range(len(self._stepped.graph.calls)))

        def call(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            step = self._steps_by_position.get(next(positions))
            if step is None:
                return operation(*args, **kwargs)
            given, before[:] = before[: step.state_count], before[step.state_count :]
            outputs, new_states = _recurrent_part(RecurrentCall.of(operation, args, kwargs), step, given)
            after.extend(new_states)
            return outputs

        (given,) = self._stepped.graph.inputs
        outputs = run_graph(
            self._model, [given.as_model_takes(tf.cast(values, self._stepped.decoder.inputs[0].dtype))], call
        )
        return outputs[self._position], after

    def _run_steps(self, values: Any, *states: Any) -> tuple[Any, list[Any]]:
        """Runs the one-step form over a part."""
        decode, outputs = self._stepped.decode, tf.TensorArray(self._stepped.decoder.outputs[0].dtype, values.shape[1])

        def step(position: Any, outputs: Any, *states: Any) -> tuple[Any, ...]:
            output, *new_states = decode(tf.gather(values, position, axis=1), *states)
            return position + 1, outputs.write(position, output), *new_states

        _, outputs, *states = tf.while_loop(
            lambda position, *_: position < values.shape[1], step, (tf.constant(0), outputs, *states)
        )
        by_step = outputs.stack()
        return tf.transpose(by_step, [1, 0, *range(2, len(by_step.shape))]), list(states)


def _recurrent_part(call: RecurrentCall, step: LayerStates, states: list[Any]) -> tuple[Any, list[Any]]:
    """Returns what a recurrent layer returns for a part of a sequence after `states`, and the states after the part."""
    layer = call.layer
    structure = layer.get_initial_state(batch_size=1)
    count = len(tree.flatten(structure))
    shapes = state_shapes(layer)
    shaped = [ops.reshape(state, (-1, *shape)) for state, shape in zip(states[:count], shapes, strict=True)]
    given = tree.pack_sequence_as(structure, shaped)
    # With its own loop, which is twice as fast under a gradient tape as that of a stock `RNN` with its cell.
    whole = layer_with(layer, stateful=False, return_sequences=True, return_state=True)
    output, *returned = whole(call.inputs, initial_state=given, mask=call.mask)
    if step.output_state is not None:
        # Keras gives zeros for masked steps at the start; here a part before this one may have given an output.
        has_output = ops.cumsum(ops.cast(call.mask, "int32"), axis=1) > 0
        last = ops.cast(states[step.output_state], output.dtype)
        output = ops.where(has_output[:, :, None], output, last[:, None])
    last = [*tree.flatten(returned), *[output[:, -1]] * (step.state_count - count)]
    new_states = [ops.reshape(state, (-1, math.prod(state.shape[1:]))) for state in last]
    return [output, *returned] if layer.return_state else output, new_states
