"""The states of a model before the first step of a sequence."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_seq.errors import SteppingError
from keras_seq.models.graph import cannot_be_stepped
from keras_seq.models.inputs import ModelInput
from keras_seq.models.recurrent_call import RecurrentCall, without_carried_state
from keras_seq.models.step_calls import LayerStates
from keras_seq.models.step_graph import StepGraph
from keras_seq.models.whole_model import run_on_values


class StateOfSequence(SteppingError):
    """A recurrent layer begins with a state that depends on what is read step by step."""


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
    # Another length too: a state may depend on it.
    shorter = [_beginning(*pair, graph.frames) for pair in zip(graph.inputs, values, strict=True)]
    calls = _recurrent_calls(model, graph, values, recurrent)
    for step, call, other in zip(recurrent, calls, _recurrent_calls(model, graph, shorter, recurrent), strict=True):
        pairs = zip(call.states_before(), other.states_before(), strict=True)
        for index, pair in enumerate(pairs, step.first):
            if graph.encoded[index] is not None:
                continue
            both = np.concatenate([np.reshape(one, (len(one), -1)) for one in pair])
            if not np.allclose(both, both[:1], rtol=1e-5, atol=1e-6):
                raise StateOfSequence(
                    str(cannot_be_stepped(step.layer, "the initial_state that it is given depends on the sequence"))
                )
            states[index] = both[0]
    return [
        state.astype(tensor.dtype) if position is None else position
        for position, state, tensor in zip(graph.encoded, states, inputs, strict=True)
    ]


def _beginning(given: ModelInput, values: np.ndarray, frames: int) -> np.ndarray:
    """Returns the first third of the steps of an input that is read step by step; of any other input, all."""
    return values[:, : frames * -(-values.shape[1] // frames // 3)] if given.is_stepped else values


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
