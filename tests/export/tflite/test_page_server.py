"""The server of the page: what it serves, and what it refuses."""

import contextlib
import http.client
import json
import os
import socket
import struct
import threading
import time
import urllib.request

import pytest
from served_page import served

from keras_seq_export.tflite import page_server as page_server_module
from keras_seq_export.tflite.page_server import litert_folder, page_folder, page_server


def test_only_the_page_litert_and_the_model_are_served(tmp_path):
    modules = tmp_path / "node_modules"
    (modules / "@litertjs" / "core" / "wasm").mkdir(parents=True)
    (modules / "@litertjs" / "core" / "wasm" / "a.wasm").write_bytes(b"wasm")
    (modules / "secret.js").write_text("secret")
    with served(None, modules) as address:
        with urllib.request.urlopen(f"{address}node_modules/@litertjs/core/wasm/a.wasm") as answer:
            assert (answer.read(), answer.headers["Content-Type"]) == (b"wasm", "application/wasm")
        with urllib.request.urlopen(f"{address}app.js") as answer:
            assert answer.headers["Content-Type"].startswith("text/javascript")
        (tmp_path / "secret.txt").write_text("secret")
        host = address.removeprefix("http://").rstrip("/")
        for name, status in (
            ("/node_modules/secret.js", 404),
            ("/../keras_seq_export/tflite/page_server.py", 404),
            ("/%2e%2e/keras_seq_export/tflite/page_server.py", 404),
            ("/models/a.tflite", 404),
            ("/node_modules/@litertjs/../../secret.txt", 404),
            ("/node_modules/@litertjs/..%2f..%2fsecret.txt", 404),
            ("/node_modules/@litertjs/", 404),
            ("/app.js", 200),
        ):
            connection = http.client.HTTPConnection(host)
            connection.request("GET", name)
            assert connection.getresponse().status == status, name
        connection = http.client.HTTPConnection(host)
        connection.request("GET", "/app.js", headers={"Host": "evil.example"})
        assert connection.getresponse().status == 403


@pytest.fixture
def modules(tmp_path):
    """A `node_modules` with a large file, links and a FIFO, beside a secret."""
    package = tmp_path / "node_modules" / "@litertjs" / "core"
    package.mkdir(parents=True)
    (package / "large.wasm").write_bytes(bytes(20_000_000))
    (tmp_path / "secret.txt").write_text("secret")
    (package / "file.txt").symlink_to(tmp_path / "secret.txt")
    (package / "folder").symlink_to(tmp_path)
    (package / "inside.wasm").symlink_to("large.wasm")
    (package / "circle").symlink_to("circle")
    (package / ".hidden").write_text("secret")
    os.mkfifo(package / "fifo")
    return tmp_path / "node_modules"


def answer_to(request, port):
    """The first line that the server sends to these bytes, and to HTTP/0.9 the code of its error."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        received = b"".join(iter(lambda: client.recv(1 << 20), b""))
    return int(received.split()[1] if received.startswith(b"HTTP/") else received.split(b"Error code: ")[1][:3])


def get(path, port):
    return answer_to(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode("latin-1"), port)


def test_links_and_what_is_no_file_are_not_followed(modules, monkeypatch, tmp_path):
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("page")
    (page / "link.txt").symlink_to(tmp_path / "secret.txt")
    (page / "node_modules").symlink_to(modules)
    monkeypatch.setattr(page_server_module, "page_folder", lambda: page)
    core = "/node_modules/@litertjs/core"
    with served(None, modules) as address:
        port = int(address.rpartition(":")[2].rstrip("/"))
        assert [get(path, port) for path in ("/", "/index.html", f"{core}/inside.wasm")] == [200] * 3
        refused = (
            "file.txt",
            "folder/secret.txt",
            "fifo",
            "circle",
            ".hidden",
            "",
            "../core/large.wasm",
            "large.wasm/",
        )
        for path in ("/link.txt", "/node_modules/other", *(f"{core}/{name}" for name in refused)):
            assert get(path, port) == 404, path


def test_requests_that_no_browser_sends_are_refused_without_a_traceback(modules, capfd):
    with served(None, modules) as address:
        port = int(address.rpartition(":")[2].rstrip("/"))
        host = f"Host: 127.0.0.1:{port}\r\n".encode()
        for path in (
            "/%00",
            "/app.js%00",
            "/" + "a" * 5000,
            "/" + "a/" * 5000,
            "http://[",
            "//[",
            "*",
            "/\xe9",
            "/%ff",
        ):
            assert get(path, port) == 404, path
        for request, code in (
            (b"\0\r\n\r\n", 400),
            (b"GET\r\n\r\n", 400),
            (b"GET / HTTP/x\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 403),
            (b"x" * 70_000 + b"\r\n\r\n", 414),
            (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
            (b"GET / HTTP/1.1\r\na: " + b"b" * 70_000 + b"\r\n\r\n", 431),
            (b"POST / HTTP/1.1\r\n" + host + b"\r\n", 501),
            (b"HEAD / HTTP/1.1\r\n" + host + b"\r\n", 200),
            (b"GET / HTTP/1.1\r\n" + host + b"Host: evil.example\r\n\r\n", 403),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
            (b"GET / HTTP/1.1\r\n\r\n", 403),
        ):
            assert answer_to(request, port) == code, request[:40]
    assert capfd.readouterr() == ("", "")


def test_aborted_and_idle_connections_end_and_are_limited(modules, capfd, monkeypatch):
    monkeypatch.setattr(page_server_module._Handler, "timeout", 0.5)
    with served(None, modules) as address, contextlib.ExitStack() as stack:
        port = int(address.rpartition(":")[2].rstrip("/"))
        before = threading.active_count()
        large = f"GET /node_modules/@litertjs/core/large.wasm HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(large)
                client.recv(1000)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # resets the connection
        for number in range(2 * page_server_module.MOST_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall((b"", b"GET", large)[number % 3])  # idle, a part of a request, an answer that is not read
        assert get("/app.js", port) == 200
        assert threading.active_count() <= before + page_server_module.MOST_CONNECTIONS + 10
        end = time.monotonic() + 10
        while threading.active_count() > before and time.monotonic() < end:
            time.sleep(0.05)
        assert threading.active_count() == before
    assert capfd.readouterr() == ("", "")


def test_only_the_loopback_address_answers(tmp_path):
    with served(None, tmp_path) as address:
        port = int(address.rpartition(":")[2].rstrip("/"))
        assert get("/app.js", port) == 200
        for other in ("127.0.0.2", "::1"):
            with pytest.raises(OSError, match=r"refused|assign"), socket.create_connection((other, port), timeout=5):
                pass


def test_without_litert_the_error_says_what_to_install(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"npm install @litertjs/core@2\.5\.3 in this folder"):
        litert_folder()
    version = json.loads((page_folder() / "package.json").read_text())["dependencies"]["@litertjs/core"]
    assert version == "2.5.3"
    answer = run_cli("web", "--no_open", cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("keras-seq: the page needs LiteRT.js: npm install")


def test_a_port_in_use_and_a_wrong_file_are_refused(tmp_path):
    (tmp_path / "a.tflite").write_text("to be")
    with pytest.raises(ValueError, match=r"is not a \.tflite file"):
        page_server(tmp_path / "a.tflite", tmp_path)
    with served(None, tmp_path) as address:
        port = int(address.rpartition(":")[2].rstrip("/"))
        for wrong in (port, 99999):
            with pytest.raises(ValueError, match=f"port {wrong} cannot be used"):
                page_server(None, tmp_path, port=wrong)
