"""How workers find each other before TensorFlow connects them: its own waiting cannot be interrupted, and says nothing."""

import socket
import time
from collections.abc import Sequence

from keras_seq.errors import RendezvousError

_WORD = b"all are here"


def meet(addresses: Sequence[str], number: int) -> None:
    """Returns when all workers have come: each tells the first one, at its address, which then tells them.

    Args:
        addresses: `host:port` of each.
        number: of this one.

    Raises:
        RendezvousError: the first one's host is unknown, or a worker ended while the others waited.
    """
    host, _, port = addresses[0].rpartition(":")
    if number == 0:
        _receive(int(port), len(addresses) - 1)
    else:
        _come(host, int(port), number)


def _receive(port: int, others: int) -> None:
    came: dict[int, socket.socket] = {}
    with socket.create_server(("", port)) as server:
        while len(came) < others:
            connection, _ = server.accept()
            who = connection.recv(4)
            if len(who) == 4:
                came[int.from_bytes(who, "big")] = connection
    for who_came, connection in came.items():
        with connection:
            try:
                connection.sendall(_WORD)
            except OSError as error:
                raise RendezvousError(f"worker {who_came} ended while the others waited; start all again") from error


def _come(host: str, port: int, number: int) -> None:
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=10)
            break
        except socket.gaierror as error:
            raise RendezvousError(f"the host of the first worker, {host}, is unknown: {error.strerror}") from None
        except OSError:  # It is not there yet.
            time.sleep(0.2)
    with connection:
        connection.settimeout(None)
        connection.sendall(number.to_bytes(4, "big"))
        if connection.recv(len(_WORD), socket.MSG_WAITALL) != _WORD:
            raise RendezvousError("the first worker ended while the others waited; start all again")
