"""`distributed`: lets a Keras model train under a strategy of `tf.distribute`."""

from typing import Any

import keras
import tensorflow as tf
from keras import tree

from keras_seq.errors import DistributionError
from keras_seq.keras_internals import (
    BuildsFromOneReplica,
    additional_loss,
    insert_base,
    mask_of,
    sum_before_clipping,
)


def distributed(model: keras.Model) -> keras.Model:
    """Makes `fit` and `evaluate` of a model run under the strategy in whose `scope` it was created.

    Call it before `compile`.

    Args:
        model: a model of any class. `DistributedFit` becomes the first base of its class.

    Returns:
        The same model.

    Raises:
        DistributionError: the model is already compiled.
    """
    if isinstance(model, DistributedFit):
        return model
    if model.compiled:
        raise DistributionError(
            "`distributed` must be called before `compile`, which gives the model an optimizer for its replicas"
        )
    insert_base(model, DistributedFit)
    return model


class DistributedFit(BuildsFromOneReplica):
    """The first base of the class of a model that trains under a strategy, before `keras.Model`.

    The optimizer clips the sum of all replicas' gradients instead of each replica's own.

    The other overrides work around Keras 3.15, whose `fit` fails under `MultiWorkerMirroredStrategy` (keras issue 20585):
    it reduces a batch over the workers to build the model, and it reduces scalar metrics over an axis. They can be removed
    when tests/distribution/test_distributed_fit.py reports that Keras does this itself. Metrics must be scalars, and each
    training step is one call of a graph.
    """

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Compiles the model with an optimizer that sums the gradients of all replicas before it clips them.

        Raises:
            DistributionError: an option only works on one device.
        """
        super().compile(*arguments, **options)  # type: ignore[misc]
        model: Any = self
        optimizer = model.optimizer
        if hasattr(optimizer, "inner_optimizer"):
            raise DistributionError(
                "distributed training must be in float32 or bfloat16, because the scaled loss of mixed_float16 is not reduced. "
                "Set another dtype policy"
            )
        if (
            model.run_eagerly
            or model.steps_per_execution != 1
            or getattr(optimizer, "gradient_accumulation_steps", None)
        ):
            raise DistributionError(
                "distributed training must run one step at a time in a graph. Leave out `run_eagerly`, `steps_per_execution` "
                "and `gradient_accumulation_steps`"
            )
        if optimizer is not None:
            sum_before_clipping(optimizer)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Computes the loss of this replica, such that the mean over the replicas is the loss of the whole batch.

        A loss with the reduction `mean_with_sample_weight` is scaled by the replica's share of the sample weights.

        Raises:
            DistributionError: the outputs have a mask, or one of several losses has this reduction.
        """
        model: Any = self
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)  # type: ignore[misc]
        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1 or not training:
            return loss
        if any(mask_of(part) is not None for part in tree.flatten(y_pred)):
            raise DistributionError(
                "distributed training needs sample weights, such as those of keras_seq.lines, instead of masks"
            )
        losses = tree.flatten(model.loss)
        if sample_weight is None or not any(
            getattr(one, "reduction", None) == "mean_with_sample_weight" for one in losses
        ):
            return loss
        if len(losses) > 1:
            raise DistributionError(
                "distributed training supports only one loss if its reduction is mean_with_sample_weight. The model has several"
            )
        own_weight = tf.reduce_sum(tf.cast(sample_weight, loss.dtype))
        share = own_weight * replica.num_replicas_in_sync / tf.maximum(replica.all_reduce("SUM", own_weight), 1e-7)
        penalties = additional_loss(model)
        return (loss - penalties) * share + penalties

    def make_train_function(self, force: bool = False) -> Any:
        """Creates the function that `fit` calls for each batch."""
        model: Any = self
        if model.train_function is None or force:
            model.train_function = self._one_step(model.train_step)
        return model.train_function

    def make_test_function(self, force: bool = False) -> Any:
        """Creates the function that `evaluate` calls for each batch."""
        model: Any = self
        if model.test_function is None or force:
            model.test_function = self._one_step(model.test_step)
        return model.test_function

    def _one_step(self, step: Any) -> Any:
        """Returns a graph that runs `step` in every replica and averages its logs."""
        strategy = self.distribute_strategy  # type: ignore[attr-defined]
        names: list[str] = []

        def logs(batch: Any) -> tf.Tensor:
            found = step(batch)
            names[:] = found
            values = [tf.cast(value, tf.float32) for value in found.values()]
            if any(value.shape.rank for value in values):
                raise DistributionError(
                    "distributed training needs metrics that are scalars, but one metric of this model is not"
                )
            return tf.stack(values)

        @tf.function(autograph=False)
        def one_step(batches: Any) -> dict[str, tf.Tensor]:
            # Stacked into one tensor, because every reduction is a round of messages.
            values = strategy.reduce("MEAN", strategy.run(logs, args=(next(batches),)), axis=None)
            return dict(zip(names, tf.unstack(values, len(names)), strict=True))

        return one_step
