"""`keras-seq web`: the page of `export/web` on loopback, with a model opened in it."""

import functools
import http.server
import json
import posixpath
import urllib.parse
from pathlib import Path

from keras_seq_export.tflite.bundle import read_bundle

LITERT = "@litertjs/core"
PORT = 8599  # always the same, as the browser keeps the page by its address
_MODULES = "node_modules"
# What an operating system may have otherwise: the browser refuses modules and wasm of another type.
_TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
}


def page_folder() -> Path:
    """Returns the folder of the page: inside the package where it is installed, else beside it."""
    inside = Path(__file__).parents[1] / "page"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "web"


def litert_folder() -> Path:
    """Returns the `node_modules` with LiteRT.js: that of the current folder, or that of the page.

    Raises:
        ValueError: neither has it; with what to do.
    """
    for folder in (Path.cwd(), page_folder()):
        if (folder / _MODULES / LITERT / "wasm").is_dir():
            return folder / _MODULES
    version = json.loads((page_folder() / "package.json").read_text(encoding="utf-8"))["dependencies"][LITERT]
    raise ValueError(f"the page needs LiteRT.js: npm install {LITERT}@{version} in this folder, and begin again")


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Gives the page, LiteRT.js and the model, and nothing else."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | _TYPES

    def __init__(self, *arguments: object, litert: Path, model: Path | None):
        self._litert, self._model = litert, model
        super().__init__(*arguments, directory=str(page_folder()))  # type: ignore[arg-type]

    def parse_request(self) -> bool:
        """Refuses requests to another name, by which a page from elsewhere could read what is here."""
        if not super().parse_request():
            return False
        host, port = self.headers.get("Host", ""), self.connection.getsockname()[1]
        if host not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(403)
            return False
        return True

    def list_directory(self, path: object) -> None:
        """Lists nothing."""
        self.send_error(404)

    def translate_path(self, path: str) -> str:
        """Returns the file of an address."""
        name = posixpath.normpath(urllib.parse.unquote(urllib.parse.urlsplit(path).path))
        if self._model is not None and name == f"/models/{self._model.name}":
            return str(self._model)
        self.directory = str(self._litert.parent if name.startswith(f"/{_MODULES}/@litertjs/") else page_folder())
        return super().translate_path(urllib.parse.quote(name))

    def end_headers(self) -> None:
        """Asks the browser to look for a newer page each time."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Says nothing of each file."""


def page_server(
    model: str | Path | None = None, litert: Path | None = None, port: int = 0
) -> tuple[http.server.ThreadingHTTPServer, str]:
    """Returns a server on loopback that is ready to `serve_forever`, and the address to open.

    Args:
        model: a .tflite that the page opens; None lets the user choose one.
        litert: the `node_modules` with LiteRT.js; None, as `litert_folder` finds it.
        port: 0 takes a free one.

    Raises:
        BundleError: `model` is no .tflite of ours.
        ValueError: LiteRT.js is not there, or the port is in use.
    """
    if model is not None:
        read_bundle(model)
    found = litert or litert_folder()
    path = None if model is None else Path(model).resolve()
    handler = functools.partial(_Handler, litert=found, model=path)
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} cannot be had: {error}; choose another --port, or leave it out") from error
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    return (
        server,
        address if path is None else f"{address}?model={urllib.parse.quote(f'models/{urllib.parse.quote(path.name)}')}",
    )
