"""A session of `requests` whose answers are bounded in time and bytes.

The timeout of `requests` is the longest pause between two pieces of an answer. A server that sends a byte now and then
would hold a client forever, so here it bounds the answer as a whole, its headers included.
"""

import http.client
import io
import socket
import time
from typing import Any

import requests
import requests.adapters
import urllib3
import urllib3.connection


class BoundedSession(requests.Session):
    """A session that follows no redirects and asks for no compression, both of which could make an answer larger."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Returns None: otherwise `requests` reads the whole body of a redirect, even if it does not follow it."""


class _UntilDeadline(io.RawIOBase):
    """What a socket receives, until its timeout has passed since the first read."""

    def __init__(self, opened: Any, connection: socket.socket):
        timeout = connection.gettimeout()
        self._opened, self._socket = opened, connection
        self._end = None if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._end is not None:
            self._socket.settimeout(max(self._end - time.monotonic(), 1e-3))
        return self._opened.readinto(buffer)

    def close(self) -> None:
        self._opened.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any):
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_UntilDeadline(self.fp.detach(), sock))


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Response


class _SecureConnection(urllib3.connection.HTTPSConnection):
    response_class = _Response


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager
