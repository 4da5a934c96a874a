"""`--learned` of the commands that use a .tflite: the file of what it has learned from its user."""

import argparse
from typing import Any

from keras_seq.cli.watched import watched_sampler
from keras_seq.errors import ConfigError


def add_learned_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--learned`."""
    parser.add_argument_group("learning").add_argument(
        "--learned",
        metavar="FILE",
        help="what the .tflite has learned from texts with keras-seq learn (default: nothing learned)",
    )


def refuse_learned_of_run(arguments: argparse.Namespace) -> None:
    """Requires that what was learned is not named beside a run.

    Raises:
        ConfigError: it is.
    """
    if arguments.run and arguments.learned is not None:
        raise ConfigError("{} belongs to a .tflite: leave it out, or give the .tflite with {}", "learned", "model")


def sampler_of(arguments: argparse.Namespace) -> Any:
    """Returns the watched sampler of `--model` with what `--learned` holds.

    Raises:
        ConfigError: the file cannot learn.
        BundleError: the file is damaged, was not written by this package, or is not a model of text.
        LearnedFileError: what was learned cannot be read, is damaged, or belongs to another model.
    """
    sampler = watched_sampler(arguments.model)
    if arguments.learned is not None:
        require_learn(sampler, arguments.model)
        sampler.load_learned(arguments.learned)
    return sampler


def require_learn(sampler: Any, path: str) -> None:
    """Requires a .tflite that learns.

    Raises:
        ConfigError: it does not.
    """
    if not sampler.decoder.has_learn:
        raise ConfigError(
            f"{{}} must be a .tflite that learns: export the run with `keras-seq export --learn`. Received: {path}",
            "model",
        )
