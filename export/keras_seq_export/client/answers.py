"""Answers of a server as arrays, and checks of what they hold: a server may be another program, damaged or replaced."""

import base64
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_seq_export.vocabulary_limits import MOST_BYTES as LARGEST_VOCABULARY

# The largest answer that is read, before what a model or a request makes large is added. JSON may also have few values
# only, because a value of three bytes takes up to 200 as a Python object.
_MOST_BYTES, _MOST_VALUES = 8 * 2**20, 2**20
_BYTES_PER_NUMBER = 32  # in JSON, the separator included
_MOST_NUMBERS = 2**21  # that are added: 32 texts of 32,000 tokens


class AnswerSize(NamedTuple):
    """How large an answer may be.

    Attributes:
        size: most bytes of JSON, or of a message of gRPC.
        values: most values in JSON.
    """

    size: int = _MOST_BYTES
    values: int = _MOST_VALUES

    @classmethod
    def of(cls, numbers: int) -> "AnswerSize":
        """Returns the size of an answer that has so many numbers, logits for example."""
        numbers = min(numbers, _MOST_NUMBERS)
        return cls(_MOST_BYTES + _BYTES_PER_NUMBER * numbers, _MOST_VALUES + numbers)

    def has_values_of(self, content: bytes) -> bool:
        """Returns whether JSON has no more values than this; each follows after one of three characters."""
        return sum(map(content.count, (b",", b"[", b"{"))) <= self.values


# The answer of `start` has the vocabulary, in base64 over REST.
START_SIZE = AnswerSize(_MOST_BYTES + LARGEST_VOCABULARY * 4 // 3)
LARGEST_SIZE = AnswerSize.of(_MOST_NUMBERS)


class Output(NamedTuple):
    """What an output of a signature must be.

    Attributes:
        dtype: "int32", "float32" or "string".
        shape: its shape; None for any size.
    """

    dtype: str
    shape: tuple[int | None, ...]


def size_of(outputs: Mapping[str, Output], tokens: int = 0) -> AnswerSize:
    """Returns how large an answer with these outputs may be.

    Args:
        outputs: the outputs. Those of any size count as nothing.
        tokens: number of tokens that the outputs of any size have, padding included. The text of a token takes about as
            much as its id.
    """
    return AnswerSize.of(2 * tokens + sum(math.prod(size or 0 for size in one.shape) for one in outputs.values()))


def checked(answer: Mapping[str, np.ndarray], outputs: Mapping[str, Output]) -> dict[str, np.ndarray]:
    """Returns the named outputs of an answer as int32, float32 or `bytes` objects.

    Raises:
        ValueError: an output is missing, or has another dtype or shape, or is NaN.
    """
    return {name: _checked_output(name, answer.get(name), output) for name, output in outputs.items()}


def _checked_output(name: str, value: np.ndarray | None, output: Output) -> np.ndarray:
    if value is None:
        raise ValueError(f"`{name}` is missing")
    fits = len(value.shape) == len(output.shape) and all(
        wanted in (None, size) for size, wanted in zip(value.shape, output.shape, strict=True)
    )
    if not fits or value.dtype.kind not in {"int32": "i", "float32": "if", "string": "O"}[output.dtype]:
        sizes = ", ".join("any" if size is None else str(size) for size in output.shape)
        received = "string" if value.dtype == object else str(value.dtype)
        raise ValueError(
            f"`{name}` must be {output.dtype} of the shape ({sizes}). Received: {received} of the shape {value.shape}"
        )
    if output.dtype == "string":
        if not all(isinstance(item, bytes) for item in value.flat):
            raise ValueError(f"`{name}` must be strings")
        return value
    numbers = value.astype(output.dtype)
    if output.dtype == "int32" and (numbers != value).any():
        raise ValueError(f"`{name}` must be integers that fit int32")
    if np.isnan(numbers).any():
        raise ValueError(f"`{name}` must be numbers, but has NaN")
    return numbers


def require_range(name: str, values: np.ndarray, lowest: int, highest: int) -> None:
    """Requires that all values are from `lowest` to `highest`.

    Raises:
        ValueError: one is not.
    """
    if (wrong := values[(values < lowest) | (values > highest)]).size:
        raise ValueError(f"`{name}` must be from {lowest} to {highest}. Received: {wrong.flat[0]}")


def from_json(value: Any) -> np.ndarray:
    """Returns an output of a REST answer: nested lists of numbers, or a list of strings or of `{"b64": ...}`.

    Raises:
        ValueError: it is none of these.
    """
    if not isinstance(value, list):
        raise ValueError(f"it must be a list. Received: {type(value).__name__}")
    kinds = set(map(type, value))
    if kinds and kinds <= {str, dict}:
        array = np.empty(len(value), object)
        array[:] = [_bytes_of(item) for item in value]
        return array
    return _numbers(value)


def _bytes_of(item: str | dict[str, Any]) -> bytes:
    if isinstance(item, str):
        return item.encode("utf-8")  # A lone surrogate is a ValueError.
    if not isinstance(item.get("b64"), str):
        raise ValueError('an object must have the key "b64"')
    return base64.b64decode(item["b64"])


def _numbers(value: list[Any]) -> np.ndarray:
    """Returns nested lists of numbers as an array. Unlike `np.array`, it refuses other values and uneven lists."""
    shape, level = [len(value)], value
    while level and isinstance(level[0], list):
        if set(map(type, level)) != {list} or len(sizes := set(map(len, level))) > 1:
            raise ValueError("its lists must have the same length")
        shape += sizes
        level = list(itertools.chain.from_iterable(level))
    kinds = set(map(type, level))
    if not kinds <= {int, float}:
        raise ValueError("it must have numbers only, or strings only")
    try:
        return np.array(level, np.float64 if float in kinds else np.int64).reshape(shape)
    except OverflowError:
        raise ValueError("it has a number that is too large") from None


def from_tensor(tensor: Any) -> np.ndarray:
    """Returns an output of a gRPC answer, a `TensorProto`.

    Raises:
        ValueError: it has another dtype than an export, or other values than its shape says.
    """
    import tensorflow as tf

    dtypes = {one.as_datatype_enum for one in (tf.float32, tf.int32, tf.int64, tf.string)}
    sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
    # A few bytes may stand for an array of any size.
    if tensor.dtype not in dtypes or min(sizes, default=0) < 0 or math.prod(sizes) * 4 > LARGEST_SIZE.size:
        raise ValueError(f"it has the dtype {tensor.dtype} and the shape {sizes[:10]}")
    try:
        return tf.make_ndarray(tensor)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its values do not fit its shape {sizes[:10]}") from error
