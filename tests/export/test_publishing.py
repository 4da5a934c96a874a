"""Publishing an export: nothing is left after an error, and every refusal is an ExportError."""

import errno

import pytest
import tensorflow as tf
from full_disk import files_of_at_most
from hamlet import CATS

from keras_seq_export import ExportError, export_saved_model, export_tflite
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
            pytest.raises(
                ExportError, match=r"model cannot be written: \w.* \(.*file.*\)\. Check it, or choose another"
            ),
            publishing_export(target),
        ):
            pytest.fail("the block must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_of_the_operating_system_is_an_export_error(tmp_path):
    def write_to_a_full_disk():
        with publishing_export(tmp_path / "model"):
            raise OSError(errno.ENOSPC, "No space left on device", "weights")

    with pytest.raises(ExportError, match=r"model cannot be written: No space left on device \(weights\)\. Free some"):
        write_to_a_full_disk()
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_tensorflow_has_from_the_operating_system_is_an_export_error(tmp_path):
    def write(content, file=None):
        with publishing_export(tmp_path / "deep" / "model") as (partial,):
            tf.io.write_file(file or str(partial), content)

    advice = "Free some space there, then repeat the command"
    with pytest.raises(ExportError, match=f"deep/model cannot be written: No space left on device. {advice}$"):
        write("weights", "/dev/full")
    with (
        files_of_at_most(100),
        pytest.raises(ExportError, match=r"deep/model cannot be written: File too large\. Check"),
    ):
        write("weights" * 1_000)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_tensorflow_are_not_about_files(tmp_path):
    def compute():
        with publishing_export(tmp_path / "model"):
            tf.debugging.assert_equal(1, 2)

    with pytest.raises(tf.errors.InvalidArgumentError):
        compute()
    assert list(tmp_path.iterdir()) == []


# What cannot be written: the vocabulary, the variables, the graph; temporary files.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("export", "size"),
    [(export_saved_model, 0), (export_saved_model, 100), (export_saved_model, 100_000), (export_tflite, 100)],
)
def test_an_export_onto_a_disk_that_is_full_leaves_nothing(export, size, tmp_path, tiny_model):
    model = tiny_model(CATS)
    expected = r"^\S+ cannot be written: File too large"
    with files_of_at_most(size), pytest.raises(ExportError, match=expected):
        export(model, CATS, tmp_path / "model" / "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("export", [export_saved_model, export_tflite])
def test_an_export_to_a_folder_that_cannot_be_made_is_one_sentence(export, tiny_model):
    with pytest.raises(ExportError, match=r"^/sys/model/1 cannot be written: .*\. Check it, or choose another place$"):
        export(tiny_model(CATS), CATS, "/sys/model/1")
