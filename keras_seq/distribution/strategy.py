"""How to train on several devices: a strategy of `tf.distribute`, and the scope in which models for it are made."""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_seq.distribution.rendezvous import meet
from keras_seq.distribution.tf_config import TF_CONFIG, read_tf_config
from keras_seq.errors import DistributionError

KINDS = ("mirrored", "multi_worker")


def strategy(kind: str, devices: Sequence[str] | None = None) -> tf.distribute.Strategy:
    """Returns how to train on several devices. To be called before TensorFlow has run anything else.

    Args:
        kind: `"mirrored"`, on the devices of this process, or `"multi_worker"`, in several processes, this one being the one
            that the environment variable `TF_CONFIG` names; they wait for each other.
        devices: of `"mirrored"`; None for all GPUs, or the CPU where there is none.

    Raises:
        DistributionError: `TF_CONFIG` is missing or malformed, or its port is in use.
        RendezvousError: the workers do not find each other.

    Example:
        >>> strategy("mirrored", ["CPU:0"]).num_replicas_in_sync
        1
    """
    if kind not in KINDS:
        raise DistributionError(f"`kind` must be one of {', '.join(KINDS)}. Received: kind={kind!r}")
    if kind == "multi_worker":
        workers, number = read_tf_config(os.environ.get(TF_CONFIG))
        _require_free(workers[number])
        meet(workers, number)
        return tf.distribute.MultiWorkerMirroredStrategy()
    if devices is None:
        devices = [f"GPU:{number}" for number in range(len(tf.config.list_logical_devices("GPU")))] or ["CPU:0"]
    # Collectives between devices of one CPU are not always put in one order, and then fail.
    on_cpu = all("CPU" in device for device in devices)
    reduction = tf.distribute.ReductionToOneDevice() if on_cpu else None
    return tf.distribute.MirroredStrategy(list(devices), cross_device_ops=reduction)


def worker_number(strategy: tf.distribute.Strategy | None) -> int:
    """Returns the number of this worker; 0 of the only one."""
    resolver = None if strategy is None else strategy.cluster_resolver
    return 0 if resolver is None or not resolver.cluster_spec().as_dict() else int(resolver.task_id)


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Returns whether this is the process that writes: the first worker, or the only one."""
    return worker_number(strategy) == 0


@contextlib.contextmanager
def scope(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Is where models for this strategy are made: each replica gets carried states of its own."""
    with strategy.scope(), tf.variable_creator_scope(_own_states):
        yield


def _own_states(make: Any, **options: Any) -> tf.Variable:
    if str(options.get("name")).startswith("rnn_state"):  # Keras's name of what a stateful layer carries
        options["synchronization"] = tf.VariableSynchronization.ON_READ
        options["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return make(**options)


def _require_free(address: str) -> None:
    port = int(address.rpartition(":")[2])
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            own.bind(("", port))
        except OSError as error:
            raise DistributionError(
                f"the port of this worker, {address}, must be free, but it is in use ({error.strerror}); name another in {TF_CONFIG}"
            ) from None
