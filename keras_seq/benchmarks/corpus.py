"""`keras-seq benchmark corpus`: what it takes to encode a text on disk, and to read it from there in training.

The text is encoded by the program itself, in a process of its own, whose memory and that of the processes it starts is
looked at ten times a second; what they share counts once (Linux, `/proc`). Then a model learns from what was written, and
the time for which it waits for a batch is set against the time of its steps.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_seq.data.agreement import agreement_corpus
from keras_seq.data.encoded_text import EncodedText
from keras_seq.data.lines import Lines
from keras_seq.data.load import load_corpus
from keras_seq.data.streams import Streams
from keras_seq.models.language_model import language_model
from keras_seq.training.compile import compile_model

KINDS: dict[str, list[str]] = {
    "characters": ["--level=char"],
    "characters, by line": ["--level=char", "--by_line"],
    "words": ["--level=word", "--max_size=10000"],
}
BATCH_SIZE, LENGTH, UNITS, EMBEDDING = 64, 64, 384, 64  # those of `keras-seq train`
_WARM_UP = 5  # steps


def benchmark_corpus(corpus: list[str] | None, megabytes: int, steps: int) -> Iterator[dict[str, Any]]:
    """Encodes a text in each of `KINDS`, and trains a model on it.

    Args:
        corpus: files; None for sentences of the built-in grammar, over and over.
        megabytes: of these sentences.
        steps: of training, for each kind.

    Raises:
        ValueError: a number is not positive, or the text cannot be encoded.
    """
    for name, value in (("megabytes", megabytes), ("steps", steps)):
        if value < 1:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value!r}")
    with tempfile.TemporaryDirectory() as folder:
        files = corpus or [_sentences(Path(folder, "sentences.txt"), megabytes)]
        size = sum(os.path.getsize(file) for file in files)
        for number, (kind, options) in enumerate(KINDS.items()):
            output = Path(folder, str(number))
            seconds, core_seconds, memory = _encode(files, output, options)
            encoded = load_corpus(output).train
            assert isinstance(encoded, EncodedText)
            yield {
                "kind": kind,
                "megabytes": size / 1e6,
                "megabytes_a_second": size / 1e6 / seconds,
                "megabytes_a_core_second": size / 1e6 / core_seconds,
                "memory_mib": memory / 2**20,
                "bytes_a_token": sum(file.stat().st_size for file in output.glob("*.tfrecord")) / len(encoded),
                **_training(encoded, steps),
            }


def table(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yields the rows as lines of text."""
    yield f"{'':<20} {'MB':>6} {'MB/s':>6} {'MB/core-s':>10} {'memory MiB':>11} {'bytes/token':>12} {'ms a step':>10} {'waiting':>8}"
    for row in rows:
        yield (
            f"{row['kind']:<20} {row['megabytes']:>6.0f} {row['megabytes_a_second']:>6.1f} {row['megabytes_a_core_second']:>10.1f} "
            f"{row['memory_mib']:>11.0f} {row['bytes_a_token']:>12.2f} {row['step_ms']:>10.1f} {row['waiting']:>8.2%}"
        )


def _sentences(path: Path, megabytes: int) -> str:
    text = agreement_corpus().text("train").encode()
    with path.open("wb") as file:
        for _ in range(megabytes * 10**6 // len(text) + 1):
            file.write(text)
    return str(path)


def _encode(files: list[str], output: Path, options: list[str]) -> tuple[float, float, int]:
    """Returns the seconds, those of all cores together, and the most bytes of memory at a time."""
    program = [sys.executable, "-m", "keras_seq.cli.main", "encode", f"--output={output}", *options]
    before, start, memory = os.times(), time.perf_counter(), 0
    with subprocess.Popen(
        [*program, *(f"--corpus={file}" for file in files)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        while running.poll() is None:
            memory = max(memory, _memory(running.pid))
            time.sleep(0.1)
        seconds, after = time.perf_counter() - start, os.times()
        if running.returncode:
            assert running.stderr is not None
            raise ValueError(running.stderr.read().strip().removeprefix("keras-seq: "))
    cores = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cores, memory


def _memory(process: int) -> int:
    """Returns the bytes of a process and those that it started; what several share is divided among them."""
    try:
        rows = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # It has ended, or this is not Linux.
        return 0
    own = next((int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss:")), 0)
    return own + sum(_memory(int(child)) for child in children)


def _training(text: EncodedText, steps: int) -> dict[str, float]:
    """Returns the milliseconds of a step, and the share of them that it waits for its batch."""
    if text.by_line:
        batches: Lines | Streams = Lines(text, text.vocabulary, BATCH_SIZE, seed=0)
    else:
        batches = Streams(text, text.vocabulary, BATCH_SIZE, LENGTH, seed=0)
    model = language_model(len(text.vocabulary), units=[UNITS], embedding_dim=EMBEDDING)
    compile_model(model, clipnorm=1.0)
    waited = worked = 0.0
    read = iter(batches.from_batch(0))
    for step in range(_WARM_UP + steps):
        start = time.perf_counter()
        batch = next(read)
        ready = time.perf_counter()
        model.train_on_batch(*batch)
        if step >= _WARM_UP:
            waited, worked = waited + ready - start, worked + time.perf_counter() - ready
    return {"step_ms": (waited + worked) / steps * 1e3, "waiting": waited / (waited + worked)}
