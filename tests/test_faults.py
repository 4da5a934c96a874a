"""The fault matrix: each of train, encode, export and batch, ended or hindered before each of its writes.

After each fault, what is published is complete, and the same command finishes the work with the same result. Each write
is tried with one of the faults. With `--hypothesis-profile=long` it is tried with all of them, and the export writes a
SavedModel too.
"""

import io
import json
import re
import shutil
import zipfile

import faults
import h5py
import numpy as np
import pytest
from fuzzing import is_long

from keras_seq_export.tflite.bundle import read_bundle

pytestmark = pytest.mark.slow
TEXT = "the cats, which already ate the apple, were full.\nthe cat was not.\n" * 40
TRAIN = ("--cell=simple_rnn", "--units=8", "--embedding_dim=4", "--batch_size=4", "--length=16", "--epochs=2")
COMMANDS = {
    "train": ["train", *TRAIN, "--corpus=cats.txt", "--run=run"],
    "encode": ["encode", "--corpus=cats.txt", "--output=encoded"],
    "export": ["export", "--run=done", "--output=export", f"--format={'all' if is_long else 'tflite'}"],
    "batch": [
        "batch",
        "--model=done.tflite",
        "--input=prompts.txt",
        "--output=texts.jsonl",
        "--workers=1",
        "--max_tokens=5",
    ],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a text, prompts, a run and its .tflite."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "cats.txt").write_text(TEXT)
    (folder / "prompts.txt").write_text("the cat\nthe\nwas\n")
    for arguments in (
        ["train", *TRAIN, "--corpus=cats.txt", "--run=done"],
        ["export", "--run=done", "--format=tflite", "--output=."],
    ):
        ended = faults.run(folder, arguments)
        assert ended.code == 0, ended.output
    return folder


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    """`undisturbed(command)` returns the result of a run without a fault, and its writes."""
    results = {}

    def result(command):
        if command not in results:
            folder = shutil.copytree(inputs, tmp_path_factory.mktemp(command) / "whole")
            ended = faults.run(folder, COMMANDS[command])
            assert ended.code == 0, ended.output
            results[command] = RESULTS[command](folder), ended.writes
        return results[command]

    return result


def weights_of(archive):
    """Returns the weights in a `.keras` file, as bytes."""
    weights = []
    with zipfile.ZipFile(archive) as parts, h5py.File(io.BytesIO(parts.read("model.weights.h5"))) as file:
        file.visititems(lambda _, item: weights.append(item[()].tobytes()) if isinstance(item, h5py.Dataset) else None)
    return weights


def trained(folder):
    """The weights of the run, and its history to the last digit."""
    return weights_of(folder / "run" / "model.keras"), (folder / "run" / "history.csv").read_text()


def encoded(folder):
    """The files of the corpus; the manifest without the paths and times of its sources."""
    files = {path.name: path.read_bytes() for path in (folder / "encoded").iterdir()}
    manifest = json.loads(files.pop("encoded_corpus.json"))
    del manifest["settings"]["source"]
    return files | {"manifest": manifest}


def exported(folder):
    """The model in the .tflite, and the names of the files of the SavedModel."""
    version = folder / "export" / "done" / "1"
    names = is_long and sorted(str(path.relative_to(version)) for path in version.rglob("*"))
    return read_bundle(folder / "export" / "done.tflite").model, names


def batched(folder):
    return (folder / "texts.jsonl").read_text()


RESULTS = {"train": trained, "encode": encoded, "export": exported, "batch": batched}


def require_complete(command, folder, result):
    """Requires that every file that a reader would take for finished is that."""
    if (folder / "run" / "model.keras").exists():
        assert len(weights_of(folder / "run" / "model.keras")) == len(result[0])
    if (folder / "run" / "checkpoint.npz").exists():
        assert np.load(folder / "run" / "checkpoint.npz").files
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    for path in (folder / "encoded").glob("*.tfrecord"):
        assert path.read_bytes() == result[path.name]
    if (folder / "export" / "done.tflite").exists():
        assert read_bundle(folder / "export" / "done.tflite").model == result[0]
    if (folder / "export" / "done" / "1").exists():
        assert exported(folder)[1] == result[1]
    if (folder / "texts.jsonl").exists():
        whole = (folder / "texts.jsonl").read_text().rpartition("\n")[0]
        assert result.startswith(whole)


def what_remains(command, folder):
    """Returns the command that finishes what a fault has left; None if nothing is missing."""
    run, export = folder / "run", folder / "export"
    if command == "train" and (run / "config.json").exists():
        is_finished = (run / "model.keras").exists() and not (run / "checkpoint.npz").exists()
        return None if is_finished else ["train", "--run=run", "--resume"]
    if command == "export":
        is_missing = {
            "tflite": not (export / "done.tflite").exists(),
            "saved_model": not (export / "done" / "1").exists(),
        }
        formats = [name for name, missing in is_missing.items() if missing]
        return [*COMMANDS["export"], f"--format={formats[0] if len(formats) == 1 else 'all'}"] if formats else None
    return COMMANDS[command]


@pytest.mark.parametrize("fault", faults.FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_lost(command, fault, inputs, undisturbed, tmp_path):
    result, writes = undisturbed(command)
    first_of_each = [number for number, write in enumerate(writes) if write not in writes[:number]]
    chosen = first_of_each if is_long else first_of_each[faults.FAULTS.index(fault) :: len(faults.FAULTS)]
    for write in chosen:
        folder = shutil.copytree(inputs, tmp_path / str(write))
        ended = faults.run(folder, COMMANDS[command], fault, write)
        where = f"{command}, {fault} at {writes[write]}: code {ended.code}, {ended.seconds:.1f} s\n{ended.output}"
        print(where)
        assert "Traceback" not in ended.output, where
        if fault in faults.SIGNALS:
            assert ended.code == 128 + faults.SIGNALS[fault], where
            assert ended.seconds < 10, where
        elif ended.code:
            assert ended.code == 1, where
            assert re.search("keras-seq: .*(File too large|Permission denied)", ended.output), where
        if fault not in ("SIGKILL", faults.READ_ONLY):
            assert not list(folder.rglob(".partial-*")), where
        require_complete(command, folder, result)
        if remains := what_remains(command, folder):
            again = faults.run(folder, remains)
            assert again.code == 0, f"{where}\nafterwards: {again.output}"
        assert RESULTS[command](folder) == result, where
