"""`keras-seq web`: what it prints, opens and refuses. The server of the page has tests of its own."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
import webbrowser

import pytest

from keras_seq_export.tflite import page_server


class Server(contextlib.nullcontext):
    """Takes the place of the server, which would serve until Ctrl-C."""

    def serve_forever(self):
        raise KeyboardInterrupt


@pytest.fixture
def opened(monkeypatch):
    """The addresses that the program opened in the browser."""
    addresses = []
    monkeypatch.setattr(webbrowser, "open", addresses.append)
    return addresses


@pytest.fixture
def calls(monkeypatch):
    """The arguments of each call of `page_server`, which returns a `Server`."""
    made = []

    def server(model, **options):
        made.append((model, options))
        return Server(), "http://127.0.0.1:8599/"

    monkeypatch.setattr(page_server, "page_server", server)
    return made


@pytest.mark.parametrize(
    ("options", "call", "addresses"),
    [
        ([], (None, {}), ["http://127.0.0.1:8599/"]),
        (["--no_open", "--port=0", "--model=fox.tflite"], ("fox.tflite", {"port": 0}), []),
    ],
)
def test_the_address_is_printed_and_opened(options, call, addresses, calls, opened, folder, run_cli):
    answer = run_cli("web", *options, cwd=folder)
    assert (answer.returncode, answer.stdout) == (0, "http://127.0.0.1:8599/ (Ctrl-C ends it)\n\n")
    assert calls == [call]
    while len(opened) < len(addresses):  # The browser is opened meanwhile.
        time.sleep(0.01)
    assert opened == addresses


@pytest.fixture
def with_litert(tmp_path):
    """A folder in which the page finds LiteRT.js."""
    (tmp_path / "node_modules" / page_server.LITERT / "wasm").mkdir(parents=True)
    return tmp_path


def test_a_port_in_use_is_refused(with_litert, opened, run_cli):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        answer = run_cli("web", f"--port={port}", cwd=with_litert)
    assert (answer.returncode, answer.stdout, opened) == (1, "", [])
    assert answer.stderr == f"keras-seq: port {port} cannot be used: Address already in use. Choose another --port\n"


def test_a_missing_file_is_refused(with_litert, opened, run_cli):
    answer = run_cli("web", "--model=none.tflite", cwd=with_litert)
    assert (answer.returncode, answer.stdout, opened) == (1, "", [])
    (message,) = answer.stderr.splitlines()
    assert message.startswith("keras-seq: ")
    assert "none.tflite" in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_page_while_clients_are_connected(number, with_litert):
    command = [sys.executable, "-m", "keras_seq.cli", "web", "--no_open", "--port=0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=with_litert, text=True, **pipes) as process, contextlib.ExitStack() as stack:
        port = int(process.stdout.readline().split(":")[2].split("/")[0])
        for _ in range(10):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(b"GET / HTTP/1.1\r\n")
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
