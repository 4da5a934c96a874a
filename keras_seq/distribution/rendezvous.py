"""The workers wait for each other here before TensorFlow connects them.

TensorFlow's own wait cannot be interrupted and prints nothing.
"""

import socket
import time
from collections.abc import Sequence

from keras_seq.distribution.tf_config import TF_CONFIG
from keras_seq.errors import DistributionError, RendezvousError

_ALL_PRESENT = b"all present"  # the message of the first worker to the others
_NUMBER_BYTES = 4  # the message of another worker: its number
_RETRY_SECONDS = 0.2


def meet(addresses: Sequence[str], number: int) -> None:
    """Returns once every worker has called this function.

    Each worker connects to the first one and sends its number. The first worker answers when all have connected.

    Args:
        addresses: `host:port` of each worker.
        number: index of this worker in `addresses`.

    Raises:
        RendezvousError: the host of the first worker is unknown, or a worker ended while the others waited.
    """
    host, _, port = addresses[0].rpartition(":")
    if number == 0:
        _wait_for_workers(int(port), len(addresses) - 1)
    else:
        _report_to_first_worker(host, int(port), number)


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that no process listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


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


def _wait_for_workers(port: int, others: int) -> None:
    connections: dict[int, socket.socket] = {}
    with socket.create_server(("", port)) as server:
        while len(connections) < others:
            connection, _ = server.accept()
            number = connection.recv(_NUMBER_BYTES)
            if len(number) == _NUMBER_BYTES:
                connections[int.from_bytes(number, "big")] = connection
    for worker, connection in connections.items():
        with connection:
            try:
                connection.sendall(_ALL_PRESENT)
            except OSError as error:
                raise RendezvousError(
                    f"worker {worker} ended while the others were waiting. Start all workers again"
                ) from error


def _report_to_first_worker(host: str, port: int, number: int) -> None:
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=10)
            break
        except socket.gaierror as error:
            raise RendezvousError(f"the host of the first worker, {host}, is unknown: {error.strerror}") from None
        except OSError:  # The first worker has not started yet.
            time.sleep(_RETRY_SECONDS)
    with connection:
        connection.settimeout(None)
        connection.sendall(number.to_bytes(_NUMBER_BYTES, "big"))
        if connection.recv(len(_ALL_PRESENT), socket.MSG_WAITALL) != _ALL_PRESENT:
            raise RendezvousError("the first worker ended while the others were waiting. Start all workers again")
