"""`TF_CONFIG`: the environment variable that names the workers of a training run, and which of them a process is."""

import json
import socket
from collections.abc import Sequence

from keras_seq.errors import DistributionError

TF_CONFIG = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


def tf_config(addresses: Sequence[str], number: int) -> dict[str, str]:
    """Returns what the environment of a worker has besides.

    >>> tf_config(["a:1", "b:1"], 1)
    {'TF_CONFIG': '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'}
    """
    task = {"type": "worker", "index": number}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": list(addresses)}, "task": task})}


def read_tf_config(config: str | None) -> tuple[list[str], int]:
    """Returns the `host:port` of each worker, and this one's number."""
    if not config:
        raise DistributionError(
            f"multi_worker needs the environment variable {TF_CONFIG} to name the workers, but it is not set; such as {_EXAMPLE}"
        )
    try:
        found = json.loads(config)
        workers, task = found["cluster"]["worker"], found["task"]
        if not isinstance(workers, list) or task["type"] != "worker" or not 0 <= task["index"] < len(workers):
            raise ValueError(f"there is no {task['type']} {task['index']} in it")
        for address in workers:
            port = address.rpartition(":")[2] if isinstance(address, str) else ""
            if not port.isdecimal() or int(port) > 65535:
                raise ValueError(f"{address!r} is no host:port")
    except (ValueError, KeyError, TypeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        what = f"it is no JSON ({error})" if isinstance(error, json.JSONDecodeError) else what
        raise DistributionError(
            f"{TF_CONFIG} must name the workers and which of them this is, as {_EXAMPLE}, but {what}"
        ) from None
    return workers, task["index"]


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that nothing listens to."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
