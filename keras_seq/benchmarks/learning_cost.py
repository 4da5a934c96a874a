"""What learning costs: microseconds per token of `learn` beside `prefill` and `decode`, and bytes.

The calls of a compiled model are timed with their buffers in place, as a C program has them. Those of all files take turns.
"""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel

from keras_seq.benchmarks.timing import bare_call, take_turns
from keras_seq.files import temporary_folder
from keras_seq_export.signatures import (
    DECODE,
    LEARN,
    LEARN_STEPS,
    LENGTH,
    NEXT_TOKENS,
    PREFILL,
    PREFILL_STEPS,
    RATE,
    TOKEN,
    TOKENS,
)
from keras_seq_export.tflite.runtime import LiteRTSampler

_TOKENS = 10 * 64  # that each signature reads in a turn, so that disturbances of the machine affect all alike


class Cost(NamedTuple):
    """The cost of one signature of a file.

    Attributes:
        model: name of the file.
        signature: the signature.
        microseconds: median time of a token.
        bytes: size of the file.
        learned_bytes: size of the file of what it has learned; None if it cannot learn.
    """

    model: str
    signature: str
    microseconds: float
    bytes: int
    learned_bytes: int | None


def costs(files: Mapping[str, Path], samplers: Mapping[str, LiteRTSampler], text: str, rounds: int) -> Iterator[Cost]:
    """Times `decode`, `prefill` and, if a file has it, `learn`.

    Args:
        files: the files by their names.
        samplers: the sampler of each.
        text: the text that is read, and learned for the size of the file of what was learned.
        rounds: number of turns of each signature and file.

    Raises:
        ArgumentError: `rounds` is not a positive integer.
    """
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, sampler in samplers.items():
        for signature, steps, values in _inputs(sampler, text):
            call = bare_call(CompiledModel.from_file(str(files[name])), signature, values)
            calls[name, signature] = functools.partial(_repeat, call, _TOKENS // steps)
    for (name, signature), microseconds in take_turns(calls, rounds, calls_per_turn=1).items():
        sampler = samplers[name]
        learned = _learned_bytes(sampler, text) if sampler.decoder.has_learn else None
        yield Cost(name, signature, microseconds / _TOKENS, os.path.getsize(files[name]), learned)


def cost_table(rows: Iterable[Cost]) -> Iterator[str]:
    """Yields the lines of a table."""
    yield f"{'model':<20}{'signature':<12}{'us a token':>12}{'bytes':>14}{'learned bytes':>15}"
    last = ""
    for row in rows:
        learned = "-" if row.learned_bytes is None else f"{row.learned_bytes:,}"
        sizes = "" if row.model == last else f"{row.bytes:>14,}{learned:>15}"
        yield f"{row.model:<20.19}{row.signature:<12}{row.microseconds:>12.1f}{sizes}"
        last = row.model


def _inputs(sampler: LiteRTSampler, text: str) -> Iterator[tuple[str, int, dict[str, np.ndarray]]]:
    """Yields each signature, the tokens that a call reads, and its inputs without the states, which are zeros."""
    tokens = sampler.vocabulary.encode(text)
    yield DECODE, 1, {TOKEN: tokens[:1]}
    prefilled = tokens[None, :PREFILL_STEPS]
    yield PREFILL, PREFILL_STEPS, {TOKENS: prefilled, LENGTH: np.array([PREFILL_STEPS], np.int32)}
    if sampler.decoder.has_learn:
        yield (
            LEARN,
            LEARN_STEPS,
            {
                TOKENS: tokens[None, :LEARN_STEPS],
                NEXT_TOKENS: tokens[None, 1 : LEARN_STEPS + 1],
                LENGTH: np.array([LEARN_STEPS], np.int32),
                RATE: np.array([sampler.config["learning"]["rate"]], np.float32),
            },
        )


def _repeat(call: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        call()


def _learned_bytes(sampler: LiteRTSampler, text: str) -> int:
    sampler.forget()
    sampler.learn(text)  # The file also holds the words of the text.
    with temporary_folder() as folder:
        sampler.save_learned(folder / "me.learned")
        sampler.forget()
        return os.path.getsize(folder / "me.learned")
