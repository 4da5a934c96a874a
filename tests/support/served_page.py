"""The page of export/web on a server in this process."""

import contextlib
import json
import threading

from keras_seq_export.tflite.page_server import page_server


@contextlib.contextmanager
def served(model, litert, demo=None):
    """Serves the page; yields its address."""
    server, address = page_server(model, litert, port=0, demo=demo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()


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
