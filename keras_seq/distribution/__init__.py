"""Training on several GPUs, or in several processes and machines: `tf.distribute` for models that carry their state.

Each replica has a contiguous part of the rows of every batch, the same part in each, so that it carries the state of its own
streams; gradients are added up before they are clipped. So a run on N replicas is the run on one, to rounding: the same
global batch, the same streams, the same thresholds.

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
