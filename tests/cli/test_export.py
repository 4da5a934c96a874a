"""`keras-seq export`."""

import json
import shutil

import pytest
from full_disk import files_of_at_most

from keras_seq_export import LiteRTSampler


def test_an_export_is_measured_on_the_held_out_text_and_inspected(folder, run_cli):
    options = ("--format=tflite", "--quantization=float16", "--state=internal", "--batch=2", "--license=CC0-1.0")
    answer = run_cli("export", "--run=fox", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "tokens in excerpts from the held-out text" in answer.stdout
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


def test_an_export_in_integers(folder, tmp_path, run_cli):
    options = ("--format=tflite", "--quantization=integer", f"--output={tmp_path}")
    answer = run_cli("export", "--run=fox", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "equal bit for bit over 556 steps in LiteRT with XNNPACK, LiteRT without XNNPACK" in answer.stdout
    shown = run_cli("inspect", str(tmp_path / "fox.integer.tflite"), cwd=folder).stdout
    assert "signature decode" in shown
    assert "signature prefill" not in shown


def test_a_header_for_c(folder, tmp_path, run_cli):
    answer = run_cli("export", "--run=fox", "--format=c", "--max_loss=0.1", f"--output={tmp_path}", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "equal bit for bit to LiteRT over 400 steps; in C, the model is called fox" in answer.stdout
    assert "static const ks_micro_model fox = {" in (tmp_path / "fox.h").read_text()
    again = run_cli("export", "--run=fox", "--format=c", f"--output={tmp_path}", cwd=folder)
    assert again.returncode != 0
    assert "fox.h exists" in again.stderr


@pytest.mark.parametrize("option", ["--quantization=int8", "--state=internal", "--batch=2", "--gates", "--learn"])
def test_a_header_for_c_is_in_integers(option, folder, run_cli):
    answer = run_cli("export", "--run=fox", "--format=c", option, cwd=folder)
    assert answer.returncode != 0
    assert f"{option.partition('=')[0]} must be left out with --format=c" in answer.stderr


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--quantization=integer", "what is learned are float32 numbers"),
        ("--state=internal", "what is learned is internal, the states are not"),
        ("--batch=2", "the model learns from one text"),
    ],
)
def test_what_a_file_that_learns_cannot_have(option, reason, folder, tmp_path, run_cli):
    options = ("--format=tflite", "--learn", option, f"--output={tmp_path}")
    answer = run_cli("export", "--run=fox", *options, cwd=folder)
    assert (answer.returncode, list(tmp_path.iterdir())) == (1, [])
    assert answer.stderr.startswith(f"keras-seq: {option.partition('=')[0]} must ")
    assert answer.stderr.endswith(f" with --learn: {reason}\n")


def test_the_gates_and_the_temperature_are_options_of_the_tflite(folder, tmp_path, run_cli):
    options = ("--format=tflite", "--gates", "--temperature=0.25", f"--output={tmp_path}")
    answer = run_cli("export", "--run=fox", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    shown = run_cli("inspect", str(tmp_path / "fox.gates.tflite"), cwd=folder).stdout
    assert "signature gates" in shown
    assert "<- update_gate_0" in shown
    sampler = LiteRTSampler(tmp_path / "fox.gates.tflite")
    texts = [
        sampler.sample("the ", max_tokens=60, seed=3, **given)
        for given in ({}, {"temperature": 0.25}, {"temperature": 1})
    ]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    "option",
    [
        "--license=CC0-1.0",
        "--quantization=none",
        "--state=explicit",
        "--batch=1",
        "--temperature=0",
        "--gates",
        "--learn",
        "--max_loss=0",
        "--corpus=fox.txt",
    ],
)
def test_options_of_the_tflite_are_refused_without_one(option, folder, tmp_path, run_cli):
    answer = run_cli("export", "--run=fox", "--format=saved_model", option, f"--output={tmp_path}", cwd=folder)
    assert (answer.returncode, answer.stdout, list(tmp_path.iterdir())) == (1, "", [])
    assert answer.stderr == (
        f"keras-seq: {option.partition('=')[0]} is about the .tflite, which --format=saved_model does not write: leave it "
        "out, or choose --format=tflite\n"
    )


@pytest.mark.parametrize("name", ["mine.tflite", "mine.h"])
def test_the_output_is_a_directory(name, folder, tmp_path, run_cli):
    answer = run_cli("export", "--run=fox", f"--output={tmp_path / name}", cwd=folder)
    assert (answer.returncode, list(tmp_path.iterdir())) == (1, [])
    expected = "keras-seq: --output must be a directory, in which the file gets the name of the run. Received: "
    assert answer.stderr == f"{expected}{tmp_path / name}\n"


def test_a_folder_that_cannot_be_written_is_one_sentence(folder, run_cli):
    answer = run_cli("export", "--run=fox", "--format=saved_model", "--output=/sys/exports", cwd=folder)
    assert answer.returncode == 1
    expected = "keras-seq: /sys/exports/fox/1 cannot be written: Operation not permitted (/sys/exports). Check it, or"
    assert answer.stderr.strip().splitlines()[-1].startswith(expected)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "size"), [("tflite", 1_000), ("saved_model", 1_000), ("saved_model", 100_000)])
def test_a_full_disk_is_one_sentence_and_nothing_is_left(kind, size, folder, tmp_path, run_cli):
    with files_of_at_most(size):
        answer = run_cli("export", "--run=fox", f"--format={kind}", f"--output={tmp_path / 'out'}", cwd=folder)
    assert answer.returncode == 1
    assert "cannot be written: File too large" in answer.stderr.strip().splitlines()[-1]
    assert "Traceback" not in answer.stderr
    assert list(tmp_path.iterdir()) == []
