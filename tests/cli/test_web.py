"""`keras-seq web`: what it prints, opens and refuses. The server of the page has tests of its own."""

import contextlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import webbrowser

import pytest
from sites import litert_like

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


PRINTED = """http://127.0.0.1:8599/ (Ctrl-C ends it)
On an Android phone with USB debugging: adb reverse tcp:8599 tcp:8599, then open there
  http://localhost:8599/
On any phone: keras-seq web --output=DIR writes the page as a folder for any host with https.

"""


@pytest.mark.parametrize(
    ("options", "call", "addresses"),
    [
        ([], (None, {}), ["http://127.0.0.1:8599/"]),
        (["--no_open", "--port=0", "--model=fox.tflite"], ("fox.tflite", {"port": 0}), []),
        (["--no_open", "--demo=demo"], (None, {"demo": "demo"}), []),
    ],
)
def test_the_address_is_printed_and_opened(options, call, addresses, calls, opened, folder, run_cli):
    answer = run_cli("web", *options, cwd=folder)
    first, rest = PRINTED.split("\n", 1)
    comparison = "http://127.0.0.1:8599/compare.html (the comparison)\n" if "demo" in call[1] else ""
    assert (answer.returncode, answer.stdout) == (0, f"{first}\n{comparison}{rest}")
    assert calls == [call]
    while len(opened) < len(addresses):  # The browser is opened meanwhile.
        time.sleep(0.01)
    assert opened == addresses


@pytest.fixture
def with_litert(tmp_path):
    """A folder in which the page finds LiteRT.js."""
    litert_like(tmp_path)
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


def test_the_page_is_written_into_a_folder(with_litert, run_cli, opened, small_tflite):
    answer = run_cli("web", "--output=site", f"--model={small_tflite()}", cwd=with_litert)
    first, second = answer.stdout.splitlines()
    assert (answer.returncode, opened) == (0, [])
    assert first.startswith("site has the page, ")
    assert "python3 -m http.server --directory site 8600" in first
    assert second.startswith("On a phone: copy the folder to any host with https")
    assert (with_litert / "site" / "index.html").is_file()
    answer = run_cli("web", "--output=site", cwd=with_litert)
    assert answer.stderr == "keras-seq: site exists: choose another name, or remove it first\n"


def test_the_printed_command_takes_a_folder_of_any_name(with_litert, run_cli, small_tflite):
    answer = run_cli("web", "--output=my site; $HOME", f"--model={small_tflite()}", cwd=with_litert)
    assert answer.stdout.startswith("my site; $HOME has the page, ")
    (command,) = re.findall("Try it: (.*), then open", answer.stdout)
    assert shlex.split(command) == ["python3", "-m", "http.server", "--directory", "my site; $HOME", "8600"]


def test_the_address_for_phones_keeps_the_name_of_the_model(with_litert, run_cli, monkeypatch):
    address = "http://127.0.0.1:8599/?model=models/127.0.0.1.tflite"
    monkeypatch.setattr(page_server, "page_server", lambda *given, **options: (Server(), address))
    answer = run_cli("web", "--no_open", "--model=127.0.0.1.tflite", cwd=with_litert)
    assert "  http://localhost:8599/?model=models/127.0.0.1.tflite\n" in answer.stdout


def test_options_of_the_served_page_are_refused_for_a_folder(with_litert, run_cli):
    for option in ("--port=8000", "--no_open"):
        answer = run_cli("web", "--output=site", option, cwd=with_litert)
        name = option.partition("=")[0]
        assert (
            answer.stderr
            == f"keras-seq: {name} is about the served page, and --output serves none: give only one of them\n"
        )
        assert not (with_litert / "site").exists()


def test_a_directory_without_the_models_of_the_demo_is_refused(with_litert, run_cli):
    for command in (["--no_open"], ["--output=site"]):
        answer = run_cli("web", "--demo=.", *command, cwd=with_litert)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr == (
            "keras-seq: --demo must be the directory of keras-seq demo, with simple_rnn.tflite and gru.tflite. "
            "simple_rnn.tflite does not exist: run keras-seq demo first\n"
        )
