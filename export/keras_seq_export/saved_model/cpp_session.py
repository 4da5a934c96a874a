"""Running a SavedModel as TensorFlow Serving does: in TensorFlow's C++ session, without TensorFlow's Python code.

A SavedModel may work in Python and fail on every server, because `tf.saved_model.load` runs Python code that a server
does not have. `run_in_cpp_session` therefore starts a process that never imports `tensorflow`. The process opens the
library of the installed package with ctypes, loads the SavedModel through the C API and answers through a pipe.
"""

import ctypes
import os
import pickle
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_seq import require
from keras_seq_export.errors import SessionError
from keras_seq_export.saved_model import c_api

# Tensor names of a signature's inputs by input name, and of its outputs by output name.
SignatureTensors = tuple[dict[str, str], dict[str, str]]


class Request(NamedTuple):
    """One or more runs of a signature.

    Attributes:
        signature: name of the signature.
        inputs: arrays by input name: float32, int32, int64, or strings (`str` or `bytes`). Inputs with a default may be
            omitted.
        scan: names of the inputs to iterate over. These have an additional first axis, and the signature runs once for
            each element. Outputs with the name of an input (the states) become the inputs of the next run. The answer
            holds their last values; all other outputs are stacked along a new first axis.
    """

    signature: str
    inputs: dict[str, Any]
    scan: tuple[str, ...] = ()


