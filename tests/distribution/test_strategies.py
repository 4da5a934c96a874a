import re
import socket

import pytest

from keras_seq import distribution
from keras_seq.distribution.strategies import is_chief, worker_number
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
            distribution.strategy("multi_worker")


@pytest.mark.parametrize(
    ("config", "message"),
    [(None, "the environment variable TF_CONFIG, but it is not set"), ("{", "it is not valid JSON")],
)
def test_a_strategy_of_workers_needs_their_addresses(monkeypatch, config, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(DistributionError, match=re.escape(message)):
        distribution.strategy("multi_worker")
