"""The workers wait for each other here before TensorFlow connects them.

TensorFlow's own wait prints nothing and keeps Python from handling Ctrl-C.
"""

import contextlib
import hashlib
import ipaddress
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Any

from keras_seq.distribution.tf_config import TF_CONFIG
from keras_seq.errors import DistributionError, RendezvousError

_GREETING = b"keras_seq worker 1:"  # a worker says this, the token of its run and its number
_TOKEN_BYTES, _NUMBER_BYTES = 32, 4
_MESSAGE_BYTES = len(_GREETING) + _TOKEN_BYTES + _NUMBER_BYTES
_ANSWER, _ANSWER_BYTES = b"keras_seq: ", 200  # the first worker says this and a line
_ALL_PRESENT = "all present"
_SECONDS_TO_GREET = 10  # until a connection without a greeting is closed
_MOST_STRANGERS = 100  # connections without a greeting
_SECONDS_FOR_NAME = 60  # until the name of a host must be known
_RETRY_SECONDS = 0.2


def meet(addresses: Sequence[str], number: int) -> None:
    """Returns once every worker has called this function.

    Each worker connects to the first one, and sends a token of the run and its number. The token is a hash of all
    addresses. The first worker listens at its own address only. It answers when all have connected, and closes every
    connection that is not of such a worker. Ctrl-C and SIGTERM end the wait.

    Args:
        addresses: `host:port` of each worker.
        number: index of this worker in `addresses`.

    Raises:
        RendezvousError: the host of the first worker is unknown or is not this machine, or a worker ended while the
            others waited.
    """
    token = hashlib.sha256("\n".join(addresses).encode()).digest()
    if number == 0:
        with _listen(addresses) as server, _Workers(server, token, len(addresses)) as workers:
            workers.wait()
            workers.dismiss()
    else:
        _report_to_first_worker(addresses[0], _GREETING + token + number.to_bytes(_NUMBER_BYTES, "big"))


def require_free_port(address: str) -> None:
    """Requires that no process listens on the port of an address, `host:port`.

    Raises:
        DistributionError: the port is in use.
    """
    port = int(address.rpartition(":")[2])
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            own.bind(("", port))
        except OSError as error:
            raise DistributionError(
                f"the port of this worker, {address}, is in use ({error.strerror}). Name a free port in {TF_CONFIG}"
            ) from None


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _addresses_of(host: str, port: int) -> list[Any]:
    """Returns what `socket.getaddrinfo` knows of the first worker. In a cluster, a name may be known only after a while.

    Raises:
        RendezvousError: the name is not known after a minute.
    """
    deadline = time.monotonic() + _SECONDS_FOR_NAME
    while True:
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if time.monotonic() > deadline:
                raise RendezvousError(f"the host of the first worker, {host}, is unknown: {error.strerror}") from None
            time.sleep(_RETRY_SECONDS)


def _is_this_machine(host: str) -> bool:
    """Returns whether a host is an address of loopback."""
    try:
        return ipaddress.ip_address(socket.getaddrinfo(host, None)[0][4][0]).is_loopback
    except socket.gaierror:
        return False


def _listen(addresses: Sequence[str]) -> socket.socket:
    """Returns a server at the address of the first worker, which is this one."""
    host, port = _host_and_port(addresses[0])
    family, _, _, _, found = _addresses_of(host, port)[0]
    others = {_host_and_port(address)[0] for address in addresses[1:]} - {host}
    # Some systems give the name of a machine the address 127.0.1.1 on this machine itself.
    if ipaddress.ip_address(found[0]).is_loopback and not all(map(_is_this_machine, others)):
        raise RendezvousError(
            f"the first worker, {host}, has the address {found[0]} on its own machine, which other machines cannot reach. "
            f"Name its address in the network in {TF_CONFIG}"
        )
    try:
        return socket.create_server(found[:2], family=family)
    except OSError as error:
        raise RendezvousError(
            f"the first worker cannot listen at {addresses[0]} ({found[0]}): {error.strerror}. Name an address of its machine "
            f"in {TF_CONFIG}"
        ) from None


