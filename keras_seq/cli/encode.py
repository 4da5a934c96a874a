"""`keras-seq encode`: encodes a corpus on disk, to train on one larger than memory."""

import argparse
import shlex
import sys
from typing import Any

from keras_seq.cli.options import CORPUS_HELP, LEVELS, add_command, given_options


def add_parser(commands: Any) -> None:
    """Adds `keras-seq encode` to the commands."""
    parser = add_command(commands, "encode", "encode a text on disk, to train on one larger than memory")
    files = parser.add_argument_group("files")
    files.add_argument("--corpus", action="append", required=True, help=f"{CORPUS_HELP} (required)")
    files.add_argument(
        "--output",
        required=True,
        help="directory to make; the same command resumes where it was interrupted (required)",
    )
    group = parser.add_argument_group("vocabulary")
    group.add_argument("--level", choices=LEVELS, help="what a token is (default: char)")
    group.add_argument("--max_size", type=int, help="largest vocabulary, at word level (default: all)")
    group.add_argument(
        "--coverage",
        type=float,
        help="keep the most frequent words that make up this fraction of the text (default: 1, all)",
    )
    group.add_argument(
        "--by_line",
        action="store_true",
        default=None,
        help="make each line a sequence of its own (default: one long stream)",
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Encodes the corpus and prints the command that trains on it."""
    from keras_seq.cli.corpora import corpus_source, describe_corpus
    from keras_seq.data.encode import encode_corpus

    try:
        corpus = encode_corpus(
            corpus_source(arguments.corpus),
            arguments.output,
            **given_options(arguments, "level", "max_size", "coverage", "by_line"),
        )
    except KeyboardInterrupt:
        print("\nrun the same command again to resume", file=sys.stderr)
        raise
    assert not isinstance(corpus.train, str)
    vocabulary = corpus.train.vocabulary
    print(describe_corpus(corpus, vocabulary))
    options = " --tie_embeddings --embedding_dim=256 --sampled_softmax=1024" if len(vocabulary) >= 10_000 else ""
    print(f"\nNext:\n  keras-seq train --corpus={shlex.quote(arguments.output)}{options}")
