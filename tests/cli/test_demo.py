"""The demo as a user runs it, whole."""

import re
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_demo_shows_what_the_plain_rnn_forgets(tmp_path, run_cli):
    command = [sys.executable, "-X", "utf8", "-m", "keras_seq.cli", "demo", "--run=shown", "--seed=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    by_distance, by_attractors = done.stdout.split("by attractors")
    accuracy = {name: float(re.search(rf"{name} .* ([\d.]+)%$", by_distance, re.M)[1]) for name in ("SimpleRNN", "GRU")}
    assert accuracy["GRU"] >= 95
    assert accuracy["SimpleRNN"] < accuracy["GRU"] - 10
    assert re.search(r"attractors +0 +1 +2 .*8\+\n +SimpleRNN( +\d+%){9}\n +GRU( +\d+%){9}", by_attractors)
    assert "Both write the same text." in done.stdout
    made = {path.name for path in (tmp_path / "shown").iterdir()}
    assert made >= {"simple_rnn", "gru", "agreement.png", "gates.png", "simple_rnn.tflite", "gru.tflite", "serving"}
    evaluated = run_cli("evaluate", "--run=shown/gru", cwd=tmp_path)
    assert float(re.search(r"gru .* ([\d.]+)%$", evaluated.stdout, re.M)[1]) >= 95
    assert not [path for path in (tmp_path / "shown").rglob("*") if "partial" in path.name]
