"""Random sequences for a model, on which two forms of it are compared."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_seq.keras_internals import all_layers, calls_in_order
from keras_seq.models.inputs import ModelInput, is_integer, possible_inputs, random_values, takes_ids
from keras_seq.models.whole_model import whole_outputs

ROWS, STEPS = 4, 64
_STEPS_OF_LOOPS = 16
_AT_ONCE = 11  # frames of a source, other than the number of steps
_MOST_FRAMES = 4096  # of which several rows are read


def probe_values(
    model: keras.Model,
    inputs: Sequence[ModelInput],
    frames: int = 1,
    look_back: int = 0,
    whole: bool = False,
    ids: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Returns sequences on which two forms of a model are compared, the same on every call.

    Args:
        model: a Sequential or Functional model.
        inputs: what its inputs are.
        frames: number of frames in a step.
        look_back: number of steps that the model looks back, beside its recurrent layers.
        whole: whether all steps are needed that the model takes, if it takes a fixed number.
        ids: token ids of a text, with which the last row begins; or None. Ids that the model does not know are left
            out: the caller reports that the vocabulary is not the model's.

    Returns:
        For each input token ids `(rows, frames)`, frames `(rows, frames, ...)`, or what is given at once `(rows, ...)`.
    """
    length = next(given.tensor.shape[1] for given in inputs if given.is_stepped)
    most = min(steps_to_compare(STEPS, look_back), most_steps(model))
    steps = most if length is None else length // frames if whole else min(most, length // frames)
    rows = ROWS if steps * frames <= _MOST_FRAMES // 4 else 2
    values = random_rows(model, inputs, rows, steps * frames)
    for given, one in zip(inputs, values, strict=True):
        if ids is not None and given.is_stepped and given.token_count is not None:
            first = np.asarray(ids[: one.shape[1]], np.int32)
            first = first[first < given.token_count]
            one[-1, : len(first)] = first
    return values


def steps_to_compare(few: int, look_back: int) -> int:
    """Returns how many steps of a model show all that it looks back: `few`, or more."""
    return max(few, look_back + 16)


def most_steps(model: keras.Model) -> int:
    """Returns how many steps of a model are compared at most; few if Keras loops over a recurrent layer in each step."""
    inner = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.TimeDistributed)]
    has_loops = any(isinstance(part, keras.layers.RNN) for layer in inner for part in all_layers(layer))
    return _STEPS_OF_LOOPS if has_loops else _MOST_FRAMES


def random_rows(model: keras.Model, inputs: Sequence[ModelInput], rows: int, length: int) -> list[np.ndarray]:
    """Returns random values for each input of a model; see `random_values`.

    Args:
        model: a Sequential or Functional model.
        inputs: what its inputs are.
        rows: number of rows.
        length: number of frames that are read step by step.
    """
    masked = [0, *(layer.mask_value for layer in all_layers(model) if isinstance(layer, keras.layers.Masking))]
    # Several sources have different lengths, so that none is mistaken for another.
    return [
        random_values(
            given, rows, length if given.is_stepped else max(2, _AT_ONCE - index), [0] if given.is_token else masked
        )
        for index, given in enumerate(inputs)
    ]


def reads_tokens(model: keras.Model) -> bool:
    """Returns whether an only input of a model takes token ids `(batch, time)`, also as floats, instead of real numbers.

    Embeddings ignore the fractional part of an id. A model whose outputs change with it reads real values, and so does
    one that makes no integers of its inputs.
    """
    if len(model.inputs) > 1 or len(model.inputs[0].shape) != 2:
        return False
    if is_integer(model.inputs[0]):
        return True
    if not any(takes_ids(call) for call in calls_in_order(model)):
        return False
    inputs = next(possible_inputs(model, tokens=True, one_hot=False))
    (ids,) = probe_values(model, inputs, frames=1, whole=True)
    inputs = next(possible_inputs(model, tokens=False, one_hot=False))
    whole, fractional = (whole_outputs(model, inputs, [ids + np.float32(shift)]) for shift in (0, 0.25))
    return all(np.allclose(one, other, equal_nan=True) for one, other in zip(whole, fractional, strict=True))
