"""A run directory: everything one training run leaves behind.

model.keras     the model with the fewest nats a token on the validation text
vocab.txt       its vocabulary
config.json     what was trained on what, and how
history.csv     by epoch: `nats` and `val_nats`, in nats a token, beside Keras's own `loss` and `val_loss`; the norms of the
                gradients, the share of clipped steps, the learning rate (see `GradientNorms`)
steps.csv       by step: norms and learning rate
history.png     both as a picture
checkpoint.npz  what an unfinished run goes on from
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import RunError
from keras_seq.files import replacing

if TYPE_CHECKING:
    import keras

MODEL, VOCABULARY, CONFIG, HISTORY = "model.keras", "vocab.txt", "config.json", "history.csv"
STEPS, CHECKPOINT = "steps.csv", "checkpoint.npz"


@dataclass
class Run:
    """A finished run, as loaded from its directory."""

    directory: Path
    model: "keras.Model"
    vocabulary: Vocabulary
    config: dict[str, Any]


def create_run(directory: Path, vocabulary: Vocabulary, config: dict[str, Any]) -> None:
    """Makes the directory with its vocabulary and configuration; training adds the rest.

    Raises:
        RunError: the directory exists and is not empty, or cannot be made.
    """
    refuse_existing(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        vocabulary.save(directory / VOCABULARY)
        with replacing(directory / CONFIG) as partial:
            partial.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"the run directory {directory} cannot be written: {error.strerror}") from error


def refuse_existing(directory: Path) -> None:
    """Raises RunError where a run would be written over something."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise RunError(f"{directory} exists and is not empty: choose another --run, or remove it")


def load_run(directory: str | os.PathLike[str]) -> Run:
    """Loads a run: its `model`, `vocabulary` and `config`.

    Args:
        directory: the run directory, as `keras-seq train` made it.

    Raises:
        RunError: it is not a run directory, a file in it is missing or damaged, or its parts do not fit together.
    """
    directory = Path(directory)
    vocabulary, config = load_settings(directory, also=(MODEL,))
    import keras

    import keras_seq.layers.gru  # noqa: F401  (registers the layers that the file names)

    try:
        model = keras.saving.load_model(directory / MODEL, compile=False)
    except Exception as error:  # From a damaged archive come errors of zip, zlib, JSON, HDF5 and Keras.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"{directory / MODEL} is damaged: {reason}") from error
    if model.output_shape[-1] != len(vocabulary):
        raise RunError(
            f"{directory}: the model has {model.output_shape[-1]} logits but {VOCABULARY} has {len(vocabulary)} "
            "tokens; the two are not of one run"
        )
    return Run(directory, model, vocabulary, config)


def load_settings(directory: Path, also: Sequence[str] = ()) -> tuple[Vocabulary, dict[str, Any]]:
    """Returns the vocabulary and the configuration of a run, finished or not.

    Args:
        directory: the run directory.
        also: other files that must be there.

    Raises:
        RunError: as for `load_run`.
    """
    missing = [name for name in (*also, VOCABULARY, CONFIG) if not (directory / name).is_file()]
    if missing == [MODEL] and (directory / CHECKPOINT).is_file():
        raise RunError(
            f"{directory} has no {MODEL} yet, as its first epoch was cut off; go on with keras-seq train --run={directory} --resume"
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
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{directory / CONFIG} is damaged: {error}") from error
    if not isinstance(config, dict) or not {"corpus", "by_line"} <= config.keys():
        raise RunError(f"{directory / CONFIG} is damaged: it must hold a JSON object with `corpus` and `by_line`")
    return vocabulary, config
