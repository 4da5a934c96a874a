"""TensorFlow's C API through ctypes, for a process that does not import `tensorflow`.

Only what running a SavedModel needs: the library with its types declared, and tensors to and from NumPy arrays. The
functions are those of tensorflow/c/c_api.h and tensorflow/c/tf_tstring.h.
"""

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_seq_export.errors import SessionError

# TF_DataType -> NumPy
_NUMBERS: dict[int, np.dtype[Any]] = {1: np.dtype(np.float32), 3: np.dtype(np.int32), 9: np.dtype(np.int64)}
_CODES = {dtype: code for code, dtype in _NUMBERS.items()}
_STRING = 7
_STRING_BYTES = 24  # sizeof(TF_TString)
_LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib")


class Output(ctypes.Structure):
    """`TF_Output`: one output of an operation in a graph."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def load_library() -> ctypes.CDLL:
    """Returns TensorFlow's C++ library from the installed package, with the types of its C functions declared.

    Raises:
        SessionError: the tensorflow package is not installed, or has no such library.
    """
    spec = importlib.util.find_spec("tensorflow")
    folders = map(Path, (spec.submodule_search_locations or ()) if spec else ())
    found = [path for folder in folders for name in _LIBRARIES if (path := folder / name).is_file()]
    if not found:
        raise SessionError(f"the tensorflow package must contain {' or '.join(_LIBRARIES)}, but neither was found")
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


def new_tensor(library: ctypes.CDLL, value: Any) -> int:
    """Returns a new TF_Tensor with a copy of `value`: float32, int32, int64, or strings (`str` or `bytes`)."""
    array = np.asarray(value)
    if array.dtype.kind == "S":  # NumPy's own byte strings drop trailing zeros.
        array = np.asarray(value, object)
    dims = (ctypes.c_int64 * array.ndim)(*array.shape)
    if array.dtype.kind in "OU":
        strings = array.ravel().tolist()
        if others := sorted({type(item).__name__ for item in strings if not isinstance(item, str | bytes)}):
            raise SessionError(f"an input of strings must hold `str` or `bytes`. Received: {', '.join(others)}")
        tensor = library.TF_AllocateTensor(_STRING, dims, array.ndim, array.size * _STRING_BYTES)
        start = library.TF_TensorData(tensor)
        for index, item in enumerate(strings):
            data = item.encode() if isinstance(item, str) else item
            library.TF_StringInit(start + index * _STRING_BYTES)
            library.TF_StringCopy(start + index * _STRING_BYTES, data, len(data))
        return tensor
    if array.dtype not in _CODES:
        raise SessionError(f"an input must be float32, int32, int64 or strings. Received: {array.dtype}")
    array = np.ascontiguousarray(array)
    tensor = library.TF_AllocateTensor(_CODES[array.dtype], dims, array.ndim, array.nbytes)
    ctypes.memmove(library.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
    return tensor


def to_array(library: ctypes.CDLL, tensor: int) -> np.ndarray:
    """Returns a copy of the values of a TF_Tensor; strings are an array of `bytes` objects."""
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


def delete_tensor(library: ctypes.CDLL, tensor: int) -> None:
    """Frees a tensor of `new_tensor`, and first its strings: long ones have memory of their own."""
    if library.TF_TensorType(tensor) == _STRING:
        start = library.TF_TensorData(tensor)
        for index in range(library.TF_TensorByteSize(tensor) // _STRING_BYTES):
            library.TF_StringDealloc(start + index * _STRING_BYTES)
    library.TF_DeleteTensor(tensor)
