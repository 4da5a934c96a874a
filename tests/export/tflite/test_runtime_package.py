"""keras_seq_runtime, in an environment of its own: LiteRT and NumPy without TensorFlow and Keras."""

import subprocess
import sys
from pathlib import Path

import pytest

import keras_seq as ks
from keras_seq_export import export_tflite

PACKAGE = Path(__file__).parents[3] / "export" / "runtime"
PROGRAM = """
import importlib.util, sys
from keras_seq_export import LiteRTSampler
assert not [name for name in ("tensorflow", "keras", "absl", "matplotlib") if importlib.util.find_spec(name)]
print(LiteRTSampler(sys.argv[1]).sample("to ", max_tokens=50, seed=7), end="")
"""


@pytest.mark.slow
def test_the_package_for_devices_writes_the_text_of_keras(tmp_path):
    text = "to be, or not to be, that is the question"
    vocabulary = ks.Vocabulary.from_text(text)
    model = ks.language_model(len(vocabulary), units=[32])
    export_tflite(model, vocabulary, tmp_path / "hamlet.tflite")
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", PACKAGE], check=True)
    command = [python, "-X", "utf8", "-c", PROGRAM, tmp_path / "hamlet.tflite"]
    written = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert written.stdout == ks.sample(model, vocabulary, "to ", max_tokens=50, seed=7)
