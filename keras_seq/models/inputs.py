"""The inputs of a model: which are read step by step, which are given at once, and what they hold."""

import itertools
import keyword
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_seq.keras_internals import SymbolicCall, calls_in_order
from keras_seq.layers.ngram_embedding import NgramEmbedding
from keras_seq.models.graph import has_graph

_MOST_CHOICES = 4096  # of inputs to read step by step
_MOST_TRIED = 16
_LOOK_UPS = (keras.layers.Embedding, NgramEmbedding)  # layers that take token ids; `input_dim` is how many they know
# Names that mean something else in the signatures of an export.
_KINDS = ("token", "tokens", "frame", "frames", "source", "context", "length")


class ModelInput(NamedTuple):
    """An input of a model.

    Attributes:
        tensor: its symbolic tensor.
        name: its name in the one-step form and in the signatures of an export.
        is_stepped: whether a step reads a part of it; otherwise it is given at once, before the first step.
        token_count: number of token ids, if it holds token ids; otherwise None.
        one_hot: whether the model takes the one-hot vectors of the ids, `(batch, time, token_count)`.
    """

    tensor: keras.KerasTensor
    name: str
    is_stepped: bool
    token_count: int | None
    one_hot: bool = False

    @property
    def is_token(self) -> bool:
        """Whether it holds token ids."""
        return self.token_count is not None

    @property
    def has_length(self) -> bool:
        """Whether it is given at once, as a sequence of any length."""
        return not self.is_stepped and self.tensor.shape[1:2] == (None,)

    def step_tensor(self, frames: int) -> keras.KerasTensor:
        """Returns a symbolic tensor for the frames of a step: `(batch, ...)`, or `(batch, frames, ...)` for several."""
        shape = () if self.one_hot else tuple(self.tensor.shape[2:])
        dtype = "int32" if self.is_token else self.tensor.dtype
        return keras.Input((*([frames] if frames > 1 else []), *shape), dtype=dtype, name=self.name)

    def at_once_tensor(self) -> keras.KerasTensor:
        """Returns a symbolic tensor for what is given at once, `(batch, ...)`."""
        return keras.Input(self.tensor.shape[1:], dtype=self.tensor.dtype, name=self.name)

    def as_model_takes(self, values: Any) -> Any:
        """Returns token ids, symbolic or not, as the model takes them."""
        return ops.one_hot(values, self.token_count, dtype=self.tensor.dtype) if self.one_hot else values


def takes_one_hot(model: keras.Model) -> bool:
    """Returns whether a model takes one-hot vectors of as many tokens as it gives logits for."""
    return any(_one_hot_count(tensor, model) is not None for tensor in model.inputs)


def _one_hot_count(tensor: keras.KerasTensor, model: keras.Model) -> int | None:
    """Returns the number of tokens in the one-hot vectors `(batch, time, tokens)` that an input takes, if it does."""
    size = tensor.shape[-1]
    is_vectors = len(tensor.shape) == 3 and any(output.shape[-1] == size for output in model.outputs)
    return size if is_vectors else None


def possible_inputs(model: keras.Model, tokens: bool, one_hot: bool) -> Iterator[list[ModelInput]]:
    """Yields what the inputs of a model may be, the most likely first: as many as possible are read step by step.

    Args:
        model: a Sequential or Functional model.
        tokens: whether an only input holds token ids.
        one_hot: whether an only input that is read step by step takes one-hot vectors of token ids.
    """
    tensors = model.inputs
    if len(tensors) == 1:
        count = _one_hot_count(tensors[0], model) if one_hot else token_count(model) if tokens else None
        yield [ModelInput(tensors[0], "frame" if count is None else "token", True, count, one_hot)]
        return
    choices = itertools.product(*([False, True] if len(tensor.shape) > 1 else [False] for tensor in tensors))
    likely = _inputs_on_the_way(model)

    def likelihood(stepped: Sequence[bool]) -> tuple[bool, int, int]:
        chosen = [tensor for tensor, flag in zip(tensors, stepped, strict=True) if flag]
        is_likely = {id(tensor) for tensor in chosen} == likely
        return is_likely, len(chosen), sum(tensor.shape[1] is None or len(tensor.shape) > 2 for tensor in chosen)

    possible = [
        stepped
        for stepped in itertools.islice(choices, _MOST_CHOICES)
        if len({tensor.shape[1] for tensor, flag in zip(tensors, stepped, strict=True) if flag}) == 1
    ]
    for stepped in sorted(possible, key=likelihood, reverse=True)[:_MOST_TRIED]:
        yield _named(model, stepped, one_hot)


def _inputs_on_the_way(model: keras.Model) -> set[int]:
    """Returns the identities of the sequences that reach an output without being the initial state of a recurrent layer."""
    reached = {id(tensor): {id(tensor)} for tensor in model.inputs if len(tensor.shape) > 1}
    for call in calls_in_order(model):
        given = call.inputs
        if isinstance(call.operation, keras.layers.RNN):
            given = [
                one
                for one in tree.flatten(call.args[:1] or call.kwargs["sequences"])
                if isinstance(one, keras.KerasTensor)
            ]
        found = set().union(*(reached.get(id(tensor), set()) for tensor in given))
        reached.update({id(tensor): found for tensor in call.outputs})
    return set().union(*(reached.get(id(tensor), set()) for tensor in model.outputs))


