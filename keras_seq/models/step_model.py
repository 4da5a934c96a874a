"""`step_model`: turns a model over sequences into one over single steps, which maps a token and states to logits and states.

The graph of the model is rerun on the input of a single step. Each recurrent layer is replaced by its cell, with the states
of the cell as additional inputs and outputs. All other layers are the same objects as before, so all weights are shared.
A layer that is not recurrent must act on each time step independently; `acts_on_each_step` verifies this by running it.
"""

import itertools
from collections.abc import Callable
from typing import Any

import keras
from keras import tree

from keras_seq.errors import SteppingError
from keras_seq.keras_internals import mask_of, rerun_graph
from keras_seq.models.independent_steps import acts_on_each_step, with_time_axis


def step_model(model: keras.Model) -> keras.Model:
    """Returns the one-step form of a causal recurrent model. It shares every weight with `model`.

    Its inputs are `token` `(batch,)` int32, or `frame` `(batch, features)` for a model over real-valued frames, and then
    `state_0`, `state_1`, ..., each `(batch, units)`, which are zeros at the start of a text. Its outputs are the logits
    `(batch, vocabulary)` and then the new states in the same order.

    Args:
        model: a built Sequential or Functional model with one input, made of embeddings, recurrent layers and layers that
            act on each time step independently.

    Raises:
        SteppingError: a layer looks across time or into the future, or has states that are not `(batch, units)`. The
            message names the layer.

    Example:
        >>> from keras_seq import language_model
        >>> decoder = step_model(language_model(10, units=[8, 4]))
        >>> [tensor.name for tensor in decoder.inputs]
        ['token', 'state_0', 'state_1']
    """
    step = _step_input(model)
    steps = _Steps()
    logits = steps.run(model, step)
    if not steps.states:
        raise SteppingError(f"`model` must have a recurrent layer. Received: {model.name} with none")
    return keras.Model([step, *steps.states], [logits, *steps.new_states], name=f"{model.name}_step")


def _step_input(model: keras.Model) -> keras.KerasTensor:
    """Returns the symbolic token or frame of a single step.

    Raises:
        SteppingError: the model is not built, or does not map one sequence to one output.
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
    if len(sequence.shape) == 2:
        return keras.Input((), dtype="int32", name="token")
    return keras.Input(sequence.shape[2:], dtype=sequence.dtype, name="frame")


class _Steps:
    """Runs the graph of a model on a single step.

    Attributes:
        states: symbolic inputs for the states of all recurrent layers met so far.
        new_states: their values after the step, in the same order.
    """

    def __init__(self) -> None:
        self.states: list[Any] = []
        self.new_states: list[Any] = []
        self._unique = _UniqueNames()

    def run(self, part: keras.Model, inputs: Any) -> Any:
        """Returns the output of a model or nested model on the inputs of a single step."""
        # A Sequential has no graph of its own that can be rerun.
        graph = keras.Model(part.inputs, part.outputs) if isinstance(part, keras.Sequential) else part
        outputs = tree.flatten(rerun_graph(graph, inputs, self._step_of))
        return outputs[0] if len(outputs) == 1 else outputs

    def _step_of(self, operation: Any) -> Callable[..., Any]:
        """Returns the function that replaces a layer or operation over sequences."""
        if isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
            return lambda inputs, **_: self.run(operation, inputs)
        if isinstance(operation, keras.layers.RNN):
            return lambda inputs, **options: self._recurrent_step(operation, inputs, options)
        if isinstance(operation, keras.layers.TimeDistributed):
            return lambda inputs, **_: self._unique(operation.layer)(inputs)
        return lambda *inputs, **options: self._independent_step(operation, inputs, options)

    def _recurrent_step(self, layer: keras.layers.RNN, inputs: Any, options: dict[str, Any]) -> Any:
        """Calls the cell of a recurrent layer, with new inputs for its states."""
        if layer.go_backwards:
            raise SteppingError(
                f"layer {layer.name!r} cannot be stepped: go_backwards=True reads the text from its end"
            )
        if options.get("initial_state") is not None:
            raise SteppingError(f"layer {layer.name!r} cannot be stepped: another layer gives its initial_state")
        structure = layer.get_initial_state(batch_size=1)
        states = []
        for state in tree.flatten(structure):
            if len(state.shape) != 2:
                raise SteppingError(
                    f"layer {layer.name!r} cannot be stepped: a state must be (batch, units), not {tuple(state.shape)}"
                )
            name = f"state_{len(self.states)}"
            states.append(keras.Input((state.shape[1],), dtype=layer.cell.compute_dtype, name=name))
            self.states.append(states[-1])
        cell = self._unique(layer.cell)
        output, new_states = cell(_without_mask(inputs), tree.pack_sequence_as(structure, states))
        new_states = tree.flatten(new_states)
        self.new_states.extend(new_states)
        return (output, *new_states) if layer.return_state else output

    def _independent_step(self, operation: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Calls a layer or operation that acts on each time step independently.

        Raises:
            SteppingError: it does not.
        """
        reason = "it looks across time, but a step only has its own token and the states of the recurrent layers"
        cause: Exception | None = None
        # Some layers need a time axis, or were built with one. They get an axis of length 1.
        for form in (lambda operation: operation, with_time_axis):
            try:
                if acts_on_each_step(operation, form(operation), inputs, options):
                    return tree.map_structure(_without_mask, form(self._unique(operation))(*inputs, **options))
            except Exception as error:  # Each backend has its own error classes.
                cause = cause or error
                reason = "it looks across time, or fails on a single step, (batch, ...)"
        raise SteppingError(
            f"layer {operation.name!r} ({type(operation).__name__}) cannot be stepped: {reason}"
        ) from cause


class _Renamed(keras.layers.Layer):
    """A layer or operation under another name."""

    def __init__(self, operation: Any, name: str):
        super().__init__(name=name, autocast=False)
        self.operation = operation
        self.built = True

    def call(self, *inputs: Any, **options: Any) -> Any:
        return self.operation(*inputs, **options)


class _UniqueNames:
    """Gives layers unique names, as a model requires: the cells of two layers, or layers of nested models, can share one."""

    def __init__(self) -> None:
        self._named: dict[int, Any] = {}

    def __call__(self, operation: Any) -> Any:
        """Returns `operation`, or the same operation under another name if its name is taken. The result is cached."""
        if id(operation) not in self._named:
            taken = {other.name for other in self._named.values()}
            stem = operation.name
            if stem in ("token", "frame") or stem.startswith("state_"):
                stem = f"layer_{stem}"  # The inputs have these names.
            names = (f"{stem}_{number}" if number else stem for number in itertools.count())
            name = next(name for name in names if name not in taken)
            self._named[id(operation)] = operation if name == operation.name else _Renamed(operation, name)
        return self._named[id(operation)]


def _without_mask(tensor: Any) -> Any:
    """Returns the tensor, or a copy without its mask: a single token is never padding, and cells take no mask."""
    return tensor if mask_of(tensor) is None else keras.ops.copy(tensor)
