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

from keras_seq.keras_internals import call_before_apply, clipped_gradients

GRADIENT_NORM = "gradient_norm"


class StepNorms(NamedTuple):
    """The norms of one training step: the columns of `steps.csv`, and the logs of a batch.

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
    `parameter_norm` and `learning_rate` of the last step.

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
        self._norms: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts measuring the gradients that the optimizer receives."""
        self._optimizer = self.model.optimizer
        self._inner = getattr(self._optimizer, "inner_optimizer", self._optimizer)  # of a LossScaleOptimizer
        self._norms = keras.Variable(np.zeros(3, "float32"), trainable=False, name="norms")
        self._restore_optimizer = call_before_apply(self._inner, self._measure)
        self.model.make_train_function(force=True)
        if self._path is not None:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                if not file.tell():
                    csv.writer(file).writerow(["epoch", "step", *StepNorms._fields])

    def on_train_end(self, logs: Any = None) -> None:
        """Restores the optimizer."""
        self._restore_optimizer()
        self.model.train_function = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the table of a new epoch."""
        self._epoch, self._steps, self._written = epoch, list[StepNorms](), 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds the norms of the step to the logs."""
        gradient, clipped, parameters = np.asarray(self._norms.value, np.float64).tolist()
        step = StepNorms(gradient, clipped, parameters, float(ops.convert_to_numpy(self._optimizer.learning_rate)))
        self._steps.append(step)
        self.norms.append(step.gradient_norm)
        if logs is not None:
            logs.update(step._asdict())
        if not step.is_finite:  # The run may end here.
            self._write()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the means over the epoch to the logs."""
        self._write()
        finite = [step for step in self._steps if step.is_finite]
        if logs is not None and finite:
            last = finite[-1]
            logs.update(
                {
                    "gradient_norm": float(np.mean([step.gradient_norm for step in finite])),
                    "clipped_norm": float(np.mean([step.clipped_norm for step in finite])),
                    "largest_gradient_norm": max(step.gradient_norm for step in finite),
                    "clipped": sum(step.is_clipped for step in finite) / len(finite),
                    "parameter_norm": last.parameter_norm,
                    "learning_rate": last.learning_rate,
                }
            )

    def _write(self) -> None:
        """Appends the new steps to the file."""
        if self._path is None:
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            for number, step in enumerate(self._steps[self._written :], start=self._written):
                csv.writer(file).writerow([self._epoch, number, *map("{:.6g}".format, step)])
        self._written = len(self._steps)

    def _measure(self, gradients: Sequence[Any]) -> None:
        clipped = clipped_gradients(self._inner, gradients)
        self._norms.assign(ops.stack([_norm(gradients), _norm(clipped), _norm(self.model.trainable_variables)]))


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
