"""The form of a layer over single steps. It is verified by running it, so custom layers work."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_seq.models.difference import scales, tolerance_in
from keras_seq.models.graph import cannot_be_stepped
from keras_seq.models.step_values import PerStep, Value, is_value

_FEW_STEPS = 8
_MOST_STEPS = 4096  # A layer that only looks back further than this is not found here.
_MOST_NUMBERS = 2**22  # With large inputs or outputs there are fewer steps.
_SINGLE_STEPS = 64
_LOUD = 30  # A layer may look across time only where numbers are large.


def single_step_form(
    operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], rename: Callable[[Any], Any]
) -> Callable[[], Any]:
    """Returns a function that calls a layer over sequences on a single step, so that it gives what it gives at each step.

    Args:
        operation: a layer or operation over sequences `(batch, time, ...)`.
        args: its positional arguments: values of a step, of which one at least is a `PerStep`, or constants.
        kwargs: its named arguments, of the same kinds.
        rename: gives the layer a name that is unique in the model of a single step.

    Raises:
        SteppingError: the layer does not act on each time step independently. The message names it.
    """
    call = _Call(operation, args, kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of a softmax over an axis of length 1, which is tried here.
        # A few steps first, so that a slow layer is refused quickly.
        few = min(_FEW_STEPS, call.length or _FEW_STEPS)
        (layer, needs_time_axis), numbers = _verified_form(call, few)
        _verified_form(call, few, _LOUD)
        if type(operation) is not keras.layers.TimeDistributed:  # Keras loops over its steps.
            most = min(_MOST_STEPS, max(_FEW_STEPS, _MOST_NUMBERS * few // max(1, numbers)))
            (layer, needs_time_axis), _ = _verified_form(call, call.length or most)
    if call.frames > 1:  # Several frames are a short sequence, which the layer itself takes.
        layer, needs_time_axis = operation, False
    on_tensors = call.of(rename(layer))
    if needs_time_axis:
        on_tensors = call.on_single_steps(on_tensors)
    return lambda: on_tensors(*(value.tensor for value in call.values))


def _agree_in_step(
    function: Callable[..., Any], call: "_Call", steps: list[Any], expected: list[Any], index: int
) -> bool:
    """Returns whether a function of single steps gives what is expected at one step."""
    row = slice(index, index + 1)
    given, wanted = call.as_rows(steps, row), [one[row] for one in expected]
    if not _agree(function(*given), wanted, expected):
        return False
    # A single row would hide that what is the same in all steps is added to each row of the batch, not to its own.
    return not call.has_context or _agree(function(*_twice(given)), _twice(wanted), expected)


def _twice(rows: list[Any]) -> list[Any]:
    return [ops.repeat(one, 2, axis=0) for one in rows]


def last_step_form(
    operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], rename: Callable[[Any], Any]
) -> Callable[[], Any] | None:
    """Returns a function that calls a layer that gives, without a time axis, what it gives for the last step alone.

    `x[:, -1]` is such a call. The arguments are those of `single_step_form`. None for other layers.
    """
    call = _Call(operation, args, kwargs)
    length = call.length or _SINGLE_STEPS
    random = call.random(length)
    on_sequences = call.of(operation)
    try:
        expected = tree.flatten(on_sequences(*call.as_sequence(random)))
        on_last = call.with_time_axis(on_sequences)(*call.as_rows(random, slice(length - 1, length)))
        if call.frames > 1 or not _agree(on_last, expected):
            return None
    except Exception:  # Each backend, and each custom layer, has its own error classes.
        return None
    on_tensors = call.with_time_axis(call.of(rename(operation)))
    return lambda: on_tensors(*(value.tensor for value in call.values))


class _Call:
    """A call of a layer or operation, of which only the values vary; the other arguments are constants.

    Attributes:
        operation: the layer or operation.
        values: the values among the arguments.
        frames: the number of frames in a step.
        has_context: whether a value is the same in all steps.
        length: the number of frames of the whole sequence, if it is fixed.
    """

    def __init__(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.operation, self._arguments = operation, (args, kwargs)
        self.values: list[Value] = [one for one in tree.flatten(self._arguments) if is_value(one)]
        stepped = [value for value in self.values if isinstance(value, PerStep)]
        self.frames = stepped[0].frames
        self.has_context = len(stepped) < len(self.values)
        self.length = next((value.length for value in stepped if value.length), None)

    def of(self, operation: Any) -> Callable[..., Any]:
        """Returns the call of another operation with the same arguments, as a function of the tensors of the values."""

        def on_tensors(*tensors: Any) -> Any:
            values = iter(tensors)
            args, kwargs = tree.map_structure(lambda one: next(values) if is_value(one) else one, self._arguments)
            return operation(*args, **kwargs)

        return on_tensors

    def with_time_axis(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function of sequences as one of single steps `(batch, ...)`, to which a time axis is added."""

        def on_steps(*tensors: Any) -> Any:
            pairs = zip(self.values, tensors, strict=True)
            return function(*(_AddTimeAxis()(one) if isinstance(value, PerStep) else one for value, one in pairs))

        return on_steps

    def on_single_steps(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function of sequences as one of single steps, whose outputs are single steps too."""
        on_sequences = self.with_time_axis(function)
        return lambda *tensors: tree.map_structure(lambda output: _RemoveTimeAxis()(output), on_sequences(*tensors))

    def random(self, steps: int) -> list[Any]:
        """Returns random numbers for the values: `(steps, ...)`, or `(1, ...)` for what is the same in all steps."""
        return [_random_steps(value, steps) for value in self.values]

    def as_sequence(self, random: list[Any]) -> list[Any]:
        """Returns them as one sequence, `(1, steps, ...)`."""
        pairs = zip(self.values, random, strict=True)
        return [ops.expand_dims(one, 0) if isinstance(value, PerStep) else one for value, one in pairs]

    def as_rows(self, random: list[Any], steps: slice) -> list[Any]:
        """Returns some of the steps as the rows of a batch, `(rows, ...)`."""
        count = len(range(*steps.indices(max(one.shape[0] for one in random))))
        pairs = zip(self.values, random, strict=True)
        return [one[steps] if isinstance(value, PerStep) else ops.repeat(one, count, axis=0) for value, one in pairs]


# A layer to call on single steps, and whether on sequences of length 1, `(batch, 1, ...)`.
_Form = tuple[Any, bool]


def _verified_form(call: _Call, length: int, size: int = 1) -> tuple[_Form, int]:
    """Returns the form, verified on random sequences of a length, and how many numbers the inputs and outputs have."""
    steps = [one * ops.cast(size, one.dtype) if "float" in one.dtype.name else one for one in call.random(length)]
    sequence = call.as_sequence(steps)
    over_sequences = call.of(call.operation)
    expected: list[Any] = []
    compared, cause = np.arange(min(_FEW_STEPS, length)), None
    try:
        expected = [output[0] for output in tree.flatten(over_sequences(*sequence))]
        # The steps as rows of a batch: a layer that mixes steps gives something else.
        if not _agree(call.on_single_steps(over_sequences)(*call.as_rows(steps, slice(None))), expected):
            expected = []
    except Exception as error:  # Each backend has its own error classes.
        # Some layers cannot take sequences of length 1, (batch, 1). More single steps are compared instead.
        compared, cause = np.unique(np.linspace(0, length - 1, _SINGLE_STEPS).astype(int)), error
    for layer, needs_time_axis in _forms(call.operation) if expected else ():
        try:
            function = call.on_single_steps(call.of(layer)) if needs_time_axis else call.of(layer)
            # One call per step: as rows of one batch, a layer that works along axis -2 would mix them again.
            if all(_agree_in_step(function, call, steps, expected, index) for index in compared.tolist()):
                return (layer, needs_time_axis), sum(int(np.prod(one.shape)) for one in [*steps, *expected])
        except Exception as error:
            cause = error
    reason = "it looks across time, but a step only has its own token or frame and the states of the recurrent layers"
    if cause is not None:
        reason = "it looks across time, or fails on a single step, (batch, ...)"
    elif not _agree(over_sequences(*sequence), tree.flatten(over_sequences(*sequence))):
        reason = "its outputs are random"
    raise cannot_be_stepped(call.operation, reason) from cause


class _AddTimeAxis(keras.layers.Layer):
    """`(batch, ...)` -> `(batch, 1, ...)`, with its mask."""

    def __init__(self) -> None:
        super().__init__(autocast=False)
        self.supports_masking = True
        self.built = True

    def call(self, values: Any) -> Any:
        return ops.expand_dims(values, 1)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return None if previous_mask is None else ops.expand_dims(previous_mask, 1)


class _RemoveTimeAxis(keras.layers.Layer):
    """`(batch, 1, ...)` -> `(batch, ...)`, with its mask."""

    def __init__(self) -> None:
        super().__init__(autocast=False)
        self.supports_masking = True
        self.built = True

    def call(self, values: Any) -> Any:
        if len(values.shape) < 2 or values.shape[1] not in (1, None):
            raise ValueError(f"the output for a single step has the shape {tuple(values.shape)}")
        # Reshaped instead of squeezed: some layers do not declare that their output has a single step.
        return ops.reshape(values, (-1, *values.shape[2:]))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return None if previous_mask is None else previous_mask[:, 0]


def _forms(operation: Any) -> list[_Form]:
    """Returns the forms to try. Some layers need a time axis, or were built with one."""
    inner = [(operation.layer, False)] if isinstance(operation, keras.layers.TimeDistributed) else []
    return [*inner, (operation, False), (operation, True)]


def _random_steps(value: Value, steps: int) -> Any:
    """Returns random numbers for a value: `(steps, ...)`, or `(1, ...)` for one that is the same in all steps."""
    shape: tuple[int, ...] = (steps, *value.frame_shape) if isinstance(value, PerStep) else (1, *value.tensor.shape[1:])
    random = np.random.default_rng(0)
    is_float = "float" in keras.backend.standardize_dtype(value.tensor.dtype)
    numbers = random.normal(size=shape) if is_float else random.integers(0, 2, shape)
    return ops.convert_to_tensor(numbers, dtype=value.tensor.dtype)


def _agree(outputs: Any, expected: list[Any], of_all_steps: list[Any] | None = None) -> bool:
    """Returns whether outputs have the shapes and, up to rounding, the values that are expected, flat.

    Args:
        outputs: of some steps, each `(steps, ...)`.
        expected: what they must be.
        of_all_steps: the outputs of all steps, which set the scale; by default `expected`.
    """
    return all(
        tuple(one.shape) == tuple(other.shape)
        and _are_close(_float32(one), _float32(other), _float32(whole), one.dtype)
        for one, other, whole in zip(tree.flatten(outputs), expected, of_all_steps or expected, strict=True)
    )


def _are_close(values: np.ndarray, expected: np.ndarray, whole: np.ndarray, dtype: Any) -> bool:
    tolerance = tolerance_in(keras.backend.standardize_dtype(dtype)) * scales(whole[None])
    return bool(np.isclose(values, expected, rtol=0, atol=tolerance, equal_nan=True).all())


def _float32(values: Any) -> np.ndarray:
    return np.asarray(ops.cast(values, "float32"))
