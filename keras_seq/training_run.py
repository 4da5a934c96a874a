"""One training run from a corpus to a run directory: what `keras-seq train` and the demo do."""

import math
import shutil
import sys
from pathlib import Path
from typing import Any

import keras

from keras_seq.batches import lines, streams
from keras_seq.corpora import Corpus
from keras_seq.models import language_model
from keras_seq.plots import plot_history
from keras_seq.runs import HISTORY, MODEL, Run, TrainingError, create_run, load_run
from keras_seq.stateful import stateful_copy
from keras_seq.training import CarriedState, CosineSchedule, KeepBest, StopWhenNotFinite, compile_model
from keras_seq.vocabulary import Vocabulary

_ENDLESS = 1_000_000  # epochs of a run that its minutes end


def train(directory: Path, corpus: Corpus, vocabulary: Vocabulary, config: dict[str, Any]) -> Run:
    """Trains a language model and keeps the one with the fewest nats a token on the validation text.

    Returns:
        The run, as loaded from the directory.

    Args:
        directory: the run directory to make.
        corpus: what to learn from, and what to watch the training with.
        vocabulary: of the corpus.
        config: `cell`, `units`, `embedding_dim`, `dropout`, `batch_size`, `length`, `learning_rate`, `clipping`, `by_line`, `seed`,
            and either `epochs` or `minutes`.

    Raises:
        ValueError: a number is out of range, the corpus is too short, or the directory is taken; nothing is made.
        TrainingError: the loss is no longer finite, or the training diverged; unless an epoch was of use, nothing is left.
    """
    keras.utils.set_random_seed(config["seed"] % 2**32)
    batch_size = config["batch_size"]
    model = language_model(
        len(vocabulary), config["cell"], config["units"], config["embedding_dim"], dropout=config["dropout"]
    )
    schedule = CosineSchedule(epochs=config["epochs"], minutes=config["minutes"])
    callbacks: list[keras.callbacks.Callback] = [schedule, StopWhenNotFinite()]
    if config["by_line"]:
        training = lines(corpus.train, vocabulary, batch_size, seed=config["seed"])
        validation = lines(corpus.validation, vocabulary, batch_size, seed=None)
        trained = model
    else:
        training = streams(corpus.train, vocabulary, batch_size, config["length"])
        validation = _validation_streams(corpus.validation, vocabulary, batch_size, config["length"])
        trained = stateful_copy(model, batch_size)
        callbacks.insert(0, CarriedState())
    compile_model(trained, config["learning_rate"], **config["clipping"])
    create_run(directory, vocabulary, config)
    keep_best = KeepBest(model, directory / MODEL)
    worst = 2 * math.log(len(vocabulary))  # nats a token: twice those of a uniform guess
    callbacks += [keep_best, keras.callbacks.CSVLogger(str(directory / HISTORY))]
    try:
        trained.fit(
            training,
            validation_data=validation,
            epochs=config["epochs"] or _ENDLESS,
            callbacks=callbacks,
            shuffle=False,  # The dataset has its own order.
            verbose=1 if sys.stdout.isatty() else 2,
        )
        if keep_best.best > worst:
            raise TrainingError(
                f"the training diverged: {keep_best.best:.4g} nats a token on the validation text, where knowing nothing "
                f"costs {math.log(len(vocabulary)):.4g}; clip the gradients lower, or lower the learning rate"
            )
    finally:
        if keep_best.best > worst:  # Without a model it is no run, and would stand in the way of the next.
            shutil.rmtree(directory)
    plot_history(directory / HISTORY, directory / "history.png")
    return load_run(directory)


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
