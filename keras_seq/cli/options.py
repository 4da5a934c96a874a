"""Options that several commands share, and how their values are read."""

import argparse
import re
from typing import Any

LEVELS = ("char", "word")
# Options of the draw, by their names in `keras_seq.generation.text.Options`.
DRAW = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "allow_unk", "stop")

CORPUS_HELP = "file, folder, pattern, field of a table (news.csv:body), tfds:NAME or - for standard input; may be given several times"

TRUSTED_NETWORK_HELP = (
    "confirm that only trusted people can reach this machine: several processes use TensorFlow's server, which lets everyone "
    "who connects read and write files (default: not confirmed)"
)


def add_command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    """Adds a command to the program, or a subject to a command; `arguments.parser` is then its parser."""
    # Abbreviations are off: absl would take --run for a short form of its own --run_with_pdb.
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    parser.set_defaults(parser=parser)
    return parser


def option_names(parser: argparse.ArgumentParser) -> set[str]:
    """Returns the names of a parser's options, without the dashes."""
    return set(re.findall(r"--(\w+)", parser.format_usage()))


def add_draw_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of sampling. An option that is left out has the default of the run or of the .tflite."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--temperature", type=float, help="below 1 more predictable, above 1 more varied, 0 greedy (default: 1)"
    )
    group.add_argument("--top_k", type=int, help="sample from the k most likely tokens (default: 0, off)")
    group.add_argument(
        "--top_p", type=float, help="sample from the most likely tokens with total probability p (default: 1, off)"
    )
    group.add_argument(
        "--min_p", type=float, help="drop tokens below this fraction of the highest probability (default: 0, off)"
    )
    group.add_argument(
        "--repetition_penalty",
        type=float,
        help="above 1, tokens of the text so far become less likely (default: 1, off)",
    )
    group.add_argument(
        "--allow_unk", action="store_true", default=None, help="allow <unk> to be sampled (default: not allowed)"
    )
    group.add_argument(
        "--stop",
        action="append",
        help="end the text before this string, in bash $'\\n' for a line break; may be given several times (default: none)",
    )


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--run` and `--model`, of which one is required."""
    group = parser.add_argument_group("model")
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", help="run directory (no default: give --run or --model)")
    source.add_argument("--model", help=".tflite file (no default: give --run or --model)")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON (default: a table)")


def integers(text: str) -> tuple[int, ...]:
    """Reads integers separated by commas, such as `256,256`.

    Raises:
        ArgumentTypeError: the text is something else.
    """
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be integers separated by commas, such as 256,256. Received: {text!r}"
        ) from None


def given_options(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Returns those of the named options that were given."""
    return {name: value for name in names if (value := getattr(arguments, name, None)) is not None}


def as_flags(names: Any) -> str:
    """Returns names of options as a user types them.

    Example:
        >>> as_flags(["level", "by_line"])
        '--level, --by_line'
    """
    return ", ".join(f"--{name}" for name in names)
