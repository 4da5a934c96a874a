"""The cases of `keras-seq benchmark layer`: how large the layer is, its arguments, and how it is called."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from keras_seq.errors import ArgumentError


class Size(NamedTuple):
    """The shape of the layer's input, `(batch, length, features)`, and its units."""

    batch: int
    length: int
    features: int
    units: int

    def __str__(self) -> str:
        """Returns the size in the form `32x64x64x128`."""
        return "x".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Parses a size in the form `32x64x64x128`.

        Raises:
            ArgumentError: `text` is not four positive integers.
        """
        parts = text.split("x")
        if len(parts) != 4 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise ArgumentError("sizes", "of the form BATCHxLENGTHxFEATURESxUNITS, such as 32x64x64x128", text)
        return cls(*map(int, parts))

    def operations(self, blocks: int) -> int:
        """Returns the number of multiplications and additions in the matrix products, forward and backward.

        The forward pass has two products per step: input and memory times kernels of several blocks, a block for each gate
        and for the candidate. The backward pass has two for each of them, one for the gradient of either factor.
        """
        return 3 * 2 * self.batch * self.length * (self.features + self.units) * blocks * self.units


class Case(NamedTuple):
    """A layer and how it is called.

    Attributes:
        name: what distinguishes the case from other cases of its size; empty for a layer with the default arguments.
        size: the size.
        arguments: arguments of the layer's constructor, besides the units.
        call: `"training"` is a forward and a backward pass in a graph. `"predict"` is Keras's `Model.predict`, and
            `"eager"` is a call of the model, `model(x)`, outside of a graph.
        unknown: the axes of the input whose size is unknown when the graph is traced, `"batch"` and `"length"`.
        masked: whether the sequences are padded on the right, to between half of their length and all of it.
        bidirectional: whether the layer is in a `Bidirectional`.
        layer: the layer's class, in keras_seq and in Keras.
    """

    name: str
    size: Size
    arguments: Mapping[str, Any]
    call: Literal["training", "predict", "eager"] = "training"
    unknown: tuple[str, ...] = ()
    masked: bool = False
    bidirectional: bool = False
    layer: Literal["GRU", "LSTM", "SimpleRNN"] = "GRU"

    def operations(self) -> int:
        """Returns the number of multiplications and additions in the matrix products of a call, with all gates."""
        blocks = {"GRU": 3, "LSTM": 4, "SimpleRNN": 1}[self.layer]
        directions = 2 if self.bidirectional else 1
        return directions * self.size.operations(blocks) // (1 if self.call == "training" else 3)

    def lengths(self) -> list[int]:
        """Returns the length of each sequence without its padding, the longest first."""
        batch, length = self.size.batch, self.size.length
        return [length - (length // 2) * row // max(batch - 1, 1) for row in range(batch)]


def plain(*sizes: str) -> list[Case]:
    """Returns a case with the default arguments for each size."""
    return [Case("", Size.parse(size), {}) for size in sizes]


DEFAULT_CASES = tuple(plain("32x64x64x128", "64x100x128x256", "64x100x256x512", "32x35x128x256", "1x1000x64x256"))

_SIZE = Size(32, 64, 64, 128)
ALL_CASES = (
    *plain("8x40x32x32", "32x40x32x64", "32x64x64x128", "32x35x128x256", "64x100x128x256", "64x100x256x512"),
    *plain("64x100x256x1024", "1x1000x64x256"),
    Case("batch unknown", _SIZE, {}, unknown=("batch",)),
    Case("length unknown", _SIZE, {}, unknown=("length",)),
    Case("batch and length unknown", _SIZE, {}, unknown=("batch", "length")),
    Case("right padding", _SIZE, {}, masked=True),
    Case("right padding, both unknown", _SIZE, {}, unknown=("batch", "length"), masked=True),
    Case("Bidirectional", _SIZE, {}, bidirectional=True),
    Case("Bidirectional, right padding", _SIZE, {}, masked=True, bidirectional=True),
    Case("last step only", _SIZE, {"return_sequences": False}),
    Case("dropout=0.3", _SIZE, {"dropout": 0.3}),
    Case("recurrent_dropout=0.3", _SIZE, {"recurrent_dropout": 0.3}),
    # With the default `use_cudnn="auto"`, Keras 3.15 fails here: it gives cuDNN the masks of three gates instead of one.
    Case("dropout=0.3, implementation=1", _SIZE, {"dropout": 0.3, "implementation": 1, "use_cudnn": False}),
    Case("mixed_bfloat16", _SIZE, {"dtype": "mixed_bfloat16"}),
    Case("mixed_float16", _SIZE, {"dtype": "mixed_float16"}),
    Case("reset_after=False", _SIZE, {"reset_after": False}),
    # Keras has no such cell; its full form stands beside it.
    Case("reset_gate=False (Keras: full)", _SIZE, {"reset_gate": False}),
    Case("use_bias=False", _SIZE, {"use_bias": False}),
    Case("activation=relu", _SIZE, {"activation": "relu"}),
    Case("activation=elu", _SIZE, {"activation": "elu"}),
    Case("gates=hard_sigmoid", _SIZE, {"recurrent_activation": "hard_sigmoid"}),
    Case("go_backwards", _SIZE, {"go_backwards": True}),
    Case("LSTM", _SIZE, {}, layer="LSTM"),
    Case("SimpleRNN", _SIZE, {}, layer="SimpleRNN"),
    Case("predict", _SIZE, {}, call="predict"),
    Case("model(x), eager", Size(32, 128, 64, 128), {}, call="eager"),
)
