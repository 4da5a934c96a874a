"""`keras-seq inspect`."""

import json

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
    assert list(found["signatures"]) == ["decode", "prefill", "sample"]
    assert found["signatures"]["decode"]["inputs"] == {"token": ["int32", [1]], "state_0": ["float32", [1, 32]]}
    assert found["vocabulary"]["level"] == "char"
    assert found["bytes"]["file"] == (folder / FILE).stat().st_size


def test_the_file_is_required(folder, run_cli):
    answer = run_cli("inspect", cwd=folder)
    assert answer.returncode == 2
    assert "FILE.tflite" in answer.stderr
