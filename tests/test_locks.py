"""Locks between processes."""

import subprocess
import sys

import pytest

from keras_seq.errors import InUseError
from keras_seq.locks import exclusive

HOLD = """
import sys, pathlib
from keras_seq.locks import exclusive
with exclusive(pathlib.Path(sys.argv[1]), "trains this run"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_lock_of_another_process_is_refused_until_it_is_killed(tmp_path, kind):
    path = tmp_path / "path"
    path.mkdir() if kind == "directory" else path.touch()
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(InUseError, match=f"{path} is in use: another process trains this run"),
            exclusive(path, "trains this run"),
        ):
            pass
        other.kill()
    with exclusive(path, "trains this run"):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path, "writes"):
        raise ZeroDivisionError
    with exclusive(tmp_path, "writes"):
        pass


def test_a_path_that_does_not_exist_cannot_be_locked(tmp_path):
    with pytest.raises(FileNotFoundError), exclusive(tmp_path / "none", "writes"):
        pass
