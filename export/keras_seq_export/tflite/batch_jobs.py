"""`keras-seq batch`: continues many prompts, or scores many texts, in several processes.

The results are JSON lines in the order of the input. The same call resumes an interrupted job after its last complete
line. The results do not depend on the number of processes.
"""

import inspect
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from keras_seq.errors import CorpusError
from keras_seq.generation.generation import Generation
from keras_seq.processes import process_pool
from keras_seq_export.tflite.runtime import LiteRTSampler

_MAX_TOKENS = inspect.signature(Generation).parameters["max_tokens"].default
_sampler: LiteRTSampler  # in each worker process


class Job(NamedTuple):
    """The outcome of a job.

    Attributes:
        existing: lines that were in the output before.
        failed: lines that hold an error.
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

    Each line of the output is an object with `prompt`, `seed`, `options` (those given, and `max_tokens` in any case),
    `model` (start of the model's SHA-256), `text` (the continuation), `log_probability` (in nats, by the model's own
    softmax), `tokens` (their number) and `finish_reason`. If a prompt has characters that the vocabulary lacks, `error`
    replaces the last four.

    Args:
        model: a .tflite file.
        prompts: the prompts, in order.
        output: the file to write or to resume.
        processes: number of processes; None for one per core. A script must make this call under
            `if __name__ == "__main__":`.
        seed: seed of the first text.
        **options: options of `keras_seq.generation.text.Options`, except `num_samples` and `states`.

    Raises:
        CorpusError: the output belongs to another model, other prompts or other options.
        BundleError: the model cannot be read.
        ValueError: an option is out of range, or a process was terminated from outside.
    """
    sampler = LiteRTSampler(model)
    options = {"max_tokens": _MAX_TOKENS, **options}
    sampler.generate("", seed=seed, **options)  # Raises if an option is out of range.
    common = {"options": json.loads(json.dumps(options)), "model": _model_id(sampler)}
    requests = [{"prompt": prompt, "seed": seed + number, **common} for number, prompt in enumerate(prompts)]
    return _run(_write, requests, model, Path(output), processes)


def score_all(
    model: str | os.PathLike[str],
    texts: Iterable[str],
    output: str | os.PathLike[str],
    processes: int | None = None,
) -> Job:
    """Scores each text; otherwise like `write_all`.

    Each line of the output is an object with `scored` (the text), `model`, `log_probability` in nats and `tokens`.
    """
    common = {"model": _model_id(LiteRTSampler(model))}
    return _run(_score, [{"scored": text, **common} for text in texts], model, Path(output), processes)


def _model_id(sampler: LiteRTSampler) -> str:
    return str(sampler.config["model_sha256"])[:16]


def _write(request: dict[str, Any]) -> dict[str, Any]:
    try:
        text = _sampler.sample(request["prompt"], seed=request["seed"], logprobs=True, **request["options"])
    except ValueError as error:
        return {**request, "error": str(error)}
    return {
        **request,
        "text": str(text),
        "log_probability": sum(text.log_probabilities),
        "tokens": len(text.token_ids),
        "finish_reason": text.finish_reason,
    }


def _score(request: dict[str, Any]) -> dict[str, Any]:
    try:
        score = _sampler.score(request["scored"])
    except ValueError as error:
        return {**request, "error": str(error)}
    return {**request, "log_probability": score.log_probability, "tokens": len(score.token_ids)}


def _run(
    work: Callable[[dict[str, Any]], dict[str, Any]],
    requests: list[dict[str, Any]],
    model: str | os.PathLike[str],
    output: Path,
    processes: int | None,
) -> Job:
    existing, failed = _resume(output, requests)
    if existing < len(requests):
        with process_pool(processes, _load, os.fspath(model)) as pool, output.open("a", encoding="utf-8") as file:
            for _, result in pool.in_order(work, requests[existing:]):
                failed += "error" in result
                file.write(_line(result))
                file.flush()
    return Job(existing, failed)


def _resume(output: Path, requests: list[dict[str, Any]]) -> tuple[int, int]:
    """Removes an incomplete last line from a file of results.

    Returns:
        How many requests the file answers, and how many of the answers are errors.
    """
    if not output.exists():
        return 0, 0
    with output.open("rb+") as file:
        complete_bytes = answered = failed = 0
        for line in file:
            is_complete = line.endswith(b"\n")
            matches = _answers if is_complete else _could_answer
            if answered == len(requests) or not matches(line, requests[answered]):
                raise CorpusError(
                    f"line {answered + 1} of {output} is not a result of this model, input and options; choose another "
                    "output, or remove the file"
                )
            if is_complete:
                complete_bytes, answered = complete_bytes + len(line), answered + 1
                failed += "error" in json.loads(line)
        file.truncate(complete_bytes)
    return answered, failed


def _answers(line: bytes, request: dict[str, Any]) -> bool:
    try:
        result = json.loads(line)
    except ValueError:
        return False
    return isinstance(result, dict) and request.items() <= result.items()


def _could_answer(line: bytes, request: dict[str, Any]) -> bool:
    """Returns whether an incomplete line may be the beginning of the result."""
    beginning = _line(request).rstrip("}\n").encode("utf-8")
    return line[: len(beginning)] == beginning[: len(line)]


def _line(result: dict[str, Any]) -> str:
    return json.dumps(result, ensure_ascii=False) + "\n"


def _load(model: str) -> None:
    global _sampler
    _sampler = LiteRTSampler(model)
