"""`tf.distribute` strategies for several devices, and the scope in which models for them are created."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_seq import require
from keras_seq.distribution.rendezvous import meet, require_free_port
from keras_seq.distribution.tf_config import TF_CONFIG, read_tf_config
from keras_seq.keras_internals import is_carried_state

KINDS = ("mirrored", "multi_worker")


def strategy(kind: str, devices: Sequence[str] | None = None) -> tf.distribute.Strategy:
    """Creates a strategy for training on several devices. Call it before TensorFlow has run anything else.

    Args:
        kind: `"mirrored"` trains on the devices of this process. `"multi_worker"` trains in several processes; the
            environment variable `TF_CONFIG` lists them and says which one this is. The processes wait for each other.
        devices: devices of `"mirrored"`; None for all GPUs, or the CPU if there is no GPU.

    Raises:
        ArgumentError: `kind` is neither of the two.
        DistributionError: `TF_CONFIG` is missing or malformed, or the port of this worker is in use.
        RendezvousError: the workers cannot find each other.

    Example:
        >>> strategy("mirrored", ["CPU:0"]).num_replicas_in_sync
        1
    """
    require.one_of("kind", kind, KINDS)
    if kind == "multi_worker":
        workers, number = read_tf_config(os.environ.get(TF_CONFIG))
        require_free_port(workers[number])
        meet(workers, number)
        return tf.distribute.MultiWorkerMirroredStrategy()
    if devices is None:
        devices = [f"GPU:{number}" for number in range(len(tf.config.list_logical_devices("GPU")))] or ["CPU:0"]
    # Collectives between several devices of one CPU can run in different orders on each device, and then fail.
    on_cpu = all("CPU" in device for device in devices)
    reduction = tf.distribute.ReductionToOneDevice() if on_cpu else None
    return tf.distribute.MirroredStrategy(list(devices), cross_device_ops=reduction)


def worker_number(strategy: tf.distribute.Strategy | None) -> int:
    """Returns the index of this worker; 0 if there is only one."""
    resolver = None if strategy is None else strategy.cluster_resolver
    return 0 if resolver is None or not resolver.cluster_spec().as_dict() else int(resolver.task_id)


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Returns whether this process writes the files of the run: the first worker does, or the only one."""
    return worker_number(strategy) == 0


@contextlib.contextmanager
def scope(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Enters the scope in which to create models for a strategy. Each replica gets carried states of its own."""
    with strategy.scope(), tf.variable_creator_scope(_create_variable):
        yield


def _create_variable(create: Any, **options: Any) -> tf.Variable:
    """Creates a variable. One that holds a carried state is never synchronized between replicas."""
    if is_carried_state(str(options.get("name"))):
        options["synchronization"] = tf.VariableSynchronization.ON_READ
        options["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return create(**options)
