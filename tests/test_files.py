"""Atomic writing: a target is either complete or absent, and an error leaves nothing behind."""

import os
import stat

import numpy as np
import pytest

from keras_seq.files import PARTIAL, publishing, read_regular, replacing
from keras_seq.training.run_directory import read_columns


def contents(folder):
    """Returns the text of each file under a folder, by its path; directories have None."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else None for path in folder.rglob("*")
    }


def permissions(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=["022", "027", "077"])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_file_appears_only_at_the_end(tmp_path):
    with publishing(tmp_path / "file") as (partial,):
        partial.write_text("half")
        assert not (tmp_path / "file").exists()
        assert partial.parent.parent == tmp_path
        assert partial.parent.name.startswith(PARTIAL)
        partial.write_text("whole")
    assert contents(tmp_path) == {"file": "whole"}


def test_several_targets_and_directories_are_published_together(tmp_path):
    with publishing(tmp_path / "model", tmp_path / "report.json") as (model, report):
        (model / "variables").mkdir(parents=True)
        (model / "variables" / "data").write_text("weights")
        report.write_text("{}")
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(PARTIAL)] == []
    expected = {"model": None, "model/variables": None, "model/variables/data": "weights", "report.json": "{}"}
    assert contents(tmp_path) == expected


def test_only_the_first_target_must_be_absent(tmp_path):
    (tmp_path / "report.json").write_text("of a deleted model")
    with publishing(tmp_path / "model", tmp_path / "report.json") as (model, report):
        model.write_text("new")
        report.write_text("of the new model")
    assert contents(tmp_path) == {"model": "new", "report.json": "of the new model"}


def test_an_existing_target_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(FileExistsError, match="file exists: choose another name, or remove it first"),
        publishing(tmp_path / "file"),
    ):
        pytest.fail("the block must not run")
    assert contents(tmp_path) == {"file": "mine"}


def test_a_target_that_appears_meanwhile_is_kept(tmp_path):
    def write_late():
        with publishing(tmp_path / "file") as (partial,):
            partial.write_text("late")
            (tmp_path / "file").write_text("first")

    with pytest.raises(FileExistsError, match="exists"):
        write_late()
    assert contents(tmp_path) == {"file": "first"}


def test_overwrite_replaces_the_target(tmp_path):
    (tmp_path / "file").write_text("old")
    with publishing(tmp_path / "file", overwrite=True) as (partial,):
        partial.write_text("new")
        assert (tmp_path / "file").read_text() == "old"
    assert contents(tmp_path) == {"file": "new"}
    with replacing(tmp_path / "file") as partial:
        partial.write_text("newer")
    assert contents(tmp_path) == {"file": "newer"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_nothing_is_left_and_existing_files_are_unchanged(error, tmp_path):
    def write_half(target, overwrite):
        with publishing(target, overwrite=overwrite) as (partial,):
            partial.write_text("half")
            raise error

    (tmp_path / "file").write_text("old")
    with pytest.raises(error):
        write_half(tmp_path / "file", overwrite=True)
    with pytest.raises(error):
        write_half(tmp_path / "new" / "folder" / "file", overwrite=False)
    assert contents(tmp_path) == {"file": "old"}


def test_a_target_that_was_not_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), publishing(tmp_path / "new" / "file"):
        pass
    assert contents(tmp_path) == {}


def test_a_new_folder_in_use_by_another_process_is_kept(tmp_path):
    def write_half():
        with publishing(tmp_path / "new" / "file") as (partial,):
            partial.write_text("half")
            (tmp_path / "new" / "other").write_text("of another process")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert contents(tmp_path) == {"new": None, "new/other": "of another process"}


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file"), publishing(tmp_path / "file" / "model"):
        pytest.fail("the block must not run")
    assert contents(tmp_path) == {"file": "not a folder"}


def test_permissions_are_those_of_a_plain_open(umask, tmp_path):
    with (tmp_path / "plain").open("w"):
        pass
    (tmp_path / "plain_folder").mkdir()
    with publishing(tmp_path / "new" / "file", tmp_path / "new" / "folder") as (file, folder):
        file.write_text("published")
        folder.mkdir()
    assert permissions(tmp_path / "new" / "file") == permissions(tmp_path / "plain") == 0o666 & ~umask
    for path in (tmp_path / "new", tmp_path / "new" / "folder"):
        assert permissions(path) == permissions(tmp_path / "plain_folder") == 0o777 & ~umask


def test_columns_of_numbers_are_read_by_name(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss\n1,2.5\n2,nan\n")
    columns = read_columns(tmp_path / "history.csv")
    assert list(columns) == ["epoch", "loss"]
    np.testing.assert_array_equal(columns["epoch"], [1.0, 2.0])
    np.testing.assert_array_equal(columns["loss"], [2.5, np.nan])


def test_a_regular_file_is_read_and_anything_else_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"to be")
    assert read_regular(tmp_path / "file") == read_regular(tmp_path / "file", most=5) == b"to be"
    with pytest.raises(OSError, match="It has more than 4 bytes"):
        read_regular(tmp_path / "file", most=4)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="It is a pipe or a device, not a file"):
            read_regular(path)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
