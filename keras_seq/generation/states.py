"""The states that a text starts from: the model's own, those of an encoder, or those of an earlier text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ArgumentError
from keras_seq.generation.decoder_step import Step, token_ids


class TextStates(NamedTuple):
    """The states of a model within a text. The same model continues the text from them, in any runtime.

    Another model may have states of the same shapes. They mean nothing to each other, and no error says so.

    Attributes:
        arrays: one float32 array `(1, units)` for each state, after everything before `token`.
        token: id of the last token of the text, or of its prompt. The model has not read it yet.

    Example:
        >>> import tempfile
        >>> from keras_seq import language_model, sample
        >>> vocabulary = Vocabulary.from_text("to be or not to be")
        >>> model, path = language_model(len(vocabulary), units=[8]), tempfile.mkdtemp() + "/text.npz"
        >>> states = sample(model, vocabulary, "to ", max_tokens=5).states
        >>> np.savez(path, *states.arrays, token=states.token)
        >>> saved = np.load(path)
        >>> states = TextStates([saved["arr_0"]], saved["token"])
        >>> len(sample(model, vocabulary, states=states, max_tokens=5)) <= 5
        True
    """

    arrays: Sequence[Any]
    token: int


def start_of(step: Step, vocabulary: Vocabulary, states: Any) -> tuple[int, Any]:
    """Returns the first token that the model reads, and the states before it in the form of `step`.

    Args:
        step: the model.
        vocabulary: the vocabulary of the model.
        states: see `keras_seq.generation.text.Options`.

    Raises:
        ArgumentError: the arrays do not fit the states of the model, or the token is outside the vocabulary.
        ModelError: the model has no initial states of its own and `states` is None, or it cannot be given states.
    """
    if states is None:
        return vocabulary.start_id, step.initial_states()
    if not isinstance(states, TextStates):
        return vocabulary.start_id, step.states_of(states)
    token = token_ids(states.token, "states.token")
    in_range = token.shape == () and 0 <= int(token) < len(vocabulary)
    require.that(in_range, "states.token", f"the id of a token, from 0 to {len(vocabulary) - 1}", states.token)
    return int(token), step.states_of(states.arrays)


def checked_arrays(arrays: Any, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Returns copies of a caller's states as float32 arrays of `shapes`. The batch dimension may be missing.

    Args:
        arrays: a list of real arrays, such as NumPy's or TensorFlow's.
        shapes: the shape of each state of a single text, `(1, units)`.

    Raises:
        ArgumentError: it is not a list, or an array has another shape, is not real, or is not finite.

    Example:
        >>> checked_arrays([np.zeros(2), np.ones((1, 3))], [(1, 2), (1, 3)])[0].shape
        (1, 2)
        >>> checked_arrays([np.zeros(2)], [(1, 4)])
        Traceback (most recent call last):
        keras_seq.errors.ArgumentError: `states` must be a list of 1 arrays, of the shapes [(1, 4)]. Received: \
states=[(2,)]
    """
    expected = f"a list of {len(shapes)} arrays, of the shapes {list(shapes)}"
    require.that(isinstance(arrays, list | tuple), "states", expected, type(arrays))
    try:
        given = [np.asarray(array) for array in arrays]
    except (TypeError, ValueError) as error:  # Rows of different lengths, or a symbolic tensor.
        raise ArgumentError("states", expected, [type(array) for array in arrays]) from error
    found = [array.shape for array in given]
    if len(found) != len(shapes) or any(
        one not in (shape, shape[1:]) for one, shape in zip(found, shapes, strict=True)
    ):
        raise ArgumentError("states", expected, found)
    for array in given:
        is_real = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
        require.that(is_real, "states", "arrays of floating-point numbers", array.dtype.name)
    with np.errstate(over="ignore"):  # A number too large for float32 becomes infinite.
        checked = [np.array(array, np.float32).reshape(shape) for array, shape in zip(given, shapes, strict=True)]
    for index, array in enumerate(checked):
        if not (finite := np.isfinite(array)).all():
            raise ArgumentError(f"states[{index}]", "finite float32 numbers", float(array[~finite][0]))
    return checked
