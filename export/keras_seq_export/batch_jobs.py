"""Many prompts written on from, or many texts scored, over processes, from a file to a file.

The answers are JSON lines in the order of the input. A job that was cut off goes on after its last whole line when it is called
again; the answers are the same, whatever the number of processes.
"""

import functools
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_seq.processes import process_pool
from keras_seq.text_files import CorpusError
from keras_seq_export.runtime import LiteRTSampler

_sampler: LiteRTSampler  # of this process


def write_all(
    model: str | os.PathLike[str],
    prompts: Iterable[str],
    output: str | os.PathLike[str],
    processes: int | None = None,
    seed: int = 0,
    **options: Any,
) -> int:
    """Writes a text after each prompt; the text of prompt number i is that of the seed `seed + i`.

    Each line of the output is an object: `prompt`, `seed`, `text` (the continuation), `log_probability` (in nats, by the model's own
    softmax), `tokens`, `finish_reason`.

    Args:
        model: a .tflite file.
        prompts: one after the other.
        output: the file to write, or to go on with.
        processes: how many at the same time; None for one a core. In a script, call it under `if __name__ == "__main__":`.
        seed: of the first prompt's text.
        **options: of `keras_seq.generation.Options`, but `num_samples`.

    Returns:
        How many lines were there already.

    Raises:
        CorpusError: the output is of other prompts, or of another seed.
        ValueError: an option is out of range, or a prompt holds what the vocabulary lacks.
    """
    asked = ({"prompt": prompt, "seed": seed + number} for number, prompt in enumerate(prompts))
    return _run(functools.partial(_written, options), asked, model, output, processes)


def score_all(
    model: str | os.PathLike[str],
    texts: Iterable[str],
    output: str | os.PathLike[str],
    processes: int | None = None,
) -> int:
    """Scores each text; each line of the output is an object: `scored` (the text), `log_probability` in nats, `tokens`.

    The rest is as of `write_all`.
    """
    return _run(_scored, ({"scored": text} for text in texts), model, output, processes)


def _written(options: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    text = _sampler.sample(asked["prompt"], seed=asked["seed"], logprobs=True, **options)
    found = {"log_probability": sum(text.log_probabilities), "tokens": len(text.token_ids)}
    return {**asked, "text": str(text), **found, "finish_reason": text.finish_reason}


def _scored(asked: dict[str, Any]) -> dict[str, Any]:
    score = _sampler.score(asked["scored"])
    return {**asked, "log_probability": score.log_probability, "tokens": len(score.token_ids)}


def _run(
    work: Callable[[dict[str, Any]], dict[str, Any]],
    asked: Iterator[dict[str, Any]],
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    processes: int | None,
) -> int:
    path = Path(output)
    done = _done(path, asked)
    first = next(asked, None)
    if first is None:
        return done
    number = done
    with process_pool(processes, _prepare, os.fspath(model)) as pool, path.open("a", encoding="utf-8") as file:
        try:
            for _, answer in pool.in_order(work, itertools.chain([first], asked)):
                number += 1
                file.write(json.dumps(answer, ensure_ascii=False) + "\n")
                file.flush()
        except ValueError as error:
            if not number:
                path.unlink()
            raise ValueError(f"line {number + 1} of the input: {error}") from error
    return done


def _done(path: Path, asked: Iterator[dict[str, Any]]) -> int:
    """Takes what has its answer already off `asked`, and a line that was cut off off the file; returns how many were there."""
    if not path.exists():
        return 0
    whole = number = 0
    with path.open("rb+") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                number -= 1
                break
            expected = next(asked, None)
            if expected is None or not _answers(line, expected):
                raise CorpusError(
                    f"The output must be of the same input, but line {number} of {path} is of another; choose another file, or "
                    "remove it."
                )
            whole += len(line)
        file.truncate(whole)
    return number


def _answers(line: bytes, asked: dict[str, Any]) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and asked.items() <= found.items()


def _prepare(model: str) -> None:
    global _sampler
    _sampler = LiteRTSampler(model)
