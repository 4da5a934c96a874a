"""`require_trainable`: checks whether a training run can begin on this machine."""

import importlib.util
import os

import tensorflow as tf

from keras_seq import require
from keras_seq.errors import ConfigError
from keras_seq.models.language_model import parameter_count
from keras_seq.training.config import TrainConfig


def require_trainable(vocabulary_size: int, config: TrainConfig, strategy: tf.distribute.Strategy | None) -> None:
    """Refuses a run that cannot be trained here; see `keras_seq.training.train.train` for the arguments.

    Raises:
        ArgumentError: `sampled_softmax` is not below the size of the vocabulary.
        ConfigError: TensorBoard is missing, several replicas cannot train such a run, or the memory is too small for it.
    """
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("{} needs TensorBoard: pip install tensorboard", "tensorboard")
    if strategy is not None:
        _require_distributable(config, strategy)
    if config.sampled_softmax:
        samples, expected = config.sampled_softmax, f"below {vocabulary_size}, the size of the vocabulary"
        require.that(samples < vocabulary_size, "sampled_softmax", expected, samples)
    _require_memory(vocabulary_size, config)


def _require_distributable(config: TrainConfig, strategy: tf.distribute.Strategy) -> None:
    """Refuses a configuration that several replicas cannot train."""
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise ConfigError(
            f"{{}} must be a multiple of {replicas}, the number of replicas. Received: {config.batch_size}",
            "batch_size",
        )
    if config.minutes is not None and strategy.cluster_resolver is not None:
        raise ConfigError(
            "several workers must end after the same step, and their clocks differ: give {} instead of {}",
            "epochs",
            "minutes",
        )
    if config.sampled_softmax:
        raise ConfigError(
            "{} trains on one device: leave it out, or leave out {} and {}", "sampled_softmax", "distribute", "workers"
        )


def _require_memory(vocabulary_size: int, config: TrainConfig) -> None:
    """Refuses a model whose training cannot fit into the memory of this machine."""
    if not hasattr(os, "sysconf"):
        return
    count = parameter_count(
        vocabulary_size,
        config.cell,
        config.units,
        config.embedding_dim,
        config.tie_embeddings,
        config.ngrams,
        config.ngram_rows,
    )
    needed, present = 8 * count, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:  # float32: the weights and their copy in `Checkpoint`; most optimizers need twice that
        names = ["units", "embedding_dim", *(["ngram_rows"] if config.ngrams else [])]
        raise ConfigError(
            f"the model of {' and '.join(['{}'] * len(names))} has {count:,} weights, whose training needs at least "
            f"{needed / 2**30:,.0f} GiB of memory; this machine has {present / 2**30:,.0f}",
            *names,
        )
