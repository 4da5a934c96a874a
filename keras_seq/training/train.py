"""One training run, from a corpus to a run directory: `prepare`, then `fit`, then `finish`."""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_seq.data.corpus import Corpus
from keras_seq.data.encoded_text import EncodedText, token_counts
from keras_seq.data.lines import Lines, lines
from keras_seq.data.streams import Streams, streams
from keras_seq.data.tokens import split_lines
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.distribution.collectives import code_sha256, reporting_lost_workers, require_same, wait_for_all
from keras_seq.distribution.distributed_fit import distributed
from keras_seq.distribution.strategies import is_chief, scope, worker_number
from keras_seq.errors import ConfigError, CorpusError, DivergedError, TrainingError
from keras_seq.files import remove_partial
from keras_seq.models.clone import clone_with_configs
from keras_seq.models.language_model import language_model
from keras_seq.models.sampled_softmax import SampledSoftmax
from keras_seq.models.stateful import stateful_copy
from keras_seq.training.callbacks import CarriedState, CosineSchedule, KeepBest, RollBack, StopWhenNotFinite
from keras_seq.training.checkpoint import Checkpoint
from keras_seq.training.compile import compile_model
from keras_seq.training.config import TrainConfig
from keras_seq.training.gradient_norms import GRADIENT_NORM, GradientNorms, threshold_range
from keras_seq.training.plot_history import plot_history
from keras_seq.training.progress import (
    EndWithEpoch,
    History,
    Progress,
    ResumedTensorBoard,
    reporting_full_tensorboard,
)
from keras_seq.training.run_checks import require_trainable
from keras_seq.training.run_directory import (
    CHECKPOINT,
    HISTORY,
    MODEL,
    PICTURE,
    STEPS,
    TENSORBOARD,
    Run,
    create_run,
    exclusive_run,
    load_run,
    read_columns,
    remove_epochs,
    remove_run,
)
from keras_seq.training.writing import resume_command, writing

_ENDLESS = 1_000_000  # epochs of a run that ends after its minutes
# A pass through a long text is several epochs of `fit`, so that it is evaluated and saved every few minutes.
LONGEST_EPOCH = 1000  # batches


