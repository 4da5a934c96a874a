"""`keras-seq demo`: what a plain RNN forgets and a GRU remembers, from a grammar to a .tflite."""

import argparse
from pathlib import Path
from typing import Any

from keras_seq.cli.options import add_command


def add_parser(commands: Any) -> None:
    """Adds `keras-seq demo` to the commands."""
    parser = add_command(
        commands, "demo", "learn the built-in grammar, see what a plain RNN forgets, export the GRU and sample from it"
    )
    group = parser.add_argument_group("run")
    group.add_argument("--run", default="demo", help="directory to make (default: demo)")
    group.add_argument("--seed", type=int, default=0, help="seed of the sentences and of the weights (default: 0)")
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Runs the demo."""
    from keras_seq.cli.agreement_demo import demo

    demo(Path(arguments.run), arguments.seed)
