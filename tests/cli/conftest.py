"""A folder with a text, a run of it and its exports, for all tests of the program."""

import shutil

import pytest
from cli_files import BINARY, EMPTY, SHORT, TEXT


@pytest.fixture(scope="session")
def folder(tmp_path_factory, made_once, run_cli):
    """The folder in which the program is run. Its runs name the text of the folder that this one is a copy of."""
    made = made_once("cli", lambda folder: fill(folder, run_cli))
    return shutil.copytree(made, tmp_path_factory.mktemp("cli"), dirs_exist_ok=True)


def fill(folder, run_cli):
    """Makes the texts, the run and its exports, one of which learns, and damaged copies of them; returns the folder."""
    (folder / "fox.txt").write_text(TEXT)
    for arguments in (
        ("train", "--corpus=fox.txt", "--units=32", "--batch_size=4", "--length=16", "--epochs=2", "--run=fox"),
        ("export", "--run=fox"),
        ("export", "--run=fox", "--format=tflite", "--learn"),
    ):
        answer = run_cli(*arguments, cwd=folder)
        assert answer.returncode == 0, answer.stderr
    (folder / BINARY).write_bytes(b"\x89PNG\r\n\x00\xff")
    (folder / EMPTY).write_bytes(b"")
    (folder / SHORT).write_text("to be")
    (folder / "greek.txt").write_text("αβγ δεζ\n" * 100)
    (folder / "cut.tflite").write_bytes((folder / "fox" / "export" / "fox.tflite").read_bytes()[:-100])
    for name, file, content in (("no_vocabulary", "vocab.txt", "a\na\n"), ("no_config", "config.json", "{}")):
        shutil.copytree(folder / "fox", folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("export"))
        (folder / name / file).write_text(content)
    return folder
