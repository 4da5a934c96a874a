"""The program `keras-seq`: finds the command, and prints expected errors as one sentence."""

import argparse
import difflib
import faulthandler
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from keras_seq import signals
from keras_seq.cli import (
    batch,
    benchmark,
    demo,
    encode,
    evaluate,
    export,
    gradients,
    inspect,
    learn,
    sample,
    train,
    web,
)
from keras_seq.cli.options import option_names
from keras_seq.errors import KerasSeqError
from keras_seq.version import __version__

COMMANDS = (demo, encode, train, sample, batch, evaluate, gradients, export, learn, inspect, web, benchmark)


def run() -> None:
    """Parses the command line with absl, and runs the command."""
    if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
        _hide_native_notices()
    from absl import app, logging
    from absl.flags import argparse_flags

    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=lambda arguments: parse(arguments[1:], argparse_flags.ArgumentParser))


def _hide_native_notices() -> None:
    """Keeps stderr for Python: TensorFlow and LiteRT write notices there that no setting of theirs turns off."""
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    faulthandler.enable(sys.stderr)  # A crash in native code still prints where it happened.


def main(arguments: argparse.Namespace) -> int:
    """Runs one command; returns the exit code."""
    try:
        arguments.run_command(arguments)
    except (KerasSeqError, ValueError) as error:
        message = str(error)
        if isinstance(error, KerasSeqError):
            message = error.for_command_line(option_names(arguments.parser))
            message += f" ({error.page})" if error.page else ""
        print(f"keras-seq: {message}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # The reader of the output has ended, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"keras-seq: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except MemoryError:
        print("keras-seq: the memory of this machine does not suffice", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return signals.say_interrupted()
    return 0


def parse(
    arguments: Sequence[str], parser_class: type[argparse.ArgumentParser] = argparse.ArgumentParser
) -> argparse.Namespace:
    """Parses the arguments after the program's name; ends the program with code 2 if they are not understood."""

    class Parser(parser_class):  # type: ignore[valid-type, misc]
        """Prints an error as one sentence, not below the usage of all options."""

        def error(self, message: str) -> NoReturn:
            self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")
            raise AssertionError  # `exit` does not return.

    parser = Parser(
        prog="keras-seq",
        description="Small recurrent language models, from text to phone.",
        allow_abbrev=False,  # Otherwise absl takes --run for a short form of its own --run_with_pdb.
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in COMMANDS:
        command.add_parser(commands)
    found, unknown = parser.parse_known_args(arguments)
    if unknown:
        found.parser.error(
            "; ".join(_describe_unknown(argument, found.parser, commands.choices) for argument in unknown)
        )
    return found


def _describe_unknown(
    argument: str, parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]
) -> str:
    """Returns what is wrong with an argument that a command does not have, and what may have been meant."""
    option = argument.partition("=")[0]
    if not option.startswith("--"):
        return f"unexpected argument {argument}"
    name = option.removeprefix("--")
    others = dict(commands)
    for subject, other in commands["benchmark"].get_default("subjects").choices.items():
        others[f"benchmark {subject}"] = other
    owners = [command for command, other in others.items() if name in option_names(other)]
    near = difflib.get_close_matches(name.replace("-", "_"), option_names(parser), n=1)
    hint = ""
    if owners:
        hint = f", it is an option of {', '.join(owners)}"
    elif near:
        hint = f", did you mean --{near[0]}?"
    return f"there is no option {option}{hint}"
