"""Every error class of keras_seq. The messages say what was expected, what was received and what to do."""

from collections.abc import Callable, Collection
from typing import Any


def shortened(found: object, most: int = 300) -> str:
    """Returns what was found in a damaged file as text, or the beginning of it, so that a message stays a sentence.

    Args:
        found: what was found.
        most: largest number of characters.

    Example:
        >>> shortened("to be or not to be", most=5)
        'to be...'
    """
    text = str(found)
    return text if len(text) <= most else f"{text[:most]}..."


class KerasSeqError(Exception):
    """Base class of the errors that keras_seq and keras_seq_export raise for bad input, files and runs.

    Args:
        message: the message, with `{}` for each name.
        *names: names of arguments. The options of the command line have the same names.

    Attributes:
        names: names of the arguments that the message is about.
        page: page of the documentation that explains more, as a path in the repository; empty if none does.

    Example:
        >>> error = ConfigError("only one of {} and {} can be set", "epochs", "minutes")
        >>> str(error)
        'only one of `epochs` and `minutes` can be set'
        >>> error.for_command_line(options=["epochs", "minutes"])
        'only one of --epochs and --minutes can be set'
    """

    page = ""

    def __init__(self, message: str, *names: str):
        super().__init__(message, *names)  # What an error is made of crosses from one process to another.
        self.names = names

    def __str__(self) -> str:
        return self._message(lambda name: f"`{name}`")

    def for_command_line(self, options: Collection[str]) -> str:
        """Returns the message with `--name` for each argument that is one of the options of a command."""
        return self._message(lambda name: f"--{name}" if name in options else f"`{name}`")

    def _message(self, show: Callable[[str], str]) -> str:
        message = self.args[0]
        for name in self.names:
            message = message.replace("{}", show(name), 1)
        return message


class ArgumentError(KerasSeqError, ValueError):
    """An argument is out of range.

    Args:
        name: name of the argument.
        expected: what the argument must be, to be read after "must be".
        received: the value.

    Example:
        >>> error = ArgumentError("units", "a positive integer", 0)
        >>> str(error)
        '`units` must be a positive integer. Received: units=0'
        >>> error.for_command_line(options=["units"])
        '--units must be a positive integer. Received: --units=0'
    """

    def __init__(self, name: str, expected: str, received: Any):
        Exception.__init__(self, name, expected, received)
        self.names = (name,)

    def _message(self, show: Callable[[str], str]) -> str:
        name, expected, received = self.args
        shown = show(name)
        if not shown.startswith("--"):
            return f"{shown} must be {expected}. Received: {name}={_shown(received)}"
        if isinstance(received, list | tuple):  # as a user types it, such as 256,256
            received = ",".join(map(str, received))
        return f"{shown} must be {expected}. Received: {shown}={received}"


def _shown(received: Any) -> str:
    """Returns the value as Python writes it, or the beginning of it."""
    try:
        return shortened(repr(received))
    except (RecursionError, ValueError):  # It is nested too deeply, or a number of more than 4,300 digits.
        return f"a value of type {type(received).__name__}"


class TextError(ArgumentError):
    """A text has characters that cannot be encoded as token ids.

    Args:
        name: name of the argument.
        expected: what must hold for the text, to be read after "must".
        received: the offending characters, as they appear in the message.

    Example:
        >>> str(TextError("prompt", "hold only characters of the vocabulary", "'x' (U+0078)"))
        "`prompt` must hold only characters of the vocabulary. Received: 'x' (U+0078)"
    """

    page = "docs/corpora.md#vocabularies"

    def _message(self, show: Callable[[str], str]) -> str:
        name, expected, received = self.args
        return f"{show(name)} must {expected}. Received: {received}"


class ConfigError(KerasSeqError, ValueError):
    """Arguments contradict each other, or a configuration file is malformed."""


class CorpusError(KerasSeqError, ValueError):
    """A corpus cannot be read."""

    page = "docs/corpora.md"


class BatchInputError(CorpusError):
    """The prompts or texts of `keras-seq batch` cannot be read."""

    page = "docs/sampling.md#many-prompts"


class VocabularyError(KerasSeqError, ValueError):
    """A vocabulary file is damaged."""

    page = "docs/formats.md#the-vocabulary"


class OwnWordsError(KerasSeqError, ValueError):
    """The counts of a user's own words are malformed."""


class ModelError(KerasSeqError, ValueError):
    """A model lacks what a function needs of it."""


class SteppingError(KerasSeqError, ValueError):
    """A model cannot be run one step at a time."""

    page = "docs/models.md#what-a-model-may-consist-of"


class DistributionError(KerasSeqError, ValueError):
    """Several workers cannot train together."""

    page = "docs/many-machines.md"


class RendezvousError(KerasSeqError, ValueError):
    """Several workers do not find each other."""

    page = "docs/many-machines.md"


class InUseError(KerasSeqError, ValueError):
    """Another process uses the same files."""


class ProcessEndedError(KerasSeqError, ValueError):
    """A worker process was ended from outside."""


class RunError(KerasSeqError, ValueError):
    """A directory is not a run directory, or cannot become one."""

    page = "docs/training.md#the-run-directory"


class TrainingError(KerasSeqError, RuntimeError):
    """A training run cannot continue."""


class DivergedError(TrainingError):
    """The loss or the gradient of a training run is no longer finite, or the model is worse than a uniform guess."""

    page = "docs/training.md#clipping-and-divergence"
