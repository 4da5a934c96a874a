"""`keras-seq web`: serves the page of `export/web` to this machine only, with a model opened in it."""

import contextlib
import errno
import functools
import http.client
import http.server
import json
import socket
import sys
import threading
import urllib.parse
from pathlib import Path, PurePosixPath
from typing import Any

from keras_seq.errors import ConfigError
from keras_seq_export.tflite.bundle import read_bundle

LITERT = "@litertjs/core"
PORT = 8599  # always the same, because the browser keeps the page for use off-line under its address
MOST_CONNECTIONS = 64  # at a time, each with a thread
SECONDS_WITHOUT_DATA = 10  # after which a connection is ended
_NAMES = ("127.0.0.1", "localhost")
_MODULES = "node_modules"
_ENDED = (errno.EBADF, errno.ENOTCONN)  # of a connection that has ended
# The operating system may map these to other types, with which browsers refuse modules and wasm.
_TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
}


def page_folder() -> Path:
    """Returns the folder of the page: inside an installed package, or in the repository."""
    installed = Path(__file__).parents[1] / "web"
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
    timeout = SECONDS_WITHOUT_DATA

    def __init__(self, *arguments: object, litert: Path, model: Path | None):
        self._litert, self._model = litert, model
        super().__init__(*arguments)  # type: ignore[arg-type]

    def parse_request(self) -> bool:
        """Refuses requests for another host name, with which a foreign page could read the model (DNS rebinding)."""
        if not super().parse_request():
            return False
        port = self.connection.getsockname()[1]
        named = [f"{name}:{port}" for name in _NAMES] + ([*_NAMES] if port == http.client.HTTP_PORT else [])
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0] not in named:
            self.send_error(403)
            return False
        return True

    def translate_path(self, path: str) -> str:
        """Returns the file for the path of a URL; "" if it is not served."""
        try:
            return str(self._file(urllib.parse.unquote(urllib.parse.urlsplit(path).path)) or "")
        except (OSError, ValueError, RuntimeError):  # A zero byte, a name that is too long, links in a circle.
            return ""

    def _file(self, name: str) -> Path | None:
        if self._model is not None and name == f"/models/{self._model.name}":
            return self._model
        parts = PurePosixPath(name).parts[1:]
        is_hidden_or_leads_up = any(part.startswith(".") for part in parts)
        if not name.startswith("/") or (parts and name.endswith("/")) or is_hidden_or_leads_up:
            return None
        folder, inside = page_folder(), parts or ("index.html",)
        if parts[:1] == (_MODULES,):
            if parts[1:2] != (LITERT.partition("/")[0],):
                return None
            folder, inside = self._litert, parts[1:]
        file = folder.joinpath(*inside).resolve()  # A link must not lead out of the folder. A FIFO would never end.
        return file if file.is_relative_to(folder.resolve()) and file.is_file() else None

    def end_headers(self) -> None:
        """Makes the browser check for a newer file each time, and keep the files from other pages."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Logs nothing."""


class _Server(http.server.ThreadingHTTPServer):
    """Serves a limited number of connections: the oldest one makes room for a new one."""

    request_queue_size = MOST_CONNECTIONS

    def __init__(self, *arguments: Any):
        self._connections: dict[socket.socket, None] = {}  # from the oldest to the newest
        self._changing = threading.Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a connection in a thread."""
        with self._changing:
            if len(self._connections) == MOST_CONNECTIONS:
                oldest = next(iter(self._connections))
                del self._connections[oldest]
                with contextlib.suppress(OSError):  # Its client has ended it.
                    oldest.shutdown(socket.SHUT_RDWR)
            self._connections[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection."""
        with self._changing:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints an error in one line. A client that went away is none."""
        error = sys.exc_info()[1]
        has_ended = isinstance(error, ConnectionError | TimeoutError) or getattr(error, "errno", 0) in _ENDED
        if not has_ended:
            print(f"keras-seq: a request failed: {type(error).__name__}: {error}", file=sys.stderr)


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
        server = _Server(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"port {port} cannot be used: {reason}. Choose another {{}}", "port") from error
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    if path is None:
        return server, url
    return server, f"{url}?model={urllib.parse.quote(f'models/{urllib.parse.quote(path.name)}')}"
