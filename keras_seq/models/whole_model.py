"""The outputs of a model over whole sequences: what every other form of the model is compared with."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops, tree

from keras_seq.models.carried_states import is_stateful, read_states, reset_states, write_states
from keras_seq.models.graph import run_graph
from keras_seq.models.recurrent_call import without_carried_state

_MOST_EAGER_STEPS = 64


def whole_outputs(model: keras.Model, rows: np.ndarray) -> np.ndarray:
    """Returns the outputs of a model itself for sequences read from the start, `(rows, steps, ...)` float32.

    The states that the model carries from batch to batch, if any, are zero at the start, and restored afterwards.

    Args:
        model: a Sequential or Functional model; its batch size and number of steps may be fixed.
        rows: token ids `(rows, steps)` or frames `(rows, steps, ...)`, not more steps than the model takes.
    """
    count, steps = rows.shape[:2]
    size = model.inputs[0].shape[0] or count

    def call(batch: Any) -> Any:
        given = batch if isinstance(model, keras.Sequential) else tree.pack_sequence_as(model.input, [batch])
        (output,) = tree.flatten(model(given, training=False))
        return output

    batches = [ops.convert_to_tensor(as_batch(model, rows[first : first + size])) for first in range(0, count, size)]
    if steps > _MOST_EAGER_STEPS:
        # A graph of 256 steps takes 0.1 s, with its tracing; the loop of a GRU in Python 0.5. At 64 steps they are equal.
        spec = tf.TensorSpec(batches[0].shape, batches[0].dtype)
        call = tf.function(call, autograph=False).get_concrete_function(spec)
    with states_at_start(model) as reset:
        outputs = []
        for batch in batches:
            reset()
            outputs.append(np.asarray(call(batch), np.float32))
    return np.concatenate(outputs)[:count, :steps]


def as_batch(model: keras.Model, rows: np.ndarray) -> np.ndarray:
    """Returns a batch of the model's own size whose first rows and steps are `rows`.

    Rows are repeated. Steps after the last are zeros, which do not affect the steps before them in a causal model.
    """
    batch, time = model.inputs[0].shape[:2]
    rows = np.resize(rows, (batch or len(rows), *rows.shape[1:]))
    missing = max(0, (time or 0) - rows.shape[1])
    return np.pad(rows, [(0, 0), (0, missing), *[(0, 0)] * (rows.ndim - 2)])


def outputs_by_call(model: keras.Model, rows: np.ndarray) -> list[tuple[Any, list[np.ndarray]]]:
    """Returns each call in the graph of a model, in the order in which it runs: the layer or operation, and its outputs.

    Args:
        model: a Sequential or Functional model. Nested models are entered. The states that it carries are not used.
        rows: sequences for the model, `(rows, steps, ...)`.
    """
    calls = list[tuple[Any, list[np.ndarray]]]()

    def call(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = without_carried_state(operation)(*args, **kwargs)
        flat = [np.asarray(ops.cast(output, "float32"))[: len(rows)] for output in tree.flatten(outputs)]
        calls.append((operation, flat))
        return outputs

    run_graph(model, [ops.convert_to_tensor(as_batch(model, rows), model.inputs[0].dtype)], call)
    return calls


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
