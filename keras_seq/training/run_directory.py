"""A run directory: the files of one training run.

model.keras     the model with the fewest nats per token on the validation text
vocab.txt       its vocabulary
config.json     the configuration, `keras_seq.training.config.TrainConfig`
history.csv     one row per epoch: `nats` and `val_nats` in nats per token, Keras's own `loss` and `val_loss`, the norms of
                the gradients, the fraction of clipped steps and the learning rate (see `GradientNorms`)
steps.csv       one row per step: norms and learning rate
history.png     both as a picture
checkpoint.npz  the state from which an unfinished run resumes
"""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_seq.data.corpus import Corpus
from keras_seq.data.load import load_corpus
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError, KerasSeqError, RunError
from keras_seq.files import replacing
from keras_seq.training.config import TrainConfig, read_config

if TYPE_CHECKING:
    import keras

MODEL, VOCABULARY, CONFIG, HISTORY = "model.keras", "vocab.txt", "config.json", "history.csv"
STEPS, CHECKPOINT = "steps.csv", "checkpoint.npz"


@dataclass
class Run:
    """A finished run, as loaded from its directory.

    Attributes:
        directory: the run directory.
        model: the trained model.
        vocabulary: its vocabulary.
        config: how it was trained.
    """

    directory: Path
    model: "keras.Model"
    vocabulary: Vocabulary
    config: TrainConfig


def create_run(directory: Path, vocabulary: Vocabulary, config: TrainConfig) -> None:
    """Makes the directory with its vocabulary and configuration; training adds the other files.

    Raises:
        RunError: the directory exists and is not empty, or cannot be written.
    """
    refuse_existing(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        vocabulary.save(directory / VOCABULARY)
        with replacing(directory / CONFIG) as partial:
            content = json.dumps(config.to_dict(), indent=2, ensure_ascii=False)
            partial.write_text(content + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"the run directory {directory} cannot be written: {error.strerror}") from error


def refuse_existing(directory: Path) -> None:
    """Raises RunError if the directory exists and is not empty."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise RunError(f"{directory} exists and is not empty: choose another --run, or remove it")


def load_run(directory: str | os.PathLike[str]) -> Run:
    """Loads a run: its `model`, `vocabulary` and `config`.

    Args:
        directory: the run directory, as `keras-seq train` made it.

    Raises:
        RunError: it is not a run directory, a file in it is missing or damaged, or the model and the vocabulary have
            different sizes.
    """
    directory = Path(directory)
    vocabulary, config = load_settings(directory, also=(MODEL,))
    import keras

    import keras_seq.layers.gru  # noqa: F401  (registers the layers that the file names)

    try:
        model = keras.saving.load_model(directory / MODEL, compile=False)
    except Exception as error:  # A damaged archive raises errors of zip, zlib, JSON, HDF5 and Keras.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"{directory / MODEL} is damaged: {reason}") from error
    if model.output_shape[-1] != len(vocabulary):
        raise RunError(
            f"{directory}: the model has {model.output_shape[-1]} logits but {VOCABULARY} has {len(vocabulary)} tokens; "
            "they belong to different runs"
        )
    return Run(directory, model, vocabulary, config)


def load_settings(directory: Path, also: Sequence[str] = ()) -> tuple[Vocabulary, TrainConfig]:
    """Returns the vocabulary and the configuration of a run, finished or not.

    Args:
        directory: the run directory.
        also: other files that must exist.

    Raises:
        RunError: as for `load_run`.
    """
    missing = [name for name in (*also, VOCABULARY, CONFIG) if not (directory / name).is_file()]
    if missing == [MODEL] and (directory / CHECKPOINT).is_file():
        raise RunError(
            f"{directory} has no {MODEL} yet, because its first epoch was interrupted; resume it with keras-seq train "
            f"--run={directory} --resume"
        )
    if missing:
        raise RunError(
            f"{directory} is not a run directory: it has no {', '.join(missing)}; make one with keras-seq train"
        )
    try:
        vocabulary = Vocabulary.load(directory / VOCABULARY)
    except ValueError as error:
        raise RunError(f"the vocabulary is damaged: {error}") from error
    try:
        values = read_config(directory / CONFIG)
        if not {"corpus", "by_line"} <= values.keys():
            raise RunError("it must have the keys corpus and by_line")
        config = TrainConfig.from_dict(values)
    except (KerasSeqError, ValueError) as error:
        reason = f"{error}; a run of an earlier version of keras_seq must be trained again"
        raise RunError(f"{directory / CONFIG} is damaged: {reason}") from error
    return vocabulary, config


def read_columns(table: Path) -> dict[str, np.ndarray]:
    """Returns the columns of `history.csv` or `steps.csv`, float64, by the names in its first line."""
    with table.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, np.array(rows, float).T, strict=True))


def corpus_of(config: TrainConfig) -> Corpus:
    """Returns the corpus of a run.

    Raises:
        CorpusError: the corpus cannot be read any more.
    """
    source = config.corpus if isinstance(config.corpus, str) else list(config.corpus)
    try:
        return load_corpus(source, by_line=config.by_line)
    except CorpusError as error:
        raise CorpusError(f"{error}; the run was trained on this corpus") from error
