"""The states of a model before the first step of a sequence."""

import itertools
from typing import Any

import keras
import numpy as np

from keras_seq.models.graph import cannot_be_stepped, run_graph
from keras_seq.models.recurrent_call import RecurrentCall, without_carried_state
from keras_seq.models.step_graph import StepGraph
from keras_seq.models.whole_model import as_batch


def initial_states(model: keras.Model, graph: StepGraph, rows: np.ndarray) -> list[np.ndarray]:
    """Returns the states before the first step, each `(units,)`, in the order and dtypes of the decoder's inputs.

    Args:
        model: the model over sequences.
        graph: its one-step form.
        rows: different sequences for the model, `(rows, steps, ...)`.

    Raises:
        SteppingError: the states that a recurrent layer is given depend on the sequence. The message names the layer.
    """
    inputs, states = graph.decoder.inputs[1:], list[np.ndarray]()
    # Another length too: a state may depend on it.
    shorter = _recurrent_calls(model, graph, rows[:, : -(-rows.shape[1] // 3)])
    for step, call, other in zip(graph.layer_states, _recurrent_calls(model, graph, rows), shorter, strict=True):
        last = len(states) + step.state_count
        for values, others in zip(call.states_before(), other.states_before(), strict=True):
            values = np.concatenate([values, others])
            if not np.allclose(values, values[:1], rtol=1e-5, atol=1e-6):
                raise cannot_be_stepped(step.layer, "the initial_state that it is given depends on the sequence")
            states.append(values[0])
        # What is left is the output before the first step.
        states.extend(np.zeros(tensor.shape[1:], np.float32) for tensor in inputs[len(states) : last])
    return [value.astype(tensor.dtype) for value, tensor in zip(states, inputs, strict=True)]


def _recurrent_calls(model: keras.Model, graph: StepGraph, rows: np.ndarray) -> list[RecurrentCall]:
    """Returns the calls of the recurrent layers in the graph of the whole model."""
    if not any(step.has_given_states for step in graph.layer_states):
        return [RecurrentCall(step.layer, rows[:1], None, None) for step in graph.layer_states]
    calls, positions = dict[int, RecurrentCall](), itertools.count()

    def call(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        position = next(positions)
        if isinstance(operation, keras.layers.RNN):
            calls[position] = RecurrentCall.of(operation, args, kwargs)
        return without_carried_state(operation)(*args, **kwargs)

    run_graph(model, [keras.ops.convert_to_tensor(as_batch(model, rows), model.inputs[0].dtype)], call)
    return [calls[step.position] for step in graph.layer_states]