def _named(model: keras.Model, stepped: Sequence[bool], one_hot: bool) -> list[ModelInput]:
    """Returns the inputs of a model with several. An only one of its kind has the name of the kind."""
    counts = [_token_count_of(tensor, model) for tensor in model.inputs]
    if one_hot and sum(stepped) == 1:
        first = list(stepped).index(True)
        counts[first] = counts[first] or _one_hot_count(model.inputs[first], model)
    kinds = [_kind(*one) for one in zip(model.inputs, stepped, counts, strict=True)]
    own = [_own_name(tensor, index) for index, tensor in enumerate(model.inputs)]
    alike = [name.lower() for name in own]  # TensorFlow does not tell capitals apart.
    own = [name if alike.count(name.lower()) == 1 else f"input_{index}" for index, name in enumerate(own)]
    names = [kind if kinds.count(kind) == 1 else name for kind, name in zip(kinds, own, strict=True)]
    return [
        ModelInput(tensor, name, flag, count, one_hot and flag and count is not None and len(tensor.shape) == 3)
        for tensor, name, flag, count in zip(model.inputs, names, stepped, counts, strict=True)
    ]


def _kind(tensor: keras.KerasTensor, stepped: bool, count: int | None) -> str:
    if stepped:
        return "frame" if count is None else "token"
    is_sequence = (
        len(tensor.shape) > 2 or tensor.shape[1:2] == (None,) or (count is not None and tensor.shape[1:] > (1,))
    )
    return "source" if is_sequence else "context"


def _own_name(tensor: keras.KerasTensor, index: int) -> str:
    """Returns the name that the user gave an input; for a name that Keras gave it, its position."""
    name = re.sub(r"\W", "_", tensor.name, flags=re.ASCII)
    is_given = not re.match(r"(keras_tensor|input_|state_)", name) and name not in _KINDS
    # The name becomes that of an argument in Python.
    is_argument = name.isidentifier() and not keyword.iskeyword(name) and name != "self"
    return name if is_given and is_argument else f"input_{index}"


def is_integer(tensor: keras.KerasTensor) -> bool:
    """Returns whether a symbolic tensor holds integers or truth values."""
    return "float" not in keras.backend.standardize_dtype(tensor.dtype)


def takes_ids(call: SymbolicCall) -> bool:
    """Returns whether a call looks up embeddings, makes integers of real values, or contains such calls."""
    operation = call.operation
    if has_graph(operation):
        return any(takes_ids(inner) for inner in calls_in_order(operation))
    return isinstance(operation, _LOOK_UPS) or any(map(is_integer, call.outputs))


def token_count(model: keras.Model) -> int:
    """Returns the number of token ids that a model reads: that of its first embeddings, or else that of its outputs."""
    counts = _counts_of(model.inputs[0], model)
    return min(counts, default=max(2, model.outputs[0].shape[-1] or 2))


def _token_count_of(tensor: keras.KerasTensor, model: keras.Model) -> int | None:
    """Returns the number of token ids of one of several inputs; None if it holds no token ids."""
    counts = _counts_of(tensor, model)
    return min(counts, default=None)


def _counts_of(tensor: keras.KerasTensor, model: keras.Model) -> list[int]:
    """Returns the number of ids that each embedding, of tokens or n-grams, or one-hot encoding takes that a tensor is given to."""
    counts = []
    for call in calls_in_order(model):
        for index, given in enumerate(call.inputs):
            if given is not tensor:
                continue
            if isinstance(call.operation, _LOOK_UPS):
                counts.append(call.operation.input_dim)
            elif isinstance(call.operation, keras.layers.CategoryEncoding):
                counts.append(call.operation.num_tokens)
            elif has_graph(call.operation) and len(call.operation.inputs) == len(call.inputs):
                counts += _counts_of(call.operation.inputs[index], call.operation)
    return counts


def random_values(given: ModelInput, rows: int, length: int, masked: Sequence[float] = (0,)) -> np.ndarray:
    """Returns random values for an input, the same on every call: token ids, integers or real numbers.

    Some steps are those that a mask would skip: token 0, or a frame of zeros or of the value of a `Masking` layer. They
    are at other positions in each row; the second row begins with them.

    Args:
        given: the input.
        rows: number of rows.
        length: number of frames, if the input has a time axis.
        masked: the values that a mask would skip.

    Returns:
        `(rows, length, ...)`, or `(rows, ...)`. Of one-hot vectors, the ids.
    """
    random = np.random.default_rng(zlib.crc32(given.name.encode()))
    first = tuple(given.tensor.shape[1:])
    if given.is_stepped or given.has_length:
        first = (length, *first[1:])
    shape = (rows, *(first[:1] if given.one_hot else first))
    if given.is_token:
        values = random.integers(0, given.token_count, shape).astype(np.int32)
    elif is_integer(given.tensor):
        dtype = keras.backend.standardize_dtype(given.tensor.dtype)
        return random.integers(0, 2, shape).astype(dtype)
    else:
        values = random.normal(size=shape).astype(np.float32)
    if len(shape) < 2 or not (given.is_stepped or given.has_length):
        return values
    for row, index in itertools.product(range(rows), range(len(masked))):
        values[row, (5 * row + index) % 10 :: 13] = masked[index]
    if rows > 1 and masked:
        values[1, :2] = masked[-1]
    return values
