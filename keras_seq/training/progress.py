"""What a training run prints and logs while it runs, and how Ctrl-C and SIGTERM end it."""

import contextlib
import errno
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_seq import signals
from keras_seq.distribution.collectives import any_worker
from keras_seq.keras_internals import set_tensorboard_step
from keras_seq.training.writing import writing


class Progress(keras.callbacks.Callback):
    """Prints one line per epoch and, on a terminal, the position within the epoch.

    Args:
        epochs: epochs of the run; None for a run that ends after its minutes.
    """

    def __init__(self, epochs: int | None):
        super().__init__()
        self._total = "" if epochs is None else f"/{epochs}"

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock of the epoch."""
        self._name = f"epoch {epoch + 1}{self._total}"
        self._start = self._last_shown = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Prints the position, at most twice per second."""
        if sys.stdout.isatty() and time.monotonic() - self._last_shown > 0.5:
            self._last_shown = time.monotonic()
            nats = (logs or {}).get("nats", math.nan)
            position = f"batch {batch + 1}/{self.params['steps']}, {nats:.4f} nats per token "
            print(f"\r{self._name}: {position}", end="", flush=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Prints the results of the epoch."""
        values = logs or {}
        seconds = time.monotonic() - self._start
        print(
            f"{chr(13) if sys.stdout.isatty() else ''}{self._name}: {values['nats']:.4f} nats per token, "
            f"validation {values['val_nats']:.4f}; gradient norm {values['gradient_norm']:.3g}, "
            f"{values['clipped']:.0%} of the steps clipped; {seconds:.0f} s",
            flush=True,
        )


class History(keras.callbacks.CSVLogger):
    """Writes one row per epoch.

    Args:
        path: the `.csv` file.
        append: whether to add to the file of a run that resumes.
    """

    def __init__(self, path: Path, append: bool):
        super().__init__(str(path), append=append)
        self._path = path

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the file."""
        with writing(self._path):
            super().on_train_begin(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes a row.

        Raises:
            TrainingError: it cannot be written.
        """
        with writing(self._path):
            super().on_epoch_end(epoch, logs)


class ResumedTensorBoard(keras.callbacks.TensorBoard):
    """Logs to TensorBoard and continues the count of steps where a run resumes; Keras starts at 0 in each `fit`.

    Args:
        directory: directory of the logs.
        steps_done: steps of the run before this `fit`.
    """

    def __init__(self, directory: Path, steps_done: int):
        super().__init__(directory, write_graph=False, update_freq=1)
        self._steps_done = steps_done

    def on_train_begin(self, logs: Any = None) -> None:
        """Sets the count of steps."""
        super().on_train_begin(logs)
        set_tensorboard_step(self, self._steps_done)


@contextlib.contextmanager
def reporting_full_tensorboard(directory: Path) -> Iterator[None]:
    """Turns TensorFlow's error about a log that cannot be written into a sentence, as `writing` does.

    Raises:
        TrainingError: TensorBoard's logs cannot be written.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if "events.out.tfevents" not in error.message:
            raise
        codes = [code for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) if os.strerror(code) in error.message]
        with writing(directory):
            raise (
                OSError(codes[0], os.strerror(codes[0])) if codes else OSError(error.message.splitlines()[0])
            ) from error


class EndWithEpoch(keras.callbacks.Callback):
    """Lets Ctrl-C and SIGTERM end the run after its epoch is saved.

    A second Ctrl-C ends it at once. SIGTERM leaves `signals.SECONDS_TO_FINISH` to the epoch. It is handled only where
    the program keras-seq handles it; another program that calls `train` keeps its own handler.

    It is a context manager around `fit`, and comes after the checkpoint in the list of callbacks.

    Args:
        strategy: all its workers end together when one is interrupted; None for one process.
        how_to_resume: the command that resumes the run.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None, how_to_resume: str):
        super().__init__()
        self._strategy, self._how_to_resume = strategy, how_to_resume

    def __enter__(self) -> "EndWithEpoch":
        self._interrupted = False
        self._undo = contextlib.ExitStack()
        if threading.current_thread() is threading.main_thread():  # Other threads cannot handle signals.
            self._handle(signal.SIGINT, self._interrupt)
            if signal.getsignal(signal.SIGTERM) is signals.interrupt:
                self._undo.enter_context(
                    signals.announcing(
                        f"ending when this epoch is finished and saved, after {signals.SECONDS_TO_FINISH} seconds at the "
                        f"latest; to resume: {self._how_to_resume}"
                    )
                )
                self._handle(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: Any) -> None:
        self._undo.close()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Ends the run if it was interrupted.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed, or SIGTERM was sent, in this worker or in another.
        """
        if self._interrupted if self._strategy is None else any_worker(self._strategy, self._interrupted):
            raise KeyboardInterrupt

    def _handle(self, number: int, handler: Any) -> None:
        before = signal.signal(number, handler)
        if before is not None:  # None is a handler that was not set in Python, and cannot be set again.
            self._undo.callback(signal.signal, number, before)

    def _interrupt(self, *_: Any) -> None:
        if self._interrupted:
            signals.end_soon()
            raise KeyboardInterrupt
        self._interrupted = True
        print("\nending when this epoch is finished and saved; Ctrl-C again ends at once", file=sys.stderr, flush=True)

    def _terminate(self, number: int, *_: Any) -> None:
        self._interrupted = True
        signals.end_soon(number)  # After a while it calls `_interrupt`.
