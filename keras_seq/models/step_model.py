"""`step_model`: from a model over sequences to one that takes a token and the states, and gives logits and new states.

The model's graph is run again on the input of a single step. A recurrent layer becomes its cell, with the cell's states
as new inputs and outputs; every other layer is the same object as before, so all weights are shared. A layer that is
not recurrent must treat each time step alone: that is not looked up in a list but tried, on random numbers, so that a
user's own layers work and none that looks across time slips through.
"""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_seq.errors import SteppingError


def step_model(model: keras.Model) -> keras.Model:
    """Returns the one-step form of a causal recurrent model; it shares every weight with `model`.

    Inputs are `token` `(batch,)` int32 (for a model over real-valued frames, `frame` `(batch, features)`), then `state_0`,
    `state_1`, ..., each `(batch, units)`, zeros at the start of a text. Outputs are the logits `(batch, vocabulary)`,
    then the new states in the same order.

    Args:
        model: a built Sequential or Functional model of embedding, recurrent and per-step layers, with one input.

    Raises:
        SteppingError: a layer looks across time or into the future, or has states that are not `(batch, units)`; named.

    Example:
        >>> from keras_seq import language_model
        >>> decoder = step_model(language_model(10, units=[8, 4]))
        >>> [tensor.name for tensor in decoder.inputs]
        ['token', 'state_0', 'state_1']
    """
    if not getattr(model, "inputs", None):
        raise SteppingError(f"`model` must be a built Sequential or Functional model. Received: {type(model).__name__}")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise SteppingError(
            "`model` must have one input (the tokens) and one output (the logits). "
            f"Received: {len(model.inputs)} inputs and {len(model.outputs)} outputs"
        )
    sequence = model.inputs[0]
    if len(sequence.shape) < 2:
        raise SteppingError(
            f"`model` must take sequences, (batch, time, ...). Received: an input of shape {sequence.shape}"
        )
    is_token = len(sequence.shape) == 2
    if is_token:
        step = keras.Input((), dtype="int32", name="token")
    else:
        step = keras.Input(sequence.shape[2:], dtype=sequence.dtype, name="frame")
    states_in: list[Any] = []
    states_out: list[Any] = []
    named = _OwnNames()

    def as_step(operation: Any) -> Callable[..., Any]:
        if isinstance(operation, keras.Sequential | keras.Model) and getattr(operation, "inputs", None):
            return lambda inputs, **_: run(operation, inputs)
        if isinstance(operation, keras.layers.RNN):
            return lambda sequences, **options: _recurrent_step(
                operation, sequences, options, states_in, states_out, named
            )
        if isinstance(operation, keras.layers.TimeDistributed):
            return lambda inputs, **_: named(operation.layer)(inputs)
        return lambda *inputs, **options: _per_step(operation, inputs, options, named)

    def run(part: keras.Model, inputs: Any) -> Any:
        # A Sequential has no graph of its own to walk; a Functional model over its ends has.
        graph = keras.Model(part.inputs, part.outputs) if isinstance(part, keras.Sequential) else part
        outputs = tree.flatten(graph._run_through_graph(inputs, operation_fn=as_step))
        return outputs[0] if len(outputs) == 1 else outputs

    logits = run(model, step)
    if not states_in:
        raise SteppingError(f"`model` must have a recurrent layer. Received: {model.name} with none")
    return keras.Model([step, *states_in], [logits, *states_out], name=f"{model.name}_step")


class _Renamed(keras.layers.Layer):
    """A layer or operation under another name."""

    def __init__(self, operation: Any, name: str):
        super().__init__(name=name, autocast=False)
        self.operation = operation
        self.built = True

    def call(self, *inputs: Any, **options: Any) -> Any:
        return self.operation(*inputs, **options)


class _OwnNames:
    """Names are unique in a model, but not those of the cells of two GRU layers, nor across nested models."""

    def __init__(self) -> None:
        self._named: dict[int, Any] = {}

    def __call__(self, operation: Any) -> Any:
        """Returns `operation`, under another name where its own is taken; the same object every time."""
        if id(operation) not in self._named:
            taken = {other.name for other in self._named.values()}
            stem = operation.name
            if stem in ("token", "frame") or stem.startswith("state_"):
                stem = f"layer_{stem}"  # The inputs have these names.
            names = (f"{stem}_{number}" if number else stem for number in itertools.count())
            name = next(name for name in names if name not in taken)
            self._named[id(operation)] = operation if name == operation.name else _Renamed(operation, name)
        return self._named[id(operation)]


