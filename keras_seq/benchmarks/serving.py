"""`keras-seq benchmark serve`: the speed of a SavedModel in TensorFlow's C++ session, as a server runs it.

The measured process never imports `tensorflow`. It times texts of 256 tokens by `serving_default` at several batch sizes,
beside as many bare calls of `decode`. Then many clients send requests at once; each must get the answer that it gets alone.
"""

import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_seq import require
from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export.requests import GenerateRequest, generate_inputs
from keras_seq_export.saved_model.cpp_session import CppSession, child_environment, signature_tensors
from keras_seq_export.signatures import DECODE, GENERATE, LENGTH, START, TEXT, TOKEN, is_state

BATCHES = (1, 4, 16, 32, 64)
TOKENS = 256
CLIENTS, REQUESTS = 24, 50
_CLIENT_TOKENS = 20
_TOKEN = 5  # the token that `decode` reads


class ServeTime(NamedTuple):
    """The times of one batch size.

    Attributes:
        batch: number of texts in a batch.
        generate: median milliseconds of `serving_default` for 256 tokens per text.
        decode: median milliseconds of as many calls of `decode`.
        ratio: `generate` divided by `decode`.
        tokens_per_second: tokens per second of `serving_default`.
    """

    batch: int
    generate: float
    decode: float
    ratio: float
    tokens_per_second: float


class Concurrency(NamedTuple):
    """The result of many clients at once.

    Attributes:
        clients: number of clients.
        requests: number of requests of all clients together.
        equal: number of answers that are equal to those that a client gets alone.
        serial_seconds: duration of all requests one after another.
        seconds: duration of all requests at once.
    """

    clients: int
    requests: int
    equal: int
    serial_seconds: float
    seconds: float

    def __str__(self) -> str:
        """Describes the result in one line."""
        each = self.requests // self.clients
        return (
            f"{self.clients} clients x {each} requests of {_CLIENT_TOKENS} tokens: {self.equal} of {self.requests} answers as "
            f"for a single client; {self.requests / self.seconds:,.0f} requests/s, one after another "
            f"{self.requests / self.serial_seconds:,.0f}"
        )


class Serving(NamedTuple):
    """What `benchmark_serve` measures.

    Attributes:
        batches: the times of each batch size.
        concurrency: the result of many clients.
    """

    batches: list[ServeTime]
    concurrency: Concurrency


def benchmark_serve(
    model: str | os.PathLike[str] | None = None, rounds: int = 5, batches: Sequence[int] = BATCHES
) -> Serving:
    """Times a SavedModel.

    Args:
        model: directory of a version, such as `serving/shakespeare/1`; None for an untrained GRU of 512 units with 65
            tokens.
        rounds: number of turns of each batch size.
        batches: the batch sizes.

    Raises:
        ArgumentError: `rounds` is not a positive integer.
    """
    require.positive_integer("rounds", rounds)
    with tempfile.TemporaryDirectory() as folder:
        if model is None:
            from keras_seq.benchmarks.timing import benchmark_model
            from keras_seq_export.saved_model.export import export_saved_model

            directory = Path(folder, "model", "1")
            export_saved_model(*benchmark_model(65, 2.0), directory)
        else:
            directory = Path(model)
        work = pickle.dumps((str(directory), signature_tensors(directory), rounds, tuple(batches)))
        command = [sys.executable, "-m", __name__]
        child = subprocess.run(command, input=work, stdout=subprocess.PIPE, env=child_environment(), check=True)
    rows, concurrency = json.loads(child.stdout)
    return Serving([ServeTime(*row) for row in rows], Concurrency(*concurrency))


def table(serving: Serving) -> Iterator[str]:
    """Yields the lines of a table, and one about many clients."""
    yield f"{'batch':>5}{'generate, ms':>15}{f'{TOKENS} x decode, ms':>19}{'ratio':>8}{'tokens/s':>12}"
    for row in serving.batches:
        yield (
            f"{row.batch:>5}{row.generate:>15,.1f}{row.decode:>19,.1f}{row.ratio:>7.2f}x{row.tokens_per_second:>12,.0f}"
        )
    yield ""
    yield str(serving.concurrency)


RunSignature = Callable[[str, dict[str, Any]], dict[str, np.ndarray]]


def _measure(run: RunSignature, batch: int, rounds: int) -> ServeTime:
    requests = generate_inputs([GenerateRequest("", TOKENS, seed, SamplingSettings()) for seed in range(batch)])
    token = np.full(batch, _TOKEN, np.int32)
    states = {name: value for name, value in run(START, {TOKEN: token}).items() if is_state(name)}
    generate_times, decode_times, steps = list[float](), list[float](), TOKENS
    for turn in range(rounds + 1):  # The first turn warms up.
        start = time.perf_counter()
        steps = int(run(GENERATE, requests)[LENGTH].max())
        middle = time.perf_counter()
        for _ in range(steps):
            run(DECODE, {TOKEN: token, **states})
        if turn:
            generate_times.append(middle - start)
            decode_times.append(time.perf_counter() - middle)
    generate, decode = statistics.median(generate_times), statistics.median(decode_times)
    return ServeTime(batch, generate * 1e3, decode * 1e3, generate / decode, batch * steps / generate)


def _many_clients(run: RunSignature) -> Concurrency:
    def ask(number: int) -> tuple[bytes, ...]:
        requests = [
            GenerateRequest("", _CLIENT_TOKENS, number, SamplingSettings()),
            GenerateRequest("", 1 + number % 7, number % 13, SamplingSettings()),
        ]
        return tuple(run(GENERATE, generate_inputs(requests))[TEXT].tolist())

    numbers = range(CLIENTS * REQUESTS)
    start = time.perf_counter()
    alone = list(map(ask, numbers))
    serial = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        together = list(pool.map(ask, numbers))
    end = time.perf_counter()
    equal = sum(map(tuple.__eq__, alone, together))
    return Concurrency(CLIENTS, len(numbers), equal, serial - start, end - serial)


def _main() -> None:
    """Runs in the measured process: reads the work from standard input, and prints the figures as JSON."""
    directory, signatures, rounds, batches = pickle.load(sys.stdin.buffer)
    session = CppSession(directory)

    def run(signature: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        return session.run_signature(signatures[signature], inputs)

    print(json.dumps([[_measure(run, batch, rounds) for batch in batches], _many_clients(run)]), flush=True)


if __name__ == "__main__":
    _main()
