import re

import pytest

from keras_seq.distribution.tf_config import read_tf_config, tf_config
from keras_seq.errors import DistributionError


def test_a_configuration_is_read_back():
    assert read_tf_config(tf_config(["a:1", "b:2"], 1)["TF_CONFIG"]) == (["a:1", "b:2"], 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "the environment variable TF_CONFIG, but it is not set"),
        ("{", "it is not valid JSON (Expecting property name"),
        ("[]", "list indices must be integers"),
        ('{"task": {}}', "it has no 'cluster'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "it has no worker 1"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "it has no chief 0"),
        (
            '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}',
            "'a' is not of the form host:port",
        ),
    ],
)
def test_a_malformed_configuration_is_rejected(config, message):
    with pytest.raises(DistributionError, match=re.escape(message)):
        read_tf_config(config)
