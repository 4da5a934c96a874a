"""One training run from a corpus to a run directory: what `keras-seq train` and the demo do."""

import contextlib
import csv
import hashlib
import importlib.util
import json
import math
import shutil
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_seq.data.corpus import Corpus
from keras_seq.data.lines import Lines, lines
from keras_seq.data.streams import Streams, streams
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.distribution.collectives import code_sha256, others_lost, require_same, wait_for_all
from keras_seq.distribution.distributed_fit import distributed
from keras_seq.distribution.strategy import is_chief, scope, worker_number
from keras_seq.errors import DivergedError
from keras_seq.files import PARTIAL, read_columns, replacing
from keras_seq.models.clone import rebuilt
from keras_seq.models.language_model import language_model
from keras_seq.models.sampled_softmax import SampledSoftmax
from keras_seq.models.stateful import stateful_copy
from keras_seq.training.callbacks import CarriedState, CosineSchedule, KeepBest, RollBack, StopWhenNotFinite
from keras_seq.training.checkpoint import Checkpoint
from keras_seq.training.compile import compile_model
from keras_seq.training.gradient_norms import GRADIENT_NORM, GradientNorms, threshold_range
from keras_seq.training.plot_history import plot_history
from keras_seq.training.progress import Progress, _EndWithTheEpoch, _TensorBoard
from keras_seq.training.run_directory import CHECKPOINT, HISTORY, MODEL, STEPS, Run, create_run, load_run

_ENDLESS = 1_000_000  # epochs of a run that its minutes end
# A pass through a long text is several epochs of `fit`, so that it is evaluated, and saved, every few minutes.
LONGEST_EPOCH = 1000  # batches
REQUIRED = {
    *("cell", "units", "embedding_dim", "dropout", "batch_size", "length", "learning_rate", "clipping"),
    *("by_line", "seed", "epochs", "minutes"),
}
DEFAULTS: dict[str, Any] = {
    "embedding_dropout": 0.0,
    "weight_dropout": 0.0,
    "warmup": 0.0,
    "optimizer": "adam",
    "weight_decay": None,
    "ema_momentum": None,
    "label_smoothing": 0.0,
    "tie_embeddings": False,
    "sampled_softmax": 0,
    "on_divergence": "stop",
    "tensorboard": False,
}


