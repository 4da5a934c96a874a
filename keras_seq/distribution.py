"""Training on several GPUs, or in several processes and machines: `tf.distribute` for models that carry their state.

Each replica has a contiguous part of the rows of every batch, the same part in each, so that it carries the state of its own
streams; gradients are added up before they are clipped. So a run on N replicas is the run on one, to rounding: the same
global batch, the same streams, the same thresholds.

    strategy = distribution.strategy("mirrored")
    with distribution.scope(strategy):
        model = ks.stateful_copy(ks.language_model(65), 64 // strategy.num_replicas_in_sync)
        model = distribution.distributed(model)
        model.compile(keras.optimizers.Adam(5e-3, clipnorm=1.0), loss)
    model.fit(ks.streams(text, vocabulary, batch_size=64, length=64), shuffle=False)
"""

import contextlib
import functools
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_seq.rendezvous import meet
from keras_seq.runs import TrainingError

KINDS = ("mirrored", "multi_worker")
TF_CONFIG = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


class DistributionError(ValueError):
    """Workers that cannot train together: the message says what was expected, what came and what to do."""


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
        workers, number = _cluster(os.environ.get(TF_CONFIG))
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


def distributed(model: keras.Model) -> keras.Model:
    """Makes `fit` and `evaluate` of a model run under the strategy in whose `scope` it was made; to be called before `compile`.

    Args:
        model: of any class; `DistributedFit` becomes the first base of its class.

    Returns:
        The model.

    Raises:
        DistributionError: it is compiled already.
    """
    if isinstance(model, DistributedFit):
        return model
    if model.compiled:
        raise DistributionError(
            "`distributed` must come before `compile`, which gives the model an optimizer for its replicas"
        )
    model.__class__ = _with_base(DistributedFit, type(model))
    return model


def _with_base(first: type, own: type) -> type:
    """Returns a class with another first base, by whose name Keras finds the own one when it loads."""
    return type(own.__name__, (first, own), {"__module__": own.__module__, "__qualname__": own.__qualname__})


class DistributedFit:
    """What a Keras model needs for training under a strategy: the first base of its class, before `keras.Model`.

    The optimizer of `compile` then clips what all replicas' gradients add up to, not each replica's. The rest makes up for
    Keras 3.15, whose `fit` does not run under `MultiWorkerMirroredStrategy` (keras issue 20585): it averages a batch over the
    workers in order to build the model, and their metrics, which are scalars, over an axis. When
    tests/test_distribution.py says that Keras does it, `_maybe_symbolic_build` and `_make_function` can go. Metrics must be
    scalars; one step is one call, in a graph.
    """

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Is `compile` of Keras, with an optimizer that clips after the gradients are added up.

        Raises:
            DistributionError: an option that only works on one device.
        """
        super().compile(*arguments, **options)  # type: ignore[misc]
        model: Any = self
        optimizer = model.optimizer
        if hasattr(optimizer, "inner_optimizer"):
            raise DistributionError(
                "distributed training must be in float32 or bfloat16, as the scaled loss of mixed_float16 is not reduced; "
                "set another dtype policy"
            )
        if (
            model.run_eagerly
            or model.steps_per_execution != 1
            or getattr(optimizer, "gradient_accumulation_steps", None)
        ):
            raise DistributionError(
                "distributed training must be step by step in a graph: leave out `run_eagerly`, `steps_per_execution` and "
                "`gradient_accumulation_steps`"
            )
        if optimizer is not None and not isinstance(optimizer, _ReduceThenClip):
            optimizer.__class__ = _with_base(_ReduceThenClip, type(optimizer))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Is the loss of Keras; of one that is a mean over weights, a replica's share is that of its weights.

        Raises:
            DistributionError: a mask without weights, or several losses of which one is a mean over weights.
        """
        model: Any = self
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)  # type: ignore[misc]
        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1 or not training:
            return loss
        if any(getattr(part, "_keras_mask", None) is not None for part in tree.flatten(y_pred)):
            raise DistributionError(
                "distributed training must have sample weights in place of masks, as keras_seq.lines gives them"
            )
        losses = tree.flatten(model.loss)
        if sample_weight is None or not any(
            getattr(one, "reduction", None) == "mean_with_sample_weight" for one in losses
        ):
            return loss
        if len(losses) > 1:
            raise DistributionError(
                "distributed training must have one loss, if it is a mean with sample weights; there are several"
            )
        own = tf.reduce_sum(tf.cast(sample_weight, loss.dtype))
        share = own * replica.num_replicas_in_sync / tf.maximum(replica.all_reduce("SUM", own), 1e-7)
        added = sum(model._aggregate_additional_loss(one) for one in model.losses)
        return (loss - added) * share + added

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        strategy = self.distribute_strategy  # type: ignore[attr-defined]
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = tree.map_structure(lambda part: strategy.experimental_local_results(part)[0], next(batches))
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)  # type: ignore[attr-defined]

    def _make_function(self, step: Any) -> Any:
        strategy = self.distribute_strategy  # type: ignore[attr-defined]
        names: list[str] = []

        def logs(batch: Any) -> tf.Tensor:
            found = step(batch)
            names[:] = found
            values = [tf.cast(value, tf.float32) for value in found.values()]
            if any(value.shape.rank for value in values):
                raise DistributionError(
                    "distributed training must have metrics that are scalars; one of this model is not"
                )
            return tf.stack(values)

        @tf.function(autograph=False)
        def one_step(batches: Any) -> dict[str, tf.Tensor]:
            # In one piece: every reduction is a round of messages.
            values = strategy.reduce("MEAN", strategy.run(logs, args=(next(batches),)), axis=None)
            return dict(zip(names, tf.unstack(values, len(names)), strict=True))

        return one_step


