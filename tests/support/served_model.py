"""A server with a SavedModel on loopback, in a process of its own; see loopback_server.py."""

import contextlib
import json
import subprocess
import sys

import paths


@contextlib.contextmanager
def serving(directory, ports=None):
    """Yields the ports of the server as `{"rest": ..., "grpc": ...}`; its model is called "shakespeare"."""
    command = [sys.executable, paths.SUPPORT / "loopback_server.py", directory]
    if ports is not None:  # those of an earlier server
        command += [str(ports["rest"]), str(ports["grpc"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        yield json.loads(server.stdout.readline())
        server.kill()
