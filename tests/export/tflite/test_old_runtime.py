"""The runtime of older phones, tflite-runtime 2.14, in a virtual environment of its own: it needs a NumPy below 2.

pip downloads it; these tests are skipped if it cannot.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from hamlet import NGRAMS, TEXT, WIDE, report_of

from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export import LiteRTSampler

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
import numpy as np
from tflite_runtime.interpreter import Interpreter

path, tokens = sys.argv[1], json.loads(sys.argv[2])
interpreter = Interpreter(path)
decode, prefill, sample = map(interpreter.get_signature_runner, ("decode", "prefill", "sample"))
inputs = decode.get_input_details().items()
states = zeros = {name: np.zeros(one["shape"], np.float32) for name, one in inputs if name != "token"}
logits = []
for token in tokens:
    answer = decode(token=np.array([token], np.int32), **states)
    states = {name: answer[name] for name in states}
    logits.append(answer["logits"][0].tolist())
padded = np.zeros((1, 64), np.int32)
padded[0, : len(tokens)] = tokens
at_once = prefill(tokens=padded, length=np.array([len(tokens)], np.int32), **zeros)
assert all(np.array_equal(at_once[name], answer[name]) for name in answer)
sampled = [
    int(sample(token=np.array(tokens[-1:], np.int32), uniform=np.array([number], np.float32),
               temperature=np.array([0.8], np.float32), top_k=np.array([9], np.int32), top_p=np.array([0.9], np.float32),
               min_p=np.array([0.01], np.float32), **states)["next_token"][0])
    for number in np.linspace(0, 0.999, 50)
]
print(json.dumps({"logits": logits, "sampled": sampled}))
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


def run(python, path, tokens):
    command = [python, "-c", PROGRAM, path, json.dumps(tokens)]
    return subprocess.run(command, capture_output=True, text=True)


# `difference` is a share of the standard deviation of the logits. LiteRT quantizes the inputs of 8-bit products at run
# time, so another rounding of an input is a difference of a whole step.
@pytest.mark.parametrize("ngrams", [{}, NGRAMS], ids=["", "n-grams"])
@pytest.mark.parametrize(("quantization", "difference"), [("none", 1e-4), ("float16", 1e-4), ("int8", 0.05)])
def test_the_file_loads_and_agrees(quantization, difference, ngrams, python, small_tflite):
    path = small_tflite(quantization=quantization, **WIDE, **ngrams)
    assert report_of(path)["quality"]["nats_lost"] <= 0.01
    sampler = LiteRTSampler(path)
    tokens = [sampler.vocabulary.start_id, *sampler.vocabulary.encode(TEXT[:42]).tolist()]
    answer = run(python, path, tokens)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    expected = [logits for logits, _ in sampler.read(tokens, sampler.initial_states())]
    np.testing.assert_allclose(found["logits"], expected, atol=difference * np.std(expected))
    *before, last = tokens
    _, states = sampler.prefill(before, sampler.initial_states())
    _, states = sampler(last, states)
    settings = SamplingSettings(temperature=0.8, top_k=9, top_p=0.9, min_p=0.01)
    numbers = np.linspace(0, 0.999, 50)
    bias = logit_bias(sampler.vocabulary, settings)
    sampled = [sampler.draw(last, states, number, settings, bias, [])[0] for number in numbers]
    # Rounding of the logits moves the edges between tokens; a uniform number next to an edge may give another token.
    assert (np.array(found["sampled"]) != sampled).sum() <= (0 if quantization == "none" else 2)


def test_a_file_with_4_bit_weights_is_refused_with_an_error(python, small_tflite):
    answer = run(python, small_tflite(quantization="int4", **WIDE), [2, 3])
    assert answer.returncode != 0
    assert "FULLY_CONNECTED" in answer.stderr


LEARNING = """
import json, sys
import numpy as np
from tflite_runtime.interpreter import Interpreter

path, tokens = sys.argv[1], json.loads(sys.argv[2])
interpreter = Interpreter(path)
names = ("decode", "learn", "get_weights", "set_weights", "reset_weights")
decode, learn, get, set_again, reset = map(interpreter.get_signature_runner, names)
zeros, many = np.zeros((1, 64), np.float32), np.zeros((2, 1, 64), np.int32)
many[0, 0, : len(tokens) - 1], many[1, 0, : len(tokens) - 1] = tokens[:-1], tokens[1:]

def logits():
    return decode(token=np.array(tokens[:1], np.int32), state_0=zeros)["logits"].copy()

new = logits()
found = learn(tokens=many[0], next_tokens=many[1], length=np.array([len(tokens) - 1], np.int32),
              rate=np.array([12], np.float32), state_0=zeros)
found = found["log_probabilities"][0, : len(tokens) - 1].tolist()
learned, after = get(), logits()
reset()
assert np.array_equal(logits(), new) and not np.array_equal(after, new)
set_again(**learned)
assert np.array_equal(logits(), after)
print(json.dumps({"found": found, "log_shares": learned["log_shares"].tolist(), "weights": learned["weights"].tolist()}))
"""


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_the_file_learns(quantization, python, small_tflite):
    path = small_tflite(quantization=quantization, learn=True, **WIDE)
    sampler = LiteRTSampler(path)
    tokens = [sampler.vocabulary.start_id, *sampler.vocabulary.encode(TEXT[:42]).tolist()]
    answer = subprocess.run([python, "-c", LEARNING, path, json.dumps(tokens)], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    found, report = json.loads(answer.stdout), sampler.learn(TEXT[:42])
    learned, tolerance = sampler.decoder.call("get_weights", {}), 1e-4 if quantization == "none" else 0.1
    assert -np.mean(found["found"]) == pytest.approx(report.nats_per_token, abs=tolerance)
    np.testing.assert_allclose(np.exp(found["log_shares"]), np.exp(learned["log_shares"]), atol=tolerance)
    error = np.linalg.norm(found["weights"] - learned["weights"]) / np.linalg.norm(learned["weights"])
    assert error < tolerance