def run_in_cpp_session(
    directory: str | os.PathLike[str],
    requests: Sequence[Request | tuple[str, dict[str, Any]]],
    timeout: float | None = None,
) -> list[dict[str, np.ndarray]]:
    """Runs signatures of a SavedModel in a new process that has TensorFlow's C++ library and none of its Python code.

    Args:
        directory: the SavedModel.
        requests: the requests, in order; `(signature, inputs)` pairs are accepted too.
        timeout: seconds to wait for all answers together; None waits without limit.

    Returns:
        The outputs by name, for each request; strings are arrays of `bytes` objects.

    Raises:
        SessionError: the SavedModel cannot be loaded, a request fails (with TensorFlow's message), or the time is up.
        ValueError: a request names a signature or an input that the SavedModel does not have.
    """
    signatures = signature_tensors(directory)
    work = []
    for request in (Request(*request) for request in requests):
        require.one_of("signature", request.signature, sorted(signatures))
        names, _ = signatures[request.signature]
        if unknown := sorted(set(request.inputs) - set(names)):
            raise ValueError(f"`inputs` of {request.signature!r} must be among {sorted(names)}. Received: {unknown}")
        work.append((tuple(request), signatures[request.signature]))
    name = os.fspath(directory)
    try:
        child = subprocess.run(
            [sys.executable, "-m", "keras_seq_export.saved_model.cpp_session", name],
            input=pickle.dumps(work),
            capture_output=True,
            timeout=timeout,
            env=child_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise SessionError(f"the C++ session of {name} did not answer within {timeout:g} seconds") from expired
    if child.returncode != 0:
        log = child.stderr.decode(errors="replace").strip()[-2000:]
        raise SessionError(f"the C++ session of {name} ended with status {child.returncode}: {log}")
    error, answers = pickle.loads(child.stdout)
    if error:
        raise SessionError(f"the C++ session of {name} failed: {error}")
    return answers


def signature_tensors(directory: str | os.PathLike[str]) -> dict[str, SignatureTensors]:
    """Returns the tensor names of the inputs and outputs of each signature.

    Raises:
        SessionError: `directory` is not a SavedModel, or `saved_model.pb` is damaged.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = Path(directory, "saved_model.pb")
    if not path.is_file():
        raise SessionError(f"{os.fspath(directory)} must be a SavedModel, but it has no saved_model.pb")
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        (graph,) = [graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags]
    except Exception as error:  # protobuf's DecodeError differs between its implementations.
        raise SessionError(f"{path} must hold one graph tagged 'serve', but it is damaged: {error}") from None
    return {
        name: (
            {key: info.name for key, info in signature.inputs.items()},
            {key: info.name for key, info in signature.outputs.items()},
        )
        for name, signature in graph.signature_def.items()
        if not name.startswith("__")  # "__saved_model_init_op" runs during loading.
    }


def child_environment() -> dict[str, str]:
    """Returns the environment of a child process: it can import this package, logs errors only, and sees no GPU."""
    package = Path(__file__).resolve().parents[2]
    paths = [os.fspath(package), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",
    }


class CppSession:
    """A SavedModel in TensorFlow's C++ session, for a process that does not import `tensorflow`.

    Several threads may use one session at the same time.

    Args:
        directory: the SavedModel.

    Raises:
        SessionError: TensorFlow's library is missing, or it cannot load the SavedModel.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self._library = c_api.load_library()
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
            fetches: names of the tensors to return.

        Returns:
            Their values, in the order of `fetches`.

        Raises:
            SessionError: the graph has no such tensor, or the run fails.
        """
        library = self._library
        status = library.TF_NewStatus()  # A status of its own, as threads may share the session.
        inputs: list[int] = []
        outputs = (ctypes.c_void_p * len(fetches))()
        try:
            for value in feeds.values():
                inputs.append(c_api.new_tensor(library, value))
            library.TF_SessionRun(
                self._session,
                None,
                self._graph_outputs(feeds),
                (ctypes.c_void_p * len(inputs))(*inputs),
                len(inputs),
                self._graph_outputs(fetches),
                outputs,
                len(fetches),
                None,
                0,
                None,
                status,
            )
            self._check(status)
            # An output may share the memory of an input, so it is copied before the inputs are freed.
            return [c_api.to_array(library, tensor) for tensor in outputs if tensor]
        finally:
            library.TF_DeleteStatus(status)
            for tensor in filter(None, outputs):
                library.TF_DeleteTensor(tensor)
            for tensor in inputs:
                c_api.delete_tensor(library, tensor)

    def run_signature(self, tensors: SignatureTensors, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """Runs a signature once and returns its outputs by name; `tensors` are those of `signature_tensors`."""
        names, outputs = tensors
        values = self.run({names[key]: value for key, value in inputs.items()}, list(outputs.values()))
        return dict(zip(outputs, values, strict=True))

    def run_request(self, tensors: SignatureTensors, request: Request) -> dict[str, Any]:
        """Runs a request and returns its outputs by name; a scan runs its steps one after another."""
        if not request.scan:
            return self.run_signature(tensors, request.inputs)
        inputs = dict(request.inputs)
        outputs: dict[str, Any] = {}
        steps: list[dict[str, Any]] = []
        for elements in zip(*(inputs.pop(name) for name in request.scan), strict=True):
            outputs = self.run_signature(tensors, {**inputs, **dict(zip(request.scan, elements, strict=True))})
            inputs |= {name: value for name, value in outputs.items() if name in inputs}
            steps.append({name: value for name, value in outputs.items() if name not in inputs})
        return outputs | {name: np.stack([step[name] for step in steps]) for name in (steps[0] if steps else {})}

    def _graph_outputs(self, tensor_names: Collection[str]) -> ctypes.Array[c_api.Output]:
        """Returns the tensors of these names, such as "decode_token:0", as an array of TF_Output."""
        outputs = (c_api.Output * len(tensor_names))()
        for output, name in zip(outputs, tensor_names, strict=True):
            operation, _, index = name.partition(":")
            output.operation = self._library.TF_GraphOperationByName(self._graph, operation.encode())
            output.index = int(index or 0)
            if not output.operation:
                raise SessionError(f"the graph has no operation {operation!r}")
        return outputs

    def _check(self, status: int) -> None:
        if self._library.TF_GetCode(status):
            raise SessionError(self._library.TF_Message(status).decode(errors="replace"))


def _main() -> None:
    """The child process: reads the requests from standard input and writes `(error, answers)` to standard output."""
    directory = sys.argv[1]
    # Whatever a library prints must not reach the pipe.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers: list[dict[str, Any]] = []
    error = None
    try:
        work = pickle.load(sys.stdin.buffer)
        session = CppSession(directory)
        for request, tensors in work:
            answers.append(session.run_request(tensors, Request(*request)))
    except SessionError as failure:
        error = str(failure)
    pipe.write(pickle.dumps((error, answers)))
    pipe.flush()


if __name__ == "__main__":
    _main()
