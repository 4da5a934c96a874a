import json
import re

import pytest

from keras_seq.distribution.tf_config import read_tf_config, tf_config
from keras_seq.errors import DistributionError


def test_a_configuration_is_read_back():
    assert read_tf_config(tf_config(["a:1", "b:2"], 1)["TF_CONFIG"]) == (["a:1", "b:2"], 1)


def worker(index, **cluster):
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def test_a_chief_is_the_first_worker():
    cluster = {"chief": ["c:1"], "worker": ["a:1", "b:2"]}
    assert read_tf_config(worker(1, **cluster)) == (["c:1", "a:1", "b:2"], 2)
    chief = {"cluster": cluster, "task": {"type": "chief", "index": 0}}
    assert read_tf_config(json.dumps(chief)) == (["c:1", "a:1", "b:2"], 0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "the environment variable TF_CONFIG, but it is not set"),
        ("{", "it is not valid JSON (Expecting property name"),
        ("[]", "it has no object 'cluster'"),
        (100_000 * '{"cluster":', "it is nested too deeply"),
        ('{"task": {}}', "it has no object 'cluster'"),
        ('{"cluster": {}, "task": 1}', "it has no object 'task'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "it has no chief 0"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": ["worker"], "index": 0}}', "it has no ['worker'] 0"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {}}', "it has no None -1"),
        (worker(1, worker=["a:1"]), "it has no worker 1"),
        (worker(0.0, worker=["a:1", "b:1"]), "the index must be an integer, not 0.0"),
        (worker(True, worker=["a:1", "b:1"]), "the index must be an integer, not True"),
        (worker(-1, worker=["a:1", "b:1"]), "it has no worker -1"),
        (worker(0, worker=["a:1"], ps=["b:1"]), "all tasks must be chief or worker, but the cluster has ps"),
        (worker(0, worker=["a:1"], chief=["b:1", "c:1"]), "it has several chiefs"),
        (worker(0, worker=["a:1", "a:1"]), "two workers have the same address"),
        (worker(0, worker="a:1"), "'worker' is not a list of addresses"),
        *(
            (worker(0, worker=[name]), "is not of the form host:port")
            for name in ("a", ":1", "a:0", "a:99999", "a:²", 7)
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_malformed_configuration_is_rejected(config, message):
    with pytest.raises(DistributionError, match=re.escape(message)):
        read_tf_config(config)
