"""Damaged checkpoints: each is refused with one sentence, or restores the run."""

import io
import json
import time
import zipfile

import numpy as np
import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from peak_memory import peak_memory
from small_training import small_config, small_model

from keras_seq.errors import TrainingError
from keras_seq.training.callbacks import CosineSchedule
from keras_seq.training.checkpoint import Checkpoint
from keras_seq.training.compile import compile_model

MOST_SECONDS, MOST_MEGABYTES = 10, 300


class Run:
    """A small model, its checkpoint and the content of the file."""

    def __init__(self, folder):
        self.path = folder / "checkpoint.npz"
        model = small_model()
        compile_model(model, small_config())
        model.optimizer.build(model.trainable_variables)
        schedule = CosineSchedule(epochs=3)
        schedule.set_model(model)
        schedule.set_params({"steps": 4})
        schedule.on_train_begin()
        self.point = Checkpoint(self.path, {"schedule": schedule}, {"vocabulary": "a"})
        self.point.set_model(model)
        self.point.save()
        self.content = self.path.read_bytes()
        with np.load(self.path) as file:
            self.arrays = dict(file)
        self.about = json.loads(str(self.arrays["about"]))

    def resume_from(self, content):
        """Restores the run from a file; returns the message if it is refused."""
        self.path.write_bytes(content)
        before = time.monotonic()
        try:
            self.point.load()
            self.point.restore()
            message = None
        except TrainingError as error:
            message = str(error)
            assert str(self.path) in message
            assert "\n" not in message
            assert len(message) < 600
        assert time.monotonic() - before < MOST_SECONDS
        return message


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("damaged"))


def npz(arrays, compressed=False):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from([10**400, 2**64])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["schedule", "scale", "a"]), inner),
    max_leaves=4,
)


def test_the_whole_file_is_restored(run):
    assert run.resume_from(run.content) is None
    assert run.resume_from(npz(run.arrays)) is None


@fuzzed
@given(start=st.floats(0, 1), removed=st.integers(0, 40), added=st.binary(max_size=40))
def test_bytes_removed_and_added(run, start, removed, added):
    first = int(start * len(run.content))
    run.resume_from(run.content[:first] + added + run.content[first + removed :])


@fuzzed
@given(key=st.sampled_from(["epoch", "state", "belongs_to", "optimizer", "other"]), value=values)
def test_metadata_of_any_type(run, key, value):
    message = run.resume_from(npz({**run.arrays, "about": np.array(json.dumps({**run.about, key: value}))}))
    assert message or key in ("epoch", "other") or value == run.about[key]


@fuzzed
@given(name=st.sampled_from(["schedule", "scale", "seconds"]), value=values)
def test_states_of_any_type(run, name, value):
    state = value if name == "schedule" else {**run.about["state"]["schedule"], name: value}
    about = {**run.about, "state": {"schedule": state}}
    message = run.resume_from(npz({**run.arrays, "about": np.array(json.dumps(about))}))
    assert message or all(isinstance(one, int | float) for one in state.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"0": None},
        {"0": np.zeros(3, "float32")},
        {"0": np.zeros((8, 4), "float64")},
        {"0": np.array([{}], dtype=object)},
        {"0": np.array("text")},
        {"about": None},
        {"about": np.zeros(3)},
        {"about": np.array("[" * 100_000)},
        {"about": np.array("[]")},
        {"about": np.array("{}")},
        {"another": np.zeros(3)},
    ],
)
def test_arrays_of_another_kind(run, changes):
    arrays = {name: value for name, value in {**run.arrays, **changes}.items() if value is not None}
    assert run.resume_from(npz(arrays))


def test_arrays_that_would_inflate_are_not_read(run):
    content = npz({**run.arrays, "0": np.zeros(2**24, "float32")}, compressed=True)
    assert len(content) < 2**20
    with peak_memory() as megabytes:
        assert "stored without compression" in run.resume_from(content)
    assert megabytes() < 10


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(20000000000,)", "(-1,)", "(" * 900 + ")" * 900])
def test_a_header_that_promises_more_than_the_file_has(run, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, zipfile.ZipFile(io.BytesIO(run.content)) as old:
        for name in old.namelist():
            archive.writestr(name, array if name == "0.npy" else old.read(name))
    with peak_memory() as megabytes:
        assert "is damaged" in run.resume_from(file.getvalue())
    assert megabytes() < MOST_MEGABYTES


@pytest.mark.parametrize("content", [b"\x80\x04N.", b"\x93NUMPY\x01\x00", b"", b"PK\x05\x06" + 18 * b"\0"])
def test_files_of_another_kind(run, content):
    assert run.resume_from(content)
