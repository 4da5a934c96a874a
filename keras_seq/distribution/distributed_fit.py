"""`distributed`: a Keras model that trains under a strategy."""

from typing import Any

import keras
import tensorflow as tf
from keras import tree

from keras_seq.errors import DistributionError


def distributed(model: keras.Model) -> keras.Model:
    """Makes `fit` and `evaluate` of a model run under the strategy in whose `scope` it was made; to be called before `compile`.

    Args:
        model: of any class; `DistributedFit` becomes the first base of its class.

    Returns:
        The model.

    Raises:
        DistributionError: it is compiled already.
    """
    if isinstance(model, DistributedFit):
        return model
    if model.compiled:
        raise DistributionError(
            "`distributed` must come before `compile`, which gives the model an optimizer for its replicas"
        )
    model.__class__ = _with_base(DistributedFit, type(model))
    return model


def _with_base(first: type, own: type) -> type:
    """Returns a class with another first base, by whose name Keras finds the own one when it loads."""
    return type(own.__name__, (first, own), {"__module__": own.__module__, "__qualname__": own.__qualname__})


class DistributedFit:
    """What a Keras model needs for training under a strategy: the first base of its class, before `keras.Model`.

    The optimizer of `compile` then clips what all replicas' gradients add up to, not each replica's. The rest makes up for
    Keras 3.15, whose `fit` does not run under `MultiWorkerMirroredStrategy` (keras issue 20585): it averages a batch over the
    workers in order to build the model, and their metrics, which are scalars, over an axis. When
    tests/test_distribution.py says that Keras does it, `_maybe_symbolic_build` and `_make_function` can go. Metrics must be
    scalars; one step is one call, in a graph.
    """

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Is `compile` of Keras, with an optimizer that clips after the gradients are added up.

        Raises:
            DistributionError: an option that only works on one device.
        """
        super().compile(*arguments, **options)  # type: ignore[misc]
        model: Any = self
        optimizer = model.optimizer
        if hasattr(optimizer, "inner_optimizer"):
            raise DistributionError(
                "distributed training must be in float32 or bfloat16, as the scaled loss of mixed_float16 is not reduced; "
                "set another dtype policy"
            )
        if (
            model.run_eagerly
            or model.steps_per_execution != 1
            or getattr(optimizer, "gradient_accumulation_steps", None)
        ):
            raise DistributionError(
                "distributed training must be step by step in a graph: leave out `run_eagerly`, `steps_per_execution` and "
                "`gradient_accumulation_steps`"
            )
        if optimizer is not None and not isinstance(optimizer, _ReduceThenClip):
            optimizer.__class__ = _with_base(_ReduceThenClip, type(optimizer))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Is the loss of Keras; of one that is a mean over weights, a replica's share is that of its weights.

        Raises:
            DistributionError: a mask without weights, or several losses of which one is a mean over weights.
        """
        model: Any = self
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)  # type: ignore[misc]
        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1 or not training:
            return loss
        if any(getattr(part, "_keras_mask", None) is not None for part in tree.flatten(y_pred)):
            raise DistributionError(
                "distributed training must have sample weights in place of masks, as keras_seq.lines gives them"
            )
        losses = tree.flatten(model.loss)
        if sample_weight is None or not any(
            getattr(one, "reduction", None) == "mean_with_sample_weight" for one in losses
        ):
            return loss
        if len(losses) > 1:
            raise DistributionError(
                "distributed training must have one loss, if it is a mean with sample weights; there are several"
            )
        own = tf.reduce_sum(tf.cast(sample_weight, loss.dtype))
        share = own * replica.num_replicas_in_sync / tf.maximum(replica.all_reduce("SUM", own), 1e-7)
        added = sum(model._aggregate_additional_loss(one) for one in model.losses)
        return (loss - added) * share + added

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        strategy = self.distribute_strategy  # type: ignore[attr-defined]
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = tree.map_structure(lambda part: strategy.experimental_local_results(part)[0], next(batches))
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)  # type: ignore[attr-defined]

    def _make_function(self, step: Any) -> Any:
        strategy = self.distribute_strategy  # type: ignore[attr-defined]
        names: list[str] = []

        def logs(batch: Any) -> tf.Tensor:
            found = step(batch)
            names[:] = found
            values = [tf.cast(value, tf.float32) for value in found.values()]
            if any(value.shape.rank for value in values):
                raise DistributionError(
                    "distributed training must have metrics that are scalars; one of this model is not"
                )
            return tf.stack(values)

        @tf.function(autograph=False)
        def one_step(batches: Any) -> dict[str, tf.Tensor]:
            # In one piece: every reduction is a round of messages.
            values = strategy.reduce("MEAN", strategy.run(logs, args=(next(batches),)), axis=None)
            return dict(zip(names, tf.unstack(values, len(names)), strict=True))

        return one_step


class _ReduceThenClip:
    """An optimizer that adds up the replicas' gradients first; Keras's clips each replica's own."""

    def apply_gradients(self, grads_and_vars: Any) -> Any:
        return super().apply_gradients(super()._all_reduce_sum_gradients(list(grads_and_vars)))  # type: ignore[misc]

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars
