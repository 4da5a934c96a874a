"""`keras-seq inspect`: shows what is in a .tflite, or writes its parts into a folder."""

import argparse
import json
from typing import Any

from keras_seq.cli.options import add_command, add_json_option


def add_parser(commands: Any) -> None:
    """Adds `keras-seq inspect` to the commands."""
    parser = add_command(commands, "inspect", "show what is in a .tflite, without running it")
    parser.add_argument("file", metavar="FILE.tflite", help="the file (required)")
    parser.add_argument("--extract", metavar="DIR", help="write the parts into the new folder DIR (no default)")
    add_json_option(parser)
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the contents of the file, or writes them into a folder."""
    from keras_seq_export.tflite import extract, inspect

    if arguments.extract is not None:
        paths = extract.extract(arguments.file, arguments.extract)
        print(json.dumps([str(path) for path in paths], indent=2) if arguments.json else "\n".join(map(str, paths)))
        return
    found = inspect.inspect(arguments.file)
    print(inspect.to_json(found) if arguments.json else "\n".join(inspect.lines(found)))
