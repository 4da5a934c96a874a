"""`keras-seq batch`: continues many prompts, or scores many texts, in several processes.

The results are JSON lines in the order of the input. The same call resumes an interrupted job after its last complete
line. The results do not depend on the number of processes.
"""

import contextlib
import inspect
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from keras_seq import require
from keras_seq.errors import shortened
from keras_seq.generation.generation import Generation
from keras_seq.processes import process_pool
from keras_seq_export.tflite.batch_results import Request, ResultWriter, only_writer, resume
from keras_seq_export.tflite.runtime import LiteRTSampler

_MAX_TOKENS = inspect.signature(Generation).parameters["max_tokens"].default
_LONGEST_ERROR = 1_000  # characters
# Bytes of all values but `text` in a result, with their names; an error fits too.
_ROOM = 8 * _LONGEST_ERROR
_LONGEST_CHARACTER = 6  # bytes of a character in a line: \u0000
_SCORED = {"log_probability": int | float, "tokens": int}
_WRITTEN = {"text": str, **_SCORED, "finish_reason": str}
_sampler: LiteRTSampler  # in each worker process


class Job(NamedTuple):
    """The outcome of a job.

    Attributes:
        existing: number of results that were in the output before.
        failed: number of results in the output that are errors, those that were there before among them.
    """

    existing: int
    failed: int


def write_all(
    model: str | os.PathLike[str],
    prompts: Iterable[str],
    output: str | os.PathLike[str],
    processes: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Job:
    """Continues each prompt; prompt i gets the seed `seed + i`.

    Each line of the output is an object with `number` (1 for the first prompt), `prompt`, `seed`, `options` (those
    given, and `max_tokens` in any case), `model` (start of the model's SHA-256), `text` (the continuation),
    `log_probability` (in nats, by the model's own softmax), `tokens` (their number) and `finish_reason`. If a prompt
    has characters that the vocabulary lacks, `error` replaces the last four. There is one line for each prompt, in
    order.

    No other call can write to the output meanwhile. After an error, Ctrl-C or SIGTERM it has whole lines only.

    Args:
        model: a .tflite file.
        prompts: the prompts, in order. They are taken one by one, so they can be a generator over many.
        output: the file to write or to resume.
        processes: number of processes; None for one per core. A script must make this call under
            `if __name__ == "__main__":`.
        seed: seed of the first text.
        **options: options of `keras_seq.generation.text.Options`, except `num_samples` and `states`.

    Raises:
        ResultsError: the output belongs to another model, other prompts or other options, or cannot be written.
        InUseError: another call writes to the output.
        BundleError: the model cannot be read.
        ValueError: an option is out of range, or a process was terminated from outside.
    """
    sampler = LiteRTSampler(model)
    options = {"max_tokens": _MAX_TOKENS, **options}
    sampler.generate("", seed=seed, **options)  # Raises if an option is out of range.
    common = {"options": json.loads(json.dumps(options)), "model": _model_id(sampler)}
    requests = (
        {"number": number + 1, "prompt": prompt, "seed": seed + number, **common}
        for number, prompt in enumerate(prompts)
    )
    longest_token = max(map(len, sampler.vocabulary.tokens)) + 1  # Words are joined by a space.
    room = _ROOM + options["max_tokens"] * longest_token * _LONGEST_CHARACTER
    return _Batch(_write, requests, _WRITTEN, room).run(model, Path(output), processes)


def score_all(
    model: str | os.PathLike[str],
    texts: Iterable[str],
    output: str | os.PathLike[str],
    processes: int | None = None,
) -> Job:
    """Scores each text; otherwise like `write_all`.

    Each line of the output is an object with `number` (1 for the first text), `scored` (the text), `model`,
    `log_probability` in nats and `tokens`.
    """
    common = {"model": _model_id(LiteRTSampler(model))}
    requests = ({"number": number, "scored": text, **common} for number, text in enumerate(texts, 1))
    return _Batch(_score, requests, _SCORED, _ROOM).run(model, Path(output), processes)


class _Batch(NamedTuple):
    """What is done.

    Attributes:
        work: returns the result of a request, in a worker process.
        requests: the requests, in order.
        answer: the names that a result adds to its request, and their types.
        room: the largest number of bytes that these take in a line.
    """

    work: Callable[[Request], Request]
    requests: Iterator[Request]
    answer: dict[str, Any]
    room: int

    def run(self, model: str | os.PathLike[str], output: Path, processes: int | None) -> Job:
        """Appends the results that the output lacks."""
        if processes is not None:
            require.positive_integer("processes", processes)
        with only_writer(output):
            existing, failed, remaining = resume(output, self.requests, self.answer, self.room)
            first = next(remaining, None)
            if first is not None:
                with (
                    process_pool(processes, _load, os.fspath(model)) as pool,
                    contextlib.closing(ResultWriter(output)) as writer,
                ):
                    for _, result in pool.in_order(self.work, itertools.chain([first], remaining)):
                        failed += "error" in result
                        writer.write(result)
        return Job(existing, failed)


def _model_id(sampler: LiteRTSampler) -> str:
    return str(sampler.config["model_sha256"])[:16]


def _load(model: str) -> None:
    global _sampler
    _sampler = LiteRTSampler(model)


def _write(request: Request) -> Request:
    try:
        text = _sampler.sample(request["prompt"], seed=request["seed"], logprobs=True, **request["options"])
    except ValueError as error:
        return {**request, "error": shortened(error, _LONGEST_ERROR)}
    return {
        **request,
        "text": str(text),
        "log_probability": sum(text.log_probabilities),
        "tokens": len(text.token_ids),
        "finish_reason": text.finish_reason,
    }


def _score(request: Request) -> Request:
    try:
        score = _sampler.score(request["scored"])
    except ValueError as error:
        return {**request, "error": shortened(error, _LONGEST_ERROR)}
    return {**request, "log_probability": score.log_probability, "tokens": len(score.token_ids)}
