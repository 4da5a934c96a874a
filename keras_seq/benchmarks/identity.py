"""`keras-seq benchmark identity`: whether one seed gives one text in every runtime, over many prompts and settings.

Each text is written by Keras (draw in NumPy), by the SavedModel in TensorFlow's C++ session (draw in the graph), by the
.tflite's `sample` (draw in LiteRT) and by its `decode` (draw in NumPy). Float32 sums differ in their last bits from one
to another, so that a uniform that falls between two runtimes' places of the same edge of the cumulative distribution
is drawn differently: a near-tie, after which the texts part. Everything else is a fault.
"""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.generation import sample
from keras_seq.generation.keras_step import KerasStep
from keras_seq.generation.sampling import SamplingSettings, keep, log_softmax, logit_bias
from keras_seq.generation.threefry import uniform
from keras_seq_export.comparison import NEAR_TIE, rounding_variants
from keras_seq_export.requests import GenerateRequest, generate_inputs
from keras_seq_export.saved_model.cpp_session import Request, run_in_cpp_session
from keras_seq_export.saved_model.export import export_saved_model
from keras_seq_export.signatures import GENERATE, SAMPLING_INPUTS
from keras_seq_export.tflite.export import export_tflite
from keras_seq_export.tflite.runtime import LiteRTSampler

KERAS = "Keras"
_ROWS_A_REQUEST = 250


class Difference(NamedTuple):
    """Where a runtime draws another token than Keras, for the first time in a text.

    Attributes:
        wanted: the text.
        runtime: the runtime.
        position: of the token in the continuation.
        expected: the token that Keras draws.
        drawn: the token that the runtime draws.
        distance: probability between the uniform and the edge beyond which Keras would draw the runtime's token; or the
            change to a filter's edge that does the same (`rounding_variants`); infinite where neither explains it.
    """

    wanted: GenerateRequest
    runtime: str
    position: int
    expected: str
    drawn: str
    distance: float

    @property
    def is_near_tie(self) -> bool:
        """Whether rounding explains it."""
        return self.distance < NEAR_TIE


class Comparison(NamedTuple):
    """What came of it.

    Attributes:
        texts: how many were written by each runtime.
        tokens: how many tokens Keras drew for them.
        runtimes: the others' names.
        differences: the first of each text and runtime.
    """

    texts: int
    tokens: int
    runtimes: list[str]
    differences: list[Difference]

    def __str__(self) -> str:
        """Tells the counts, and each difference in a line."""
        parted = len({difference.wanted.seed for difference in self.differences})
        faults = sum(not difference.is_near_tie for difference in self.differences)
        near_ties = len(self.differences) - faults
        lines = [
            f"{self.texts:,} texts, {self.tokens:,} tokens, in {KERAS}, {', '.join(self.runtimes)}",
            f"identical everywhere: {self.texts - parted:,}; near-ties: {near_ties}; other differences: {faults}",
        ]
        for wanted, runtime, position, expected, drawn, distance in self.differences:
            lines.append(
                f"  {runtime}: token {position} is {drawn!r}, not {expected!r}, {distance:.1e} of probability away "
                f"(seed={wanted.seed}, prompt={wanted.prompt!r}, {wanted.settings})"
            )
        return "\n".join(lines)


def compare_runtimes(
    model: keras.Model, vocabulary: Vocabulary, text: str, texts: int = 1000, max_tokens: int = 200, seed: int = 0
) -> Comparison:
    """Exports a model, and writes texts with it in every runtime.

    Args:
        model: a causal recurrent model.
        vocabulary: its vocabulary.
        text: where the prompts are cut out of.
        texts: how many to write; settings and seeds vary from one to the next.
        max_tokens: of each.
        seed: of the choice of prompts and settings.

    Raises:
        ValueError: `texts` or `max_tokens` is not positive.
    """
    if texts < 1 or max_tokens < 1:
        raise ValueError(f"`texts` and `max_tokens` must be positive. Received: {texts} and {max_tokens}")
    wanted = list(_wanted(text, texts, max_tokens, np.random.default_rng(seed)))
    with tempfile.TemporaryDirectory() as directory:
        tflite, saved_model = Path(directory, "model.tflite"), Path(directory, "1")
        export_tflite(model, vocabulary, tflite)
        export_saved_model(model, vocabulary, saved_model)
        sampler = LiteRTSampler(tflite)
        written = {
            "SavedModel": _by_saved_model(saved_model, vocabulary, wanted),
            "LiteRT sample": _by_step(sampler, vocabulary, wanted),
            "LiteRT decode": _by_step(sampler, vocabulary, wanted, logprobs=True),
        }
    step = KerasStep(model)
    by_keras = _by_step(step, vocabulary, wanted)
    differences = [
        _difference(step, vocabulary, one, runtime, ours, theirs)
        for runtime, rows in written.items()
        for one, ours, theirs in zip(wanted, by_keras, rows, strict=True)
        if ours != theirs
    ]
    return Comparison(texts, sum(map(len, by_keras)), list(written), differences)