class _ReduceThenClip:
    """An optimizer that adds up the replicas' gradients first; Keras's clips each replica's own."""

    def apply_gradients(self, grads_and_vars: Any) -> Any:
        return super().apply_gradients(super()._all_reduce_sum_gradients(list(grads_and_vars)))  # type: ignore[misc]

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars


@contextlib.contextmanager
def others_lost() -> Iterator[None]:
    """Says what became of a run one of whose workers ended.

    Raises:
        TrainingError: so it is.
    """
    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    )
    try:
        yield
    except (*lost, tf.errors.InternalError) as error:
        raise TrainingError(
            "another worker ended, or cannot be reached: all finished epochs are saved; start the workers again, as many as you like, "
            "with --resume"
        ) from error


def require_same(strategy: tf.distribute.Strategy, parts: Mapping[str, str]) -> None:
    """Refuses workers that differ in what they must have alike; waits for all of them.

    Args:
        strategy: of all workers, each of which calls this.
        parts: hashes by the name of what they are of, such as the vocabulary's.

    Raises:
        DistributionError: a worker has another.
    """
    own = [int(hashlib.sha256(value.encode()).hexdigest()[:15], 16) for value in parts.values()]
    rows = _gathered(strategy, own)
    different = [name for name, column in zip(parts, rows.T, strict=True) if len(set(column.tolist())) > 1]
    if different:
        raise DistributionError(
            f"all workers must have the same {' and '.join(different)}, but they do not; start them from the same files, with the "
            "same command and version of keras_seq"
        )


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns when every worker has called this."""
    _gathered(strategy, [0])


def any_worker(strategy: tf.distribute.Strategy, says: bool) -> bool:
    """Returns whether any worker says so; all call it."""
    return bool(_gathered(strategy, [int(says)]).any())


def _gathered(strategy: tf.distribute.Strategy, numbers: Sequence[int]) -> np.ndarray:
    """Returns the numbers of every replica, int64 `(replicas, numbers)`."""

    def gather() -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(tf.constant([numbers], tf.int64), axis=0)

    with others_lost():
        rows = tf.function(lambda: strategy.run(gather), autograph=False).get_concrete_function()()
        return strategy.experimental_local_results(rows)[0].numpy()


@functools.cache
def code_sha256() -> str:
    """Returns the hash of this package's code."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _cluster(config: str | None) -> tuple[list[str], int]:
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
