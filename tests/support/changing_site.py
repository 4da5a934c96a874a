"""A site on loopback whose files a test changes, delays or takes away."""

import contextlib
import hashlib
import http.server
import json
import time

from sites import running

TYPES = {"html": "text/html", "js": "text/javascript", "json": "application/json", "wasm": "application/wasm"}


class Site:
    """Files by their addresses, without the slash at their beginning; "" is that of index.html."""

    def __init__(self, files):
        self.files = files
        self.requested = []
        self.delays = {}  # seconds, by address
        self.redirects = {}
        self.cut = set()  # addresses whose connection ends without an answer
        self.is_down = False  # all connections end so
        self.address = ""

    def list_files(self, left_out=("service-worker.js",)):
        """Makes files.json of the present files."""
        listed = {
            address: hashlib.sha256(content).hexdigest()
            for address, content in self.files.items()
            if address not in left_out and address != "files.json" and not address.startswith("models")
        }
        self.files["files.json"] = json.dumps(listed).encode()

    def answer(self, handler):
        address = handler.path.partition("?")[0][1:]
        self.requested.append(address)
        time.sleep(self.delays.get(address, 0))
        if self.is_down or address in self.cut:
            handler.close_connection = True
            return
        target = self.redirects.get(address)
        content = self.files.get(address or "index.html")
        handler.send_response(302 if target else 200 if content is not None else 404)
        if target:
            handler.send_header("Location", target)
        handler.send_header("Content-Type", TYPES.get((address or "a.html").rpartition(".")[2], "text/plain"))
        handler.send_header("Content-Length", str(len(content or b"")))
        handler.send_header("Cache-Control", "no-cache")
        handler.send_header("Access-Control-Allow-Origin", "*")  # for frames without an origin
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # The browser no longer waits.
            handler.wfile.write(content or b"")


@contextlib.contextmanager
def serving(files):
    """Serves files; yields the site."""
    site = Site(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            site.answer(self)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with running(server) as site.address:
        yield site
