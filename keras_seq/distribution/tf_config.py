"""`TF_CONFIG`: the environment variable that lists the workers of a training run and says which of them this process is."""

import json
from collections.abc import Sequence
from typing import Any

from keras_seq import require
from keras_seq.errors import DistributionError
from keras_seq.json_text import parse_json

TF_CONFIG = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
_JOBS = ("chief", "worker")  # in the order in which TensorFlow numbers their tasks


def tf_config(addresses: Sequence[str], number: int) -> dict[str, str]:
    """Returns the environment variable that makes a process one of several workers.

    Args:
        addresses: `host:port` of each worker.
        number: index of this worker in `addresses`.

    Example:
        >>> tf_config(["a:1", "b:1"], 1)
        {'TF_CONFIG': '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'}
    """
    task = {"type": "worker", "index": number}
    return {TF_CONFIG: json.dumps({"cluster": {"worker": list(addresses)}, "task": task})}


def read_tf_config(config: str | None) -> tuple[list[str], int]:
    """Returns the `host:port` of each worker and the number of this worker.

    A chief is a worker too, as in TensorFlow: it has the number 0, and the others follow.

    Args:
        config: value of the environment variable; None if it is not set.

    Raises:
        DistributionError: `config` is None, is not JSON, or does not describe workers.

    Example:
        >>> read_tf_config('{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}')
        (['a:1', 'b:1'], 1)
    """
    if not config:
        raise DistributionError(
            f"multi_worker needs the environment variable {TF_CONFIG}, but it is not set. Set it, for example, to {_EXAMPLE}"
        )
    try:
        found = parse_json(config)
        cluster, task = _member(found, "cluster"), _member(found, "task")
        addresses = [address for job in _JOBS for address in _addresses(cluster, job)]
        if others := cluster.keys() - set(_JOBS):
            raise ValueError(f"all tasks must be chief or worker, but the cluster has {', '.join(sorted(others))}")
        if len(set(addresses)) < len(addresses):
            raise ValueError("two workers have the same address")
        return addresses, _number(cluster, task)
    except ValueError as error:
        raise DistributionError(
            f"{TF_CONFIG} is malformed: {error}. It must list the workers and the index of this one, as in {_EXAMPLE}"
        ) from None


def _member(found: Any, name: str) -> dict[str, Any]:
    if not isinstance(found, dict) or not isinstance(found.get(name), dict):
        raise ValueError(f"it has no object {name!r}")
    member: dict[str, Any] = found[name]
    return member


def _addresses(cluster: dict[str, Any], job: str) -> list[str]:
    """Returns the addresses of one job of the cluster."""
    addresses = cluster.get(job, [])
    if not isinstance(addresses, list):
        raise ValueError(f"{job!r} is not a list of addresses")
    for address in addresses:
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port[:6]) <= 65535:
            raise ValueError(f"{str(address)[:80]!r} is not of the form host:port")
    if job == "chief" and len(addresses) > 1:
        raise ValueError("it has several chiefs")
    return addresses


def _number(cluster: dict[str, Any], task: dict[str, Any]) -> int:
    """Returns the number of a task among all workers."""
    job, index = task.get("type"), task.get("index", -1)
    if not require.is_integer(index):
        raise ValueError(f"the index must be an integer, not {str(index)[:80]}")
    if job not in _JOBS or not 0 <= index < len(cluster.get(job, [])):
        raise ValueError(f"it has no {str(job)[:80]} {str(index)[:80]}")
    return int(index) + (len(cluster.get("chief", [])) if job == "worker" else 0)
