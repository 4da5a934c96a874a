"""`compile_model`: optimizer, clipping, loss and metric of a language model."""

import math

import keras

from keras_seq.training.gradient_norms import CLIPPINGS
from keras_seq.training.losses import NatsPerToken, SmoothedCrossentropy


def compile_model(
    model: keras.Model,
    learning_rate: float = 6e-3,
    clipnorm: float | None = None,
    global_clipnorm: float | None = None,
    clipvalue: float | None = None,
    *,
    optimizer: str = "adam",
    weight_decay: float | None = None,
    ema_momentum: float | None = None,
    label_smoothing: float = 0.0,
) -> None:
    """Compiles a language model with a stock optimizer, a clipped gradient and the mean cross-entropy in nats a token.

    Args:
        model: token ids -> logits.
        learning_rate: the optimizer's step size.
        clipnorm: rescales each weight's own gradient when its norm passes this. Of an embedding Keras takes the norm of the
            rows as they were looked up, those of one token not added; with `clipvalue` likewise (BUILD.md, Embeddings).
        global_clipnorm: rescales all gradients together when their common norm passes this (Pascanu et al. 2013,
            arXiv 1211.5063).
        clipvalue: cuts every element of the gradients at plus and minus this.
        optimizer: Keras's name of it: `adam`, `adamw`, `sgd`, `rmsprop`, ...
        weight_decay: share of each weight, biases apart, that a step at learning rate 1 takes away.
        ema_momentum: in (0, 1): the optimizer averages the weights over its steps, `keras.callbacks.SwapEMAWeights` puts
            the average in for validation (Polyak & Juditsky 1992).
        label_smoothing: share of the target that is spread over all tokens (Szegedy et al. 2016, arXiv 1512.00567); the
            metric `nats` is without it.

    Raises:
        ValueError: a number out of range, two ways to clip at once, or an optimizer that Keras does not have.
    """
    clipping = {
        name: threshold
        for name, threshold in zip(CLIPPINGS, (clipnorm, global_clipnorm, clipvalue), strict=True)
        if threshold is not None
    }
    if len(clipping) > 1:
        raise ValueError(f"only one of {', '.join(CLIPPINGS)} can be set. Received: {', '.join(clipping)}")
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    for name, value in {"learning_rate": learning_rate, **clipping, **decay}.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"`{name}` must be positive and finite. Received: {name}={value!r}")
    average = {} if ema_momentum is None else {"use_ema": True, "ema_momentum": ema_momentum}
    if ema_momentum is not None and not 0 < ema_momentum < 1:
        raise ValueError(f"`ema_momentum` must be between 0 and 1. Received: ema_momentum={ema_momentum!r}")
    settings = {"learning_rate": learning_rate, **clipping, **decay, **average}
    try:
        made = keras.optimizers.get({"class_name": optimizer, "config": settings})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"`optimizer` must be one of Keras's that take a learning rate, such as adam. Received: {optimizer!r}"
        ) from error
    made.exclude_from_weight_decay(var_names=["bias"])
    # The mask of padded lines comes as sample weights: the mean is over real tokens.
    reduction = "mean_with_sample_weight"
    loss: keras.losses.Loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing` must be in [0, 1). Received: label_smoothing={label_smoothing!r}")
    if label_smoothing:
        loss = SmoothedCrossentropy(label_smoothing, reduction=reduction)
    # XLA was slower here: 114 ms a step against 85 at 256 units, batch 64, 64 steps; 44 against 28 at 128 units.
    model.compile(made, loss, weighted_metrics=[NatsPerToken()], jit_compile=False)
