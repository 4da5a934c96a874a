"""The outputs of a model over whole sequences: what every other form of the model is compared with."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops, tree

from keras_seq.models.carried_states import is_stateful, read_states, reset_states, write_states
from keras_seq.models.graph import run_graph
from keras_seq.models.inputs import ModelInput
from keras_seq.models.recurrent_call import without_carried_state

_MOST_EAGER_STEPS = 64


def whole_outputs(model: keras.Model, inputs: Sequence[ModelInput], values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the outputs of a model itself for sequences read from the start, each `(rows, ...)` float32.

    The states that the model carries from batch to batch, if any, are zero at the start, and restored afterwards.

    Args:
        model: a Sequential or Functional model; its batch size and number of steps may be fixed.
        inputs: what its inputs are.
        values: token ids `(rows, frames)` or frames `(rows, frames, ...)` of each input, not more frames than the model
            takes. Fewer are continued by zeros, which do not affect the outputs before them in a causal model.
    """
    count = len(values[0])
    size = model.inputs[0].shape[0] or count

    def call(*batch: Any) -> list[Any]:
        taken = [given.as_model_takes(one) for given, one in zip(inputs, batch, strict=True)]
        taken = taken[0] if isinstance(model, keras.Sequential) else tree.pack_sequence_as(model.input, taken)
        return tree.flatten(model(taken, training=False))

    batches = [
        as_batch(model, inputs, [one[first : first + size] for one in values]) for first in range(0, count, size)
    ]
    if max(one.shape[1] for one in batches[0] if one.ndim > 1) > _MOST_EAGER_STEPS:
        # A graph of 256 steps takes 0.1 s, with its tracing; the loop of a GRU in Python 0.5. At 64 steps they are equal.
        specs = [tf.TensorSpec(one.shape, one.dtype) for one in batches[0]]
        call = tf.function(call, autograph=False).get_concrete_function(*specs)
    with states_at_start(model) as reset:
        outputs = []
        for batch in batches:
            reset()
            outputs.append([np.asarray(one, np.float32) for one in call(*batch)])
    return [np.concatenate(of_batches)[:count] for of_batches in zip(*outputs, strict=True)]


def as_batch(model: keras.Model, inputs: Sequence[ModelInput], values: Sequence[np.ndarray]) -> list[Any]:
    """Returns a batch of the model's own size whose first rows and frames are those of `values`.

    Rows are repeated. Frames after the last are zeros.
    """
    return [_as_batch(given, one) for given, one in zip(inputs, values, strict=True)]


def _as_batch(given: ModelInput, values: np.ndarray) -> Any:
    batch, *shape = given.tensor.shape
    rows = np.resize(values, (batch or len(values), *values.shape[1:]))
    if shape and given.is_stepped:
        missing = max(0, (shape[0] or 0) - rows.shape[1])
        rows = np.pad(rows, [(0, 0), (0, missing), *[(0, 0)] * (rows.ndim - 2)])
    return ops.convert_to_tensor(rows, "int32" if given.one_hot else given.tensor.dtype)


def outputs_by_call(
    model: keras.Model, inputs: Sequence[ModelInput], values: Sequence[np.ndarray]
) -> list[tuple[Any, list[np.ndarray]]]:
    """Returns each call in the graph of a model, in the order in which it runs: the layer or operation, and its outputs.

    Args:
        model: a Sequential or Functional model. Nested models are entered. The states that it carries are not used.
        inputs: what its inputs are.
        values: see `whole_outputs`.
    """
    calls = list[tuple[Any, list[np.ndarray]]]()
    rows = len(values[0])

    def call(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = without_carried_state(operation)(*args, **kwargs)
        flat = [np.asarray(ops.cast(output, "float32"))[:rows] for output in tree.flatten(outputs)]
        calls.append((operation, flat))
        return outputs

    run_on_values(model, inputs, values, call)
    return calls


def run_on_values(
    model: keras.Model, inputs: Sequence[ModelInput], values: Sequence[np.ndarray], call: Callable[..., Any]
) -> list[Any]:
    """Runs the graph of a model on values, see `whole_outputs`, with `run_graph`."""
    batch = as_batch(model, inputs, values)
    return run_graph(model, [given.as_model_takes(one) for given, one in zip(inputs, batch, strict=True)], call)


@contextlib.contextmanager
def states_at_start(model: keras.Model) -> Iterator[Callable[[], None]]:
    """Yields a function that sets the carried states of a model to zero; restores them at the end."""
    if not is_stateful(model):
        yield lambda: None
        return
    kept = read_states(model)
    try:
        yield lambda: reset_states(model)
    finally:
        write_states(model, kept)
