"""Runs the graph of a model call by call, so that each call can be replaced or recorded."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import tree

from keras_seq.errors import SteppingError
from keras_seq.keras_internals import calls_in_order


class NotPerStep:
    """Stands for the output of a call that has no value for a single step.

    Attributes:
        reason: the error to raise if the output of the model depends on it.
        by_value: whether it depends on the values of what is read step by step, not only on their shape.
    """

    def __init__(self, reason: SteppingError, by_value: bool = True):
        self.reason, self.by_value = reason, by_value


class StateOfSequence(SteppingError):
    """A recurrent layer begins with a state that depends on what is read step by step."""

    def __init__(self, layer: Any):
        super().__init__(str(cannot_be_stepped(layer, "the initial_state that it is given depends on the sequence")))


def has_graph(operation: Any) -> bool:
    """Returns whether `operation` is a Sequential or Functional model."""
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


def label(operation: Any) -> str:
    """Returns what error messages call a layer or operation."""
    return f"layer {operation.name!r} ({type(operation).__name__})"


def cannot_be_stepped(operation: Any, reason: str) -> SteppingError:
    """Returns the error that names the layer or operation because of which a model has no one-step form."""
    return SteppingError(f"{label(operation)} cannot be stepped: {reason}")


def run_top_level(model: keras.Model, inputs: Sequence[Any], call: Callable[..., Any]) -> list[Any]:
    """Runs the graph of a model on other inputs.

    Args:
        model: a Sequential or Functional model.
        inputs: tensors, symbolic or not, one for each input of the model.
        call: is called as `call(operation, args, kwargs)` for each layer, nested model and operation of `keras.ops`, and
            returns its outputs, or a `NotPerStep` for all of them.

    Returns:
        The outputs, flat.

    Example:
        >>> frames = keras.Input((2,))
        >>> model = keras.Model(frames, keras.ops.tanh(frames))
        >>> run_top_level(model, [keras.ops.ones((1, 2))], lambda operation, args, kwargs: args[0])[0].numpy().tolist()
        [[1.0, 1.0]]
    """
    values = dict(zip(map(id, model.inputs), inputs, strict=True))
    for made in calls_in_order(model):
        args, kwargs = tree.map_structure(
            lambda argument: values[id(argument)] if isinstance(argument, keras.KerasTensor) else argument,
            (made.args, made.kwargs),
        )
        outputs = call(made.operation, args, kwargs)
        flat = [outputs] * len(made.outputs) if isinstance(outputs, NotPerStep) else tree.flatten(outputs)
        values.update(zip(map(id, made.outputs), flat, strict=True))
    return [values[id(output)] for output in model.outputs]


def run_graph(model: keras.Model, inputs: Sequence[Any], call: Callable[..., Any]) -> list[Any]:
    """Does what `run_top_level` does, in inference, and enters nested models, so that `call` sees their layers instead.

    As in `model(inputs, training=False)`, a layer is not in training even if the graph says so.
    """

    def call_or_enter(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if has_graph(operation):
            return run_top_level(operation, tree.flatten(args[0] if args else kwargs["inputs"]), call_or_enter)
        return call(operation, args, {**kwargs, "training": False} if "training" in kwargs else kwargs)

    return in_inference(lambda: run_top_level(model, inputs, call_or_enter))


def in_inference(function: Callable[[], Any]) -> Any:
    """Returns the result of a function that calls layers, none of which is in training by default."""
    return _InInference(function)(training=False)


class _InInference(keras.layers.Layer):
    """Calls a function. Keras hands `training` on to the layers that are called in it, also to layers inside layers."""

    def __init__(self, function: Callable[[], Any]):
        super().__init__(name="inference", dtype="float32", autocast=False)
        self.function = function
        self.built = True

    def call(self, training: bool | None = None) -> Any:
        return self.function()