def _recurrent_step(
    layer: keras.layers.RNN,
    inputs: Any,
    options: dict[str, Any],
    states_in: list[Any],
    states_out: list[Any],
    named: _OwnNames,
) -> Any:
    if layer.go_backwards:
        raise SteppingError(f"layer {layer.name!r} cannot be stepped: go_backwards=True reads the text from its end")
    if options.get("initial_state") is not None:
        raise SteppingError(f"layer {layer.name!r} cannot be stepped: it is given its initial_state by another layer")
    structure = layer.get_initial_state(batch_size=1)
    flat = []
    for state in tree.flatten(structure):
        if len(state.shape) != 2:
            raise SteppingError(
                f"layer {layer.name!r} cannot be stepped: a state must be (batch, units), not {tuple(state.shape)}"
            )
        name = f"state_{len(states_in)}"
        flat.append(keras.Input((state.shape[1],), dtype=layer.cell.compute_dtype, name=name))
        states_in.append(flat[-1])
    output, new_states = named(layer.cell)(_without_mask(inputs), tree.pack_sequence_as(structure, flat))
    new_states = tree.flatten(new_states)
    states_out.extend(new_states)
    return (output, *new_states) if layer.return_state else output


def _per_step(operation: Any, inputs: tuple[Any, ...], options: dict[str, Any], named: _OwnNames) -> Any:
    reason = "it looks across time, and one step has only its own token and the states of the recurrent layers"
    cause: Exception | None = None
    # Some layers want the time axis, or were built for it: they get one of a single step.
    for form in (lambda operation: operation, _with_time_axis):
        try:
            if _treats_steps_alone(operation, form(operation), inputs, options):
                return tree.map_structure(_without_mask, form(named(operation))(*inputs, **options))
        except Exception as error:  # Each backend has error classes of its own.
            cause = cause or error
            reason = "it looks across time, or fails on one step alone, (batch, ...)"
    raise SteppingError(f"layer {operation.name!r} ({type(operation).__name__}) cannot be stepped: {reason}") from cause


def _with_time_axis(operation: Any) -> Callable[..., Any]:
    """Returns a layer over sequences as one over single steps `(batch, ...)`."""

    def one_step(*inputs: Any, **options: Any) -> Any:
        def with_axis(value: Any) -> Any:
            is_tensor = isinstance(value, keras.KerasTensor) or keras.ops.is_tensor(value)
            return keras.ops.expand_dims(value, 1) if is_tensor else value

        outputs = operation(*tree.map_structure(with_axis, inputs), **tree.map_structure(with_axis, options))
        return tree.map_structure(without_axis, outputs)

    def without_axis(value: Any) -> Any:
        # Not squeezed: some layers do not know that what they give has one step too.
        if len(value.shape) < 3 or value.shape[1] not in (1, None):
            raise ValueError(f"one step in, an output of shape {tuple(value.shape)} out")
        return keras.ops.reshape(value, (-1, *value.shape[2:]))

    return one_step


def _without_mask(tensor: Any) -> Any:
    """A token that is stepped is never padding, and a cell knows no mask; a copy carries none."""
    return tensor if getattr(tensor, "_keras_mask", None) is None else keras.ops.copy(tensor)


def _treats_steps_alone(
    operation: Any, one_step: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any]
) -> bool:
    """Whether an operation on three steps at once gives what `one_step` gives on each of them, on random numbers."""
    steps = 3
    random = np.random.default_rng(0)

    def numbers(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        shape = (steps, *value.shape[1:])
        integer = keras.backend.standardize_dtype(value.dtype).startswith(("int", "uint"))
        return keras.ops.convert_to_tensor(
            random.integers(0, 2, shape) if integer else random.normal(size=shape), dtype=value.dtype
        )

    def with_time(value: Any) -> Any:
        return keras.ops.expand_dims(value, 0) if keras.ops.is_tensor(value) else value

    def only(step: int) -> Any:
        return tree.map_structure(lambda value: value[step : step + 1] if keras.ops.is_tensor(value) else value, alone)

    alone = tree.map_structure(numbers, (inputs, options))
    together = tree.map_structure(with_time, alone)
    # Each in a call of its own: as rows of one batch they would mix again in a layer that works along axis -2.
    parts = [tree.flatten(one_step(*own[0], **own[1])) for own in map(only, range(steps))]
    one_by_one = [keras.ops.concatenate(part) for part in zip(*parts, strict=True)]
    at_once = tree.flatten(operation(*together[0], **together[1]))
    return all(
        tuple(whole.shape) == (1, *part.shape)
        and np.allclose(np.asarray(whole[0], "float32"), np.asarray(part, "float32"), atol=1e-3, equal_nan=True)
        for whole, part in zip(at_once, one_by_one, strict=True)
    )
