"""Layers that look at a window of frames, such as convolutions: one step of them, with the frames before it as a state.

Output `j` of such a layer is computed from the `width` frames that begin at frame `j * stride`. Frames of zeros before the
first one, as of `padding="causal"`, shift the window back. Without them, the first output is known only after some steps.
See Rybakov et al. 2020, "Streaming keyword spotting on mobile devices", arXiv 2005.06720.
"""

import math
from typing import Any, NamedTuple

import keras
from keras import layers, ops

from keras_seq.keras_internals import layer_with
from keras_seq.models.graph import cannot_be_stepped
from keras_seq.models.step_values import MoreFrames, PerStep

_CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
_POOLING = (layers.MaxPooling1D, layers.MaxPooling2D, layers.AveragePooling1D, layers.AveragePooling2D)


class Window(NamedTuple):
    """The window of frames that a layer looks at, along the time axis.

    Attributes:
        width: number of frames from the first to the last.
        stride: number of frames from one window to the next.
        padding: number of frames of zeros that the layer puts before the first frame.
    """

    width: int
    stride: int
    padding: int


def window_of(layer: Any, looks_ahead: bool = False) -> Window | None:
    """Returns the window of a layer; None if it is no layer with a window, or its window is a single frame.

    Args:
        layer: a layer or operation. A subclass with a `call` of its own may do more than look at a window: None.
        looks_ahead: whether it may look ahead.

    Raises:
        SteppingError: the layer looks ahead, or its axes are in another order.
    """
    if not isinstance(layer, _CONVOLUTIONS + _POOLING) or not type(layer).call.__module__.startswith("keras."):
        return None
    is_pooling = isinstance(layer, _POOLING)
    size = layer.pool_size if is_pooling else layer.kernel_size
    width = 1 + (_first(size) - 1) * (1 if is_pooling else _first(layer.dilation_rate))
    stride = _first(layer.strides)
    if width == 1 and stride == 1:
        return None
    if layer.data_format != "channels_last":
        raise cannot_be_stepped(layer, 'its data_format must be "channels_last"')
    if layer.padding == "same" and not looks_ahead:
        raise cannot_be_stepped(
            layer, 'it looks across time, ahead at frames not known yet; use padding="causal" or "valid", not "same"'
        )
    return Window(width, stride, width - 1 if layer.padding == "causal" else 0)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value)


class WindowPlan(NamedTuple):
    """How a layer with a window runs step by step.

    Attributes:
        past: number of frames before the step that it keeps.
        used: number of frames, from the first that it keeps on, that the outputs of the step are computed from.
        frames: number of outputs in a step.
        delay: number of steps after which the first output is known, from the first input on.
    """

    past: int
    used: int
    frames: int
    delay: int


def plan_of(window: Window, value: PerStep) -> WindowPlan:
    """Returns how a layer runs on the frames of a step.

    Raises:
        MoreFrames: the stride does not divide the frames.
    """
    if value.frames % window.stride:
        raise MoreFrames(window.stride // math.gcd(value.frames, window.stride))
    padding = window.padding + value.padding
    delay = max(0, math.ceil((window.width - padding - window.stride) / value.frames))
    return WindowPlan(
        past=delay * value.frames + padding,
        used=value.frames - window.stride + window.width,
        frames=value.frames // window.stride,
        delay=delay,
    )


class WindowStep(layers.Layer):
    """One step of a layer with a window: the frames of the step and those before it -> outputs, and the new frames.

    Args:
        layer: the layer. Its weights are shared.
        plan: how it runs.
        value: what it reads.
        name: name of the step.
    """

    def __init__(self, layer: keras.layers.Layer, plan: WindowPlan, value: PerStep, name: str):
        super().__init__(name=name, dtype=layer.dtype_policy)
        # The frames before the step are the padding.
        self.layer = layer_with(layer, padding="valid")
        self._plan, self._has_axis, self._shape = plan, value.frames > 1, value.frame_shape
        self.built = True

    @property
    def units(self) -> int:
        """The size of the state."""
        return self._plan.past * math.prod(self._shape)

    def call(self, inputs: Any, state: Any = None, ready: Any = None) -> Any:
        """Returns the outputs of a step and the new state, `(batch, units)`; the outputs alone if there is no state.

        Args:
            inputs: `(batch, ...)`, or `(batch, frames, ...)`.
            state: the frames before, flat; None if none are kept.
            ready: whether the inputs are frames of the sequence `(batch,)`, or come before its first one; or None.
        """
        frames = inputs if self._has_axis else ops.expand_dims(inputs, 1)
        if state is None:
            return self._outputs(frames)
        if ready is not None:
            # Frames before the first one are zeros.
            keeps = ops.reshape(ready, (-1, *[1] * (len(frames.shape) - 1)))
            frames = ops.where(keeps, frames, ops.zeros_like(frames))
        past = ops.cast(ops.reshape(state, (-1, self._plan.past, *self._shape)), frames.dtype)
        known = ops.concatenate([past, frames], axis=1)
        new_state = ops.reshape(known[:, known.shape[1] - self._plan.past :], (-1, self.units))
        return self._outputs(known), new_state

    def _outputs(self, known: Any) -> Any:
        outputs = self.layer(known[:, : self._plan.used])
        return outputs if self._plan.frames > 1 else ops.squeeze(outputs, 1)


def left_padding(layer: Any) -> int | None:
    """Returns the frames of zeros that a `ZeroPadding` layer puts before the first frame; None for other layers.

    Raises:
        SteppingError: it adds frames at the end too, or pads another axis.
    """
    if isinstance(layer, layers.ZeroPadding1D):
        before, after = layer.padding
    elif isinstance(layer, layers.ZeroPadding2D):
        (before, after), others = layer.padding
        if any(others):
            raise cannot_be_stepped(layer, "it pads another axis than time; use a layer of its own for each")
    else:
        return None
    if after:
        raise cannot_be_stepped(layer, "it adds frames after the last one; padding must be (frames before, 0)")
    return int(before)
