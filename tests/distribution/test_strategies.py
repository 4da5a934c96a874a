import re
import socket
from types import SimpleNamespace

import pytest
import tensorflow as tf

from keras_seq import distribution
from keras_seq.distribution.strategies import cpu_strategy, is_chief, worker_number
from keras_seq.distribution.tf_config import tf_config
from keras_seq.errors import DistributionError


def test_an_unknown_kind_is_rejected():
    with pytest.raises(ValueError, match=r"`kind` must be one of mirrored, multi_worker. Received: kind='tpu'"):
        distribution.strategy("tpu")


def test_a_mirrored_strategy_has_a_chief():
    strategy = distribution.strategy("mirrored", ["CPU:0"])
    assert is_chief(strategy)
    assert worker_number(strategy) == 0
    assert is_chief(None)


def test_a_port_in_use_is_rejected(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("TF_CONFIG", tf_config([address, "127.0.0.1:1"], 0)["TF_CONFIG"])
        with pytest.raises(DistributionError, match=f"the port of this worker, {address}, is in use"):
            distribution.strategy("multi_worker", trusted_network=True)


def test_the_network_of_several_workers_must_be_trusted(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config(["127.0.0.1:1"], 0)["TF_CONFIG"])
    with pytest.raises(DistributionError, match=r"read and write its files.*confirm it with `trusted_network`"):
        distribution.strategy("multi_worker")


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_workers_on_the_cpu_are_a_positive_number(workers):
    with pytest.raises(ValueError, match="`workers` must be a positive integer"):
        cpu_strategy(workers)


def test_the_cpu_is_divided_before_tensorflow_runs_anything():
    tf.constant(0)
    with pytest.raises(DistributionError, match="only before TensorFlow runs anything"):
        cpu_strategy(2)


def test_the_chief_is_the_first_of_all_workers():
    """TensorFlow numbers the tasks of each job from 0; a run writes the files of its chief only."""
    cluster = tf.train.ClusterSpec({"chief": ["a:1"], "worker": ["b:1", "c:1"]})
    numbers = [
        worker_number(
            SimpleNamespace(cluster_resolver=tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, "", *task))
        )
        for task in (("chief", 0), ("worker", 0), ("worker", 1))
    ]
    assert numbers == [0, 1, 2]


@pytest.mark.parametrize(
    ("config", "message"),
    [(None, "the environment variable TF_CONFIG, but it is not set"), ("{", "it is not valid JSON")],
)
def test_a_strategy_of_workers_needs_their_addresses(monkeypatch, config, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(DistributionError, match=re.escape(message)):
        distribution.strategy("multi_worker", trusted_network=True)
