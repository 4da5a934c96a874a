"""`keras-seq benchmark corpus`: the cost of encoding a text on disk, and of reading it from there during training.

The text is encoded in a process of its own. Its memory and that of the processes it starts are read ten times a second
(Linux, `/proc`). Then the default model, without dropout, trains on the encoded text. The time for which it waits for a
batch is compared with the time of its steps.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from keras_seq import require
from keras_seq.benchmarks import own_process
from keras_seq.data.agreement import agreement_corpus
from keras_seq.data.encode import encode_corpus
from keras_seq.data.encoded_text import EncodedText
from keras_seq.data.lines import Lines
from keras_seq.data.load import load_corpus
from keras_seq.data.streams import Streams
from keras_seq.files import explaining
from keras_seq.training.compile import compile_model
from keras_seq.training.config import TrainConfig
from keras_seq.training.train import untrained_model

# The arguments of `encode_corpus` for each row.
KINDS: dict[str, dict[str, Any]] = {
    "characters": {"level": "char"},
    "characters, by line": {"level": "char", "by_line": True},
    "words": {"level": "word", "max_size": 10_000},
}
_CONFIG = TrainConfig(dropout=0.0)
_WARM_UP = 5  # steps


class CorpusCost(NamedTuple):
    """The cost of one kind of encoding.

    Attributes:
        kind: one of `KINDS`.
        megabytes: size of the text.
        megabytes_a_second: megabytes encoded per second.
        megabytes_a_core_second: megabytes encoded per second of CPU time.
        memory_mib: largest memory while encoding, in MiB.
        bytes_a_token: size of the encoded text per token.
        step_ms: milliseconds per training step, waiting included.
        waiting: share of this time for which a step waits for its batch.
    """

    kind: str
    megabytes: float
    megabytes_a_second: float
    megabytes_a_core_second: float
    memory_mib: float
    bytes_a_token: float
    step_ms: float
    waiting: float


def benchmark_corpus(corpus: list[str] | None = None, megabytes: int = 100, steps: int = 100) -> Iterator[CorpusCost]:
    """Encodes a text in each of `KINDS`, and trains a model on it.

    Args:
        corpus: text files; None for sentences of the built-in grammar, repeated.
        megabytes: megabytes of these sentences.
        steps: training steps for each kind.

    Raises:
        ArgumentError: a number is not a positive integer.
        CorpusError: the text cannot be encoded.
    """
    require.positive_integer("megabytes", megabytes)
    require.positive_integer("steps", steps)
    with tempfile.TemporaryDirectory() as folder:
        files = corpus or [_write_sentences(Path(folder, "sentences.txt"), megabytes)]
        size = sum(os.path.getsize(file) for file in files) / 1e6
        for number, (kind, options) in enumerate(KINDS.items()):
            output = Path(folder, str(number))
            cost = own_process.measure(encode_corpus, files, output, **options)
            encoded = load_corpus(output).train
            assert isinstance(encoded, EncodedText)
            step_seconds, waiting = _train(encoded, steps)
            yield CorpusCost(
                kind=kind,
                megabytes=size,
                megabytes_a_second=size / cost.seconds,
                megabytes_a_core_second=size / cost.core_seconds,
                memory_mib=cost.memory / 2**20,
                bytes_a_token=sum(file.stat().st_size for file in output.glob("*.tfrecord")) / len(encoded),
                step_ms=step_seconds * 1e3,
                waiting=waiting,
            )


def table(rows: Iterable[CorpusCost]) -> Iterator[str]:
    """Yields the lines of a table of the rows."""
    yield f"{'':<20} {'MB':>6} {'MB/s':>6} {'MB/core-s':>10} {'memory MiB':>11} {'bytes/token':>12} {'ms/step':>10} {'waiting':>8}"
    for row in rows:
        yield (
            f"{row.kind:<20} {row.megabytes:>6.0f} {row.megabytes_a_second:>6.1f} {row.megabytes_a_core_second:>10.1f} "
            f"{row.memory_mib:>11.0f} {row.bytes_a_token:>12.2f} {row.step_ms:>10.1f} {row.waiting:>8.2%}"
        )


def _write_sentences(path: Path, megabytes: int) -> str:
    text = agreement_corpus().text("train").encode()
    with explaining(path), path.open("wb") as file:
        for _ in range(megabytes * 10**6 // len(text) + 1):
            file.write(text)
    return str(path)


def _train(text: EncodedText, steps: int) -> tuple[float, float]:
    """Returns the seconds per training step, and the share of them for which the step waits for its batch."""
    if text.by_line:
        batches: Lines | Streams = Lines(text, text.vocabulary, _CONFIG.batch_size, seed=0)
    else:
        batches = Streams(text, text.vocabulary, _CONFIG.batch_size, _CONFIG.length, seed=0)
    model = untrained_model(len(text.vocabulary), _CONFIG)
    compile_model(model, _CONFIG)
    waited = worked = 0.0
    dataset = iter(batches.from_batch(0))
    for step in range(_WARM_UP + steps):
        start = time.perf_counter()
        batch = next(dataset)
        ready = time.perf_counter()
        model.train_on_batch(*batch)
        if step >= _WARM_UP:
            waited, worked = waited + ready - start, worked + time.perf_counter() - ready
    return (waited + worked) / steps, waited / (waited + worked)
