"""Training on several GPUs, processes or machines: `tf.distribute` for models that carry their state between batches.

Each replica trains on a contiguous part of the rows of every batch, always the same part, so it carries the state of its
own streams. The gradients of all replicas are summed before they are clipped. A run on N replicas therefore equals a run on
one replica, up to rounding: the global batch, the streams and the clipping thresholds are the same.

The functions load on first use: `import keras_seq.distribution` imports neither TensorFlow nor Keras.

    strategy = distribution.strategy("mirrored")
    with distribution.scope(strategy):
        model = ks.stateful_copy(ks.language_model(65), 64 // strategy.num_replicas_in_sync)
        model = distribution.distributed(model)
        model.compile(keras.optimizers.Adam(5e-3, clipnorm=1.0), loss)
    model.fit(ks.streams(text, vocabulary, batch_size=64, length=64), shuffle=False)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_seq.distribution.distributed_fit import distributed
    from keras_seq.distribution.strategies import scope, strategy

_MODULE_OF = {
    "distributed": "keras_seq.distribution.distributed_fit",
    "scope": "keras_seq.distribution.strategies",
    "strategy": "keras_seq.distribution.strategies",
}

__all__ = ["distributed", "scope", "strategy"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
