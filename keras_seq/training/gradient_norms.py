"""The norms of gradients while a model trains: what clipping does, and how long a memory can learn."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

CLIPPINGS = ("clipnorm", "global_clipnorm", "clipvalue")
GRADIENT_NORM, CLIPPED_NORM, PARAMETER_NORM = "gradient_norm", "clipped_norm", "parameter_norm"
LEARNING_RATE = "learning_rate"


class GradientNorms(keras.callbacks.Callback):
    """Adds the norms of each step to the logs of `fit`, for the callbacks after it in the list.

    After a batch `gradient_norm` is that of all gradients together, `clipped_norm` the same after clipping,
    `parameter_norm` that of the trainable weights, `learning_rate` the rate of the step. After an epoch the first two are
    means of the steps with a finite one, `largest_gradient_norm` is what its name says, and `clipped` the share of the
    steps that clipping changed.

    Args:
        path: a `.csv` file that gets the norms of each step, one a line; None writes none.

    Attributes:
        norms: `gradient_norm` of all steps so far.

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
        """Measures what the optimizer is given, from the next step on."""
        self._optimizer = self.model.optimizer
        self._inner = getattr(self._optimizer, "inner_optimizer", self._optimizer)  # of a LossScaleOptimizer
        self._norms = keras.Variable(np.zeros(3, "float32"), trainable=False, name="norms")
        self._apply = self._inner.apply
        self._inner.apply = self._measure_and_apply
        self.model.make_train_function(force=True)
        if self._path is not None:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                if not file.tell():
                    csv.writer(file).writerow(["epoch", "step", *STEP_COLUMNS])

    def on_train_end(self, logs: Any = None) -> None:
        """Leaves the optimizer as it was."""
        del self._inner.apply
        self.model.train_function = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins a new epoch."""
        self._epoch, self._steps, self._written = epoch, list[list[float]](), 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds the norms of the step."""
        step = [
            *np.asarray(self._norms.value, np.float64).tolist(),
            float(ops.convert_to_numpy(self._optimizer.learning_rate)),
        ]
        self._steps.append(step)
        self.norms.append(step[0])
        if logs is not None:
            logs.update(zip(STEP_COLUMNS, step, strict=True))
        if not np.isfinite(step[0]):  # It may be the last.
            self._write()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds what the epoch came to."""
        self._write()
        steps = np.array([step for step in self._steps if np.isfinite(step[0])])
        if logs is not None and len(steps):
            logs.update(
                {
                    GRADIENT_NORM: steps[:, 0].mean().item(),
                    CLIPPED_NORM: steps[:, 1].mean().item(),
                    "largest_gradient_norm": steps[:, 0].max().item(),
                    "clipped": (steps[:, 1] < steps[:, 0] * (1 - 1e-5)).mean().item(),
                    PARAMETER_NORM: steps[-1, 2].item(),
                    LEARNING_RATE: steps[-1, 3].item(),
                }
            )

    def _write(self) -> None:
        """Appends the steps that are not in the file yet."""
        if self._path is None:
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            for number, step in enumerate(self._steps[self._written :], start=self._written):
                csv.writer(file).writerow([self._epoch, number, *map("{:.6g}".format, step)])
        self._written = len(self._steps)

    def _measure_and_apply(self, grads: Any, trainable_variables: Any = None) -> None:
        # The optimizer's own rule: for an embedding it takes the norm of the rows as they were looked up, before those
        # of one token are added. What is private here is computed once with what `apply` computes.
        clipped = self._inner._clip_gradients(list(grads))
        self._norms.assign(ops.stack([_norm(grads), _norm(clipped), _norm(self.model.trainable_variables)]))
        self._apply(grads, trainable_variables)


STEP_COLUMNS = (GRADIENT_NORM, CLIPPED_NORM, PARAMETER_NORM, LEARNING_RATE)


def _norm(arrays: Iterable[Any]) -> tf.Tensor:
    """Returns the common norm; of an embedding's gradient after the rows of one token are added."""
    wide = (tf.cast(tf.convert_to_tensor(array), tf.float32) for array in arrays if array is not None)
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(array)) for array in wide]))


def threshold_range(norms: Iterable[float]) -> tuple[float, float]:
    """Returns the thresholds of `global_clipnorm` worth trying: half to ten times the mean norm of a run's gradients.

    Pascanu et al. 2013, arXiv 1211.5063, section 3.2.

    Args:
        norms: `gradient_norm` of each step; what is not finite is left out.

    Raises:
        ValueError: there is none.

    Example:
        >>> threshold_range([0.5, 1.5])
        (0.5, 10.0)
    """
    finite = [norm for norm in norms if np.isfinite(norm)]
    if not finite:
        raise ValueError("`norms` must hold at least one finite norm; it has none")
    mean = float(np.mean(finite))
    return 0.5 * mean, 10 * mean
