"""What a training run prints and logs while it runs, and how Ctrl-C ends it."""

import math
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_seq.distribution.collectives import any_worker
from keras_seq.keras_internals import set_tensorboard_step


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


class EndWithEpoch(keras.callbacks.Callback):
    """Lets Ctrl-C end the run after its epoch is saved; a second Ctrl-C ends it at once.

    It is a context manager around `fit`, and comes after the checkpoint in the list of callbacks.

    Args:
        strategy: all its workers end together when one is interrupted; None for one process.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None):
        super().__init__()
        self._strategy = strategy

    def __enter__(self) -> "EndWithEpoch":
        self._interrupted, self._handler_before = False, None
        if threading.current_thread() is threading.main_thread():  # Other threads cannot handle signals.
            self._handler_before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._handler_before is not None:
            signal.signal(signal.SIGINT, self._handler_before)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Ends the run if it was interrupted.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed in this worker or in another.
        """
        if self._interrupted if self._strategy is None else any_worker(self._strategy, self._interrupted):
            raise KeyboardInterrupt

    def _interrupt(self, *_: Any) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        print("\nending when this epoch is finished and saved; Ctrl-C again ends at once", file=sys.stderr, flush=True)
