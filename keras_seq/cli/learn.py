"""`keras-seq learn`: a .tflite learns from texts of its user."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from keras_seq.cli.learned import require_learn
from keras_seq.cli.options import CORPUS_HELP, add_command, given_options
from keras_seq.cli.watched import watched_sampler


def add_parser(commands: Any) -> None:
    """Adds `keras-seq learn` to the commands."""
    parser = add_command(
        commands, "learn", "learn from texts of the user with a .tflite that was exported with --learn"
    )
    files = parser.add_argument_group("files")
    files.add_argument("--model", required=True, help=".tflite file, which stays as it is (required)")
    files.add_argument("--corpus", action="append", required=True, help=f"text to learn from: {CORPUS_HELP} (required)")
    files.add_argument(
        "--learned",
        metavar="FILE",
        required=True,
        help="file of what was learned; if it exists, the model goes on learning from there. To forget, delete it (required)",
    )
    rate = parser.add_argument_group("learning")
    rate.add_argument(
        "--rate",
        type=float,
        help="learning rate; with a larger one, the last texts count more (default: that of the .tflite, 12)",
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Learns from the corpus, writes what was learned, and prints how well the text was predicted."""
    from keras_seq.cli.corpora import naming_corpus, read_corpus
    from keras_seq.files import explaining, replacing
    from keras_seq_export.errors import LearnedFileError

    learned = Path(arguments.learned)
    sampler = watched_sampler(arguments.model)
    require_learn(sampler, arguments.model)
    if learned.exists():
        sampler.load_learned(learned)
    corpus = read_corpus(arguments.corpus, validation=0, test=0, by_line=bool(sampler.config.get("by_line")))
    # The file is begun first: where it cannot be written, no time is spent on learning.
    with naming_corpus(), explaining(learned, LearnedFileError), replacing(learned) as partial:
        report = sampler.learn(corpus.text("train"), **given_options(arguments, "rate"))
        sampler.save_learned(partial)
    print(
        f"{corpus.name}: {report}; what was learned now has a weight of {report.weight:.0%}, which grows where it helps"
    )
    print(f"{learned}: {sampler.learned_tokens:,} tokens learned in all, {learned.stat().st_size:,} bytes")
    options = f"--model={shlex.quote(arguments.model)} --learned={shlex.quote(arguments.learned)}"
    print(f"\nNext:\n  keras-seq sample {options} --seed=7\n  keras-seq evaluate {options} --corpus=FILE")