def train(
    directory: Path,
    corpus: Corpus,
    vocabulary: Vocabulary,
    config: TrainConfig,
    *,
    resume: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> Run:
    """Trains a language model and keeps the weights with the fewest nats per token on the validation text.

    A run that is interrupted at any moment resumes from its last saved epoch with identical results. While it runs, no
    other process can train in its directory.

    Args:
        directory: the run directory to make.
        corpus: the text to learn from, and the text to validate with.
        vocabulary: vocabulary of the corpus.
        config: the model and the training.
        resume: continues the run in the directory; the other arguments must be those of that run.
        strategy: how to train on several devices, or in several workers that each call this function
            (`keras_seq.distribution.strategy`). A run can resume with another strategy. Workers other than the chief
            write only their logs, into `<directory>/worker-<number>`.

    Returns:
        The run, as loaded from the directory.

    Raises:
        InUseError: another process trains this run. Nothing is written.
        RunError: the directory exists and is not empty. Nothing is written.
        ValueError: the corpus is too short for a batch, or the model too large for this machine. Nothing is written.
        TrainingError: the training diverged; or a file cannot be written; or the checkpoint cannot be read, or belongs to
            another corpus. If no epoch was useful, only the norms of the steps are kept, in `<directory>.diverged.csv`.
    """
    with exclusive_run(directory) if is_chief(strategy) else contextlib.nullcontext():
        training = prepare(directory, corpus, vocabulary, config, resume=resume, strategy=strategy)
        fit(training)
        return finish(training)


@dataclass
class Training:
    """Everything that `fit` needs.

    Attributes:
        directory: the run directory.
        config: the configuration of the run.
        model: receives the best weights and is saved.
        trained_model: the form of the model that is trained: it carries its states, or samples its softmax.
        batches: the training batches.
        validation: the validation batches.
        steps: batches in one epoch of `fit`.
        epochs: epochs of `fit`; None ends after the minutes of the configuration.
        schedule: the schedule of the learning rate.
        keep_best: keeps the best weights.
        checkpoint: saves after each epoch.
        logs: directory of this worker's logs.
        resume: whether the run continues.
        strategy: how the run is distributed; None for one device.
    """

    directory: Path
    config: TrainConfig
    model: keras.Model
    trained_model: keras.Model
    batches: Lines | Streams
    validation: tf.data.Dataset
    steps: int
    epochs: int | None
    schedule: CosineSchedule
    keep_best: KeepBest
    checkpoint: Checkpoint
    logs: Path
    resume: bool
    strategy: tf.distribute.Strategy | None

    @property
    def nats_of_uniform_guess(self) -> float:
        """Nats per token of a model that knows nothing."""
        return math.log(self.model.output_shape[-1])


def prepare(
    directory: Path,
    corpus: Corpus,
    vocabulary: Vocabulary,
    config: TrainConfig,
    *,
    resume: bool,
    strategy: tf.distribute.Strategy | None,
) -> Training:
    """Builds the model, the batches and the callbacks, and makes the run directory; see `train`."""
    belongs_to = {"vocabulary": vocabulary.sha256, "corpus": _sha256(corpus)}
    require_trainable(len(vocabulary), config, strategy)
    if strategy is not None:
        # The corpus may have another path on each machine.
        alike = {name: value for name, value in config.to_dict().items() if name != "corpus"}
        require_same(strategy, {**belongs_to, "settings": json.dumps(alike), "code": code_sha256()})
    batches, validation = _batches(corpus, vocabulary, config)
    model = untrained_model(len(vocabulary), config, starting_counts(vocabulary, lambda: batches.ids))
    with contextlib.nullcontext() if strategy is None else scope(strategy):
        trained_model = _trained_model(model, config, strategy)
        compile_model(trained_model, config)
    steps = math.ceil(len(batches) / math.ceil(len(batches) / LONGEST_EPOCH))
    epochs = None if config.epochs is None else math.ceil(config.epochs * len(batches) / steps)
    schedule = CosineSchedule(epochs=epochs, minutes=config.minutes, warmup=config.warmup)
    logs = _make_directories(directory, vocabulary, config, resume, strategy)
    chief = is_chief(strategy)
    keep_best = KeepBest(model, directory / MODEL if chief else None)
    checkpoint = Checkpoint(directory / CHECKPOINT, {"schedule": schedule, "best": keep_best}, belongs_to, writes=chief)
    if resume:
        _load_progress(directory, checkpoint, logs)
    return Training(
        directory=directory,
        config=config,
        model=model,
        trained_model=trained_model,
        batches=batches,
        validation=validation,
        steps=steps,
        epochs=epochs,
        schedule=schedule,
        keep_best=keep_best,
        checkpoint=checkpoint,
        logs=logs,
        resume=resume,
        strategy=strategy,
    )


def fit(training: Training) -> None:
    """Trains until the epochs or minutes are over; see `train`."""
    try:
        with (
            EndWithEpoch(training.strategy, resume_command(training.directory)) as ending,
            reporting_lost_workers(),
            reporting_full_tensorboard(training.logs / TENSORBOARD),
        ):
            training.trained_model.fit(
                training.batches.from_batch(training.checkpoint.epoch * training.steps),
                validation_data=training.validation,
                initial_epoch=training.checkpoint.epoch,
                epochs=training.epochs or _ENDLESS,
                steps_per_epoch=training.steps,
                shuffle=False,  # The batches have an order of their own.
                callbacks=[*_callbacks(training), ending],
                verbose=0,
            )
        if not _is_useful(training):
            raise DivergedError(
                f"the training diverged: {training.keep_best.best:.4g} nats per token on the validation text, where a "
                f"uniform guess has {training.nats_of_uniform_guess:.4g}; clip the gradients lower, or lower the "
                "learning rate"
            )
    except DivergedError as diverged:
        if training.strategy is not None:
            with contextlib.suppress(TrainingError):  # A lost worker does not hide the cause.
                wait_for_all(training.strategy)  # Then no other worker still writes its logs.
        if _is_useful(training) or not is_chief(training.strategy):
            raise
        raise DivergedError(f"{diverged}. {remove_run(training.directory)}") from diverged


def finish(training: Training) -> Run:
    """Draws the history, removes the checkpoint and loads the run; see `train`."""
    if training.strategy is not None:
        wait_for_all(training.strategy)
    directory = training.directory
    if is_chief(training.strategy):
        least, most = threshold_range(read_columns(directory / STEPS)[GRADIENT_NORM])
        print(
            f"optional: in another run, --global_clipnorm between {least:.2g} and {most:.2g} would clip all gradients to a "
            "common norm"
        )
        plot_history(directory / HISTORY, directory / STEPS, directory / PICTURE)
        with writing(directory):
            (directory / CHECKPOINT).unlink()
    return load_run(directory)


def starting_counts(vocabulary: Vocabulary, ids: Callable[[], np.ndarray | EncodedText]) -> np.ndarray | None:
    """Returns the counts of words at which the logits of a run begin; None for characters, which end better from 0.

    docs/decisions/embeddings-and-ngrams.md has the measurements.
    """
    return None if vocabulary.level == "char" else token_counts(ids(), len(vocabulary))


def untrained_model(vocabulary_size: int, config: TrainConfig, counts: np.ndarray | None = None) -> keras.Model:
    """Returns the model of a run before its first step; sets the random seed of everything after it."""
    keras.utils.set_random_seed(config.seed % 2**32)
    return language_model(vocabulary_size, token_counts=counts, **config.model_options)


def _batches(corpus: Corpus, vocabulary: Vocabulary, config: TrainConfig) -> tuple[Lines | Streams, tf.data.Dataset]:
    """Returns the training batches and the validation batches."""
    if config.by_line:
        training = Lines(corpus.train, vocabulary, config.batch_size, config.seed)
        return training, _validation_lines(corpus.validation, vocabulary, config)
    return (
        Streams(corpus.train, vocabulary, config.batch_size, config.length, config.seed),
        _validation_streams(corpus.validation, vocabulary, config),
    )


def _validation_lines(text: str, vocabulary: Vocabulary, config: TrainConfig) -> tf.data.Dataset:
    """Returns the validation text as lines."""
    if not any(split_lines(text)):
        raise CorpusError(
            "the validation part of the corpus, a few percent at its end, must have a line that is not empty, but it has "
            "none; use a text with more lines or, in Python, a larger `validation` of `keras_seq.load_corpus`"
        )
    return lines(text, vocabulary, config.batch_size, seed=None)


def _validation_streams(text: str, vocabulary: Vocabulary, config: TrainConfig) -> tf.data.Dataset:
    """Returns the validation text as streams, shorter ones where the text is short."""
    count = len(vocabulary.encode(text))
    if count < config.batch_size:
        raise ConfigError(
            f"the validation part of the corpus must have at least {config.batch_size} tokens, one per stream. Received: "
            f"{count}; use a longer text or a smaller {{}}",
            "batch_size",
        )
    return streams(text, vocabulary, config.batch_size, min(config.length, count // config.batch_size))


def _trained_model(model: keras.Model, config: TrainConfig, strategy: tf.distribute.Strategy | None) -> keras.Model:
    """Returns the copy of a model that `fit` trains. `model` itself is saved, without what belongs to the training."""
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    if config.by_line:
        trained = clone_with_configs(model, lambda layer: layer.get_config())
    else:
        trained = stateful_copy(model, config.batch_size // replicas)
    if strategy is not None:
        return distributed(trained)
    return SampledSoftmax(trained, config.sampled_softmax, config.seed) if config.sampled_softmax else trained


def _make_directories(
    directory: Path,
    vocabulary: Vocabulary,
    config: TrainConfig,
    resume: bool,
    strategy: tf.distribute.Strategy | None,
) -> Path:
    """Makes the run directory, once for all workers; returns the directory of this worker's logs."""
    chief = is_chief(strategy)
    if chief and not resume:
        create_run(directory, vocabulary, config)
    if strategy is not None:
        wait_for_all(strategy)
    logs = directory if chief else directory / f"worker-{worker_number(strategy)}"
    with writing(logs):
        logs.mkdir(exist_ok=True)
    return logs


def _load_progress(directory: Path, checkpoint: Checkpoint, logs: Path) -> None:
    """Loads the checkpoint of an interrupted run, and removes from its logs what comes after the checkpoint."""
    # A run with neither file was killed before its first checkpoint: it starts again.
    if (directory / CHECKPOINT).exists() or (directory / MODEL).exists():
        checkpoint.load()
    for name in (HISTORY, STEPS):
        with writing(logs / name):
            remove_epochs(logs / name, checkpoint.epoch)
    remove_partial(logs)


def _callbacks(training: Training) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of `fit`, in the order in which they must run."""
    config, checkpoint, logs = training.config, training.checkpoint, training.logs
    rolls_back = config.on_divergence == "rollback"
    callbacks: list[keras.callbacks.Callback] = [
        CarriedState(len(training.batches)),
        training.schedule,
        GradientNorms(logs / STEPS),
        RollBack(checkpoint, training.schedule) if rolls_back else StopWhenNotFinite(),
        training.keep_best,
    ]
    if config.ema_momentum is not None:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if config.tensorboard:
        callbacks.append(ResumedTensorBoard(logs / TENSORBOARD, checkpoint.epoch * training.steps))
    log = History(logs / HISTORY, append=training.resume)
    return [*callbacks, log, Progress(training.epochs), checkpoint]


def _is_useful(training: Training) -> bool:
    """Returns whether any epoch predicted the validation text better than twice the nats of a uniform guess."""
    return training.keep_best.best <= 2 * training.nats_of_uniform_guess


def _sha256(corpus: Corpus) -> str:
    train_text: Any = corpus.train if isinstance(corpus.train, str) else corpus.train.sha256
    return hashlib.sha256("\0".join([train_text, corpus.validation, corpus.test]).encode()).hexdigest()
