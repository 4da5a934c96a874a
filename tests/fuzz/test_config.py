"""Damaged configurations: each is refused with one sentence, or is a configuration.

The slow test damages one configuration in 170 ways and gives it to the program, which stops before its first step.
"""

import contextlib
import json
import time
from pathlib import Path

import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from peak_memory import peak_memory

import keras_seq as ks
from keras_seq.errors import KerasSeqError, RunError
from keras_seq.training import train as training_run
from keras_seq.training.config import TrainConfig, read_config
from keras_seq.training.run_directory import create_run, load_settings

CONFIG = TrainConfig(corpus="fox.txt", cell="simple_rnn", units=(4,), batch_size=4, length=8, epochs=3)
VALUES = CONFIG.to_dict()
KEYS = list(VALUES)
LONGEST_MESSAGE = 1_500  # characters: the path, the sentence and the beginning of the value
MOST_SECONDS, MOST_MEGABYTES = 10, 300
DEEP = "[" * 100_000 + "]" * 100_000

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([10**12, 10**400, -(10**400), 2**31, 5e-324, 1e308, float("inf"), float("nan"), -0.0]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(), st.sampled_from(["\0", "gru", "clipnorm", "x" * 10**5])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["kind", "threshold", "", "a"]), inner, max_size=2),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("damaged") / "run"
    create_run(directory, ks.Vocabulary.from_text("the quick brown fox"), CONFIG)
    return directory


def refused_or_read(directory, content):
    """Returns the message if the configuration of a run is refused."""
    (directory / "config.json").write_bytes(content)
    before = time.monotonic()
    try:
        load_settings(directory)
        message = None
    except RunError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < LONGEST_MESSAGE
        assert "config.json is damaged: " in message
    assert time.monotonic() - before < MOST_SECONDS
    return message


@fuzzed
@given(key=st.sampled_from(KEYS), value=values)
def test_a_value_of_any_type(run, key, value):
    message = refused_or_read(run, json.dumps({**VALUES, key: value}).encode())
    assert message is None or key in message or "clip" in message or "minutes" in message or "cell" in message, message


@fuzzed
@given(keys=st.sets(st.sampled_from(KEYS)), others=st.dictionaries(st.text(), values, max_size=2))
def test_missing_and_unknown_keys(run, keys, others):
    refused_or_read(run, json.dumps({key: VALUES[key] for key in VALUES if key not in keys} | others).encode())


@fuzzed
@given(start=st.integers(0, 700), removed=st.integers(0, 20), added=st.binary(max_size=8))
def test_bytes_removed_and_added(run, start, removed, added):
    whole = json.dumps(VALUES, indent=2).encode()
    refused_or_read(run, whole[:start] + added + whole[start + removed :])


@fuzzed
@given(content=st.one_of(st.binary(max_size=200), st.text(alphabet='[]{}=."\n#0x_ab1', max_size=60).map(str.encode)))
def test_any_file_of_either_format(tmp_path_factory, content):
    for name in ("any.toml", "any.json"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(content)
        with contextlib.suppress(KerasSeqError):
            TrainConfig.from_dict(read_config(path))


@pytest.mark.parametrize(
    "content",
    [
        "a = " + "[" * 10_000,
        "a." * 10_000 + "b = 1",
        "a." * 10**6,
        "seed = 0x" + "f" * 5_000,
        "units = [0x" + "f" * 5_000,
    ],
)
def test_toml_that_python_cannot_hold(tmp_path, content):
    (tmp_path / "deep.toml").write_text(content)
    with pytest.raises(KerasSeqError) as error:
        TrainConfig.from_dict(read_config(tmp_path / "deep.toml"))
    assert len(str(error.value)) < LONGEST_MESSAGE


def test_a_file_without_an_end_is_not_read():
    with pytest.raises(OSError, match="It is a pipe or a device"):
        read_config(Path("/dev/zero"))


def damaged_configurations():
    """Yields damaged contents of a configuration, each with its name and the keys that a message may name."""
    for key in KEYS:
        for value in ({"a": [1]}, "x" if key != "corpus" else 5, -1, 10**400):
            yield f"{key}={str(value)[:9]}", json.dumps({**VALUES, key: value}).encode()
        yield f"{key} deep", json.dumps({**VALUES, key: "@"}).replace('"@"', DEEP).encode()
    for name, changes in {
        "clipping without threshold": {"clipping": {"kind": "clipnorm"}},
        "clipping of a list": {"clipping": {"kind": ["clipnorm"], "threshold": 1}},
        "a threshold of text": {"clipping": {"kind": "clipnorm", "threshold": "1"}},
        "a million layers": {"units": [4] * 10**6},
        "a layer of terabytes": {"units": [10**6]},
        "an embedding of terabytes": {"embedding_dim": 2**31 - 1},
        "a path with a zero byte": {"corpus": "a\0b"},
        "unknown key": {"x" * 10**5: 1},
        "an optimizer of another kind": {"optimizer": "loss_scale_optimizer"},
    }.items():
        yield name, json.dumps({**VALUES, **changes}).encode()
    yield "not UTF-8", b"\xff" + json.dumps(VALUES).encode()
    for size in range(0, 600, 60):
        yield f"cut to {size} bytes", json.dumps(VALUES).encode()[:size]


@pytest.mark.slow
def test_damaged_configurations_end_in_a_sentence(tmp_path, monkeypatch, run_cli):
    contents = list(damaged_configurations())
    assert len(contents) > 5 * len(KEYS)  # Five for each key, and others.
    (tmp_path / "fox.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    cut = training_run.Progress.on_epoch_end

    def interrupt(self, epoch, logs=None):
        cut(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_run.Progress, "on_epoch_end", interrupt)
        (tmp_path / "given.json").write_text(json.dumps(VALUES))
        assert run_cli("train", "--config=given.json", "--run=run", cwd=tmp_path).returncode == 130

    class Accepted(KerasSeqError):
        pass

    def stop(training):
        raise Accepted("accepted")

    monkeypatch.setattr(training_run, "fit", stop)
    counts, slowest, largest = {"refused": 0, "accepted": 0}, (0.0, ""), (0.0, "")
    for number, (name, content) in enumerate(contents):
        (tmp_path / "run" / "config.json").write_bytes(content)
        for arguments in (
            ["train", "--run=run", "--resume"],
            ["sample", "--run=run", "--max_tokens=2"],
            ["evaluate", "--run=run"],
            ["train", "--config=run/config.json", f"--run=new{number}"],
        ):
            start = time.monotonic()
            with peak_memory() as megabytes:
                answer = run_cli(*arguments, cwd=tmp_path)  # raises what would be a traceback
            seconds, largest = time.monotonic() - start, max(largest, (megabytes(), name))
            message = answer.stderr.strip()
            assert answer.returncode in (0, 1), message
            assert "\n" not in message, message
            assert len(message) < LONGEST_MESSAGE
            is_accepted = answer.returncode == 0 or message.endswith("accepted")
            counts["accepted" if is_accepted else "refused"] += 1
            if not is_accepted:
                slowest = max(slowest, (seconds, name))
    print(f"{counts}, slowest {slowest}, largest {largest}")
    assert slowest[0] < MOST_SECONDS
    assert largest[0] < MOST_MEGABYTES
