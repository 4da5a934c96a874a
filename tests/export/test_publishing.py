"""Publishing an export: nothing is left after an error, and every refusal is an ExportError."""

import errno

import pytest

from keras_seq_export import ExportError
from keras_seq_export.publishing import publishing_export


def test_publishing_leaves_nothing_after_an_error(tmp_path):
    def write_half():
        with publishing_export(tmp_path / "deep" / "down" / "file") as (partial,):
            partial.write_text("half")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_appears_meanwhile_is_kept(tmp_path):
    def write_late():
        with publishing_export(tmp_path / "file") as (partial,):
            partial.write_text("late")
            (tmp_path / "file").write_text("first")

    with pytest.raises(ExportError, match="file exists: choose another name, or remove it first"):
        write_late()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "first")]


def test_a_folder_that_cannot_be_written_is_an_export_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for target in (tmp_path / "file" / "model", tmp_path / "file" / "deep" / "model"):
        with (
            pytest.raises(ExportError, match=r"model cannot be written: \w.* \(.*file.*\)$"),
            publishing_export(target),
        ):
            pytest.fail("the block must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_of_the_operating_system_is_an_export_error(tmp_path):
    def write_to_a_full_disk():
        with publishing_export(tmp_path / "model"):
            raise OSError(errno.ENOSPC, "No space left on device", "weights")

    with pytest.raises(ExportError, match=r"model cannot be written: No space left on device \(weights\)"):
        write_to_a_full_disk()
    assert list(tmp_path.iterdir()) == []
