import json

import numpy as np
import pytest

import keras_seq as ks
from keras_seq.errors import RunError
from keras_seq.training.config import TrainConfig
from keras_seq.training.run_directory import create_run, load_run

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
    refused(tmp_path / "absent", "is not a run directory")


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
