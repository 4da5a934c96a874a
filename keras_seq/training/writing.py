"""What is raised when a file of a training run cannot be written."""

import contextlib
import shlex
from pathlib import Path

from keras_seq.errors import TrainingError
from keras_seq.files import explaining


def writing(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turns an error of writing into a sentence with the path, the reason and what to do.

    Raises:
        TrainingError: the file or directory cannot be written.

    Example:
        >>> with writing(Path("run/steps.csv")):
        ...     raise OSError(30, "Read-only file system")
        Traceback (most recent call last):
        keras_seq.errors.TrainingError: run/steps.csv cannot be written: Read-only file system. Check it, or choose another place
    """
    return explaining(path, TrainingError, then="resume the run")


def resume_command(directory: Path) -> str:
    """Returns the command that resumes a run.

    Example:
        >>> resume_command(Path("my run"))
        "keras-seq train --run='my run' --resume"
    """
    return f"keras-seq train --run={shlex.quote(str(directory))} --resume"
