"""Runs a SavedModel as TensorFlow Serving does: in the C++ session of TensorFlow's library, without its Python.

A SavedModel may work in Python and fail in every server, because `tf.saved_model.load` runs Python code that a server
does not have. `run_in_cpp_session` therefore starts a process that never imports `tensorflow`: it opens the library of
the wheel with ctypes, loads the SavedModel through the C API and answers through a pipe.
"""

import ctypes
import importlib.util
import os
import pathlib
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_seq_export.errors import SessionError

# TF_DataType -> NumPy
_NUMBERS: dict[int, np.dtype[Any]] = {1: np.dtype(np.float32), 3: np.dtype(np.int32), 9: np.dtype(np.int64)}
_CODES = {dtype: code for code, dtype in _NUMBERS.items()}
_STRING = 7
_STRING_BYTES = 24  # sizeof(TF_TString)
_LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib")


# Of a signature: the names of the tensors by the names of the inputs, and by those of the outputs.
SignatureTensors = tuple[dict[str, str], dict[str, str]]


class Request(NamedTuple):
    """What to run.

    Attributes:
        signature: name of the signature.
        inputs: arrays by input name: float32, int32, int64, or strings (`str` or `bytes`). An input that has a default
            in the signature may be left out.
        scan: name of an input to go through step by step: it has one more axis, in front, and the signature runs once
            for each of its elements. Outputs named as an input (the states) are fed back; in the answer they are the
            last ones, while the other outputs of all steps are stacked along a new axis in front.
    """

    signature: str
    inputs: dict[str, Any]
    scan: str | None = None


