"""Run directories: made, locked, loaded, refused and removed."""

import contextlib
import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from peak_memory import peak_memory

import keras_seq as ks
from keras_seq.errors import InUseError, RunError
from keras_seq.models.language_model import CELLS
from keras_seq.training.config import TrainConfig
from keras_seq.training.run_directory import (
    MODEL,
    create_run,
    exclusive_run,
    load_run,
    load_settings,
    read_columns,
    refuse_existing,
    remove_epochs,
    remove_run,
)

VOCABULARY = ks.Vocabulary.from_text("to be or not to be")
CONFIG = TrainConfig(corpus="Götter ✓", units=(4,))


@pytest.fixture
def run(tmp_path):
    """A whole run directory."""
    directory = tmp_path / "runs" / "first"
    create_run(directory, VOCABULARY, CONFIG)
    ks.language_model(len(VOCABULARY), units=[4], embedding_dim=3).save(directory / "model.keras")
    return directory


def refused(directory, *parts):
    with pytest.raises(RunError) as error:
        load_run(directory)
    message = str(error.value)
    assert all(part in message for part in (str(directory), *parts)), message
    assert "\n" not in message


def test_what_was_created_is_loaded(run):
    loaded = load_run(run)
    assert loaded.directory == run
    assert loaded.vocabulary == VOCABULARY
    assert loaded.config == CONFIG
    assert loaded.model(np.zeros((1, 3), "int32")).shape == (1, 3, len(VOCABULARY))
    assert sorted(file.name for file in run.iterdir()) == ["config.json", "model.keras", "vocab.txt"]


@pytest.mark.slow
def test_a_new_process_loads_runs_of_every_cell(tmp_path):
    """A process that has not used a layer yet must find it by its name in the file."""
    vocabulary = ks.Vocabulary.from_text("to be")
    for cell in CELLS:
        create_run(tmp_path / cell, vocabulary, TrainConfig(corpus="x", by_line=False, cell=cell, epochs=1))
        ks.language_model(len(vocabulary), cell, units=[2], embedding_dim=2).save(tmp_path / cell / MODEL)
    code = "import sys, keras_seq as ks; print([ks.load_run(cell).model.layers[2].name for cell in sys.argv[1:]])"
    done = subprocess.run([sys.executable, "-c", code, *CELLS], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == str([f"{cell}_0" for cell in CELLS]), done.stderr[-2000:]


def test_config_is_readable_text(run):
    assert "Götter ✓" in (run / "config.json").read_text(encoding="utf-8")


def test_an_empty_directory_is_used(tmp_path):
    create_run(tmp_path, VOCABULARY, CONFIG)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) == CONFIG.to_dict()


def test_a_run_is_not_written_over(run):
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    with pytest.raises(RunError, match="exists and is not empty"):
        create_run(run, VOCABULARY, CONFIG)
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(RunError, match="taken exists"):
        create_run(tmp_path / "taken", VOCABULARY, CONFIG)
    with pytest.raises(RunError, match="cannot be written: Not a directory"):
        create_run(tmp_path / "taken" / "inside", VOCABULARY, CONFIG)
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("name", ["model.keras", "vocab.txt", "config.json"])
def test_a_missing_file_is_named(run, name):
    (run / name).unlink()
    refused(run, f"it has no {name};")


def test_a_run_without_a_finished_epoch_can_be_resumed(run):
    (run / "model.keras").unlink()
    (run / "checkpoint.npz").write_bytes(b"begun")
    refused(run, "its first epoch was interrupted; resume it with keras-seq train")


def test_a_directory_that_is_not_a_run(tmp_path):
    refused(tmp_path, "it has no model.keras, vocab.txt, config.json;")
    refused(tmp_path / "absent", "absent does not exist; check the path")


@pytest.mark.parametrize(
    "content", [b"{", b"", b"\xff\xfe", b"[1]", b"3", b"{}", b'{"corpus": "a", "by_line": false, "epoch": 3}']
)
def test_a_damaged_configuration(run, content):
    (run / "config.json").write_bytes(content)
    refused(run, "config.json is damaged")


@pytest.mark.parametrize("content", [b"", b"<pad>\n<s>\n<eos>\na\na\n", b"\xff\n", b"<pad>\n<s>\n<eos>\na"])
def test_a_damaged_vocabulary(run, content):
    (run / "vocab.txt").write_bytes(content)
    refused(run, "vocab.txt")


def cut_short(data):
    return data[: len(data) // 2]


def one_stretch_overwritten(data):
    middle = len(data) // 3
    return data[:middle] + b"\xaa" * 400 + data[middle + 400 :]


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"no model", cut_short, one_stretch_overwritten])
def test_a_damaged_model(run, damage):
    path = run / "model.keras"
    path.write_bytes(damage(path.read_bytes()))
    refused(run, "model.keras is damaged")


def test_a_model_of_another_run(run):
    ks.language_model(len(VOCABULARY) + 2, units=[4], embedding_dim=3).save(run / "model.keras")
    size = len(VOCABULARY)
    refused(run, f"the model has {size + 2} logits but vocab.txt has {size} tokens")


