"""`tf.distribute` strategies for several devices, and the scope in which models for them are created."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_seq import require
from keras_seq.distribution.rendezvous import meet, require_free_port
from keras_seq.distribution.tf_config import TF_CONFIG, read_tf_config
from keras_seq.errors import DistributionError
from keras_seq.keras_internals import is_carried_state, without_coordination_service

KINDS = ("mirrored", "multi_worker")


def strategy(
    kind: str, devices: Sequence[str] | None = None, *, trusted_network: bool = False
) -> tf.distribute.Strategy:
    """Creates a strategy for training on several devices. Call it before TensorFlow has run anything else.

    Args:
        kind: `"mirrored"` trains on the devices of this process. `"multi_worker"` trains in several processes; the
            environment variable `TF_CONFIG` lists them and says which one this is. The processes wait for each other.
        devices: devices of `"mirrored"`; None for all GPUs, or the CPU if there is no GPU.
        trusted_network: confirms that only trusted people can reach this machine. `"multi_worker"` requires it: while it
            trains, TensorFlow's server listens at all addresses of the machine, asks for no password, and lets
            everyone who connects read and write the files of this process.

    Raises:
        ArgumentError: `kind` is neither of the two.
        DistributionError: the network is not said to be trusted, `TF_CONFIG` is missing or malformed, or the port of
            this worker is in use.
        RendezvousError: the workers cannot find each other.

    Example:
        >>> strategy("mirrored", ["CPU:0"]).num_replicas_in_sync
        1
    """
    require.one_of("kind", kind, KINDS)
    if kind == "multi_worker":
        require_trusted_network(trusted_network)
        workers, number = read_tf_config(os.environ.get(TF_CONFIG))
        require_free_port(workers[number])
        meet(workers, number)
        with _ended_by_the_system():
            without_coordination_service()
            return tf.distribute.MultiWorkerMirroredStrategy()
    if devices is None:
        devices = [f"GPU:{number}" for number in range(len(tf.config.list_logical_devices("GPU")))] or ["CPU:0"]
    # Collectives between several devices of one CPU can run in different orders on each device, and then fail.
    on_cpu = all("CPU" in device for device in devices)
    reduction = tf.distribute.ReductionToOneDevice() if on_cpu else None
    return tf.distribute.MirroredStrategy(list(devices), cross_device_ops=reduction)


def require_trusted_network(trusted_network: bool) -> None:
    """Raises DistributionError unless the user has confirmed that the network is closed to strangers."""
    if not trusted_network:
        raise DistributionError(
            "multi_worker opens TensorFlow's server, through which everyone who can reach this machine can read and write "
            "its files. If the network is closed to strangers, confirm it with {}",
            "trusted_network",
        )


def cpu_strategy(workers: int) -> tf.distribute.Strategy:
    """Creates a strategy that splits each batch over several workers on the CPU.

    Each worker is a logical device of this process. No network is used. Call it before TensorFlow has run anything else.

    Args:
        workers: number of workers.

    Raises:
        ArgumentError: `workers` is not a positive integer.
        DistributionError: TensorFlow has already run something.
    """
    require.positive_integer("workers", workers)
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * workers)
    except RuntimeError:
        raise DistributionError(
            "the CPU can be divided among {} only before TensorFlow runs anything: create the strategy first", "workers"
        ) from None
    return strategy("mirrored", [f"CPU:{number}" for number in range(workers)])


@contextlib.contextmanager
def _ended_by_the_system() -> Iterator[None]:
    """Lets the operating system end this process on Ctrl-C and SIGTERM while the block runs.

    TensorFlow holds the interpreter while it waits for other workers, so no handler of Python would run.
    """
    if threading.current_thread() is not threading.main_thread():  # Only the main thread may set handlers.
        yield
        return
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def worker_number(strategy: tf.distribute.Strategy | None) -> int:
    """Returns the index of this worker; 0 if there is only one."""
    resolver = None if strategy is None else strategy.cluster_resolver
    if resolver is None or not (cluster := resolver.cluster_spec().as_dict()):
        return 0
    return int(resolver.task_id) + (len(cluster.get("chief", [])) if resolver.task_type == "worker" else 0)


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
