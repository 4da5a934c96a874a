"""The server of the page: what it serves, and what it refuses."""

import contextlib
import gzip
import http.client
import json
import os
import shutil
import socket
import struct
import threading
import time

import pytest
from sites import litert_like, served_page

from keras_seq_export.tflite import page_server as page_server_module
from keras_seq_export.tflite.page_server import litert_folder, page_folder, page_server

WASM = "/litert/2.5.3/core/wasm/litert_wasm_internal.wasm"


@pytest.fixture
def modules(tmp_path):
    """A `node_modules` like that with LiteRT.js, with a large file, beside a secret."""
    modules = litert_like(tmp_path)
    (modules / "@litertjs/core/wasm/litert_wasm_internal.wasm").write_bytes(bytes(20_000_000))
    (modules / "secret.js").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    return modules


def port_of(address):
    return int(address.split(":")[2].partition("/")[0])


def answer_to(request, port):
    """The first line that the server sends to these bytes, and to HTTP/0.9 the code of its error."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        received = b"".join(iter(lambda: client.recv(1 << 20), b""))
    return int(received.split()[1] if received.startswith(b"HTTP/") else received.split(b"Error code: ")[1][:3])


def get(path, port):
    return answer_to(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode("latin-1"), port)


def fetched(path, port, **headers):
    """The status, the headers and the content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def test_texts_are_sent_in_gzip_to_browsers_that_take_it(modules):
    with served_page(None, modules) as address:
        port = port_of(address)
        for path, is_text in (
            ("/page/app.js", True),
            ("/", True),
            (WASM, False),
            ("/models/own/shakespeare.tflite", False),
        ):
            _, headers, plain = fetched(path, port)
            _, packed_headers, packed = fetched(path, port, **{"Accept-Encoding": "gzip, br"})
            assert "Content-Encoding" not in headers
            assert packed_headers["Content-Encoding"] == ("gzip" if is_text else None)
            assert (gzip.decompress(packed) if is_text else packed) == plain
            assert int(packed_headers["Content-Length"]) == len(packed)
            assert (headers["ETag"] == packed_headers["ETag"]) != is_text
            known = {"Accept-Encoding": "gzip", "If-None-Match": packed_headers["ETag"]}
            assert fetched(path, port, **known)[0] == 304


def test_only_the_page_litert_and_the_models_are_served(modules):
    with served_page(None, modules) as address:
        port = port_of(address)
        for path, content_type in (
            ("/", "text/html; charset=utf-8"),
            ("/index.html", "text/html; charset=utf-8"),
            ("/?model=none.tflite", "text/html; charset=utf-8"),
            ("/page/app.js", "text/javascript; charset=utf-8"),
            ("/keras_seq/worker_thread.js", "text/javascript; charset=utf-8"),
            ("/litert/2.5.3/core/dist/index.js", "text/javascript; charset=utf-8"),
            ("/manifest.webmanifest", "application/manifest+json"),
            ("/models.json", "application/json"),
            ("/files.json", "application/json"),
            ("/LICENSE", "text/plain; charset=utf-8"),
            (WASM, "application/wasm"),
        ):
            status, headers, _ = fetched(path, port)
            assert (status, headers["Content-Type"]) == (200, content_type), path
        for path in (
            "/package.json",
            "/README.md",
            "/keras_seq/worker.d.ts",
            "/page/",
            "/page",
            "/page/../index.html",
            "/node_modules/secret.js",
            "/../keras_seq_export/tflite/page_server.py",
            "/%2e%2e/keras_seq_export/tflite/page_server.py",
            "/page/..%2f..%2fpyproject.toml",
            "/models/none.tflite",
            "/litert/2.5.3/core/wasm/litert_wasm_threaded_internal.wasm",
            "/litert/../secret.txt",
            f"{WASM}/",
        ):
            assert fetched(path, port)[0] == 404, path
        assert fetched("/page/app.js", port, Host="evil.example")[0] == 403


def test_the_browser_keeps_the_wasm_and_asks_for_what_may_change(modules):
    with served_page(None, modules) as address:
        port = port_of(address)
        assert fetched(WASM, port)[1]["Cache-Control"] == "max-age=31536000, immutable"
        for path in ("/", "/page/app.js", "/litert/2.5.3/core/dist/index.js", "/models.json", "/files.json"):
            _, headers, content = fetched(path, port)
            assert (headers["Cache-Control"], int(headers["Content-Length"])) == ("no-cache", len(content))
            status, again, nothing = fetched(path, port, **{"If-None-Match": headers["ETag"]})
            assert (status, again["ETag"], nothing) == (304, headers["ETag"], b"")