def test_one_process_trains_a_run(tmp_path):
    with exclusive_run(tmp_path / "run"):
        create_run(tmp_path / "run", VOCABULARY, CONFIG)
        for refusing in (exclusive_run(tmp_path / "run"), contextlib.nullcontext()):
            with pytest.raises(InUseError, match="run is in use: another process trains this run"), refusing:
                refuse_existing(tmp_path / "run")
    with exclusive_run(tmp_path / "run"):
        pass
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "vocab.txt"}


def test_a_directory_that_stays_empty_is_removed(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive_run(tmp_path / "runs" / "run"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [[".partial-0123"], ["vocab.txt", ".partial-0123"]])
def test_a_run_that_was_interrupted_while_it_was_created_counts_as_new(tmp_path, left):
    for name in left:
        path = tmp_path / name
        path.mkdir() if name.startswith(".") else path.write_text("<pad>\n")
    refuse_existing(tmp_path)
    create_run(tmp_path, VOCABULARY, CONFIG)
    assert load_settings(tmp_path) == (VOCABULARY, CONFIG)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "vocab.txt"}


@pytest.mark.parametrize("names", [["vocab.txt"], ["config.json"], ["config.json", "model.bin"]])
def test_files_of_the_user_are_neither_replaced_nor_called_a_run(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("mine")
    for use in (refuse_existing, lambda directory: create_run(directory, VOCABULARY, CONFIG)):
        with pytest.raises(RunError, match=r"exists and is not empty: choose another --run"):
            use(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(names, "mine")


CREATING = """
import os, sys
from keras_seq import Vocabulary
from keras_seq.training.config import TrainConfig
from keras_seq.training.run_directory import *
from pathlib import Path
number, kind = 0, None
def hook(event, arguments):
    global number
    if kind is not None and (event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir") or
                             event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        if number == stop:
            if kind == "killed":
                os._exit(9)
            number += 1
            raise KeyboardInterrupt
        number += 1
sys.addaudithook(hook)
for stop in range(99):
    for way in ("killed", "interrupted"):
        run = Path(f"{way}{stop}")
        if not os.fork():
            number, kind = 0, way
            try:
                create_run(run, Vocabulary.from_text("to be"), TrainConfig())
            except KeyboardInterrupt:
                os._exit(2)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.wait()[1])
        names = sorted(path.name.partition("-")[0] for path in run.iterdir()) if run.exists() else []
        if "config.json" not in names:
            create_run(run, Vocabulary.from_text("to be"), TrainConfig())
        load_settings(run)
        print(way, stop, code, names)
    if code == 0:
        break
"""


def test_a_run_that_was_ended_at_any_moment_of_its_creation_is_created_again(tmp_path):
    done = subprocess.run([sys.executable, "-c", CREATING], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'.partial', 'vocab.txt'" in done.stdout, done.stdout  # It was killed at the moment that matters.
    assert done.stdout.splitlines()[-1].split(maxsplit=2)[2] == "0 ['config.json', 'vocab.txt']", done.stdout


def test_an_unfinished_run_can_be_resumed_instead(run):
    (run / "model.keras").unlink()
    with pytest.raises(RunError, match=r"resume it with keras-seq train --run=\S+ --resume, choose another --run, or"):
        refuse_existing(run)


def fill(directory):
    """Makes every file that a run has, those of a worker and of TensorBoard included, and a file of the user."""
    create_run(directory, VOCABULARY, CONFIG)
    for folder in (directory, directory / "worker-1"):
        (folder / "tensorboard" / "train").mkdir(parents=True)
        (folder / "tensorboard" / "train" / "events.out.tfevents.1.host").touch()
        (folder / ".partial-01").mkdir()
        for name in ("history.csv", "history.png", "model.keras", "checkpoint.npz", "steps.csv"):
            (folder / name).write_text(f"{folder.name} {name}")


@pytest.mark.parametrize("has_notes", [False, True])
def test_only_the_files_of_a_diverged_run_are_removed(tmp_path, has_notes):
    run = tmp_path / "run"
    fill(run)
    if has_notes:
        (run / "notes.txt").write_text("mine")
    sentence = remove_run(run)
    assert (tmp_path / "run.diverged.csv").read_text() == "run steps.csv"
    assert sentence.endswith(f"; {tmp_path / 'run.diverged.csv'} has the norms of its steps")
    left = [path.name for path in run.iterdir()] if run.exists() else None
    assert left == (["notes.txt"] if has_notes else None)
    assert sentence.startswith("The files of the run are removed from" if has_notes else "The run is removed")


# Only root can mount.
@pytest.mark.parametrize("kind", ["link", "dot", *(["mount"] if os.geteuid() == 0 else [])])
def test_a_diverged_run_is_removed_from_any_kind_of_directory(tmp_path, monkeypatch, kind):
    run = tmp_path / "run"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        run.symlink_to("elsewhere")
    else:
        run.mkdir()
    with contextlib.ExitStack() as undo:
        if kind == "mount":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", run], check=True)
            undo.callback(subprocess.run, ["umount", run], check=True)
        if kind == "dot":
            monkeypatch.chdir(run)
            run = Path(".")
        fill(run)
        sentence = remove_run(run)
        assert list(run.iterdir()) == []
    assert "run.diverged.csv has the norms of its steps" in sentence
    assert (tmp_path / "run.diverged.csv").read_text().endswith("steps.csv")


def test_a_diverged_run_is_removed_where_its_norms_cannot_be_kept(tmp_path):
    fill(tmp_path / "run")
    norms = tmp_path / "run.diverged.csv"
    norms.mkdir()
    (norms / "in_the_way").touch()
    sentence = remove_run(tmp_path / "run")
    lost = f"; the norms of its steps are lost, because {norms} cannot be written: Is a directory"
    assert sentence.startswith(f"The run is removed{lost}"), sentence
    assert list(tmp_path.iterdir()) == [norms]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_diverged_run_is_removed_from_a_mount_point_in_a_read_only_folder(tmp_path):
    fixed, run = tmp_path / "fixed", tmp_path / "fixed" / "run"
    run.mkdir(parents=True)
    with contextlib.ExitStack() as undo:
        for folder, options in ((fixed, ["--bind", fixed]), (run, ["-t", "tmpfs", "-o", "size=1m", "tmpfs"])):
            subprocess.run(["mount", *options, folder], check=True)
            undo.callback(subprocess.run, ["umount", folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", fixed], check=True)
        fill(run)
        sentence = remove_run(run)
        assert list(run.iterdir()) == []
    assert sentence.startswith(f"The files of the run are removed from {run}; the norms of its steps are lost")
    assert f"{run}.diverged.csv cannot be written: Read-only file system" in sentence


def test_a_diverged_run_without_norms_claims_none(tmp_path):
    fill(tmp_path / "run")
    (tmp_path / "run" / "steps.csv").unlink()
    assert remove_run(tmp_path / "run") == "The run is removed"
    assert list(tmp_path.iterdir()) == []


TABLE = "epoch,nats\n0,1.5\n1,1.25\n2,1\n"


@pytest.fixture(params=[131_072, 2**24])
def long_fields(request):
    """The limit of fields that Python has, and the one that this process has after a table of texts was read."""
    before = csv.field_size_limit(request.param)
    yield
    csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 1),
        (b"nats\n1\n", 1),
        (b"epoch,epoch\n1,1\n", 1),
        (b"epoch,nats\n0,1\nx,1\n2,1\n", 3),
        (b"epoch,nats\n0\n1,1\n", 2),
        (b"epoch,nats\n0,1,2\n1,1\n", 2),
        (b"epoch,nats\n0,\n1,1\n", 2),
        (b"epoch,nats\n\n1,1\n", 2),
        (b"epoch,nats\n0,\xff\n1,1\n", None),
        (b"epoch,nats\n0," + b"1" * 200_000 + b"\n1,1\n", 2),
        (b"\0\0\0", 1),
    ],
)
def test_a_damaged_table_is_refused_by_its_line(tmp_path, long_fields, content, line):
    table = tmp_path / "history.csv"
    table.write_bytes(content)
    where = "in line" if line is None else f"in line {line}: "
    for read in (read_columns, lambda table: remove_epochs(table, 1)):
        if not content and read is not read_columns:
            continue
        with pytest.raises(RunError, match=f"history.csv is damaged {where}"):
            read(table)
    assert table.read_bytes() == content


@pytest.mark.parametrize("cut", ["", "3", "3,", "3,0.9", "3,0.9,7"])
def test_later_epochs_and_the_row_that_was_being_written_are_removed_from_a_table(tmp_path, cut):
    table = tmp_path / "history.csv"
    table.write_text(TABLE + cut)
    remove_epochs(table, 2)
    assert table.read_text().split() == TABLE.split()[:3]
    np.testing.assert_array_equal(read_columns(table)["nats"], [1.5, 1.25])


def rewritten(path, compression, changes):
    """Writes a .keras file again, with some parts changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**parts, **changes}.items():
            archive.writestr(name, content)


def test_a_model_that_would_inflate_is_not_read(run):
    rewritten(run / "model.keras", zipfile.ZIP_DEFLATED, {"config.json": b" " * 2**28})
    assert (run / "model.keras").stat().st_size < 2**20
    with peak_memory() as megabytes:
        refused(run, "model.keras is damaged: its parts must be stored without compression")
    assert megabytes() < 10


def test_a_model_whose_configuration_is_nested_deeply(run):
    rewritten(run / "model.keras", zipfile.ZIP_STORED, {"config.json": "[" * 100_000})
    refused(run, "model.keras is damaged: it is nested too deeply")


def test_code_in_a_model_is_not_run(run):
    model = ks.language_model(len(VOCABULARY), units=[4], embedding_dim=3)
    outputs = keras.layers.Lambda(lambda logits: logits)(model.output)
    keras.Model(model.input, outputs).save(run / "model.keras")
    refused(run, "model.keras is damaged", "Lambda")
