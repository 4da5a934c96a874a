"""`compile_model`: the optimizer, the loss and the metric of a language model."""

import keras

from keras_seq.errors import ArgumentError, ConfigError
from keras_seq.keras_internals import all_layers
from keras_seq.layers.ngram_embedding import NgramEmbedding
from keras_seq.training.config import TrainConfig
from keras_seq.training.losses import NatsPerToken, SmoothedCrossentropy


def compile_model(model: keras.Model, config: TrainConfig) -> None:
    """Compiles a language model with a stock optimizer, clipped gradients and the mean cross-entropy in nats per token.

    To each kind of clipping, the gradient of an embedding is the rows that were looked up, before those of one token are
    added (docs/decisions/clipping-and-embeddings.md). The metric `nats` has no label smoothing.

    Args:
        model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        config: `optimizer`, `learning_rate`, `clipping`, `weight_decay`, `ngram_decay`, `ema_momentum` and
            `label_smoothing` are used. With `ema_momentum`, `keras.callbacks.SwapEMAWeights` puts the averaged weights in for
            validation.

    Raises:
        ArgumentError: Keras has no such optimizer, or one that takes no learning rate.
        ConfigError: `ngram_decay` is set for an optimizer that lets all weights decay.

    Example:
        >>> import keras_seq as ks
        >>> from keras_seq.training.config import Clipping
        >>> model = ks.language_model(10, units=[4])
        >>> compile_model(model, TrainConfig(clipping=Clipping("global_clipnorm", 0.5)))
        >>> model.optimizer.global_clipnorm
        0.5
    """
    # With this reduction the loss of padded lines, whose mask comes as sample weights, is the mean over real tokens.
    reduction = "mean_with_sample_weight"
    loss: keras.losses.Loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    if config.label_smoothing:
        loss = SmoothedCrossentropy(config.label_smoothing, reduction=reduction)
    # XLA was slower here: 114 ms per step against 85 at 256 units, batch 64, 64 steps; 44 against 28 at 128 units.
    model.compile(_optimizer(config, model), loss, weighted_metrics=[NatsPerToken()], jit_compile=False)


def _optimizer(config: TrainConfig, model: keras.Model) -> keras.optimizers.Optimizer:
    settings = {"learning_rate": config.learning_rate}
    if config.clipping is not None:
        settings |= config.clipping.optimizer_arguments
    if config.weight_decay is not None:
        settings["weight_decay"] = config.weight_decay
    if config.ema_momentum is not None:
        settings |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    try:
        optimizer = keras.optimizers.get({"class_name": config.optimizer, "config": settings})
    except (ValueError, TypeError, KeyError) as error:
        expected = "an optimizer of Keras that takes a learning rate, such as adam"
        raise ArgumentError("optimizer", expected, config.optimizer) from error
    if config.ngram_decay is None:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        return optimizer
    if optimizer.weight_decay is not None:
        raise ConfigError(
            f"{{}} needs an optimizer without a weight decay of its own, such as adam. Received: {config.optimizer}",
            "ngram_decay",
        )
    optimizer.weight_decay = config.ngram_decay
    optimizer.exclude_from_weight_decay(var_list=_weights_but_ngrams(model))
    return optimizer


def _weights_but_ngrams(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights of all layers but `NgramEmbedding`."""
    ngrams = [layer for layer in all_layers(model) if isinstance(layer, NgramEmbedding)]
    kept = {id(weight) for layer in ngrams for weight in layer.weights}
    return [weight for weight in model.trainable_variables if id(weight) not in kept]