@pytest.mark.slow
def test_another_model_of_the_same_name_and_age_is_sent_again(modules, small_tflite, tmp_path):
    tags = []
    for folder, level in (("a", "char"), ("b", "word")):
        (tmp_path / folder).mkdir()
        model = tmp_path / folder / "fox.tflite"
        model.write_bytes(small_tflite(level=level).read_bytes())
        os.utime(model, (1_700_000_000, 1_700_000_000))
        with served_page(model, modules) as address:
            assert address.endswith("?model=models/fox.tflite")
            asked = {"If-None-Match": tags[0], "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"} if tags else {}
            status, headers, content = fetched("/models/fox.tflite", port_of(address), **asked)
        assert (status, content) == (200, model.read_bytes())
        tags.append(headers["ETag"])
    assert len(set(tags)) == 2


def test_edits_of_the_page_show_and_a_script_that_cannot_run_is_an_error(modules, monkeypatch, tmp_path, capfd):
    page = copied_page(tmp_path)
    monkeypatch.setattr(page_server_module, "page_folder", lambda: page)
    with served_page(None, modules) as address:
        port = port_of(address)
        before = fetched("/page/app.js", port)[1]["ETag"]
        (page / "page" / "app.js").write_text('import "@litertjs/core"; // ä')
        _, headers, content = fetched("/page/app.js", port, **{"If-None-Match": before})
        assert content.decode().startswith('import "../litert/2.5.3/core/dist/index.js"; // ä')
        (page / "page" / "app.js").write_text('import "react";')
        assert fetched("/page/app.js", port, **{"If-None-Match": headers["ETag"]})[0] == 500
        (page / "page" / "app.js").unlink()
        assert fetched("/page/app.js", port)[0] == 500
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith(
        'keras-seq: page/app.js cannot be served: page/app.js imports "react", which a browser cannot find'
    )
    assert "No such file" in second


def copied_page(folder):
    """A copy of the page's folder, with the license beside it as in an installed package."""
    page = folder / "page"
    shutil.copytree(page_folder(), page, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copy(page_folder().parents[1] / "LICENSE", page)
    return page


def test_links_and_what_is_no_file_are_not_followed(modules, monkeypatch, tmp_path):
    page = copied_page(tmp_path)
    (page / "page" / "inside.js").symlink_to("app.js")
    (page / "page" / "link.js").symlink_to(tmp_path / "secret.txt")
    (page / "page" / "folder").symlink_to(tmp_path)
    (page / "page" / "circle.js").symlink_to("circle.js")
    (page / "page" / ".hidden.js").write_text("secret")
    (page / "node_modules").symlink_to(modules)
    os.mkfifo(page / "page" / "fifo.js")
    (tmp_path / "secret.js").write_text("secret")
    monkeypatch.setattr(page_server_module, "page_folder", lambda: page)
    with served_page(None, modules) as address:
        port = port_of(address)
        assert [get(path, port) for path in ("/", "/index.html", "/page/inside.js")] == [200] * 3
        for name in ("link.js", "folder/secret.js", "circle.js", ".hidden.js", "fifo.js", "../node_modules/secret.js"):
            assert get(f"/page/{name}", port) == 404, name
        assert get("/node_modules/secret.js", port) == 404


def test_requests_that_no_browser_sends_are_refused_without_a_traceback(modules, capfd):
    with served_page(None, modules) as address:
        port = port_of(address)
        host = f"Host: 127.0.0.1:{port}\r\n".encode()
        for path in (
            "/%00",
            "/page/app.js%00",
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


def _threads_since(before):
    """Returns the threads that began later; some of `before`, of earlier tests, may have ended."""
    return set(threading.enumerate()) - before


def test_aborted_and_idle_connections_end_and_are_limited(modules, capfd, monkeypatch):
    monkeypatch.setattr(page_server_module._Handler, "timeout", 0.5)
    with served_page(None, modules) as address, contextlib.ExitStack() as stack:
        port = port_of(address)
        before = set(threading.enumerate())
        large = f"GET {WASM} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(large)
                client.recv(1000)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # resets the connection
        for number in range(2 * page_server_module.MOST_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall((b"", b"GET", large)[number % 3])  # idle, a part of a request, an answer that is not read
        assert get("/page/app.js", port) == 200
        assert len(_threads_since(before)) <= page_server_module.MOST_CONNECTIONS + 10
        end = time.monotonic() + 10
        while _threads_since(before) and time.monotonic() < end:
            time.sleep(0.05)
        assert not _threads_since(before)
    assert capfd.readouterr() == ("", "")


def test_only_the_loopback_address_answers(modules):
    with served_page(None, modules) as address:
        port = port_of(address)
        assert get("/page/app.js", port) == 200
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


def test_a_port_in_use_and_a_wrong_file_are_refused(modules, tmp_path):
    (tmp_path / "a.tflite").write_text("to be")
    with pytest.raises(ValueError, match=r"is not a \.tflite file"):
        page_server(tmp_path / "a.tflite", modules)
    with served_page(None, modules) as address:
        port = port_of(address)
        for wrong in (port, 99999):
            with pytest.raises(ValueError, match=rf"port {wrong} cannot be used: .*[^.]\. Choose another"):
                page_server(None, modules, port=wrong)
