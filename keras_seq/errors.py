"""Every error class of keras_seq. Each message is one sentence: what was expected, what was received, what to do."""

from typing import Any


class KerasSeqError(Exception):
    """Base class of the errors that keras_seq and keras_seq_export raise for bad input, files and runs."""


class ArgumentError(KerasSeqError, ValueError):
    """An argument is out of range.

    Attributes:
        name: name of the argument; the option of the command line has the same name.
        expected: what the argument must be, to be read after "must be".
        received: the value.

    Example:
        >>> error = ArgumentError("units", "a positive integer", 0)
        >>> str(error)
        '`units` must be a positive integer. Received: units=0'
        >>> error.for_command_line()
        '--units must be a positive integer. Received: --units=0'
    """

    def __init__(self, name: str, expected: str, received: Any):
        super().__init__(f"`{name}` must be {expected}. Received: {name}={received!r}")
        self.name, self.expected, self.received = name, expected, received

    def for_command_line(self) -> str:
        """Returns the message with the name of the option instead of the argument."""
        return f"--{self.name} must be {self.expected}. Received: --{self.name}={self.received}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets the error cross from one process to another."""
        return type(self), (self.name, self.expected, self.received)


class ConfigError(KerasSeqError, ValueError):
    """The configuration of a training run is incomplete or contradicts itself."""


class CorpusError(KerasSeqError, ValueError):
    """A corpus cannot be read."""


class VocabularyError(KerasSeqError, ValueError):
    """A vocabulary file is damaged."""


class SteppingError(KerasSeqError, ValueError):
    """A model cannot be run one step at a time."""


class DistributionError(KerasSeqError, ValueError):
    """Several workers cannot train together."""


class RendezvousError(KerasSeqError, ValueError):
    """Several workers do not find each other."""


class ProcessEndedError(KerasSeqError, ValueError):
    """A worker process was ended from outside."""


class RunError(KerasSeqError, ValueError):
    """A directory is not a run directory, or cannot become one."""


class TrainingError(KerasSeqError, RuntimeError):
    """A training run cannot continue."""


class DivergedError(TrainingError):
    """The loss or the gradient of a training run is no longer finite, or the model is worse than a uniform guess."""
