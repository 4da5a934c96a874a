"""`keras-seq batch`: continues many prompts, or scores many texts, on all cores."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from keras_seq import require
from keras_seq.cli.options import DRAW, add_command, add_draw_options, as_flags, given_options
from keras_seq.errors import BatchInputError, ConfigError, CorpusError


def add_parser(commands: Any) -> None:
    """Adds `keras-seq batch` to the commands."""
    parser = add_command(commands, "batch", "continue many prompts, or score many texts, on all cores")
    files = parser.add_argument_group("files")
    files.add_argument("--model", required=True, help=".tflite file (required)")
    files.add_argument(
        "--input",
        required=True,
        help="text file with one prompt or text per line, or a field of a table (news.csv:title), in which a prompt may have "
        "line breaks (required)",
    )
    files.add_argument(
        "--output",
        required=True,
        help="file of JSON lines; the same command resumes where it was interrupted (required)",
    )
    texts = parser.add_argument_group("texts")
    texts.add_argument("--score", action="store_true", help="score the texts (default: continue prompts)")
    texts.add_argument("--max_tokens", type=int, help="largest number of tokens to write (default: 200)")
    texts.add_argument("--seed", type=int, help="seed of the first text; each one after it has the next (default: 0)")
    texts.add_argument("--workers", type=int, help="number of processes (default: one per core)")
    add_draw_options(parser)
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Writes a line of JSON for each prompt or text of the input."""
    from keras_seq_export.errors import ExportError
    from keras_seq_export.tflite.batch_jobs import score_all, write_all

    if arguments.workers is not None:
        require.positive_integer("workers", arguments.workers)
    given = given_options(arguments, *DRAW)
    if arguments.score and given:
        raise ConfigError(f"{{}} samples nothing: leave out {as_flags(given)}", "score")
    if all(map(os.path.exists, files := (arguments.input, arguments.output))) and os.path.samefile(*files):
        raise ConfigError("{} and {} must be two files", "input", "output")
    inputs, count = _read(arguments.input)
    try:
        if arguments.score:
            job = score_all(arguments.model, inputs, arguments.output, arguments.workers)
        else:
            options = given_options(arguments, "max_tokens", "seed")
            job = write_all(arguments.model, inputs, arguments.output, arguments.workers, **options, **given)
    except KeyboardInterrupt:
        print("\nrun the same command again to resume", file=sys.stderr)
        raise
    kind = "texts" if arguments.score else "prompts"
    before = f", {job.existing:,} of which were done already" if job.existing else ""
    print(f"{arguments.output}: {count:,} {kind}{before}")
    if job.failed:
        raise ExportError(
            f"the model could not read {job.failed:,} of these {kind}: their `error` in the output says why"
        )


def _read(name: str) -> tuple[Iterable[str], int]:
    """Returns the prompts or texts of the input, and their number.

    Files are read twice: first to find every error before the work begins. They may be larger than memory.
    """
    from keras_seq.cli.corpora import report_tables
    from keras_seq.data.source_files import is_read_once
    from keras_seq.data.text_files import describe_tables, read_inputs

    with _naming_input():
        inputs: Iterable[str] = list(read_inputs(name)) if is_read_once(name) else read_inputs(name)
        count = len(inputs) if isinstance(inputs, list) else sum(1 for _ in inputs)
        report_tables(describe_tables(name))
    if not count:
        raise ConfigError(f"{{}} must have a prompt or text on each line, but {name} is empty", "input")
    return (inputs if isinstance(inputs, list) else read_inputs(name)), count


@contextlib.contextmanager
def _naming_input() -> Iterator[None]:
    """Names the input in errors of files that are otherwise a corpus."""
    try:
        yield
    except CorpusError as error:
        raise BatchInputError(str(error).replace("the corpus must", "the input must", 1)) from error
