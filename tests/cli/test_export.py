"""`keras-seq export`."""

import json
import shutil


def test_an_export_is_measured_on_the_held_out_text_and_inspected(folder, run_cli):
    options = ("--format=tflite", "--quantization=float16", "--state=internal", "--batch=2", "--license=CC0-1.0")
    answer = run_cli("export", "--run=fox", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "tokens of held-out text" in answer.stdout
    file = "fox/export/fox.float16.internal.batch2.tflite"
    answer = run_cli("inspect", file, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    for words in (
        "signature reset",
        "license              CC0-1.0",
        "corpus               fox",
        "held_out_from        fox",
        "nats_per_token",
    ):
        assert words in answer.stdout
    found = json.loads(run_cli("inspect", file, "--json", cwd=folder).stdout)
    assert found["signatures"]["decode"]["inputs"] == {"token": ["int32", [2]]}
    texts = [
        run_cli("sample", source, "--prompt=the ", "--max_tokens=30", "--seed=7", cwd=folder).stdout
        for source in ("--run=fox", f"--model={file}")
    ]
    assert texts[0] == texts[1]


def test_an_export_without_its_corpus_is_measured_on_text_of_the_model(folder, tmp_path, run_cli):
    shutil.copytree(folder / "fox", tmp_path / "fox", ignore=shutil.ignore_patterns("export"))
    config = tmp_path / "fox" / "config.json"
    config.write_text(config.read_text().replace("fox.txt", "gone.txt"))
    answer = run_cli("export", "--run=fox", "--format=tflite", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "measured on text that the model writes, because" in answer.stderr
    assert "gone.txt" in answer.stderr
    assert "tokens of text that the model wrote" in answer.stdout
