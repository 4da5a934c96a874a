"""`keras-seq batch`: continues many prompts, or scores many texts, on all cores."""

import argparse
import sys
from typing import Any

from keras_seq import require
from keras_seq.cli.options import DRAW, add_command, add_draw_options, as_flags, given_options
from keras_seq.errors import ConfigError


def add_parser(commands: Any) -> None:
    """Adds `keras-seq batch` to the commands."""
    parser = add_command(commands, "batch", "continue many prompts, or score many texts, on all cores")
    files = parser.add_argument_group("files")
    files.add_argument("--model", required=True, help=".tflite file (required)")
    files.add_argument(
        "--input",
        required=True,
        help="text file with one prompt or text per line, or a field of a table (news.csv:title) (required)",
    )
    files.add_argument(
        "--output",
        required=True,
        help="file of JSON lines; the same command resumes where it was interrupted (required)",
    )
    texts = parser.add_argument_group("texts")
    texts.add_argument("--score", action="store_true", help="score the lines (default: continue them)")
    texts.add_argument("--max_tokens", type=int, help="largest number of tokens to write (default: 200)")
    texts.add_argument("--seed", type=int, help="seed of the first text; line i has seed + i (default: 0)")
    texts.add_argument("--workers", type=int, help="number of processes (default: one per core)")
    add_draw_options(parser)
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Writes a line of JSON for each line of the input."""
    from keras_seq.cli.corpora import corpus_source, report_tables
    from keras_seq.data.text_files import describe_tables, joined, read_texts
    from keras_seq.data.tokens import split_lines
    from keras_seq_export.errors import ExportError
    from keras_seq_export.tflite.batch_jobs import score_all, write_all

    if arguments.workers is not None:
        require.positive_integer("workers", arguments.workers)
    source = corpus_source([arguments.input])
    text = "".join(joined(pieces for _, pieces in read_texts(*source)))
    report_tables(describe_tables(*source))
    lines = split_lines(text.removesuffix("\n"))
    given = given_options(arguments, *DRAW)
    if arguments.score and given:
        raise ConfigError(f"{{}} samples nothing: leave out {as_flags(given)}", "score")
    try:
        if arguments.score:
            job = score_all(arguments.model, lines, arguments.output, arguments.workers)
        else:
            options = given_options(arguments, "max_tokens", "seed")
            job = write_all(arguments.model, lines, arguments.output, arguments.workers, **options, **given)
    except KeyboardInterrupt:
        print("\nrun the same command again to resume", file=sys.stderr)
        raise
    before = f", {job.existing:,} of which were done already" if job.existing else ""
    print(f"{arguments.output}: {len(lines):,} lines{before}")
    if job.failed:
        raise ExportError(
            f"the model could not read {job.failed:,} of these lines: their `error` in the output says why"
        )
