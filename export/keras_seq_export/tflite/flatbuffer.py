"""Reading, changing and writing the flatbuffer of a .tflite without running it.

Imports neither TensorFlow nor Keras.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.tflite.contents import names_of

_OPTIONS_WITH_SUBGRAPHS = ("bodySubgraphIndex", "condSubgraphIndex", "thenSubgraphIndex", "elseSubgraphIndex")


def parse(content: bytes) -> schema.ModelT:
    """Returns the flatbuffer as objects. In a file from strangers, they may need far more memory than its size.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return schema.ModelT.InitFromPackedBuf(content)
    except Exception as error:  # Damaged offsets raise errors of any class.
        raise ValueError(f"the model's flatbuffer is damaged: {error}") from error


def pack(model: schema.ModelT) -> bytes:
    """Returns the bytes of a .tflite, which `parse` reads."""
    builder = flatbuffers.Builder(sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def remove_unused_tensors(model: schema.ModelT) -> None:
    """Removes the tensors that no operator reads or writes, which changes of the graph leave behind.

    A runtime may allocate memory for those without data: TensorFlow Lite for Microcontrollers took 299 kB instead of 19
    kB for a GRU of 384 units.
    """
    for number, graph in enumerate(model.subgraphs):
        lists = [
            (owner, field)
            for owner in (graph, *graph.operators)
            for field in ("inputs", "outputs", "intermediates")
            if getattr(owner, field, None) is not None
        ]
        used = sorted({int(index) for owner, field in lists for index in getattr(owner, field) if index >= 0})
        new_index = {old: new for new, old in enumerate(used)} | {-1: -1}
        graph.tensors = [graph.tensors[index] for index in used]
        for owner, field in lists:
            setattr(owner, field, [new_index[int(index)] for index in getattr(owner, field)])
        for signature in model.signatureDefs or []:
            if signature.subgraphIndex == number:
                for entry in (*signature.inputs, *signature.outputs):
                    entry.tensorIndex = new_index[entry.tensorIndex]


def separate_constant_outputs(model: schema.ModelT) -> None:
    """Gives each output of a signature that is a constant a tensor of its own.

    TensorFlow's converter makes equal constants one tensor. LiteRT's CompiledModel names outputs after their tensors,
    so it would lack all but one of the names.
    """
    for signature in model.signatureDefs or []:
        graph = model.subgraphs[signature.subgraphIndex]
        taken: set[int] = set()
        for entry in signature.outputs:
            shared = graph.tensors[entry.tensorIndex]
            if entry.tensorIndex in taken and model.buffers[shared.buffer].data is not None:
                name = shared.name + b":" + entry.name
                own = add_tensor(graph, name, shared.type, shared.shape, shared.buffer)
                graph.outputs = list(graph.outputs)
                graph.outputs[graph.outputs.index(entry.tensorIndex)] = entry.tensorIndex = own
            taken.add(entry.tensorIndex)


def first_signature(content: bytes) -> bytes:
    """Returns a .tflite with only its first signature, `decode`.

    Some runtimes prepare all signatures of a file but lack an operator of one: TensorFlow Lite for Microcontrollers
    lacks TOPK_V2, which `sample` needs. If the whole file has a signature `start`, the program that runs this one has
    to hold the initial states, which `start` returns.

    Raises:
        ValueError: the signature needs another subgraph, as in a model with internal states.
    """
    model = parse(content)
    is_self_contained = model.signatureDefs[0].subgraphIndex == 0 and not any(
        hasattr(operator.builtinOptions, option)
        for operator in model.subgraphs[0].operators
        for option in (*_OPTIONS_WITH_SUBGRAPHS, "initSubgraphIndex")
    )
    if not is_self_contained:
        raise ValueError("the first signature must need no other subgraph: export the model with state='explicit'")
    model.subgraphs, model.signatureDefs = model.subgraphs[:1], model.signatureDefs[:1]
    return pack(model)


def positions(content: bytes) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the position of each input and of each output of the first signature in the lists of its graph."""
    model = parse(content)
    signature = model.signatureDefs[0]
    graph = model.subgraphs[signature.subgraphIndex]
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    return (
        {one.name.decode(): inputs.index(one.tensorIndex) for one in signature.inputs},
        {one.name.decode(): outputs.index(one.tensorIndex) for one in signature.outputs},
    )


def operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """Returns an operator's name, such as `FULLY_CONNECTED`."""
    return _OPERATORS[model.operatorCodes[operator.opcodeIndex].builtinCode]


def count_readers(model: schema.ModelT) -> dict[int, Counter[tuple[str, int]]]:
    """Returns the readers of each buffer: how often it is input i of an operator, by operator name and i.

    An output of a graph counts as `("output", 0)`.
    """
    found: dict[int, Counter[tuple[str, int]]] = defaultdict(Counter)
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = operator_name(model, operator)
            for position, index in enumerate(operator.inputs):
                if index >= 0:
                    found[graph.tensors[index].buffer][name, position] += 1
        for index in graph.outputs:
            found[graph.tensors[index].buffer]["output", 0] += 1
    return found


def float32_constant(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray | None:
    """Returns the values of a float32 constant; None for any other tensor."""
    return _constant(model, tensor, np.float32) if tensor.type == schema.TensorType.FLOAT32 else None


def int32_constant(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray | None:
    """Returns the values of an int32 constant; None for any other tensor."""
    return _constant(model, tensor, np.int32) if tensor.type == schema.TensorType.INT32 else None


def _constant(model: schema.ModelT, tensor: schema.TensorT, dtype: type[np.number]) -> np.ndarray | None:
    data = model.buffers[tensor.buffer].data
    return None if data is None else np.asarray(data, np.uint8).view(dtype).reshape(tensor.shape)


def add_buffer(model: schema.ModelT, values: np.ndarray) -> int:
    """Stores values in a new buffer; returns its index."""
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def add_tensor(graph: schema.SubGraphT, name: bytes, dtype: int, shape: Sequence[int], buffer: int = 0) -> int:
    """Adds a tensor to the end of the graph; returns its index. Buffer 0 means that it is no constant."""
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.shape, tensor.buffer = name, dtype, list(shape), buffer
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def new_operator(
    model: schema.ModelT, name: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1
) -> schema.OperatorT:
    """Returns a new operator without options; the caller inserts it into a graph."""
    code = next(code for code, operator_name in _OPERATORS.items() if operator_name == name)
    indices = [index for index, known in enumerate(model.operatorCodes) if known.builtinCode == code]
    if not indices:
        added = schema.OperatorCodeT()
        added.builtinCode = added.deprecatedBuiltinCode = code
        added.version = version
        model.operatorCodes.append(added)
    operator = schema.OperatorT()
    operator.opcodeIndex = indices[0] if indices else len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = list(inputs), list(outputs)
    return operator


_OPERATORS = names_of(schema.BuiltinOperator)
