"""`keras-seq inspect`: shows what is in a .tflite."""

import argparse
import json
from typing import Any

from keras_seq.cli.options import add_command, add_json_option


def add_parser(commands: Any) -> None:
    """Adds `keras-seq inspect` to the commands."""
    parser = add_command(commands, "inspect", "show what is in a .tflite, without running it")
    parser.add_argument("file", metavar="FILE.tflite", help="the file (required)")
    add_json_option(parser)
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the contents of the file."""
    from keras_seq_export.tflite import inspect

    found = inspect.inspect(arguments.file)
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(inspect.lines(found)))
