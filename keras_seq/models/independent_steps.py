"""Whether a layer acts on each time step independently. This is verified by running it, so custom layers work."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

_STEPS = 3


def acts_on_each_step(
    operation: Any, one_step: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any]
) -> bool:
    """Returns whether `operation` on a sequence gives what `one_step` gives on each of its steps, on random numbers.

    Args:
        operation: a layer or operation over sequences `(batch, time, ...)`.
        one_step: its form over single steps `(batch, ...)`.
        inputs: positional arguments: symbolic tensors of a single step, `(batch, ...)`, or other values.
        options: named arguments, of the same kinds.

    Raises:
        Exception: whatever `operation` or `one_step` raises.
    """
    random = np.random.default_rng(0)

    def random_steps(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        shape = (_STEPS, *value.shape[1:])
        is_integer = keras.backend.standardize_dtype(value.dtype).startswith(("int", "uint"))
        numbers = random.integers(0, 2, shape) if is_integer else random.normal(size=shape)
        return keras.ops.convert_to_tensor(numbers, dtype=value.dtype)

    def as_sequence(value: Any) -> Any:
        return keras.ops.expand_dims(value, 0) if keras.ops.is_tensor(value) else value

    def only_step(step: int) -> Any:
        return tree.map_structure(lambda value: value[step : step + 1] if keras.ops.is_tensor(value) else value, steps)

    steps = tree.map_structure(random_steps, (inputs, options))
    sequence = tree.map_structure(as_sequence, steps)
    # One call per step: as rows of one batch, the steps would mix again in a layer that works along axis -2.
    outputs_of_steps = [tree.flatten(one_step(*own[0], **own[1])) for own in map(only_step, range(_STEPS))]
    one_by_one = [keras.ops.concatenate(outputs) for outputs in zip(*outputs_of_steps, strict=True)]
    at_once = tree.flatten(operation(*sequence[0], **sequence[1]))
    return all(
        tuple(whole.shape) == (1, *joined.shape)
        and np.allclose(np.asarray(whole[0], "float32"), np.asarray(joined, "float32"), atol=1e-3, equal_nan=True)
        for whole, joined in zip(at_once, one_by_one, strict=True)
    )


def with_time_axis(operation: Any) -> Callable[..., Any]:
    """Returns a layer over sequences as a function over single steps `(batch, ...)`, which adds a time axis of length 1."""

    def one_step(*inputs: Any, **options: Any) -> Any:
        def add_axis(value: Any) -> Any:
            is_tensor = isinstance(value, keras.KerasTensor) or keras.ops.is_tensor(value)
            return keras.ops.expand_dims(value, 1) if is_tensor else value

        outputs = operation(*tree.map_structure(add_axis, inputs), **tree.map_structure(add_axis, options))
        return tree.map_structure(remove_axis, outputs)

    def remove_axis(value: Any) -> Any:
        # Reshaped instead of squeezed: some layers do not declare that their output has a single step.
        if len(value.shape) < 3 or value.shape[1] not in (1, None):
            raise ValueError(f"the output for a single step has the shape {tuple(value.shape)}")
        return keras.ops.reshape(value, (-1, *value.shape[2:]))

    return one_step
