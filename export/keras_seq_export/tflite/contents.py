"""What a .tflite contains, read in place: nothing is run, and a hostile file fills neither the memory nor the time.

Flatbuffers refer to their parts by offset. Many offsets may refer to one part, so a small file can describe billions of
parts. They are therefore read one by one, up to a limit, and never made objects together, as `flatbuffer.parse` does.
Imports neither TensorFlow nor Keras.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.tflite.signature import Signature, Tensor

_MOST_PARTS: Final = 200_000  # tensors and operators that are read; those called by several signatures count for each
_MOST_SIGNATURES: Final = 32
_MOST_DIMENSIONS: Final = 16  # of a tensor
_LONGEST_NAME: Final = 1000  # bytes


class Contents(NamedTuple):
    """What a .tflite contains.

    Attributes:
        signatures: by name, in the order of the file.
        stored_bytes: bytes of the constants by dtype.
        dtypes: those of all tensors, in the order of their names.
    """

    signatures: dict[str, Signature]
    stored_bytes: dict[str, int]
    dtypes: list[str]


def contents_of(model: bytes) -> Contents:
    """Returns what a flatbuffer contains.

    Raises:
        ValueError: it is damaged, or has more parts than a model can have.
    """
    try:
        return _Reader(model).contents()
    except Exception as error:  # Damaged offsets raise errors of any class.
        raise ValueError(f"the model's flatbuffer is damaged: {error}") from error


class _Reader:
    """Reads the parts of one flatbuffer, up to the limits."""

    def __init__(self, content: bytes):
        self._size = len(content)
        self._model = schema.Model.GetRootAs(content)
        self._parts = 0

    def contents(self) -> Contents:
        count = self._model.SignatureDefsLength()
        if count > _MOST_SIGNATURES:
            raise ValueError(f"it has {count} signatures, more than the {_MOST_SIGNATURES} allowed")
        signatures = {}
        for signature in map(self._model.SignatureDefs, range(count)):
            graph = self._graph(signature.SubgraphIndex())
            signatures[_text(signature.SignatureKey())] = Signature(
                self._tensors(graph, signature.Inputs, signature.InputsLength()),
                self._tensors(graph, signature.Outputs, signature.OutputsLength()),
                dict(sorted(Counter(self._operators(signature.SubgraphIndex())).items())),
            )
        return Contents(signatures, *self._stored_bytes_and_dtypes())

    def _each(self, read: Any, count: int) -> Iterator[Any]:
        """Yields the parts of a list, and counts them."""
        self._parts += count
        if self._parts > _MOST_PARTS:
            raise ValueError(f"it has more than {_MOST_PARTS} parts")
        return map(read, range(count))

    def _graph(self, index: int) -> Any:
        return self._model.Subgraphs(_in_range(index, self._model.SubgraphsLength(), "subgraph"))

    def _tensors(self, graph: Any, read: Any, count: int) -> dict[str, Tensor]:
        found = {}
        for entry in self._each(read, count):
            tensor = graph.Tensors(_in_range(entry.TensorIndex(), graph.TensorsLength(), "tensor"))
            if (dimensions := tensor.ShapeLength()) > _MOST_DIMENSIONS:
                raise ValueError(f"a tensor has {dimensions} dimensions")
            shape = tuple(map(tensor.Shape, range(dimensions)))
            found[_text(entry.Name())] = Tensor(_DTYPES[tensor.Type()], shape, _scale_of(tensor))
        return dict(sorted(found.items()))

    def _operators(self, index: int) -> Iterator[str]:
        """Yields the operators of a subgraph and of the subgraphs that it calls, each of these once."""
        waiting, seen = [index], {index}
        while waiting:
            graph = self._graph(waiting.pop())
            for operator in self._each(graph.Operators, graph.OperatorsLength()):
                codes = self._model.OperatorCodesLength()
                code = self._model.OperatorCodes(_in_range(operator.OpcodeIndex(), codes, "operator code"))
                # Files of old converters have the number only in the older field.
                yield _OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
                for called in _called(operator):
                    if called not in seen:
                        seen.add(called)
                        waiting.append(called)

    def _stored_bytes_and_dtypes(self) -> tuple[dict[str, int], list[str]]:
        dtypes, found = dict[int, str](), set[str]()
        for graph in self._each(self._model.Subgraphs, self._model.SubgraphsLength()):
            for tensor in self._each(graph.Tensors, graph.TensorsLength()):
                dtypes[tensor.Buffer()] = _DTYPES[tensor.Type()]
                found.add(_DTYPES[tensor.Type()])
        stored: Counter[str] = Counter()
        for index, dtype in dtypes.items():
            buffer = self._model.Buffers(_in_range(index, self._model.BuffersLength(), "buffer"))
            stored[dtype] += buffer.DataLength()
        if stored.total() > self._size:
            raise ValueError(f"its constants have {stored.total()} bytes, more than the file")
        return {dtype: size for dtype, size in sorted(stored.items()) if size}, sorted(found)


def _called(operator: Any) -> tuple[int, ...]:
    """Returns the indices of the subgraphs that an operator calls."""
    kind, table = operator.BuiltinOptionsType(), operator.BuiltinOptions()
    if table is None or kind not in (schema.BuiltinOptions.WhileOptions, schema.BuiltinOptions.IfOptions):
        return ()
    options = schema.WhileOptions() if kind == schema.BuiltinOptions.WhileOptions else schema.IfOptions()
    options.Init(table.Bytes, table.Pos)
    if isinstance(options, schema.WhileOptions):
        return options.CondSubgraphIndex(), options.BodySubgraphIndex()
    return options.ThenSubgraphIndex(), options.ElseSubgraphIndex()


def _scale_of(tensor: Any) -> float | None:
    """Returns the scale of a quantized tensor; None if it has none, or several."""
    quantization = tensor.Quantization()
    if quantization is None or quantization.ScaleLength() != 1:
        return None
    scale = float(quantization.Scale(0))
    return scale if 0 < scale < math.inf else None


def _in_range(index: int, count: int, part: str) -> int:
    if not 0 <= index < count:
        raise ValueError(f"it refers to {part} {index} of {count}")
    return index


def _text(name: bytes) -> str:
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"a name has {len(name)} bytes, more than the {_LONGEST_NAME} allowed")
    return name.decode()


def names_of(enumeration: type) -> dict[int, str]:
    """Returns the names of an enumeration of the schema by number."""
    return {code: name for name, code in vars(enumeration).items() if not name.startswith("_")}


_DTYPES: Final = {code: name.lower() for code, name in names_of(schema.TensorType).items()}
_OPERATORS: Final = names_of(schema.BuiltinOperator)
