"""The server of the page: what it serves, and what it refuses."""

import http.client
import json
import urllib.request

import pytest
from served_page import served

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
