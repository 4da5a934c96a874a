"""`keras-seq benchmark sample`: what the draw of a token costs in LiteRT, beside the step of the model.

Timed is the call of a compiled model with its buffers in place, as a program in C has it; and, for comparison, the draw
in NumPy from the logits of `decode`. The variants take turns, so that what else the machine does hits all alike.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel

from keras_seq.benchmarks.timing import SIZES, bare_call, take_turns, untrained_model
from keras_seq.generation.sampling import SamplingSettings, logit_bias, next_token
from keras_seq_export.signatures import DECODE, SAMPLE, SAMPLING_INPUTS, UNIFORM
from keras_seq_export.tflite.export import export_tflite
from keras_seq_export.tflite.runtime import LiteRTSampler

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
    for size, spread in SIZES.items():
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "model.tflite")
            export_tflite(*untrained_model(size, spread), path, quantization=quantization, max_loss=math.inf)
            calls = _calls(path)
            medians = take_turns(calls, rounds)
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


def _calls(path: Path) -> dict[str, Callable[[], Any]]:
    runtime = CompiledModel.from_file(str(path))
    calls: dict[str, Callable[[], Any]] = {DECODE: bare_call(runtime, DECODE, {})}
    for name, settings in DRAWS.items():
        values = {UNIFORM: np.array([0.5], np.float32)}
        values |= {of: np.array([getattr(settings, of)], kind) for of, kind in SAMPLING_INPUTS.items()}
        calls[f"{SAMPLE}, {name}"] = bare_call(runtime, SAMPLE, values)
    sampler = LiteRTSampler(path)
    logits, _ = sampler(sampler.vocabulary.start_id, sampler.initial_states())
    added = logit_bias(sampler.vocabulary, BOTH)

    def decode_and_draw() -> None:
        calls[DECODE]()
        next_token(logits, 0.5, BOTH, added)

    calls["decode, NumPy's draw, top_k=40, top_p=0.9"] = decode_and_draw
    return calls
