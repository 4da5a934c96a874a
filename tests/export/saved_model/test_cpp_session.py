"""A SavedModel in TensorFlow's C++ session: values in and out, states fed back, errors."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seq_export.errors import SessionError
from keras_seq_export.saved_model import c_api
from keras_seq_export.saved_model.cpp_session import Request, run_in_cpp_session

STRINGS = ["", "short", "é\0\n" * 20, "𝄞" * 10_000]


class Signatures(tf.Module):
    def __init__(self):
        super().__init__()
        self.weight = tf.Variable([2.0, 3.0])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64)])
    def tell(self, text, number=tf.constant([-(2**40)], tf.int64)):  # noqa: B008
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(number < 5), ["number is too large", number])]):
            return {"text": tf.identity(text), "doubled": text + text, "number": number * 2}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 2], tf.float32, name="state_0")]
    )
    def step(self, token, state_0):
        state = state_0 + tf.cast(token, tf.float32)[:, None] * self.weight
        return {"state_0": state, "squared": state**2}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    module = Signatures()
    tf.saved_model.save(module, path, signatures={"tell": module.tell, "step": module.step})
    return path


@pytest.fixture(scope="module")
def answers(directory):
    """Answers to four requests, in one process."""
    tokens = np.arange(300, dtype=np.int32).reshape(100, 3) % 5
    requests = {
        "long": ("tell", {"text": np.array(STRINGS, object), "number": np.array([4], np.int64)}),
        "short": ("tell", {"text": [b"\xff\0"]}),
        "empty": ("tell", {"text": np.array([], object), "number": np.array([], np.int64)}),
        "scan": Request("step", {"token": tokens, "state_0": np.ones((3, 2), np.float32)}, scan=("token",)),
    }
    return dict(zip(requests, run_in_cpp_session(directory, list(requests.values())), strict=True))


def test_strings_numbers_and_defaults(answers):
    long, short = answers["long"], answers["short"]
    assert [text.decode() for text in long["text"]] == STRINGS
    assert [text.decode() for text in long["doubled"]] == [text * 2 for text in STRINGS]
    assert long["number"].dtype == np.int64
    assert long["number"].tolist() == [8]
    assert short["text"].tolist() == [b"\xff\0"]
    assert short["number"].tolist() == [-(2**41)]


def test_empty_arrays(answers):
    assert {name: value.shape for name, value in answers["empty"].items()} == {
        "text": (0,),
        "doubled": (0,),
        "number": (0,),
    }


def test_scan_feeds_the_states_back(answers):
    tokens, answer = np.arange(300, dtype=np.int32).reshape(100, 3) % 5, answers["scan"]
    states = 1 + np.cumsum(tokens[:, :, None] * np.array([2.0, 3.0], np.float32), axis=0)
    np.testing.assert_array_equal(answer["squared"], states**2)
    np.testing.assert_array_equal(answer["state_0"], states[-1])


def test_an_error_has_the_message_of_the_runtime(directory):
    with pytest.raises(SessionError, match=r"number is too large.*\[7\]"):
        run_in_cpp_session(directory, [("tell", {"text": ["a"], "number": np.array([7], np.int64)})])
    with pytest.raises(SessionError, match="must feed a value for placeholder"):
        run_in_cpp_session(directory, [("tell", {})])
    with pytest.raises(SessionError, match="float64"):
        run_in_cpp_session(directory, [("tell", {"text": np.zeros(1)})])


def test_numbers_in_place_of_strings_are_refused():
    with pytest.raises(SessionError, match=r"must hold `str` or `bytes`\. Received: float, int"):
        c_api.new_tensor(None, np.array(["a", 3, 0.5], object))


def test_unknown_names_are_refused_with_the_known_ones(directory):
    with pytest.raises(ValueError, match=r"one of step, tell\..*'sing'"):
        run_in_cpp_session(directory, [("sing", {})])
    with pytest.raises(ValueError, match=r"\['number', 'text'\].*\['txt'\]"):
        run_in_cpp_session(directory, [("tell", {"txt": ["a"]})])


def test_a_directory_without_a_saved_model_is_refused(directory, tmp_path):
    with pytest.raises(SessionError, match=r"no saved_model\.pb"):
        run_in_cpp_session(tmp_path, [])
    (tmp_path / "saved_model.pb").write_bytes((directory / "saved_model.pb").read_bytes()[:-100])
    with pytest.raises(SessionError, match="damaged"):
        run_in_cpp_session(tmp_path, [])
    (tmp_path / "saved_model.pb").write_bytes((directory / "saved_model.pb").read_bytes())
    with pytest.raises(SessionError, match="variable"):
        run_in_cpp_session(
            tmp_path, [("step", {"token": np.zeros(1, np.int32), "state_0": np.zeros((1, 2), np.float32)})]
        )


def test_a_model_that_only_python_can_load_is_refused(tmp_path):
    # The reason for this module: a Keras model in a tf.Module loses its weights in every C++ session.
    module = tf.Module()
    module.dense = keras.layers.Dense(1)
    module.dense.build((None, 2))
    call = tf.function(lambda x: {"y": module.dense(x)}, input_signature=[tf.TensorSpec([None, 2], name="x")])
    tf.saved_model.save(module, tmp_path / "model", signatures={"call": call})
    x = np.ones((1, 2), np.float32)
    assert tf.saved_model.load(tmp_path / "model").signatures["call"](tf.constant(x))["y"].shape == (1, 1)
    with pytest.raises(SessionError, match="variable"):
        run_in_cpp_session(tmp_path / "model", [("call", {"x": x})])


def test_the_session_does_not_import_tensorflow(directory):
    code = (
        "import sys; from keras_seq_export.saved_model.cpp_session import CppSession; "
        f"session = CppSession({os.fspath(directory)!r}); "
        "print(session.run({}, ['tell_number:0'])[0].shape); "
        "assert not [name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'keras')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1,)")
