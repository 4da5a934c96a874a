"""Random values for what a model takes at once, and the states that the model itself begins with for them."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_seq.models.probe import random_rows
from keras_seq_export.graph.encoder import length_name
from keras_seq_export.graph.step import GraphStep, signature_dtype

_LENGTHS = (11, 4, 1, 7)  # frames of a source that are read, row by row; the frames after them are random too


class AtOnce(NamedTuple):
    """What is given at once to each row of a batch.

    Attributes:
        inputs: the inputs of `encode`, with a row for each of the batch; none without an encoder.
        rows: for each row, a value `(1, ...)` for each input of the model that is given at once, without padding.
        states: for each row, the states before the first step, each `(1, units)` float32, as the model has them.
    """

    inputs: dict[str, np.ndarray]
    rows: list[list[np.ndarray]]
    states: list[list[np.ndarray]]

    @classmethod
    def random(cls, model: keras.Model, step: GraphStep, rows: int) -> "AtOnce":
        """Returns random values, the same on every call.

        Args:
            model: the model over sequences.
            step: its one-step form.
            rows: number of rows.
        """
        graph, wanted = step.stepped.graph, step.stepped.inputs_at_once
        values = graph.at_once(random_rows(model, graph.inputs, rows, length=1))
        inputs = {
            given.name: one.astype(signature_dtype(given.tensor).as_numpy_dtype)
            for given, one in zip(wanted, values, strict=True)
        }
        # Several sources have different lengths in each row.
        lengths = [
            np.minimum(np.resize(np.roll(_LENGTHS, index), rows), one.shape[1] if given.has_length else 1).astype(
                np.int32
            )
            for index, (given, one) in enumerate(zip(wanted, values, strict=True))
        ]
        inputs |= {
            name: length
            for given, length in zip(wanted, lengths, strict=True)
            if (name := length_name(given, wanted)) is not None
        }
        by_row = [
            [
                one[row : row + 1, : length[row]] if given.has_length else one[row : row + 1]
                for given, one, length in zip(wanted, values, lengths, strict=True)
            ]
            for row in range(rows)
        ]
        with tf.device("/CPU:0"):  # The C++ session runs on the CPU.
            states = [states_of_rows(step, one, 1) for one in by_row]
        return cls(inputs, by_row, states)


def states_of_rows(step: GraphStep, at_once: list[np.ndarray], rows: int) -> list[np.ndarray]:
    """Returns the states before the first step, each `(rows, units)`, for the values that are given at once."""
    return [state.astype(np.float32) for state in step.stepped.states_before(at_once, rows)]
