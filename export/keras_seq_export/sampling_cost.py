"""`keras-seq benchmark sample`: what the draw of a token costs in LiteRT, beside the step of the model.

Timed is the call of a compiled model with its buffers in place, as a program in C has it; and, for comparison, the draw
in NumPy from the logits of `decode`. The variants take turns, so that what else the machine does hits all alike.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel

from keras_seq.models import language_model
from keras_seq.sampling import SamplingSettings, logit_bias, next_token
from keras_seq.vocabulary import Vocabulary
from keras_seq_export.runtime import LiteRTSampler
from keras_seq_export.signatures import DECODE, SAMPLE, SETTINGS, UNIFORM
from keras_seq_export.tflite import export_tflite

# Number of tokens: the spread of their logits, which gives a perplexity of about 20 and about 400.
SIZES = {65: 2.0, 10_000: 3.0}
UNITS, EMBEDDING = 512, 256
CALLS_A_TURN = 200
BOTH = SamplingSettings(top_k=40, top_p=0.9)
DRAWS = {
    "all filters off": SamplingSettings(),
    "top_k=40, top_p=0.9": BOTH,
    "top_p=0.9": SamplingSettings(top_p=0.9),
    "top_p=0.9, temperature=2": SamplingSettings(top_p=0.9, temperature=2),
}


def benchmark_sample(quantization: str = "int8", rounds: int = 15) -> Iterator[dict[str, Any]]:
    """Times `decode`, `sample` with several settings, and `decode` with the draw in NumPy.

    Args:
        quantization: of the .tflite, as for `export_tflite`.
        rounds: how often each has its turn.

    Yields:
        Rows with `tokens` (of the vocabulary), `what`, `microseconds` (median of a call) and `decodes` (its ratio to
        `decode`).

    Raises:
        ValueError: `rounds` is not positive.
    """
    if rounds < 1:
        raise ValueError(f"`rounds` must be positive. Received: rounds={rounds!r}")
    for size, spread in SIZES.items():
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "model.tflite")
            export_tflite(*_model(size, spread), path, quantization=quantization)
            calls = _calls(path)
            times: dict[str, list[float]] = {what: [] for what in calls}
            for _ in range(rounds):
                for what, call in calls.items():
                    call()  # The others have emptied the caches.
                    start = time.perf_counter()
                    for _ in range(CALLS_A_TURN):
                        call()
                    times[what].append((time.perf_counter() - start) / CALLS_A_TURN * 1e6)
            medians = {what: statistics.median(values) for what, values in times.items()}
            for what, microseconds in medians.items():
                yield {
                    "tokens": size,
                    "what": what,
                    "microseconds": microseconds,
                    "decodes": microseconds / medians[DECODE],
                }


def table(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Gives the rows of `benchmark_sample` as the lines of a table."""
    yield f"{'tokens':>7}  {'':<42}{'us':>8}{'decodes':>9}"
    for row in rows:
        yield f"{row['tokens']:>7,}  {row['what']:<42}{row['microseconds']:>8.1f}{row['decodes']:>8.2f}x"


def _model(size: int, spread: float) -> tuple[keras.Model, Vocabulary]:
    """Returns an untrained model whose logits are as uneven as a trained one's."""
    words = " ".join(f"w{number}" for number in range(size))
    vocabulary = Vocabulary.from_text(words, level="word", max_size=size)
    model = language_model(len(vocabulary), units=[UNITS], embedding_dim=EMBEDDING)
    last = model.layers[-1]
    last.bias.assign(np.random.default_rng(0).normal(scale=spread, size=len(vocabulary)))
    return model, vocabulary


def _calls(path: Path) -> dict[str, Callable[[], Any]]:
    runtime = CompiledModel.from_file(str(path))
    calls: dict[str, Callable[[], Any]] = {DECODE: _call(runtime, DECODE, {})}
    for name, settings in DRAWS.items():
        values = {UNIFORM: np.array([0.5], np.float32)}
        values |= {of: np.array([getattr(settings, of)], kind) for of, kind in SETTINGS.items()}
        calls[f"{SAMPLE}, {name}"] = _call(runtime, SAMPLE, values)
    sampler = LiteRTSampler(path)
    logits, _ = sampler(sampler.vocabulary.start_id, sampler.initial_states())
    added = logit_bias(sampler.vocabulary, BOTH)

    def decode_and_draw() -> None:
        calls[DECODE]()
        next_token(logits, 0.5, BOTH, added)

    calls["decode, NumPy's draw, top_k=40, top_p=0.9"] = decode_and_draw
    return calls


def _call(runtime: CompiledModel, signature: str, values: dict[str, np.ndarray]) -> Callable[[], Any]:
    """Returns a call of a signature with these inputs; the others, token and states, are zeros."""
    index = runtime.get_signature_index(signature)
    inputs, outputs = runtime.create_input_buffers(index), runtime.create_output_buffers(index)
    details = runtime.get_input_tensor_details(signature)
    for name, buffer in zip(runtime.get_signature_by_index(index)["inputs"], inputs, strict=True):
        zeros = np.zeros(details[name]["shape"], details[name]["dtype"])
        buffer.write(values.get(name, zeros))
    return lambda: runtime.run_by_index(index, inputs, outputs)