def _wanted(text: str, texts: int, max_tokens: int, random: np.random.Generator) -> Iterator[GenerateRequest]:
    for seed in range(texts):
        start, length = random.integers(0, max(1, len(text) - 40)), random.integers(0, 40)
        settings = SamplingSettings(
            temperature=random.choice([0.0, 0.5, 0.8, 1.0, 1.3]).item(),
            top_k=random.choice([0, 0, 5, 40]).item(),
            top_p=random.choice([1.0, 1.0, 0.9, 0.5]).item(),
            min_p=random.choice([0.0, 0.0, 0.02]).item(),
        )
        yield GenerateRequest(text[start : start + length], max_tokens, (-1) ** seed * (seed << 20), settings)


def _by_step(step: Step, vocabulary: Vocabulary, wanted: Sequence[GenerateRequest], logprobs: bool = False) -> list[list[int]]:
    """Returns the tokens of each text, `<eos>` too; with `logprobs` they are drawn in NumPy."""
    rows = []
    for prompt, max_tokens, seed, settings in wanted:
        drawing = {name: getattr(settings, name) for name in SAMPLING_INPUTS}
        text = sample(step, vocabulary, prompt, max_tokens=max_tokens, seed=seed, logprobs=logprobs, **drawing)
        rows.append([*text.token_ids, vocabulary.eos_id] if text.finish_reason == "eos" else text.token_ids)
    return rows


def _by_saved_model(directory: Path, vocabulary: Vocabulary, wanted: Sequence[GenerateRequest]) -> list[list[int]]:
    starts = range(0, len(wanted), _ROWS_A_REQUEST)
    requests = [Request(GENERATE, generate_inputs(wanted[start : start + _ROWS_A_REQUEST])) for start in starts]
    rows = []
    for answer in run_in_cpp_session(directory, requests):
        for ids, length, reason in zip(answer["token_ids"], answer["length"], answer["finish_reason"], strict=True):
            end = [vocabulary.eos_id] if reason == b"eos" else []
            rows.append([*ids[:length].tolist(), *end])
    return rows


def _difference(
    step: Step, vocabulary: Vocabulary, wanted: GenerateRequest, runtime: str, ours: list[int], theirs: list[int]
) -> Difference:
    position = next(i for i, pair in enumerate(itertools.zip_longest(ours, theirs)) if pair[0] != pair[1])
    expected, drawn = (vocabulary.tokens[row[position]] if position < len(row) else "(end)" for row in (ours, theirs))
    distance = np.inf
    if position < len(theirs):
        context = [vocabulary.start_id, *vocabulary.encode(wanted.prompt).tolist(), *ours[:position]]
        logits, _ = step.prefill(context, step.initial_states())
        number, added = float(uniform(wanted.seed, position)), logit_bias(vocabulary, wanted.settings)
        distance = min(
            change + _distance(rounded, number, nearby, added, theirs[position])
            for change, rounded, nearby in rounding_variants(logits, wanted.settings, added)
        )
    return Difference(wanted, runtime, position, expected, drawn, distance)


def _distance(logits: np.ndarray, number: float, settings: SamplingSettings, added: np.ndarray, token: int) -> float:
    """Returns the probability between a uniform and the interval in which `token` would be drawn; infinite without one."""
    edges = np.concatenate([[0.0], np.cumsum(np.exp(log_softmax(keep(logits, settings, added, []))))])
    if edges[token] == edges[token + 1]:
        return np.inf
    return float(max(edges[token] - number, number - edges[token + 1], 0.0))
