"""What stands for a tensor of a model when its graph is rerun on a single step."""

from typing import Any


class MoreFrames(Exception):
    """A step needs more frames, because a stride does not divide those that it has.

    Attributes:
        factor: how many times as many.
    """

    def __init__(self, factor: int):
        super().__init__(factor)
        self.factor = factor


class Value:
    """Stands for a tensor of the whole model.

    Attributes:
        tensor: the symbolic tensor of the step that has its place.
        by_value: whether it depends on the values of what is read step by step, not only on their shape.
    """

    def __init__(self, tensor: Any, by_value: bool = True):
        self.tensor, self.by_value = tensor, by_value


class PerStep(Value):
    """A value with a time axis, `(batch, time, ...)`, of which a step has some frames.

    Attributes:
        tensor: `(batch, ...)` for one frame in a step, otherwise `(batch, frames, ...)`.
        frames: number of frames in a step.
        delay: number of steps after which the first frame is known.
        padding: number of frames of zeros before the first one.
        length: number of frames of the whole sequence; None if the model takes any number.
    """

    def __init__(self, tensor: Any, frames: int = 1, delay: int = 0, padding: int = 0, length: int | None = None):
        super().__init__(tensor)
        self.frames, self.delay, self.padding, self.length = frames, delay, padding, length

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """The shape of one frame, without the batch."""
        return tuple(self.tensor.shape[1 if self.frames == 1 else 2 :])


class SoFar(Value):
    """A value without a time axis, `(batch, ...)`, which has its final value after the last step: the value so far.

    Attributes:
        last_of: the recurrent layer whose last output or state it comes from, or the operation that takes the last step.
        delay: number of steps after which the first one is known.
    """

    def __init__(self, tensor: Any, last_of: Any, delay: int = 0):
        super().__init__(tensor)
        self.last_of, self.delay = last_of, delay


class AtOnce(Value):
    """A value that is known before the first step, because it depends only on inputs that are given at once.

    Attributes:
        tensor: the symbolic tensor in the graph of the encoder, not in that of the step.
        repeated: what is repeated along the time axis, if it is the output of a `RepeatVector`; otherwise None.
    """

    def __init__(self, tensor: Any, repeated: "AtOnce | None" = None):
        super().__init__(tensor, by_value=False)
        self.repeated = repeated


class Context(Value):
    """An `AtOnce` in the graph of the step: `(batch, ...)`, the same in each step."""


def is_value(argument: Any) -> bool:
    """Returns whether an argument of a call stands for a tensor."""
    return isinstance(argument, Value)


def tensor_of(argument: Any) -> Any:
    """Returns the symbolic tensor of a value, or the argument itself."""
    return argument.tensor if isinstance(argument, Value) else argument
