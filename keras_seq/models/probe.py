"""Random sequences for a model, on which two forms of it are compared."""

import itertools

import keras
import numpy as np

from keras_seq.keras_internals import SymbolicCall, all_layers, calls_in_order
from keras_seq.models.graph import has_graph
from keras_seq.models.whole_model import whole_outputs

ROWS, STEPS = 4, 64


def probe_rows(model: keras.Model, tokens: bool, ids: np.ndarray | None = None) -> np.ndarray:
    """Returns sequences on which two forms of a model are compared, `(rows, steps, ...)`, the same on every call.

    Args:
        model: a Sequential or Functional model.
        tokens: whether the model reads token ids, otherwise frames.
        ids: token ids of a text, with which the last row begins; or None. Ids that the model does not know are left
            out: the caller reports that the vocabulary is not the model's.
    """
    rows = random_rows(model, tokens, ROWS, min(STEPS, model.inputs[0].shape[1] or STEPS))
    if tokens and ids is not None:
        first = np.asarray(ids[: rows.shape[1]], np.int32)
        first = first[first < token_count(model)]
        rows[-1, : len(first)] = first
    return rows


def random_rows(model: keras.Model, tokens: bool, rows: int, steps: int) -> np.ndarray:
    """Returns random token ids `(rows, steps)` or frames `(rows, steps, ...)`, the same on every call.

    Some steps are those that a mask would skip: token 0, or a frame of zeros or of the value of a `Masking` layer. They
    are at other positions in each row; the second row begins with them.
    """
    (sequence,) = model.inputs
    random = np.random.default_rng(0)
    shape = (rows, steps, *sequence.shape[2:])
    if tokens:
        values = random.integers(0, token_count(model), shape).astype(np.int32)
    elif _is_integer(sequence):
        return random.integers(0, 2, shape).astype(sequence.dtype)
    else:
        values = random.normal(size=shape).astype(np.float32)
    layers = [] if tokens else all_layers(model)
    masked = [0, *(layer.mask_value for layer in layers if isinstance(layer, keras.layers.Masking))]
    for row, index in itertools.product(range(rows), range(len(masked))):
        values[row, (5 * row + index) % 10 :: 13] = masked[index]
    if rows > 1:
        values[1, :2] = masked[-1]
    return values


def reads_tokens(model: keras.Model) -> bool:
    """Returns whether a model reads token ids `(batch, time)`, also as floats, instead of real-valued frames.

    Embeddings ignore the fractional part of an id. A model whose outputs change with it reads real values, and so does
    one that makes no integers of its inputs.
    """
    (sequence,) = model.inputs
    if len(sequence.shape) > 2:
        return False
    if _is_integer(sequence):
        return True
    if not any(_takes_ids(call) for call in calls_in_order(model)):
        return False
    ids = probe_rows(model, tokens=True).astype(np.float32)
    return np.allclose(whole_outputs(model, ids), whole_outputs(model, ids + 0.25), equal_nan=True)


def _is_integer(tensor: keras.KerasTensor) -> bool:
    return "float" not in keras.backend.standardize_dtype(tensor.dtype)


def _takes_ids(call: SymbolicCall) -> bool:
    """Returns whether a call looks up embeddings, makes integers of real values, or contains such calls."""
    operation = call.operation
    if has_graph(operation):
        return any(_takes_ids(inner) for inner in calls_in_order(operation))
    return isinstance(operation, keras.layers.Embedding) or any(map(_is_integer, call.outputs))


def token_count(model: keras.Model) -> int:
    """Returns the number of token ids that a model reads: that of its first embeddings, or else that of its outputs."""
    counts = _embeddings_of(model.inputs[0], model)
    return min(counts, default=max(2, model.outputs[0].shape[-1] or 2))


def _embeddings_of(tensor: keras.KerasTensor, model: keras.Model) -> list[int]:
    """Returns the number of ids of each embedding that a symbolic tensor in the graph of a model is given to."""
    counts = []
    for call in calls_in_order(model):
        if any(given is tensor for given in call.inputs):
            if isinstance(call.operation, keras.layers.Embedding):
                counts.append(call.operation.input_dim)
            elif has_graph(call.operation) and len(call.operation.inputs) == 1:
                counts += _embeddings_of(call.operation.inputs[0], call.operation)
    return counts
