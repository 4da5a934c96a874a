"""`Reshape` layers that act on the frames of a step: each frame alone, several frames as one, or one frame as several."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_seq.models.graph import cannot_be_stepped
from keras_seq.models.step_values import MoreFrames, PerStep


class ReshapedFrames(NamedTuple):
    """What a `Reshape` layer does with the frames of a step.

    Attributes:
        layer: a layer that does it.
        frames: number of frames in a step after it.
        length: number of frames of the whole sequence after it, or None.
    """

    layer: keras.layers.Layer
    frames: int
    length: int | None


def reshaped_frames(operation: Any, value: PerStep) -> ReshapedFrames | None:
    """Returns what a `Reshape` layer does with the frames of a step; None for other layers.

    Raises:
        SteppingError: the frames before and after it do not contain each other.
        MoreFrames: it needs more frames to make one.
    """
    if not isinstance(operation, keras.layers.Reshape):
        return None
    shape = _shape_of_frame(operation, value)
    before, after = math.prod(value.frame_shape), math.prod(shape)
    if max(before, after) % min(before, after):
        raise cannot_be_stepped(
            operation, f"its frames of {after} numbers must contain whole frames of {before}, or be contained in them"
        )
    together = after // before if after > before else 1
    if value.frames % together:
        raise MoreFrames(together // math.gcd(value.frames, together))
    frames = value.frames // together * max(1, before // after)
    length = None if value.length is None else value.length * before // after
    return ReshapedFrames(_ReshapeStep(operation.name, frames, shape), frames, length)


def _shape_of_frame(layer: keras.layers.Reshape, value: PerStep) -> tuple[int, ...]:
    """Returns the shape of a frame after a `Reshape`; one number may be unknown (-1) if the time axis is not."""
    first, *shape = layer.target_shape
    if -1 not in shape:
        return tuple(shape)
    if value.length is None:
        raise cannot_be_stepped(layer, "its frames must have a fixed size, and -1 must be the number of steps")
    numbers = value.length * math.prod(value.frame_shape)
    known = first * math.prod(size for size in shape if size != -1)
    return tuple(numbers // known if size == -1 else size for size in shape)


class _ReshapeStep(keras.layers.Layer):
    """`(batch, ...)` -> `(batch, frames, *shape)`, without the axis of a single frame."""

    def __init__(self, name: str, frames: int, shape: tuple[int, ...]):
        super().__init__(name=name, autocast=False)
        self._target = (*([frames] if frames > 1 else []), *shape)
        self.built = True

    def call(self, values: Any) -> Any:
        return ops.reshape(values, (-1, *self._target))
