"""The states with which a decoder begins, from what its model takes at once: `keras_seq.encode`."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_seq import require
from keras_seq.errors import ArgumentError, ModelError
from keras_seq.models.inputs import ModelInput
from keras_seq.models.step_model import stepped


def encode(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    """Returns the states with which a model begins, from the inputs that it takes at once: a source, or a context.

    The encoder sees a whole source, so it may look ahead, as a Bidirectional does. Only what runs step by step after it
    must be causal.

    Args:
        model: a model whose initial states, or values in each step, depend on an input that is not read step by step, such
            as the source of a translation `(rows, frames, ...)` or the vector of a speaker `(rows, size)`.
        inputs: an array of such values with one row for each sequence, or without the axis of rows for one. For several
            such inputs, a dictionary with their names, or a list in the order in which the model has them.

    Returns:
        The states in the order of the decoder's inputs, each `(rows, units)`.

    Raises:
        ModelError: the model takes nothing at once.
        ArgumentError: an input is missing, or has another shape.
        SteppingError: the model cannot be run one step at a time.

    Example:
        >>> from keras import layers
        >>> source, target = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
        >>> _, state = layers.GRU(4, return_state=True)(layers.Bidirectional(
        ...     layers.GRU(3, return_sequences=True))(layers.Embedding(9, 5)(source)))
        >>> x = layers.GRU(4, return_sequences=True)(layers.Embedding(7, 5)(target), initial_state=state)
        >>> translation = keras.Model([source, target], layers.Dense(7)(x))
        >>> [state.shape for state in encode(translation, np.array([3, 1, 4, 1, 5]))]
        [(1, 4)]
    """
    known = stepped(model)
    wanted = known.inputs_at_once
    if not wanted:
        names = ", ".join(f"`{given.name}`" for given in known.step_inputs)
        raise ModelError(
            f"`model` must take an input at once. Received: {model.name}, which reads {names} step by step"
        )
    values = [
        require.rows(given.name, one, given.tensor.shape[1:], given.tensor.dtype, given.token_count)
        for given, one in zip(wanted, _in_order(inputs, wanted), strict=True)
    ]
    rows = len(values[0])
    for given, one in zip(wanted, values, strict=True):
        if len(one) != rows:
            raise ArgumentError(given.name, f"of {rows} rows, as `{wanted[0].name}`", f"{len(one)} rows")
    return known.states_before(values, rows)


def _in_order(inputs: Any, wanted: Sequence[ModelInput]) -> list[Any]:
    """Returns what was given for each input."""
    names = [given.name for given in wanted]
    if isinstance(inputs, Mapping):
        own = {given.tensor.name: given.name for given in wanted}  # the names that the user gave the inputs
        inputs = {own.get(name, name): value for name, value in inputs.items()}
        if sorted(inputs) != sorted(names):
            raise ArgumentError("inputs", f"a dictionary with {', '.join(names)}", ", ".join(map(str, inputs)))
        return [inputs[name] for name in names]
    is_list = isinstance(inputs, list | tuple) and all(np.ndim(one) > 0 for one in inputs)
    # A list of numbers, or of rows, is the value of an only input.
    given = list(inputs) if is_list and (len(names) > 1 or len(inputs) == 1) else [inputs]
    if len(given) != len(names):
        raise ArgumentError(
            "inputs", f"a list or dictionary with a value for {', '.join(names)}", f"{len(given)} values"
        )
    return given