def train(
    directory: Path,
    corpus: Corpus,
    vocabulary: Vocabulary,
    config: dict[str, Any],
    *,
    resume: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> Run:
    """Trains a language model and keeps the one with the fewest nats a token on the validation text.

    A run that is cut off at any moment goes on from its last finished epoch, and ends as if it had not been.

    Args:
        directory: the run directory to make.
        corpus: what to learn from, and what to watch the training with.
        vocabulary: of the corpus.
        config: `cell`, `units`, `embedding_dim`, `dropout`, `batch_size`, `length`, `learning_rate`, `clipping`, `by_line`, `seed`,
            either `epochs` (passes through the text) or `minutes`, and what of `DEFAULTS` is to be otherwise.
        resume: goes on with the run in the directory; the other arguments are its own.
        strategy: how to train on several devices, or in several workers of which each calls this
            (`keras_seq.distribution.strategy`); a run can go on with another. Workers that are not the chief only write their
            logs, into `<directory>/worker-<number>`.

    Returns:
        The run, as loaded from the directory.

    Raises:
        ValueError: a number is out of range, the corpus is too short, or the directory is taken; nothing is made.
        TrainingError: the training diverged (unless an epoch was of use, only the norms of its steps are left, in
            `<directory>.diverged.csv`); a checkpoint cannot be written, or read, or is of another corpus.
    """
    if missing := REQUIRED - config.keys():
        raise ValueError(f"the configuration of a run must have {', '.join(sorted(missing))}; it lacks them")
    settings = {**DEFAULTS, **config}
    batch_size, length = settings["batch_size"], settings["length"]
    belongs_to = {"vocabulary": vocabulary.sha256, "corpus": _sha256(corpus)}
    if strategy is not None:
        _require_fitting(strategy, settings)
        # The corpus can lie elsewhere on each machine.
        alike = {name: value for name, value in settings.items() if name != "corpus"}
        require_same(strategy, {**belongs_to, "settings": json.dumps(alike), "code": code_sha256()})
    model = untrained_model(len(vocabulary), settings)
    if settings["by_line"]:
        batches: Lines | Streams = Lines(corpus.train, vocabulary, batch_size, settings["seed"])
        validation = lines(corpus.validation, vocabulary, batch_size, seed=None)
    else:
        batches = Streams(corpus.train, vocabulary, batch_size, length, settings["seed"])
        validation = _validation_streams(corpus.validation, vocabulary, batch_size, length)
    with contextlib.nullcontext() if strategy is None else scope(strategy):
        trained = _trained(model, settings, strategy)
        compile_model(
            trained,
            settings["learning_rate"],
            **settings["clipping"],
            optimizer=settings["optimizer"],
            weight_decay=settings["weight_decay"],
            ema_momentum=settings["ema_momentum"],
            label_smoothing=settings["label_smoothing"],
        )
    steps = math.ceil(len(batches) / math.ceil(len(batches) / LONGEST_EPOCH))
    epochs = None if settings["epochs"] is None else math.ceil(settings["epochs"] * len(batches) / steps)
    schedule = CosineSchedule(epochs=epochs, minutes=settings["minutes"], warmup=settings["warmup"])
    if settings["tensorboard"] and importlib.util.find_spec("tensorboard") is None:
        raise ValueError("logging to TensorBoard needs it installed: pip install tensorboard")
    chief = is_chief(strategy)
    if chief and not resume:
        create_run(directory, vocabulary, config)
    if strategy is not None:
        wait_for_all(strategy)
    logs = directory if chief else directory / f"worker-{worker_number(strategy)}"
    logs.mkdir(exist_ok=True)
    keep_best = KeepBest(model, directory / MODEL if chief else None)
    checkpoint = Checkpoint(directory / CHECKPOINT, {"schedule": schedule, "best": keep_best}, belongs_to, writes=chief)
    if resume:
        # Without both it was killed before it had saved its beginning.
        if (directory / CHECKPOINT).exists() or (directory / MODEL).exists():
            checkpoint.load()
        for half_written in logs.glob(f"{PARTIAL}*"):
            shutil.rmtree(half_written)
        for name in (HISTORY, STEPS):
            _forget_epochs(logs / name, checkpoint.epoch)
    goes_back = settings["on_divergence"] == "rollback"
    callbacks: list[keras.callbacks.Callback] = [
        CarriedState(len(batches)),
        schedule,
        GradientNorms(logs / STEPS),
        RollBack(checkpoint, schedule) if goes_back else StopWhenNotFinite(),
        keep_best,
    ]
    if settings["ema_momentum"] is not None:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if settings["tensorboard"]:
        callbacks.append(_TensorBoard(logs / "tensorboard", checkpoint.epoch * steps))
    log = keras.callbacks.CSVLogger(str(logs / HISTORY), append=resume)
    worst = 2 * math.log(len(vocabulary))  # nats a token: twice those of a uniform guess
    try:
        with _EndWithTheEpoch(strategy) as ending, others_lost():
            trained.fit(
                batches.from_batch(checkpoint.epoch * steps),
                validation_data=validation,
                initial_epoch=checkpoint.epoch,
                epochs=epochs or _ENDLESS,
                steps_per_epoch=steps,
                shuffle=False,  # The data has its own order.
                callbacks=[*callbacks, log, Progress(epochs), checkpoint, ending],
                verbose=0,
            )
        if keep_best.best > worst:
            raise DivergedError(
                f"the training diverged: {keep_best.best:.4g} nats a token on the validation text, where knowing nothing "
                f"costs {math.log(len(vocabulary)):.4g}; clip the gradients lower, or lower the learning rate"
            )
    except DivergedError as diverged:
        if strategy is not None:
            wait_for_all(strategy)  # Then no other still writes its logs.
        if keep_best.best <= worst or not chief:
            raise
        # Without a model it is no run, and would stand in the way of the next.
        steps_before = directory.with_name(f"{directory.name}.diverged.csv")
        (directory / STEPS).replace(steps_before)
        shutil.rmtree(directory)
        raise DivergedError(f"{diverged}. The run is removed; {steps_before} has the norms of its steps") from diverged
    if strategy is not None:
        wait_for_all(strategy)
    if not chief:
        return load_run(directory)
    least, most = threshold_range(read_columns(directory / STEPS)[GRADIENT_NORM])
    print(f"thresholds of --global_clipnorm worth trying, by this run's gradients: {least:.2g} to {most:.2g}")
    plot_history(directory / HISTORY, directory / STEPS, directory / "history.png")
    (directory / CHECKPOINT).unlink()
    return load_run(directory)


def _require_fitting(strategy: tf.distribute.Strategy, settings: dict[str, Any]) -> None:
    """Refuses settings that several replicas cannot have."""
    replicas = strategy.num_replicas_in_sync
    if settings["batch_size"] % replicas:
        raise ValueError(
            f"the batch must divide evenly among the {replicas} replicas, but --batch_size={settings['batch_size']} does not; "
            f"choose a multiple of {replicas}"
        )
    if settings["minutes"] is not None and strategy.cluster_resolver is not None:
        raise ValueError(
            "several workers must end together, and their clocks do not: give --epochs in place of --minutes"
        )
    if settings["sampled_softmax"]:
        raise ValueError("--sampled_softmax is for training on one device: leave it out, or --distribute and --workers")


def _trained(model: keras.Model, settings: dict[str, Any], strategy: tf.distribute.Strategy | None) -> keras.Model:
    """Returns the form of a model that `fit` is called on; it has its weights, or a copy of them."""
    if strategy is not None:
        batch_size = settings["batch_size"] // strategy.num_replicas_in_sync
        by_line = settings["by_line"]
        return distributed(
            rebuilt(model, lambda layer: layer.get_config()) if by_line else stateful_copy(model, batch_size)
        )
    trained = model if settings["by_line"] else stateful_copy(model, settings["batch_size"])
    if settings["sampled_softmax"]:
        if settings["label_smoothing"]:
            raise ValueError("--sampled_softmax and --label_smoothing cannot be set together: leave one of them out")
        trained = SampledSoftmax(trained, settings["sampled_softmax"], settings["seed"])
    return trained


def untrained_model(vocabulary_size: int, config: dict[str, Any]) -> keras.Model:
    """Returns the model of a run as it was before its first step; sets the random seed of all that follows."""
    keras.utils.set_random_seed(config["seed"] % 2**32)
    config = {**DEFAULTS, **config}
    return language_model(
        vocabulary_size,
        config["cell"],
        config["units"],
        config["embedding_dim"],
        dropout=config["dropout"],
        embedding_dropout=config["embedding_dropout"],
        weight_dropout=config["weight_dropout"],
        tie_embeddings=config["tie_embeddings"],
    )


def _forget_epochs(log: Path, first: int) -> None:
    """Drops the rows of epochs that are trained again, from `first` on; a log that is empty altogether."""
    if not log.exists():
        return
    if not log.stat().st_size:
        log.unlink()
        return
    with log.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    place = header.index("epoch")
    # A row that was cut off is shorter, and belongs to an epoch that was not finished.
    kept = [row for row in rows if len(row) == len(header) and int(row[place]) < first]
    with replacing(log) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *kept])


def _sha256(corpus: Corpus) -> str:
    train = corpus.train if isinstance(corpus.train, str) else corpus.train.sha256
    return hashlib.sha256("\0".join([train, corpus.validation, corpus.test]).encode()).hexdigest()


def _validation_streams(text: str, vocabulary: Vocabulary, batch_size: int, length: int) -> Any:
    """The validation text as streams; in shorter pieces where it is short."""
    ids = vocabulary.encode(text)
    if len(ids) < batch_size:
        raise ValueError(
            f"the validation part of the corpus must have at least one token a stream, {batch_size}; it has {len(ids)}: "
            "use a longer text or a smaller --batch_size"
        )
    length = min(length, len(ids) // batch_size)
    return streams(text, vocabulary, batch_size, length)
