"""Many prompts written on from, or many texts scored, over processes, from a file to a file.

The answers are JSON lines in the order of the input. A job that was cut off goes on after its last whole line when it is called
again; the answers are the same, whatever the number of processes.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from keras_seq.errors import CorpusError
from keras_seq.processes import process_pool
from keras_seq_export.tflite.runtime import LiteRTSampler

_sampler: LiteRTSampler  # of this process


class Job(NamedTuple):
    """What came of a job.

    Attributes:
        there: how many lines were there already.
        failed: how many of those written now have an error.
    """

    there: int
    failed: int


def write_all(
    model: str | os.PathLike[str],
    prompts: Iterable[str],
    output: str | os.PathLike[str],
    processes: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Job:
    """Writes a text after each prompt; the text of prompt number i is that of the seed `seed + i`.

    Each line of the output is an object: `prompt`, `seed`, `options`, `model` (its hash), `text` (the continuation), `log_probability`
    (in nats, by the model's own softmax), `tokens`, `finish_reason`. After a prompt with characters that the vocabulary lacks it
    has `error` in place of these.

    Args:
        model: a .tflite file.
        prompts: one after the other.
        output: the file to write, or to go on with.
        processes: how many at the same time; None for one a core. In a script, call it under `if __name__ == "__main__":`.
        seed: of the first prompt's text.
        **options: of `keras_seq.generation.text.Options`, but `num_samples`.

    Returns:
        How many lines were there already, and how many of those written now have an error.

    Raises:
        CorpusError: the output is of another model, or of other prompts or options.
        BundleError: the model cannot be read.
        ValueError: an option is out of range, or a process was ended from outside.
    """
    sampler = LiteRTSampler(model)
    sampler.generate("", seed=seed, **options)  # Refuses options that are out of range.
    about = {"options": json.loads(json.dumps(options)), "model": _hash(sampler)}
    asked = [{"prompt": prompt, "seed": seed + number, **about} for number, prompt in enumerate(prompts)]
    return _run(_written, asked, model, Path(output), processes)


def score_all(
    model: str | os.PathLike[str],
    texts: Iterable[str],
    output: str | os.PathLike[str],
    processes: int | None = None,
) -> Job:
    """Scores each text; each line of the output is an object: `scored` (the text), `model`, `log_probability` in nats, `tokens`.

    The rest is as of `write_all`.
    """
    about = {"model": _hash(LiteRTSampler(model))}
    return _run(_scored, [{"scored": text, **about} for text in texts], model, Path(output), processes)


def _hash(sampler: LiteRTSampler) -> str:
    return str(sampler.config["model_sha256"])[:16]


def _written(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        text = _sampler.sample(asked["prompt"], seed=asked["seed"], logprobs=True, **asked["options"])
    except ValueError as error:
        return {**asked, "error": str(error)}
    found = {"log_probability": sum(text.log_probabilities), "tokens": len(text.token_ids)}
    return {**asked, "text": str(text), **found, "finish_reason": text.finish_reason}


def _scored(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        score = _sampler.score(asked["scored"])
    except ValueError as error:
        return {**asked, "error": str(error)}
    return {**asked, "log_probability": score.log_probability, "tokens": len(score.token_ids)}


def _run(
    work: Callable[[dict[str, Any]], dict[str, Any]],
    asked: list[dict[str, Any]],
    model: str | os.PathLike[str],
    path: Path,
    processes: int | None,
) -> Job:
    there, failed = _done(path, asked), 0
    if there < len(asked):
        with process_pool(processes, _prepare, os.fspath(model)) as pool, path.open("a", encoding="utf-8") as file:
            for _, answer in pool.in_order(work, asked[there:]):
                failed += "error" in answer
                file.write(_line(answer))
                file.flush()
    return Job(there, failed)


def _done(path: Path, asked: list[dict[str, Any]]) -> int:
    """Returns how many of what is asked have their answers in a file; takes off it a line that was cut off."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        whole = done = 0
        for line in file:
            cut_off = not line.endswith(b"\n")
            answers = _begins if cut_off else _answers
            if done == len(asked) or not answers(line, asked[done]):
                raise CorpusError(
                    f"The output must be of the same model, input and options, but line {done + 1} of {path} is of others; choose "
                    "another file, or remove it."
                )
            if not cut_off:
                whole, done = whole + len(line), done + 1
        file.truncate(whole)
    return done


def _answers(line: bytes, asked: dict[str, Any]) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and asked.items() <= found.items()


def _begins(line: bytes, asked: dict[str, Any]) -> bool:
    """Returns whether a line that was cut off can be the begin of the answer."""
    begin = _line(asked).rstrip("}\n").encode("utf-8")
    return line[: len(begin)] == begin[: len(line)]


def _line(answer: dict[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False) + "\n"


def _prepare(model: str) -> None:
    global _sampler
    _sampler = LiteRTSampler(model)
