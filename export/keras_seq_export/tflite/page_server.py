"""`keras-seq web`: serves the page of `export/web` to this machine only, with a model opened in it."""

import functools
import http.server
import json
import posixpath
import urllib.parse
from pathlib import Path

from keras_seq.errors import ConfigError
from keras_seq_export.tflite.bundle import read_bundle

LITERT = "@litertjs/core"
PORT = 8599  # always the same, because the browser keeps the page for use off-line under its address
_MODULES = "node_modules"
# The operating system may map these to other types, with which browsers refuse modules and wasm.
_TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
}


def page_folder() -> Path:
    """Returns the folder of the page: inside an installed package, or in the repository."""
    installed = Path(__file__).parents[1] / "page"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "web"


def litert_folder() -> Path:
    """Returns the `node_modules` that has LiteRT.js: in the current folder, or in the folder of the page.

    Raises:
        ValueError: neither has it; the message says how to install it.
    """
    for folder in (Path.cwd(), page_folder()):
        if (folder / _MODULES / LITERT / "wasm").is_dir():
            return folder / _MODULES
    version = json.loads((page_folder() / "package.json").read_text(encoding="utf-8"))["dependencies"][LITERT]
    raise ValueError(f"the page needs LiteRT.js: npm install {LITERT}@{version} in this folder, then try again")


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the page, LiteRT.js and the model, and nothing else."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | _TYPES

    def __init__(self, *arguments: object, litert: Path, model: Path | None):
        self._litert, self._model = litert, model
        super().__init__(*arguments, directory=str(page_folder()))  # type: ignore[arg-type]

    def parse_request(self) -> bool:
        """Refuses requests for another host name, with which a foreign page could read the model (DNS rebinding)."""
        if not super().parse_request():
            return False
        host, port = self.headers.get("Host", ""), self.connection.getsockname()[1]
        if host not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(403)
            return False
        return True

    def list_directory(self, path: object) -> None:
        """Refuses to list a directory."""
        self.send_error(404)

    def translate_path(self, path: str) -> str:
        """Returns the file for the path of a URL."""
        name = posixpath.normpath(urllib.parse.unquote(urllib.parse.urlsplit(path).path))
        if self._model is not None and name == f"/models/{self._model.name}":
            return str(self._model)
        self.directory = str(self._litert.parent if name.startswith(f"/{_MODULES}/@litertjs/") else page_folder())
        return super().translate_path(urllib.parse.quote(name))

    def end_headers(self) -> None:
        """Makes the browser check for a newer file each time."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Logs nothing."""


def page_server(
    model: str | Path | None = None, litert: Path | None = None, port: int = PORT
) -> tuple[http.server.ThreadingHTTPServer, str]:
    """Returns a server on the loopback address, ready for `serve_forever`, and the URL to open.

    Args:
        model: a .tflite that the page opens; None lets the user choose one in the page.
        litert: the `node_modules` that has LiteRT.js; None for the result of `litert_folder`.
        port: 0 takes a free one.

    Raises:
        BundleError: `model` was not written by this package.
        ConfigError: the port is in use, or is not a port.
        ValueError: LiteRT.js is not installed.
    """
    if model is not None:
        read_bundle(model)
    path = None if model is None else Path(model).resolve()
    handler = functools.partial(_Handler, litert=litert or litert_folder(), model=path)
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"port {port} cannot be used: {error}; choose another {{}}, or leave it out", "port"
        ) from error
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    if path is None:
        return server, url
    return server, f"{url}?model={urllib.parse.quote(f'models/{urllib.parse.quote(path.name)}')}"
