"""Training on several GPUs, processes or machines: `tf.distribute` for models that carry their state between batches.

Each replica trains on a contiguous part of the rows of every batch, always the same part, so it carries the state of its
own streams. The gradients of all replicas are summed before they are clipped. A run on N replicas therefore equals a run on
one replica, up to rounding: the global batch, the streams and the clipping thresholds are the same.

    strategy = distribution.strategy("mirrored")
    with distribution.scope(strategy):
        model = ks.stateful_copy(ks.language_model(65), 64 // strategy.num_replicas_in_sync)
        model = distribution.distributed(model)
        model.compile(keras.optimizers.Adam(5e-3, clipnorm=1.0), loss)
    model.fit(ks.streams(text, vocabulary, batch_size=64, length=64), shuffle=False)
"""

from keras_seq.distribution.distributed_fit import distributed
from keras_seq.distribution.strategy import scope, strategy

__all__ = ["distributed", "scope", "strategy"]
