"""`keras-seq sample`: writes text with a run or a .tflite."""

import argparse
import sys
from pathlib import Path
from typing import Any

from keras_seq.cli.learned import add_learned_option, refuse_learned_of_run, sampler_of
from keras_seq.cli.options import (
    CORPUS_HELP,
    DRAW,
    add_command,
    add_draw_options,
    add_source_options,
    given_options,
)


def add_parser(commands: Any) -> None:
    """Adds `keras-seq sample` to the commands."""
    parser = add_command(commands, "sample", "write text with a run or a .tflite")
    add_source_options(parser)
    add_learned_option(parser)
    text = parser.add_argument_group("text")
    text.add_argument("--prompt", default="", help="text to continue (default: none)")
    text.add_argument("--max_tokens", type=int, help="largest number of tokens to write (default: 200)")
    text.add_argument(
        "--seed",
        type=int,
        help="one seed gives one text, from a run and from its float32 .tflite (default: a random seed)",
    )
    text.add_argument(
        "--num_samples",
        type=int,
        help="write several texts; with --seed=S those of the seeds S, S + 1, ... (default: one)",
    )
    text.add_argument(
        "--corpus",
        action="append",
        help=f"count the texts that are lines of this corpus: {CORPUS_HELP} (default: none)",
    )
    add_draw_options(parser)
    beams = parser.add_argument_group("beam search")
    beams.add_argument(
        "--num_beams", type=int, help="above 1, search for the most likely text instead of sampling (default: 1)"
    )
    beams.add_argument("--length_penalty", type=float, help="0 favours short texts (default: 1)")
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints texts as they are generated."""
    refuse_learned_of_run(arguments)
    known = _lines_of(arguments.corpus) if arguments.corpus else None
    given = given_options(arguments, "max_tokens", *DRAW, "num_samples", "num_beams", "length_penalty")
    vocabulary, pieces = _generation(arguments, {"seed": arguments.seed, **given})
    read = vocabulary.encode(arguments.prompt)
    if unknown := int((read == vocabulary.unk_id).sum()):
        name = vocabulary.tokens[vocabulary.unk_id]
        print(f"keras-seq: {unknown} of {len(read)} tokens of the prompt are read as {name}", file=sys.stderr)
    if arguments.seed is None:
        print(f"keras-seq: --seed={pieces.seed}", file=sys.stderr)
    texts = _print_texts(arguments.prompt, pieces, arguments.num_samples or 1)
    if known is not None:
        print(f"keras-seq: {_copies([arguments.prompt + text for text in texts], *known)}", file=sys.stderr)


def _generation(arguments: argparse.Namespace, options: dict[str, Any]) -> tuple[Any, Any]:
    """Returns the vocabulary, and the iterator over the pieces of the texts."""
    if arguments.model:
        sampler = sampler_of(arguments)
        return sampler.vocabulary, sampler.generate(arguments.prompt, **options)
    from keras_seq.generation.keras_step import generate
    from keras_seq.training.run_directory import load_run

    run = load_run(Path(arguments.run))
    return run.vocabulary, generate(run.model, run.vocabulary, arguments.prompt, **options)


def _print_texts(prompt: str, pieces: Any, count: int) -> list[str]:
    """Prints each text after the prompt, piece by piece; returns the texts without the prompt."""
    texts = [""] * count
    row = 0
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(("\n\n" + prompt) * (piece.row - row), end="")
        row = piece.row
        texts[row] += piece
        print(piece, end="", flush=True)
    print(("\n\n" + prompt) * (count - 1 - row))
    return texts


def _lines_of(names: list[str]) -> tuple[str, set[str]]:
    """Returns the name of a corpus and its lines that are not empty, as `keras_seq.lines` reads them."""
    from keras_seq.cli.corpora import read_corpus
    from keras_seq.data.tokens import split_lines

    corpus = read_corpus(names, validation=0, test=0)
    return corpus.name, set(split_lines(corpus.text("train"))) - {""}


def _copies(texts: list[str], name: str, lines: set[str]) -> str:
    """Returns a sentence on how many texts are lines of a corpus, usually the one that the model was trained on."""
    copies = sum(text.strip("\n").removesuffix("\r") in lines for text in texts)
    return f"{copies} of {len(texts)} texts are lines of {name}; {1 - copies / len(texts):.0%} are new"
