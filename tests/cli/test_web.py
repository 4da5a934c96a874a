"""`keras-seq web`: what it prints, opens and refuses. The server of the page has tests of its own."""

import socket
import webbrowser

import pytest

from keras_seq_export.tflite import page_server


class Server:
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
    assert answer.stderr.startswith(f"keras-seq: port {port} cannot be used: ")
    assert answer.stderr.endswith("; choose another --port, or leave it out\n")


def test_a_missing_file_is_refused(with_litert, opened, run_cli):
    answer = run_cli("web", "--model=none.tflite", cwd=with_litert)
    assert (answer.returncode, answer.stdout, opened) == (1, "", [])
    (message,) = answer.stderr.splitlines()
    assert message.startswith("keras-seq: ")
    assert "none.tflite" in message
