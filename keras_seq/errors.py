"""Every error class of keras_seq. Each message is one sentence: what was expected, what was received, what to do."""

from typing import Any


class KerasSeqError(Exception):
    """Base class of the errors that keras_seq and keras_seq_export raise for bad input, files and runs."""

    def for_command_line(self) -> str:
        """Returns the message with the names of options instead of arguments."""
        return str(self)


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
        several = isinstance(self.received, list | tuple)
        received = ",".join(map(str, self.received)) if several else self.received
        return f"--{self.name} must be {self.expected}. Received: --{self.name}={received}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets the error cross from one process to another."""
        return type(self), (self.name, self.expected, self.received)


class TextError(ArgumentError):
    """A text has characters that cannot be encoded as token ids.

    Args:
        name: name of the argument; the option of the command line has the same name.
        expected: what must hold for the text, to be read after "must".
        received: the offending characters, as they appear in the message.

    Example:
        >>> error = TextError("prompt", "hold only characters of the vocabulary", "'x' (U+0078)")
        >>> str(error)
        "`prompt` must hold only characters of the vocabulary. Received: 'x' (U+0078)"
        >>> error.for_command_line()
        "--prompt must hold only characters of the vocabulary. Received: 'x' (U+0078)"
    """

    def __init__(self, name: str, expected: str, received: str):
        ValueError.__init__(self, f"`{name}` must {expected}. Received: {received}")
        self.name, self.expected, self.received = name, expected, received

    def for_command_line(self) -> str:
        """Returns the message with the name of the option instead of the argument."""
        return f"--{self.name} must {self.expected}. Received: {self.received}"


class ConfigError(KerasSeqError, ValueError):
    """Arguments contradict each other, or a configuration file is malformed.

    Args:
        message: the message, with `{}` for each argument.
        *names: names of the arguments; the options of the command line have the same names.

    Example:
        >>> error = ConfigError("only one of {} and {} can be set", "epochs", "minutes")
        >>> str(error)
        'only one of `epochs` and `minutes` can be set'
        >>> error.for_command_line()
        'only one of --epochs and --minutes can be set'
    """

    def __init__(self, message: str, *names: str):
        super().__init__(message.format(*(f"`{name}`" for name in names)) if names else message)
        self._message, self._names = message, names

    def for_command_line(self) -> str:
        """Returns the message with the names of options instead of arguments."""
        return self._message.format(*(f"--{name}" for name in self._names)) if self._names else self._message

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets the error cross from one process to another."""
        return type(self), (self._message, *self._names)


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
