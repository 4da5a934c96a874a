"""The update gates of the GRU layers of a model, step by step: what each unit keeps of its memory."""

from typing import Any

import keras
from keras import ops

from keras_seq.errors import ModelError
from keras_seq.keras_internals import calls_in_order
from keras_seq.layers.gru_cell import GRUCell
from keras_seq.models.recurrent_call import RecurrentStep


def update_gates(decoder: keras.Model) -> keras.Model:
    """Returns a model with the inputs of a one-step form whose outputs are Γu of each `GRU` layer in this step.

    Each output is `(batch, units)`: 0 keeps the memory of a unit, 1 replaces it. It shares every weight with `decoder`. Only
    the layers of this package give their gates, so the other layers have no output.

    Args:
        decoder: a one-step form from `step_model` that reads one token or frame in a step.

    Raises:
        ModelError: no layer is a `keras_seq.GRU`.

    Example:
        >>> from keras_seq import language_model, step_model
        >>> gates = update_gates(step_model(language_model(10, units=[8, 4])))
        >>> [output.shape for output in gates.outputs]
        [(None, 8), (None, 4)]
    """
    steps = [made for made in calls_in_order(decoder) if isinstance(made.operation, RecurrentStep)]
    outputs = [
        UpdateGate(made.operation.cell, name=f"update_gate_{made.operation.name}")(*made.args, **made.kwargs)
        for made in steps
        if isinstance(made.operation.cell, GRUCell)
    ]
    if not outputs:
        cells = ", ".join(dict.fromkeys(type(made.operation.cell).__name__ for made in steps))
        raise ModelError(
            "`model` must have a layer keras_seq.GRU, whose update gate can be shown. "
            f"Received: a model with {cells or 'no recurrent layer'}; make a keras.layers.GRU one with "
            "`keras_seq.GRU.from_config(layer.get_config())`, and give it the weights with `set_weights`"
        )
    return keras.Model(decoder.inputs, outputs, name="update_gates")


class UpdateGate(keras.layers.Layer):
    """Γu of a step of a GRU, `(batch, units)`. Its arguments are those of `RecurrentStep`.

    Args:
        cell: the cell of the GRU, which is shared.
        name: name of the layer.
    """

    def __init__(self, cell: GRUCell, name: str):
        super().__init__(name=name, dtype=cell.dtype_policy)
        self.cell = cell
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, states: list[Any], mask: Any = None, ready: Any = None) -> Any:
        """Returns Γu; 0 at a step that the layer skips, which keeps the whole memory."""
        gate = self.cell.gates(inputs, states[0]).update
        for reads in (mask, ready):
            if reads is not None:
                gate = ops.where(ops.cast(reads, "bool")[:, None], gate, ops.zeros_like(gate))
        return gate
