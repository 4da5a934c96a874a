"""The form of a layer over single steps. It is verified by running it, so custom layers work."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_seq.models.difference import scales, tolerance_in
from keras_seq.models.graph import cannot_be_stepped

_FEW_STEPS = 8
_MOST_STEPS = 4096  # A layer that only looks back further than this is not found here.
_MOST_NUMBERS = 2**22  # With large inputs or outputs there are fewer steps.
_SINGLE_STEPS = 64


def single_step_form(
    operation: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    length: int | None,
    rename: Callable[[Any], Any],
) -> Callable[[], Any]:
    """Returns a function that calls a layer over sequences on a single step, so that it gives what it gives at each step.

    Args:
        operation: a layer or operation over sequences `(batch, time, ...)`.
        args: its positional arguments: symbolic tensors of a single step, `(batch, ...)`, or constants.
        kwargs: its named arguments, of the same kinds.
        length: the number of steps that the model takes, or None.
        rename: gives the layer a name that is unique in the model of a single step.

    Raises:
        SteppingError: the layer does not act on each time step independently. The message names it.
    """
    call = _Call(operation, args, kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of a softmax over an axis of length 1, which is tried here.
        # A few steps first, so that a slow layer is refused quickly.
        few = min(_FEW_STEPS, length or _FEW_STEPS)
        _, numbers = _verified_form(call, few)
        most = min(_MOST_STEPS, max(_FEW_STEPS, _MOST_NUMBERS * few // max(1, numbers)))
        (layer, needs_time_axis), _ = _verified_form(call, length or most)
    on_tensors = call.of(rename(layer))
    if needs_time_axis:
        on_tensors = with_time_axis(on_tensors)
    return lambda: on_tensors(*call.tensors)


class _Call:
    """A call of a layer or operation, of which only the symbolic tensors vary; the other arguments are constants."""

    def __init__(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.operation, self._arguments = operation, (args, kwargs)
        self.tensors = [one for one in tree.flatten(self._arguments) if isinstance(one, keras.KerasTensor)]

    def of(self, operation: Any) -> Callable[..., Any]:
        """Returns the call of another operation with the same arguments, as a function of the tensors."""

        def on_tensors(*tensors: Any) -> Any:
            values = iter(tensors)
            args, kwargs = tree.map_structure(
                lambda one: next(values) if isinstance(one, keras.KerasTensor) else one, self._arguments
            )
            return operation(*args, **kwargs)

        return on_tensors


# A layer to call on single steps, and whether on sequences of length 1, `(batch, 1, ...)`.
_Form = tuple[Any, bool]


def _verified_form(call: _Call, length: int) -> tuple[_Form, int]:
    """Returns the form, verified on random sequences of a length, and how many numbers the inputs and outputs have."""
    steps = [_random_steps(tensor, length) for tensor in call.tensors]
    sequence = [ops.expand_dims(values, 0) for values in steps]
    over_sequences = call.of(call.operation)
    expected: list[Any] = []
    compared, cause = np.arange(min(_FEW_STEPS, length)), None
    try:
        expected = [output[0] for output in tree.flatten(over_sequences(*sequence))]
        # The steps as rows of a batch: a layer that mixes steps gives something else.
        if not _agree(with_time_axis(over_sequences)(*steps), expected):
            expected = []
    except Exception as error:  # Each backend has its own error classes.
        # Some layers cannot take sequences of length 1, (batch, 1). More single steps are compared instead.
        compared, cause = np.unique(np.linspace(0, length - 1, _SINGLE_STEPS).astype(int)), error
    for layer, needs_time_axis in _forms(call.operation) if expected else ():
        try:
            function = with_time_axis(call.of(layer)) if needs_time_axis else call.of(layer)
            # One call per step: as rows of one batch, a layer that works along axis -2 would mix them again.
            if all(
                _agree(function(*(values[row] for values in steps)), [one[row] for one in expected], expected)
                for row in (slice(index, index + 1) for index in compared.tolist())
            ):
                return (layer, needs_time_axis), sum(int(np.prod(one.shape)) for one in [*steps, *expected])
        except Exception as error:
            cause = error
    reason = "it looks across time, but a step only has its own token or frame and the states of the recurrent layers"
    if cause is not None:
        reason = "it looks across time, or fails on a single step, (batch, ...)"
    elif not _agree(over_sequences(*sequence), tree.flatten(over_sequences(*sequence))):
        reason = "its outputs are random"
    raise cannot_be_stepped(call.operation, reason) from cause


def with_time_axis(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of sequences as one of single steps `(batch, ...)`, which adds a time axis of length 1."""

    def on_steps(*steps: Any) -> Any:
        outputs = function(*(_AddTimeAxis()(values) for values in steps))
        return tree.map_structure(lambda output: _RemoveTimeAxis()(output), outputs)

    return on_steps


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


def _random_steps(tensor: keras.KerasTensor, steps: int) -> Any:
    """Returns random numbers for a symbolic tensor of a single step, `(steps, ...)`."""
    shape = (steps, *tensor.shape[1:])
    random = np.random.default_rng(0)
    is_float = "float" in keras.backend.standardize_dtype(tensor.dtype)
    numbers = random.normal(size=shape) if is_float else random.integers(0, 2, shape)
    return ops.convert_to_tensor(numbers, dtype=tensor.dtype)


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
