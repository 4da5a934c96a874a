"""Sites on loopback, on servers in this process: the page of export/web, and a folder."""

import contextlib
import functools
import http.server
import json
import threading

from keras_seq_export.tflite.page_server import page_server


@contextlib.contextmanager
def running(server):
    """Runs a server; yields the address of its site."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def served_page(model, litert, demo=None):
    """Serves the page as `keras-seq web` does; yields its address."""
    server, address = page_server(model, litert, port=0, demo=demo)
    with running(server):
        yield address


@contextlib.contextmanager
def served_folder(folder):
    """Serves a folder with Python's own server; yields its address and the list of the paths that it did not find."""
    missing = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def send_error(self, *reason):
            missing.append(self.path)
            super().send_error(*reason)

        def log_message(self, *_):
            """Logs nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    with running(server) as address:
        yield address, missing


def litert_like(folder):
    """Makes a `node_modules` with the files of LiteRT.js by their names, for tests that run no model; returns it."""
    packages = folder / "node_modules" / "@litertjs"
    core = packages / "core"
    for name in ("core/dist", "core/wasm", "wasm-utils/dist"):
        (packages / name).mkdir(parents=True)
    (core / "package.json").write_text(json.dumps({"version": "2.5.3", "license": "Apache-2.0"}))
    (core / "dist" / "index.js").write_text('import{a}from"@litertjs/wasm-utils";export{a};')
    (packages / "wasm-utils" / "dist" / "index.js").write_text("export const a = 1;")
    for kind in ("", "compat_", "jspi_", "threaded_"):
        for end in ("js", "wasm"):
            (core / "wasm" / f"litert_wasm_{kind}internal.{end}").write_text(f"{kind}{end}")
    return folder / "node_modules"
