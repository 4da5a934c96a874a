"""The states of a model before the first step of a sequence."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_seq.models.graph import StateOfSequence
from keras_seq.models.recurrent_call import RecurrentCall, without_carried_state
from keras_seq.models.step_calls import LayerStates
from keras_seq.models.step_comparison import first_steps, step_count
from keras_seq.models.step_graph import StepGraph
from keras_seq.models.whole_model import run_on_values


def initial_states(model: keras.Model, graph: StepGraph, values: Sequence[np.ndarray]) -> list[np.ndarray | int]:
    """Returns the states before the first step, each `(units,)`, in the order and dtypes of the decoder's inputs.

    Args:
        model: the model over sequences.
        graph: its one-step form.
        values: different sequences for the model, as `probe_values` returns them.

    Returns:
        Arrays; for a state that the encoder gives, its position among the outputs of the encoder.

    Raises:
        SteppingError: the states that a recurrent layer is given depend on the sequence. The message names the layer.
    """
    inputs = graph.decoder.inputs[-graph.state_count :]
    states: list[Any] = [np.zeros(tensor.shape[1:], np.float32) for tensor in inputs]
    recurrent = [step for step in graph.layer_states if step.is_recurrent]
    sequences = [values]
    if any(step.has_given_states for step in recurrent):
        # Other lengths too: a state may depend on them, or hardly change after many steps.
        steps = step_count(graph, values)
        sequences += [first_steps(graph, values, count) for count in (-(-steps // 3), 1)]
    by_sequence = [_recurrent_calls(model, graph, one, recurrent) for one in sequences]
    for step, calls in zip(recurrent, zip(*by_sequence, strict=True), strict=True):
        for index, of_calls in enumerate(zip(*(call.states_before() for call in calls), strict=True), step.first):
            if graph.encoded[index] is not None:
                continue
            both = np.concatenate([np.reshape(one, (len(one), -1)) for one in of_calls])
            if not np.allclose(both, both[:1], rtol=1e-5, atol=1e-6):
                raise StateOfSequence(step.layer)
            states[index] = both[0]
    return [
        state.astype(tensor.dtype) if position is None else position
        for position, state, tensor in zip(graph.encoded, states, inputs, strict=True)
    ]


def _recurrent_calls(
    model: keras.Model, graph: StepGraph, values: Sequence[np.ndarray], recurrent: list[LayerStates]
) -> list[RecurrentCall]:
    """Returns the calls of the recurrent layers in the graph of the whole model."""
    if not any(step.has_given_states for step in recurrent):
        return [RecurrentCall(step.layer, values[0][:1], None, None) for step in recurrent]
    calls, positions = dict[int, RecurrentCall](), itertools.count()

    def call(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        position = next(positions)
        if isinstance(operation, keras.layers.RNN):
            calls[position] = RecurrentCall.of(operation, args, kwargs)
        return without_carried_state(operation)(*args, **kwargs)

    run_on_values(model, graph.inputs, values, call)
    return [calls[step.position] for step in recurrent]
