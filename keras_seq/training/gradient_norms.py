"""The norms of the gradients during training, before and after clipping."""

import csv
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_seq.errors import ModelError
from keras_seq.keras_internals import call_at_clipping
from keras_seq.training.writing import writing

GRADIENT_NORM = "gradient_norm"


class StepNorms(NamedTuple):
    """The norms of one update of the weights: the columns of `steps.csv`, and the logs of a batch.

    Attributes:
        gradient_norm: common norm of all gradients.
        clipped_norm: common norm of all gradients after clipping.
        parameter_norm: common norm of the trainable weights.
        learning_rate: learning rate of the step.
    """

    gradient_norm: float
    clipped_norm: float
    parameter_norm: float
    learning_rate: float

    @property
    def is_finite(self) -> bool:
        """Whether the gradients are finite."""
        return math.isfinite(self.gradient_norm)

    @property
    def is_clipped(self) -> bool:
        """Whether clipping changed the gradients by more than rounding."""
        return self.clipped_norm < self.gradient_norm * (1 - 1e-5)


class GradientNorms(keras.callbacks.Callback):
    """Adds the norms of each step to the logs of `fit`, for the callbacks after it in the list.

    Logs after each batch: `gradient_norm`, the common norm of all gradients; `clipped_norm`, the same after clipping;
    `parameter_norm`, the norm of the trainable weights; `learning_rate`. Logs after each epoch: the means of the first two
    over the steps with a finite norm; `largest_gradient_norm`; `clipped`, the fraction of the steps that clipping changed;
    `parameter_norm` and `learning_rate` of the last step. They are NaN if no step has a finite norm.

    A step is an update of the weights. With `gradient_accumulation_steps` it has the mean gradient of several batches, and
    only the last of them has these logs. With `steps_per_execution`, every step is measured, and `fit` logs the first step
    of an execution whose norm is not finite, or else the last one. In float16, Keras skips the update where the scaled
    gradients overflow, so the batch has no step.

    Args:
        path: a `.csv` file for the norms of each step, one row per step; None writes none.

    Attributes:
        norms: `gradient_norm` of each step so far.

    Example:
        >>> import keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be, " * 9)
        >>> model = ks.language_model(len(vocabulary), units=[4], embedding_dim=3)
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> model.compile(keras.optimizers.SGD(0.1, clipnorm=0.01), loss)
        >>> data = ks.streams("to be or not to be, " * 9, vocabulary, batch_size=2, length=9)
        >>> history = model.fit(data, shuffle=False, verbose=0, callbacks=[GradientNorms()]).history
        >>> history["clipped"], history["clipped_norm"][0] < history["gradient_norm"][0]
        ([1.0], True)
    """

    def __init__(self, path: str | os.PathLike[str] | None = None):
        super().__init__()
        self._path = None if path is None else Path(path)
        self.norms: list[float] = []
        self._table: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts measuring the gradients by which the optimizer updates the weights.

        Raises:
            ModelError: the model has several optimizers.
        """
        optimizer = self.model.optimizer
        self._optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        if hasattr(self._optimizer, "optimizers"):
            raise ModelError(
                "`GradientNorms` needs a model with one optimizer, which clips all gradients. Received: a "
                f"{type(self._optimizer).__name__}; leave out one of the two"
            )
        # One row for each update in an execution.
        table = np.zeros((self.model.steps_per_execution, len(StepNorms._fields)), "float32")
        self._table = keras.Variable(table, trainable=False, name="norms")
        self._restore_optimizer = call_at_clipping(self._optimizer, self._measure)
        self.model.make_train_function(force=True)
        if self._path is not None:
            with writing(self._path), self._path.open("a", newline="", encoding="utf-8") as file:
                if not file.tell():
                    csv.writer(file).writerow(["epoch", "step", *StepNorms._fields])

    def on_train_end(self, logs: Any = None) -> None:
        """Restores the optimizer."""
        self._restore_optimizer()
        self.model.train_function = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the table of a new epoch."""
        self._epoch, self._steps, self._written = epoch, list[StepNorms](), 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Counts the updates so far."""
        self._updates = self._count_updates()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds the norms of the new steps to the logs."""
        table = np.asarray(self._table.value, np.float64).tolist()
        steps = [StepNorms(*table[update % len(table)]) for update in range(self._updates, self._count_updates())]
        self._steps += steps
        self.norms += [step.gradient_norm for step in steps]
        not_finite = [step for step in steps if not step.is_finite]
        if logs is not None and steps:
            logs.update((not_finite or steps[-1:])[0]._asdict())
        if not_finite:  # The run may end here.
            self._write()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the means over the epoch to the logs."""
        self._write()
        if logs is None:
            return
        finite = [step for step in self._steps if step.is_finite]
        last = finite[-1] if finite else StepNorms(math.nan, math.nan, math.nan, math.nan)
        logs.update(
            {
                "gradient_norm": _mean([step.gradient_norm for step in finite]),
                "clipped_norm": _mean([step.clipped_norm for step in finite]),
                "largest_gradient_norm": max([step.gradient_norm for step in finite], default=math.nan),
                "clipped": _mean([step.is_clipped for step in finite]),
                "parameter_norm": last.parameter_norm,
                "learning_rate": last.learning_rate,
            }
        )

    def _write(self) -> None:
        """Appends the new steps to the file."""
        if self._path is None:
            return
        with writing(self._path), self._path.open("a", newline="", encoding="utf-8") as file:
            for number, step in enumerate(self._steps[self._written :], start=self._written):
                csv.writer(file).writerow([self._epoch, number, *map("{:.6g}".format, step)])
        self._written = len(self._steps)

    def _count_updates(self) -> int:
        # The inner conversion is for variables of Keras, the outer for those of a strategy.
        return int(tf.convert_to_tensor(ops.convert_to_tensor(self._optimizer.iterations)))

    def _measure(self, gradients: Sequence[Any], clipped: Sequence[Any]) -> None:
        norms = [_norm(arrays) for arrays in (gradients, clipped, self.model.trainable_variables)]
        row = ops.stack([*norms, ops.cast(self._optimizer.learning_rate, "float32")])
        # By the count of updates, which all replicas share.
        update = self._optimizer.iterations % self._table.shape[0]
        self._table.assign(ops.scatter_update(self._table, [[update]], [row]))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _norm(arrays: Iterable[Any]) -> tf.Tensor:
    """Returns the common norm of arrays; the rows of an embedding's gradient that belong to one token are added first."""
    wide = (tf.cast(tf.convert_to_tensor(array), tf.float32) for array in arrays if array is not None)
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(array)) for array in wide]))


def threshold_range(norms: Iterable[float]) -> tuple[float, float]:
    """Returns the range of `global_clipnorm` worth trying: half to ten times the mean norm of a run's gradients.

    Pascanu et al. 2013, arXiv 1211.5063, section 3.2.

    Args:
        norms: `gradient_norm` of each step; norms that are not finite are ignored.

    Raises:
        ValueError: no norm is finite.

    Example:
        >>> threshold_range([0.5, 1.5])
        (0.5, 10.0)
    """
    finite = [norm for norm in norms if np.isfinite(norm)]
    if not finite:
        raise ValueError("`norms` must have at least one finite norm. Received: none")
    mean = float(np.mean(finite))
    return 0.5 * mean, 10 * mean