def run_in_cpp_session(
    directory: str | os.PathLike[str],
    requests: Sequence[Request | tuple[str, dict[str, Any]]],
    timeout: float | None = None,
) -> list[dict[str, np.ndarray]]:
    """Runs signatures of a SavedModel in a fresh process that has TensorFlow's C++ library and nothing of its Python.

    Args:
        directory: the SavedModel.
        requests: what to run, in order; `(signature, inputs)` pairs will do.
        timeout: seconds to wait for all the answers; None waits for ever.

    Returns:
        For each request its outputs by name; strings are arrays of `bytes` objects.

    Raises:
        SessionError: the SavedModel cannot be loaded, or a request fails, with the runtime's message; or time is up.
        ValueError: a request names a signature or an input that the SavedModel does not have.
    """
    signatures = signature_tensors(directory)
    work = []
    for request in (Request(*request) for request in requests):
        if request.signature not in signatures:
            raise ValueError(f"`signature` must be one of {sorted(signatures)}. Received: {request.signature!r}")
        names, _ = signatures[request.signature]
        unknown = sorted(set(request.inputs) - set(names))
        if unknown:
            raise ValueError(f"`inputs` of {request.signature!r} must be among {sorted(names)}. Received: {unknown}")
        work.append((tuple(request), signatures[request.signature]))
    try:
        child = subprocess.run(
            [sys.executable, "-m", "keras_seq_export.saved_model.cpp_session", os.fspath(directory)],
            input=pickle.dumps(work),
            capture_output=True,
            timeout=timeout,
            env=child_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise SessionError(
            f"the C++ session of {os.fspath(directory)} gave no answer within {timeout:g} seconds"
        ) from late
    if child.returncode != 0:
        log = child.stderr.decode(errors="replace").strip()[-2000:]
        raise SessionError(f"the C++ session of {os.fspath(directory)} ended with status {child.returncode}: {log}")
    error, answers = pickle.loads(child.stdout)
    if error:
        raise SessionError(f"the C++ session of {os.fspath(directory)}: {error}")
    return answers


def signature_tensors(directory: str | os.PathLike[str]) -> dict[str, SignatureTensors]:
    """Returns for each signature the tensor names of its inputs and of its outputs."""
    from tensorflow.core.protobuf import saved_model_pb2

    path = pathlib.Path(directory, "saved_model.pb")
    if not path.is_file():
        raise SessionError(f"{os.fspath(directory)} must be a SavedModel, but it has no saved_model.pb")
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        (graph,) = [graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags]
    except Exception as error:  # protobuf's DecodeError differs between its implementations
        raise SessionError(f"{path} must hold one graph tagged 'serve', but it is damaged: {error}") from None
    return {
        name: (
            {key: info.name for key, info in signature.inputs.items()},
            {key: info.name for key, info in signature.outputs.items()},
        )
        for name, signature in graph.signature_def.items()
        if not name.startswith("__")  # "__saved_model_init_op" is run while loading.
    }


def child_environment() -> dict[str, str]:
    """Returns the environment of a child process: it finds this package, keeps quiet, and leaves the accelerator to its parent."""
    package = pathlib.Path(__file__).resolve().parents[2]
    paths = [os.fspath(package), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",
    }


class _Output(ctypes.Structure):
    """`TF_Output`: one output of an operation."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class CppSession:
    """A SavedModel in TensorFlow's C++ session, by ctypes, for a process that does not import `tensorflow`; threads may share one.

    Args:
        directory: the SavedModel.

    Raises:
        SessionError: the library is not there, or it cannot load the SavedModel.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self._library = _load_library()
        self._graph = self._library.TF_NewGraph()
        tags = (ctypes.c_char_p * 1)(b"serve")
        path = os.fsencode(directory)
        options, status = self._library.TF_NewSessionOptions(), self._library.TF_NewStatus()
        self._session = self._library.TF_LoadSessionFromSavedModel(
            options, None, path, tags, 1, self._graph, None, status
        )
        self._library.TF_DeleteSessionOptions(options)
        try:
            self._check(status)
        finally:
            self._library.TF_DeleteStatus(status)

    def run(self, feeds: dict[str, Any], fetches: Sequence[str]) -> list[np.ndarray]:
        """Runs the graph once.

        Args:
            feeds: arrays by tensor name, such as "decode_token:0".
            fetches: names of the tensors to give back.

        Returns:
            Their values, in the order of `fetches`.
        """
        library = self._library
        status = library.TF_NewStatus()  # Threads may share a session.
        given: list[int] = []
        answers = (ctypes.c_void_p * len(fetches))()
        try:
            for value in feeds.values():
                given.append(_to_tensor(library, value))
            library.TF_SessionRun(
                self._session,
                None,
                self._places(feeds),
                (ctypes.c_void_p * len(given))(*given),
                len(given),
                self._places(fetches),
                answers,
                len(fetches),
                None,
                0,
                None,
                status,
            )
            self._check(status)
            # An answer may share the memory of a feed: it is copied before the feeds are freed.
            return [_from_tensor(library, tensor) for tensor in answers if tensor]
        finally:
            library.TF_DeleteStatus(status)
            for tensor in filter(None, answers):
                library.TF_DeleteTensor(tensor)
            for tensor in given:
                _delete(library, tensor)

    def run_signature(self, tensors: SignatureTensors, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """Runs a signature once, of which `signature_tensors` gives the tensors; returns its outputs by name."""
        names, outputs = tensors
        values = self.run({names[key]: value for key, value in inputs.items()}, list(outputs.values()))
        return dict(zip(outputs, values, strict=True))

    def _places(self, names: Any) -> Any:
        """The operations' outputs of these tensor names, as an array of TF_Output."""
        places = (_Output * len(names))()
        for place, name in zip(places, names, strict=True):
            operation, _, index = name.partition(":")
            place.operation = self._library.TF_GraphOperationByName(self._graph, operation.encode())
            place.index = int(index or 0)
            if not place.operation:
                raise SessionError(f"the graph has no operation {operation!r}")
        return places

    def _check(self, status: int) -> None:
        if self._library.TF_GetCode(status):
            raise SessionError(self._library.TF_Message(status).decode(errors="replace"))


def _load_library() -> ctypes.CDLL:
    """TensorFlow's C++ library with the C API's types declared; found without importing `tensorflow`."""
    spec = importlib.util.find_spec("tensorflow")
    folders = map(pathlib.Path, (spec.submodule_search_locations or ()) if spec else ())
    found = [path for folder in folders for name in _LIBRARIES if (path := folder / name).is_file()]
    if not found:
        raise SessionError(f"the tensorflow package must have {' or '.join(_LIBRARIES)}, but none was found")
    library = ctypes.CDLL(os.fspath(found[0]), mode=ctypes.RTLD_GLOBAL)
    pointer, text, size, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
    for name, result, arguments in (
        ("TF_NewStatus", pointer, []),
        ("TF_DeleteStatus", None, [pointer]),
        ("TF_GetCode", number, [pointer]),
        ("TF_Message", text, [pointer]),
        ("TF_NewGraph", pointer, []),
        ("TF_GraphOperationByName", pointer, [pointer, text]),
        ("TF_NewSessionOptions", pointer, []),
        ("TF_DeleteSessionOptions", None, [pointer]),
        ("TF_LoadSessionFromSavedModel", pointer, [pointer, pointer, text, pointer, number, pointer, pointer, pointer]),
        ("TF_SessionRun", None, [*[pointer] * 4, number, pointer, pointer, number, pointer, number, pointer, pointer]),
        ("TF_AllocateTensor", pointer, [number, pointer, number, size]),
        ("TF_DeleteTensor", None, [pointer]),
        ("TF_TensorType", number, [pointer]),
        ("TF_NumDims", number, [pointer]),
        ("TF_Dim", ctypes.c_int64, [pointer, number]),
        ("TF_TensorByteSize", size, [pointer]),
        ("TF_TensorData", pointer, [pointer]),
        ("TF_StringInit", None, [pointer]),
        ("TF_StringCopy", None, [pointer, text, size]),
        ("TF_StringGetDataPointer", pointer, [pointer]),
        ("TF_StringGetSize", size, [pointer]),
        ("TF_StringDealloc", None, [pointer]),
    ):
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def _to_tensor(library: ctypes.CDLL, value: Any) -> int:
    """A new TF_Tensor with a copy of `value`."""
    array = np.asarray(value)
    if array.dtype.kind == "S":  # NumPy's own strings of bytes lose the zeros at their end.
        array = np.asarray(value, object)
    dims = (ctypes.c_int64 * array.ndim)(*array.shape)
    if array.dtype.kind in "OU":
        tensor = library.TF_AllocateTensor(_STRING, dims, array.ndim, array.size * _STRING_BYTES)
        start = library.TF_TensorData(tensor)
        for index, item in enumerate(array.ravel().tolist()):
            data = item.encode() if isinstance(item, str) else bytes(item)
            library.TF_StringInit(start + index * _STRING_BYTES)
            library.TF_StringCopy(start + index * _STRING_BYTES, data, len(data))
        return tensor
    if array.dtype not in _CODES:
        raise SessionError(f"an input must be float32, int32, int64 or strings. Received: {array.dtype}")
    array = np.ascontiguousarray(array)
    tensor = library.TF_AllocateTensor(_CODES[array.dtype], dims, array.ndim, array.nbytes)
    ctypes.memmove(library.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
    return tensor


def _from_tensor(library: ctypes.CDLL, tensor: int) -> np.ndarray:
    """A copy of what the TF_Tensor holds."""
    shape = tuple(library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor)))
    code = library.TF_TensorType(tensor)
    start = library.TF_TensorData(tensor)
    if code == _STRING:
        array = np.empty(shape, object)
        for index in range(array.size):
            string = start + index * _STRING_BYTES
            data = library.TF_StringGetDataPointer(string)
            array.flat[index] = ctypes.string_at(data, library.TF_StringGetSize(string))
        return array
    if code not in _NUMBERS:
        raise SessionError(f"an output must be float32, int32, int64 or strings. Received: TF_DataType {code}")
    data = ctypes.string_at(start, library.TF_TensorByteSize(tensor)) if 0 not in shape else b""
    return np.frombuffer(data, _NUMBERS[code]).reshape(shape)


def _delete(library: ctypes.CDLL, tensor: int) -> None:
    """Frees a tensor made by `_to_tensor`: long strings have memory of their own."""
    if library.TF_TensorType(tensor) == _STRING:
        start = library.TF_TensorData(tensor)
        for index in range(library.TF_TensorByteSize(tensor) // _STRING_BYTES):
            library.TF_StringDealloc(start + index * _STRING_BYTES)
    library.TF_DeleteTensor(tensor)


def _answer(session: CppSession, request: Request, tensors: SignatureTensors) -> dict[str, Any]:
    """The request's outputs by name; the steps of a scan one after another."""
    if request.scan is None:
        return session.run_signature(tensors, request.inputs)
    inputs = dict(request.inputs)
    answers: dict[str, Any] = {}
    steps: list[dict[str, Any]] = []
    for element in inputs.pop(request.scan):
        answers = session.run_signature(tensors, {**inputs, request.scan: element})
        inputs |= {key: value for key, value in answers.items() if key in inputs}
        steps.append({key: value for key, value in answers.items() if key not in inputs})
    return answers | {key: np.stack([step[key] for step in steps]) for key in (steps[0] if steps else {})}


def _main() -> None:
    """The child process: the work on standard input, `(error, answers)` on standard output."""
    directory = sys.argv[1]
    # Only the answer may reach the pipe, whatever a library prints.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers: list[dict[str, Any]] = []
    error = None
    try:
        work = pickle.load(sys.stdin.buffer)
        session = CppSession(directory)
        for request, tensors in work:
            answers.append(_answer(session, Request(*request), tensors))
    except SessionError as failure:
        error = str(failure)
    pipe.write(pickle.dumps((error, answers)))
    pipe.flush()


if __name__ == "__main__":
    _main()
