"""`keras-seq inspect`."""

import json
import zipfile

from ai_edge_litert.interpreter import Interpreter

FILE = "fox/export/fox.tflite"


def test_the_contents_are_printed_as_text(folder, run_cli):
    answer = run_cli("inspect", FILE, cwd=folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    for words in ("signature decode", "signature prefill", "signature sample", "corpus               fox", "int32"):
        assert words in answer.stdout


def test_the_contents_are_printed_as_json(folder, run_cli):
    answer = run_cli("inspect", FILE, "--json", cwd=folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    found = json.loads(answer.stdout)
    assert list(found["signatures"]) == ["decode", "prefill", "sample", "write"]
    assert found["signatures"]["decode"]["inputs"] == {"token": ["int32", [1]], "state_0": ["float32", [1, 32]]}
    assert found["vocabulary"]["level"] == "char"
    assert found["bytes"]["file"] == (folder / FILE).stat().st_size


def test_the_parts_are_written_into_a_folder(folder, run_cli):
    answer = run_cli("inspect", FILE, "--extract=parts", cwd=folder)
    names = ["card.json", "config.json", "model.tflite", "vocab.txt"]
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.split() == [f"parts/{name}" for name in names]
    assert sorted(path.name for path in (folder / "parts").iterdir()) == names
    model = (folder / "parts/model.tflite").read_bytes()
    assert (folder / FILE).read_bytes().startswith(model)
    with zipfile.ZipFile(folder / FILE) as archive:
        for name in archive.namelist():
            assert archive.read(name) == (folder / "parts" / name).read_bytes()
    assert json.loads((folder / "parts/config.json").read_bytes())["model_bytes"] == len(model)
    assert "write" in Interpreter(model_path=str(folder / "parts/model.tflite")).get_signature_list()
    answer = run_cli("inspect", FILE, "--extract=parts", cwd=folder)
    assert answer.returncode == 1
    assert "parts" in answer.stderr


def test_the_file_is_required(folder, run_cli):
    answer = run_cli("inspect", cwd=folder)
    assert answer.returncode == 2
    assert "FILE.tflite" in answer.stderr
