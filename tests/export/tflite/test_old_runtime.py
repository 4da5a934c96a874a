"""The runtime of older phones, tflite-runtime 2.14, in an environment of its own: it needs a NumPy below 2.

pip fetches it; where it cannot, these tests are skipped.
"""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export import LiteRTSampler, export_tflite

TEXT = "to be, or not to be: that is the question\n"
VOCABULARY = ks.Vocabulary.from_text(TEXT)
PROGRAM = """
import json, sys
import numpy as np
from tflite_runtime.interpreter import Interpreter

path, tokens = sys.argv[1], json.loads(sys.argv[2])
interpreter = Interpreter(path)
decode, prefill, sample = map(interpreter.get_signature_runner, ("decode", "prefill", "sample"))
state = zeros = np.zeros((1, 64), np.float32)
logits = []
for token in tokens:
    answer = decode(token=np.array([token], np.int32), state_0=state)
    state = answer["state_0"]
    logits.append(answer["logits"][0].tolist())
padded = np.zeros((1, 64), np.int32)
padded[0, : len(tokens)] = tokens
at_once = prefill(tokens=padded, length=np.array([len(tokens)], np.int32), state_0=zeros)
assert np.array_equal(at_once["logits"], answer["logits"]) and np.array_equal(at_once["state_0"], state)
drawn = [
    int(sample(token=np.array(tokens[-1:], np.int32), uniform=np.array([number], np.float32),
               temperature=np.array([0.8], np.float32), top_k=np.array([9], np.int32), top_p=np.array([0.9], np.float32),
               min_p=np.array([0.01], np.float32), state_0=state)["next_token"][0])
    for number in np.linspace(0, 0.999, 50)
]
print(json.dumps({"logits": logits, "drawn": drawn}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "tflite-runtime==2.14.0",
        "numpy<2",
    ]
    answer = subprocess.run(install, capture_output=True, text=True)
    if answer.returncode:
        pytest.skip(f"needs tflite-runtime 2.14 from PyPI, for Python 3.11 at most: {answer.stderr[-300:]}")
    return python


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return ks.language_model(len(VOCABULARY), units=[64], embedding_dim=32)


def run(python, path, tokens):
    command = [python, "-c", PROGRAM, path, json.dumps(tokens)]
    return subprocess.run(command, capture_output=True, text=True)


# Of the logits' spread. The inputs of 8-bit products are quantized as they come: another rounding is a difference of a step.
@pytest.mark.parametrize(("quantization", "difference"), [("none", 1e-4), ("float16", 1e-4), ("int8", 0.05)])
def test_the_file_loads_and_agrees(quantization, difference, python, model, tmp_path):
    path = tmp_path / "model.tflite"
    export_tflite(model, VOCABULARY, path, quantization=quantization)
    tokens = [VOCABULARY.start_id, *VOCABULARY.encode(TEXT).tolist()]
    answer = run(python, path, tokens)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    sampler = LiteRTSampler(path)
    expected = [logits for logits, _ in sampler.read(tokens, sampler.initial_states())]
    np.testing.assert_allclose(found["logits"], expected, atol=difference * np.std(expected))
    *before, last = tokens
    _, states = sampler.prefill(before, sampler.initial_states())
    _, states = sampler(last, states)
    settings = SamplingSettings(temperature=0.8, top_k=9, top_p=0.9, min_p=0.01)
    numbers = np.linspace(0, 0.999, 50)
    added = logit_bias(VOCABULARY, settings)
    drawn = [sampler.draw(last, states, number, settings, added, [])[0] for number in numbers]
    # Other last bits of a logit move an edge between two tokens: a draw that falls there is another.
    assert (np.array(found["drawn"]) != drawn).sum() <= (0 if quantization == "none" else 2)


def test_a_file_in_4_bits_is_refused_there_with_an_error(python, model, tmp_path):
    export_tflite(model, VOCABULARY, tmp_path / "model.tflite", quantization="int4", max_loss=1)
    answer = run(python, tmp_path / "model.tflite", [2, 3])
    assert answer.returncode != 0
    assert "FULLY_CONNECTED" in answer.stderr
