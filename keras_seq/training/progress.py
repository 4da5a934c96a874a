"""What a training run prints, and how Ctrl-C ends it."""

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


class _TensorBoard(keras.callbacks.TensorBoard):
    """Counts the steps on where a run goes on; Keras begins at 0 in each `fit`."""

    def __init__(self, directory: Path, steps_done: int):
        super().__init__(directory, write_graph=False, update_freq=1)
        self._steps_done = steps_done

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._global_train_batch = self._steps_done


class _EndWithTheEpoch(keras.callbacks.Callback):
    """Lets Ctrl-C end the run when its epoch is saved; a second Ctrl-C ends it at once. After the checkpoint in the list.

    Args:
        strategy: whose workers end together when one is told to.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None):
        super().__init__()
        self._strategy = strategy

    def __enter__(self) -> "_EndWithTheEpoch":
        self._asked, self._before = False, None
        if threading.current_thread() is threading.main_thread():  # No other may handle signals.
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._asked if self._strategy is None else any_worker(self._strategy, self._asked):
            raise KeyboardInterrupt

    def _ask(self, *_: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("\nending when this epoch is done and saved; Ctrl-C again ends at once", file=sys.stderr, flush=True)


class Progress(keras.callbacks.Callback):
    """Prints a line an epoch, and on a terminal where the epoch is.

    Args:
        epochs: of the run; None where its minutes end it.
    """

    def __init__(self, epochs: int | None):
        super().__init__()
        self._of = "" if epochs is None else f"/{epochs}"

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._name, self._start, self._told = f"epoch {epoch + 1}{self._of}", time.monotonic(), time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Says where it is."""
        if sys.stdout.isatty() and time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            nats = (logs or {}).get("nats", math.nan)
            print(
                f"\r{self._name}: batch {batch + 1}/{self.params['steps']}, {nats:.4f} nats a token ",
                end="",
                flush=True,
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Says what came of it."""
        values = logs or {}
        seconds = time.monotonic() - self._start
        print(
            f"{chr(13) if sys.stdout.isatty() else ''}{self._name}: {values['nats']:.4f} nats a token, "
            f"validation {values['val_nats']:.4f}; gradient norm {values['gradient_norm']:.3g}, "
            f"{values['clipped']:.0%} of the steps clipped; {seconds:.0f} s",
            flush=True,
        )
