"""`TF_CONFIG`: the environment variable that lists the workers of a training run and says which of them this process is."""

import json
from collections.abc import Sequence

from keras_seq.errors import DistributionError

TF_CONFIG = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


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
    """Returns the `host:port` of each worker and the index of this worker.

    Args:
        config: value of the environment variable; None if it is not set.

    Raises:
        DistributionError: `config` is None, is not JSON, or does not describe workers.
    """
    if not config:
        raise DistributionError(
            f"multi_worker needs the environment variable {TF_CONFIG}, but it is not set. Set it, for example, to {_EXAMPLE}"
        )
    try:
        found = json.loads(config)
        workers, task = found["cluster"]["worker"], found["task"]
        if not isinstance(workers, list) or task["type"] != "worker" or not 0 <= task["index"] < len(workers):
            raise ValueError(f"it has no {task['type']} {task['index']}")
        for address in workers:
            _require_address(address)
    except json.JSONDecodeError as error:
        raise _malformed(f"it is not valid JSON ({error})") from None
    except KeyError as error:
        raise _malformed(f"it has no {error}") from None
    except (ValueError, TypeError) as error:
        raise _malformed(str(error)) from None
    return workers, task["index"]


def _require_address(address: object) -> None:
    port = address.rpartition(":")[2] if isinstance(address, str) else ""
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not of the form host:port")


def _malformed(reason: str) -> DistributionError:
    return DistributionError(
        f"{TF_CONFIG} must list the workers and the index of this one, as in {_EXAMPLE}. The current value is malformed: {reason}"
    )
