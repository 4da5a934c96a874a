"""`keras-seq web`: serves the page of `export/web` to this machine only, with a model opened in it."""

import contextlib
import errno
import functools
import gzip
import hashlib
import http.client
import http.server
import io
import os
import socket
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import Any, BinaryIO

from keras_seq.errors import ConfigError, KerasSeqError
from keras_seq.files import open_at_once
from keras_seq_export.tflite.page_files import PageFiles, content_type, litert_folder, page_files, page_folder

PORT = 8599  # always the same, because the browser keeps the page for use off-line under its address
MOST_CONNECTIONS = 64  # at a time, each with a thread
SECONDS_WITHOUT_DATA = 10  # after which a connection is ended
_NAMES = ("127.0.0.1", "localhost")
_ENDED = (errno.EBADF, errno.ENOTCONN)  # of a connection that has ended
_SECONDS_OF_A_YEAR = 31_536_000


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the page, LiteRT.js and the models, and nothing else."""

    timeout = SECONDS_WITHOUT_DATA

    def __init__(self, *arguments: object, page: PageFiles):
        self._page = page
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

    def send_head(self) -> BinaryIO | None:
        """Answers with the head of a file, and returns its content; None if the head is the whole answer."""
        address = _address(self.path)
        body = self._opened(address)
        if body is None:
            return None
        if is_packed := self._packs(address):
            with body:
                body = io.BytesIO(gzip.compress(body.read(), mtime=0))
        tag, length = _tag_and_length(body)
        is_known = self.headers.get("If-None-Match") == tag  # The browser has this content.
        self.send_response(304 if is_known else 200)
        if not is_known:
            self.send_header("Content-Type", content_type(address))
            self.send_header("Content-Length", str(length))
            if is_packed:
                self.send_header("Content-Encoding", "gzip")
        self.send_header("ETag", tag)
        self.send_header("Vary", "Accept-Encoding")
        # Otherwise the browser asks each time whether the file has changed.
        is_permanent = self._page.is_permanent(address)
        self.send_header("Cache-Control", f"max-age={_SECONDS_OF_A_YEAR}, immutable" if is_permanent else "no-cache")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")  # keeps the files from other pages
        self.end_headers()
        if not is_known:
            return body
        body.close()
        return None

    def _packs(self, address: str) -> bool:
        """Returns whether the content is sent in gzip: the page's texts, if the browser takes it."""
        return content_type(address).startswith("text/") and "gzip" in self.headers.get("Accept-Encoding", "")

    def _opened(self, address: str) -> BinaryIO | None:
        """Returns the content of an address, or answers with an error."""
        if address not in self._page.addresses():
            self.send_error(404)
            return None
        try:
            content = self._page.content(address)
            return io.BytesIO(content) if isinstance(content, bytes) else open_at_once(content)
        except (KerasSeqError, OSError, ValueError) as error:  # It has changed since the start.
            print(f"keras-seq: {address} cannot be served: {error}", file=sys.stderr)
            self.send_error(500)
            return None

    def log_message(self, *arguments: object) -> None:
        """Logs nothing."""


def _address(target: str) -> str:
    """Returns the address of a request, relative to that of the page; "" if it has none."""
    try:
        path = urllib.parse.unquote(urllib.parse.urlsplit(target).path)
    except ValueError:  # such as http://[
        return ""
    return "index.html" if path == "/" else path.removeprefix("/") if path.startswith("/") else ""


def _tag_and_length(body: BinaryIO) -> tuple[str, int]:
    """Returns a text that changes with the content, and the number of bytes."""
    if isinstance(body, io.BytesIO):
        content = body.getvalue()
        return f'"{hashlib.sha256(content).hexdigest()[:32]}"', len(content)
    status = os.fstat(body.fileno())
    return f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"', status.st_size


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
    model: str | Path | None = None,
    litert: Path | None = None,
    port: int = PORT,
    demo: str | Path | None = None,
) -> tuple[http.server.ThreadingHTTPServer, str]:
    """Returns a server on the loopback address, ready for `serve_forever`, and the URL to open.

    Args:
        model: a .tflite that the page opens; None for the page's own.
        litert: the `node_modules` that has LiteRT.js; None for the result of `litert_folder`.
        port: 0 takes a free one.
        demo: the directory of `keras-seq demo`, for a comparison of its models; None for no comparison.

    Raises:
        BundleError: a model was not written by this package.
        ConfigError: the port is in use or is not a port, or a model of the demo is missing.
        ValueError: LiteRT.js is not installed.
    """
    page = page_files(page_folder(), litert or litert_folder(), model, demo)
    handler = functools.partial(_Handler, page=page)
    try:
        server = _Server(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise ConfigError(f"port {port} cannot be used: {reason}. Choose another {{}}", "port") from error
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    if model is None:
        return server, url
    return server, f"{url}?model={urllib.parse.quote(f'models/{urllib.parse.quote(Path(model).name)}')}"
