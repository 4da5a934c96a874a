"""`keras-seq benchmark sample`: the cost of sampling a token in LiteRT, beside the step of the model.

The calls of a compiled model are timed with their buffers in place, as a C program has them. For comparison, a token is
also sampled in NumPy from the logits of `decode`.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel

from keras_seq import require
from keras_seq.benchmarks.timing import SIZES, bare_call, benchmark_model, take_turns
from keras_seq.generation.sampling import SamplingSettings, logit_bias, next_token
from keras_seq_export.signatures import DECODE, SAMPLE, SAMPLING_INPUTS, UNIFORM, WITH_SAMPLE
from keras_seq_export.tflite.export import export_tflite
from keras_seq_export.tflite.runtime import LiteRTSampler

TOP_K_AND_TOP_P = SamplingSettings(top_k=40, top_p=0.9)
SETTINGS_BY_NAME = {
    "all filters off": SamplingSettings(),
    "top_k=40, top_p=0.9": TOP_K_AND_TOP_P,
    "top_p=0.9": SamplingSettings(top_p=0.9),
    "top_p=0.9, temperature=2": SamplingSettings(top_p=0.9, temperature=2),
}


class SampleTime(NamedTuple):
    """The time of one variant.

    Attributes:
        tokens: size of the vocabulary.
        what: name of the variant.
        microseconds: median time of a call.
        decodes: this time divided by that of `decode`.
    """

    tokens: int
    what: str
    microseconds: float
    decodes: float


def benchmark_sample(quantization: str = "int8", rounds: int = 15) -> Iterator[SampleTime]:
    """Times `decode`, `sample` with several settings, and `decode` followed by sampling in NumPy.

    Args:
        quantization: weights of the .tflite, as for `export_tflite`; one whose files have `sample`.
        rounds: number of turns of each variant.

    Yields:
        A row for each vocabulary size and variant.

    Raises:
        ArgumentError: `rounds` is not a positive integer, or `quantization` is none of `WITH_SAMPLE`.
    """
    require.one_of("quantization", quantization, WITH_SAMPLE)
    require.positive_integer("rounds", rounds)
    for size, spread in SIZES.items():
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "model.tflite")
            export_tflite(*benchmark_model(size, spread), path, quantization=quantization, max_loss=math.inf)
            medians = take_turns(_calls(path), rounds)
        for what, microseconds in medians.items():
            yield SampleTime(size, what, microseconds, decodes=microseconds / medians[DECODE])


def table(rows: Iterable[SampleTime]) -> Iterator[str]:
    """Yields the lines of a table of the rows."""
    yield f"{'tokens':>7}  {'':<42}{'us':>8}{'decodes':>9}"
    for row in rows:
        yield f"{row.tokens:>7,}  {row.what:<42}{row.microseconds:>8.1f}{row.decodes:>8.2f}x"


def _calls(path: Path) -> dict[str, Callable[[], Any]]:
    """Returns the calls to time, by the name of the variant."""
    runtime = CompiledModel.from_file(str(path))
    calls: dict[str, Callable[[], Any]] = {DECODE: bare_call(runtime, DECODE, {})}
    for name, settings in SETTINGS_BY_NAME.items():
        values = {UNIFORM: np.array([0.5], np.float32)}
        values |= {of: np.array([getattr(settings, of)], kind) for of, kind in SAMPLING_INPUTS.items()}
        calls[f"{SAMPLE}, {name}"] = bare_call(runtime, SAMPLE, values)
    sampler = LiteRTSampler(path)
    logits, _ = sampler(sampler.vocabulary.start_id, sampler.initial_states())
    bias = logit_bias(sampler.vocabulary, TOP_K_AND_TOP_P)

    def decode_then_numpy() -> None:
        calls[DECODE]()
        next_token(logits, 0.5, TOP_K_AND_TOP_P, bias)

    calls["decode, then NumPy, top_k=40, top_p=0.9"] = decode_then_numpy
    return calls
