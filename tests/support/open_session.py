"""A SavedModel in a C++ session that stays open, for tests with many requests.

`run_in_cpp_session` starts a process for each call. This process is of the same kind, without TensorFlow's Python code,
but answers until it is closed: `python open_session.py DIRECTORY` reads pickled requests and writes `(error, answer)`.
"""

import os
import pickle
import subprocess
import sys

from keras_seq_export.errors import SessionError
from keras_seq_export.saved_model.cpp_session import CppSession, Request, child_environment, signature_tensors


class OpenSession:
    """Runs requests as `run_in_cpp_session` does, in one process for all."""

    def __init__(self, directory):
        self._tensors = signature_tensors(directory)
        self._process = subprocess.Popen(
            [sys.executable, __file__, os.fspath(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
        )

    def __call__(self, requests):
        """Returns the outputs of each request; the first that fails raises a SessionError."""
        answers = []
        for request in (Request(*request) for request in requests):
            pickle.dump((self._tensors[request.signature], tuple(request)), self._process.stdin)
            self._process.stdin.flush()
            error, answer = pickle.load(self._process.stdout)
            if error:
                raise SessionError(error)
            answers.append(answer)
        return answers

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main():
    # Whatever a library prints must not reach the pipe.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    session = CppSession(sys.argv[1])
    assert not {"tensorflow", "keras"} & set(sys.modules)
    while True:
        try:
            tensors, request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = None, session.run_request(tensors, Request(*request))
        except SessionError as error:
            answer = str(error), None
        pickle.dump(answer, pipe)
        pipe.flush()


if __name__ == "__main__":
    main()