class _Workers:
    """The connections of the other workers, as the first worker sees them.

    Args:
        server: where they connect.
        token: the token of the run.
        count: number of workers, the first one included.
    """

    def __init__(self, server: socket.socket, token: bytes, count: int):
        self._server, self._token, self._count = server, token, count
        self._present: dict[int, socket.socket] = {}
        self._strangers: dict[socket.socket, tuple[float, bytes]] = {}  # when each is closed; what it has sent
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "_Workers":
        self._server.setblocking(False)
        self._selector.register(self._server, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (*self._strangers, *self._present.values()):
            connection.close()
        self._selector.close()

    def wait(self) -> None:
        """Returns when all workers are present."""
        while len(self._present) < self._count - 1:
            for key, _ in self._selector.select(timeout=1):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                if connection is self._server:
                    self._accept()
                elif connection in self._strangers:
                    self._read(connection)
                elif connection in self._present.values():  # Otherwise it was refused for another one just now.
                    self._forget(connection)
            for connection, (deadline, _) in list(self._strangers.items()):
                if time.monotonic() > deadline:
                    self._refuse(connection, f"nothing was sent within {_SECONDS_TO_GREET} seconds")

    def dismiss(self) -> None:
        """Tells all workers that they can continue.

        Raises:
            RendezvousError: a worker ended.
        """
        for number, connection in self._present.items():
            try:
                _answer(connection, _ALL_PRESENT)
            except OSError as error:
                raise RendezvousError(
                    f"worker {number} ended while the others were waiting. Start all workers again"
                ) from error

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # The other side may have ended the connection already.
            connection, _ = self._server.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # Notices a machine that was switched off.
            self._selector.register(connection, selectors.EVENT_READ)
            self._strangers[connection] = time.monotonic() + _SECONDS_TO_GREET, b""
            if len(self._strangers) > _MOST_STRANGERS:
                self._refuse(next(iter(self._strangers)), "too many connections")

    def _read(self, connection: socket.socket) -> None:
        """Reads what a connection sends, and accepts or refuses the worker."""
        deadline, before = self._strangers[connection]
        try:
            received = connection.recv(_MESSAGE_BYTES - len(before))
        except OSError:
            received = b""
        message = before + received
        greeting, token = message[: len(_GREETING)], message[len(_GREETING) : -_NUMBER_BYTES]
        number = int.from_bytes(message[-_NUMBER_BYTES:], "big")
        if not received or not _GREETING.startswith(greeting):
            self._refuse(connection, "this port is for the workers of a training run")
        elif len(message) < _MESSAGE_BYTES:
            self._strangers[connection] = deadline, message
        elif token != self._token:
            self._refuse(connection, f"the first worker has another list of workers in its {TF_CONFIG}")
        elif not 0 < number < self._count:
            self._refuse(connection, f"the numbers of the other workers are 1 to {self._count - 1}, not {number}")
        elif number in self._present:
            self._refuse(connection, f"another worker with the number {number} is present")
        else:
            del self._strangers[connection]
            self._present[number] = connection

    def _refuse(self, connection: socket.socket, reason: str) -> None:
        with contextlib.suppress(OSError):
            _answer(connection, reason)
        self._selector.unregister(connection)
        del self._strangers[connection]
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        """Forgets a worker that has ended. It sends nothing after its number, so what arrives is the end."""
        self._selector.unregister(connection)
        self._present = {number: one for number, one in self._present.items() if one is not connection}
        connection.close()


def _answer(connection: socket.socket, line: str) -> None:
    connection.sendall(_ANSWER + line.encode() + b"\n")


def _report_to_first_worker(address: str, message: bytes) -> None:
    host, port = _host_and_port(address)
    _addresses_of(host, port)
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=_SECONDS_TO_GREET)
            break
        except OSError:  # The first worker has not started yet.
            time.sleep(_RETRY_SECONDS)
    with connection:
        connection.settimeout(None)  # The other workers may start much later.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        answer = b""
        with contextlib.suppress(OSError):
            connection.sendall(message)
            while not answer.endswith(b"\n") and len(answer) < _ANSWER_BYTES:
                if not (received := connection.recv(_ANSWER_BYTES - len(answer))):
                    break
                answer += received
    if not answer:
        raise RendezvousError("the first worker ended while the others were waiting. Start all workers again")
    if not answer.startswith(_ANSWER):
        raise RendezvousError(f"{address} answers, but is not the first worker. Name a port of its own in {TF_CONFIG}")
    if (line := answer.removeprefix(_ANSWER).decode(errors="replace").strip()) != _ALL_PRESENT:
        raise RendezvousError(f"the first worker, {address}, has refused this one: {line}")
