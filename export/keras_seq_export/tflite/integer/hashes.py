"""The hashes of n-grams, with the operators that every runtime has for int32.

TensorFlow Lite for Microcontrollers has no CUMSUM, FLOOR_MOD and SUM of int32 numbers. A remainder is computed by subtraction
there: a sum below `rows * 2^(k + 1)` becomes one below `rows` when `rows * 2^k`, ..., `rows * 2`, `rows` are subtracted in this
order, each if it is not larger than what is left.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.tflite.integer.new_model import BOOL, INT16, INT32, NewModel
from keras_seq_export.tflite.integer.ngrams import Ngrams

_OPTIONS = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}


def write_hashes(model: NewModel, ngrams: Ngrams, token: int, before: int, after: int) -> list[int]:
    """Writes the state after the step, and the row of each n-gram.

    Args:
        model: the model that is being written.
        ngrams: the n-grams.
        token: the tensor of the token, `(1,)` int32.
        before: that of the state before the step, `(1, longest - 1)` int16.
        after: that of the state after the step.

    Returns:
        The tensors of the rows, `(1,)` int32, that of the shortest n-gram first.
    """
    latest = _result(model, "RESHAPE", [token, _constant(model, [1, 1])], [1, 1])
    _write_state(model, latest, before, after)
    sums = _remainders(model, ngrams, _sums(model, ngrams, latest, before))
    one = _constant(model, [1])
    return [_result(model, "RESHAPE", [column, one], [1]) for column in _columns(model, sums, INT32)]


def _write_state(model: NewModel, latest: int, before: int, after: int) -> None:
    """Writes the latest token in front of those before it, without the oldest one."""
    *kept, _ = _columns(model, before, INT16)
    first = model.tensor("token", INT16, [1, 1], 1.0) if kept else after
    model.add("CAST", [latest], [first])
    if kept:
        options = schema.ConcatenationOptionsT()
        options.axis = 1
        model.add("CONCATENATION", [first, *kept], [after], options)


def _sums(model: NewModel, ngrams: Ngrams, latest: int, before: int) -> int:
    """Writes the sum of the factors times the tokens of each n-gram, `(1, longest - 1)`."""
    count = len(ngrams.factors) - 1
    earlier = _result(model, "CAST", [before], [1, count])
    # Any int16 number may be given as a state. None leads to a row outside of the table.
    earlier = _result(model, "MAXIMUM", [earlier, _constant(model, [0])], [1, count])
    earlier = _result(model, "MINIMUM", [earlier, _constant(model, [ngrams.largest_token])], [1, count])
    sums = -1
    for age, token in enumerate([latest, *_columns(model, earlier, INT32)]):
        factors = [[int(ngrams.factors[age]) if age < length else 0 for length in range(2, count + 2)]]
        term = _result(model, "MUL", [token, _constant(model, factors)], [1, count])
        sums = term if age == 0 else _result(model, "ADD", [sums, term], [1, count])
    return sums


def _remainders(model: NewModel, ngrams: Ngrams, sums: int) -> int:
    """Writes the remainders of sums `(1, longest - 1)`."""
    shape = [1, len(ngrams.factors) - 1]
    for number in ngrams.reductions:
        subtrahend, is_reached = _constant(model, [number]), model.tensor("is_reached", BOOL, shape, None)
        model.add("GREATER_EQUAL", [sums, subtrahend], [is_reached])
        subtracted = _result(model, "MUL", [_result(model, "CAST", [is_reached], shape), subtrahend], shape)
        sums = _result(model, "SUB", [sums, subtracted], shape)
    return sums


def _result(model: NewModel, name: str, inputs: list[int], shape: list[int]) -> int:
    """Writes an operator with an int32 result; returns the result."""
    result = model.tensor(name.lower(), INT32, shape, None)
    model.add(name, inputs, [result], _OPTIONS[name]() if name in _OPTIONS else None)
    return result


def _constant(model: NewModel, values: list[int] | list[list[int]]) -> int:
    return model.constant("constant", INT32, np.array(values))


def _columns(model: NewModel, tensor: int, kind: int) -> list[int]:
    """Returns each column of a tensor `(1, columns)` as a tensor `(1, 1)`."""
    count = int(model.graph.tensors[tensor].shape[1])
    if count == 1:
        return [tensor]
    columns = [model.tensor("column", kind, [1, 1], 1.0 if kind == INT16 else None) for _ in range(count)]
    options = schema.SplitOptionsT()
    options.numSplits = count
    model.add("SPLIT", [model.constant("axis", INT32, np.array(1)), tensor], columns, options)
    return columns
