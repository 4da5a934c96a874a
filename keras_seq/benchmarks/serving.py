"""`keras-seq benchmark serve`: the SavedModel in TensorFlow's C++ session, as a server runs it.

What is timed runs in a process of its own that never imports `tensorflow`: texts of 256 tokens by `serving_default` at
several batch sizes, beside as many bare calls of `decode`; and many clients at once, whose answers must be those that each
gets alone.
"""

import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export.requests import GenerateRequest, generate_inputs
from keras_seq_export.saved_model.cpp_session import CppSession, child_environment, signature_tensors
from keras_seq_export.signatures import DECODE, GENERATE, LENGTH, START, TEXT, TOKEN, is_state

BATCHES = (1, 4, 16, 32, 64)
TOKENS = 256
CLIENTS, REQUESTS = 24, 50
_CLIENT_TOKENS = 20


class Concurrency(NamedTuple):
    """Many clients at once.

    Attributes:
        equal: how many answers were those that a client gets alone.
        serial_seconds: for all requests one after another.
        seconds: for all at once.
    """

    equal: int
    serial_seconds: float
    seconds: float

    def __str__(self) -> str:
        """Tells it in a line."""
        total = CLIENTS * REQUESTS
        return (
            f"{CLIENTS} clients x {REQUESTS} requests of {_CLIENT_TOKENS} tokens: {self.equal} of {total} answers as each gets alone; "
            f"{total / self.seconds:,.0f} requests/s, one after another {total / self.serial_seconds:,.0f}"
        )


def benchmark_serve(
    directory: Path | None = None, rounds: int = 5, batches: Sequence[int] = BATCHES
) -> tuple[list[dict[str, float]], Concurrency]:
    """Times a SavedModel; that of an untrained GRU of 512 units with 65 tokens where `directory` is None.

    Args:
        directory: of the version, such as `serving/shakespeare/1`.
        rounds: how often each batch has its turn.
        batches: how many rows are written at once.

    Returns:
        Rows with `batch`, `generate` and `decode` (milliseconds for 256 tokens a row, medians), `ratio`, `tokens_per_second`;
        and what came of many clients.

    Raises:
        ValueError: `rounds` is not positive.
    """
    if rounds < 1:
        raise ValueError(f"`rounds` must be positive. Received: rounds={rounds!r}")
    with tempfile.TemporaryDirectory() as folder:
        if directory is None:
            from keras_seq.benchmarks.timing import untrained_model
            from keras_seq_export.saved_model.export import export_saved_model

            directory = Path(export_saved_model(*untrained_model(65, 2.0), Path(folder, "model"))["path"])
        work = pickle.dumps((str(directory), signature_tensors(directory), rounds, tuple(batches)))
        command = [sys.executable, "-m", "keras_seq.benchmarks.serving"]
        child = subprocess.run(command, input=work, stdout=subprocess.PIPE, env=child_environment(), check=True)
    rows, concurrency = json.loads(child.stdout)
    return rows, Concurrency(*concurrency)


def table(rows: Iterable[dict[str, float]]) -> Iterator[str]:
    """Gives the rows of `benchmark_serve` as the lines of a table."""
    yield f"{'batch':>5}{'generate, ms':>15}{f'{TOKENS} x decode, ms':>19}{'ratio':>8}{'tokens/s':>12}"
    for row in rows:
        yield (
            f"{row['batch']:>5}{row['generate']:>15,.1f}{row['decode']:>19,.1f}{row['ratio']:>7.2f}x"
            f"{row['tokens_per_second']:>12,.0f}"
        )


Run = Callable[[str, dict[str, Any]], dict[str, np.ndarray]]


def _measure(run: Run, rounds: int, batches: Sequence[int]) -> list[dict[str, float]]:
    rows = []
    for batch in batches:
        wanted = generate_inputs([GenerateRequest("", TOKENS, seed, SamplingSettings()) for seed in range(batch)])
        token = np.full(batch, 5, np.int32)
        states = {name: value for name, value in run(START, {TOKEN: token}).items() if is_state(name)}
        times: dict[str, list[float]] = {GENERATE: [], DECODE: []}
        steps = TOKENS
        for turn in range(rounds + 1):  # The first warms up.
            start = time.perf_counter()
            steps = int(run(GENERATE, wanted)[LENGTH].max())
            middle = time.perf_counter()
            for _ in range(steps):
                run(DECODE, {TOKEN: token, **states})
            if turn:
                times[GENERATE].append(middle - start)
                times[DECODE].append(time.perf_counter() - middle)
        generate, decode = (statistics.median(values) for values in times.values())
        rows.append(
            {
                "batch": batch,
                "generate": generate * 1e3,
                "decode": decode * 1e3,
                "ratio": generate / decode,
                "tokens_per_second": batch * steps / generate,
            }
        )
    return rows


def _many_clients(run: Run) -> Concurrency:
    def ask(number: int) -> tuple[bytes, ...]:
        wanted = [
            GenerateRequest("", _CLIENT_TOKENS, number, SamplingSettings()),
            GenerateRequest("", 1 + number % 7, number % 13, SamplingSettings()),
        ]
        return tuple(run(GENERATE, generate_inputs(wanted))[TEXT].tolist())

    numbers = range(CLIENTS * REQUESTS)
    start = time.perf_counter()
    alone = list(map(ask, numbers))
    serial = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        together = list(pool.map(ask, numbers))
    end = time.perf_counter()
    return Concurrency(sum(map(tuple.__eq__, alone, together)), serial - start, end - serial)


def _main() -> None:
    """The child process: the work on standard input, rows and concurrency as JSON on standard output."""
    directory, signatures, rounds, batches = pickle.load(sys.stdin.buffer)
    session = CppSession(directory)

    def run(signature: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        return session.run_signature(signatures[signature], inputs)

    print(json.dumps([_measure(run, rounds, batches), _many_clients(run)]), flush=True)


if __name__ == "__main__":
    _main()
