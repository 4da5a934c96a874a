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

    Each output is `(batch, units)`: 0 keeps the memory of a unit, 1 replaces it. They are in the order in which the layers are
    called. It shares every weight with `decoder`. Layers that are no GRU have no output.

    Args:
        decoder: a one-step form from `step_model` that reads one token or frame in a step.

    Raises:
        ModelError: the model has no GRU, or one that is not a `keras_seq.GRU` and does not tell its gates.

    Example:
        >>> from keras_seq import language_model, step_model
        >>> gates = update_gates(step_model(language_model(10, units=[8, 4])))
        >>> [output.shape for output in gates.outputs]
        [(None, 8), (None, 4)]
    """
    steps = [made for made in calls_in_order(decoder) if isinstance(made.operation, RecurrentStep)]
    of_gru = [made for made in steps if _is_gru(made.operation.cell)]
    if not of_gru:
        cells = ", ".join(dict.fromkeys(type(made.operation.cell).__name__ for made in steps))
        raise ModelError(
            "{} needs a model with a layer keras_seq.GRU, whose update gate can be shown. "
            f"Received: a model with {cells or 'no recurrent layer'}",
            "gates",
        )
    for made in of_gru:
        _require_gates(made.operation)
    outputs = [
        UpdateGate(made.operation.cell, name=f"update_gate_{made.operation.name}")(*made.args, **made.kwargs)
        for made in of_gru
    ]
    assert all(len(output.shape) == 2 for output in outputs), "A step must read one frame."
    return keras.Model(decoder.inputs, outputs, name="update_gates")


def _is_gru(cell: Any) -> bool:
    """Returns whether a cell is that of a GRU, or several cells of which one is."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return any(map(_is_gru, cell.cells))
    return isinstance(cell, keras.layers.GRUCell)


def _require_gates(step: RecurrentStep) -> None:
    """Requires a cell whose `gates` are those of its `call`: a GRU that is left out would not be noticed."""
    cell = step.cell
    if isinstance(cell, keras.layers.StackedRNNCells):
        found, advice = "several cells", "make each of its cells a layer"
    elif type(cell) is keras.layers.GRUCell:
        found = "the cell keras.layers.GRUCell"
        advice = "make it one with `keras_seq.GRU.from_config(layer.get_config())`, and give it the weights with `set_weights`"
    elif not isinstance(cell, GRUCell) or type(cell).call is not GRUCell.call or type(cell).gates is not GRUCell.gates:
        found = f"the cell {type(cell).__name__}, which may compute its memory in another way"
        advice = "leave {} out"
    else:
        return
    raise ModelError(
        "{} needs each GRU of the model to be a keras_seq.GRU, whose update gate can be shown. "
        f"Received: the layer {step.name} with {found}; {advice}",
        "gates",
        "gates",
    )


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
