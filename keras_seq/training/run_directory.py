"""A run directory: the files of one training run.

model.keras     the model with the fewest nats per token on the validation text
vocab.txt       its vocabulary
config.json     the configuration, `keras_seq.training.config.TrainConfig`
history.csv     one row per epoch: `nats` and `val_nats` in nats per token, Keras's own `loss` and `val_loss`, the norms of
                the gradients, the fraction of clipped steps and the learning rate (see `GradientNorms`)
steps.csv       one row per step: norms and learning rate
history.png     both as a picture
checkpoint.npz  the state from which an unfinished run resumes
tensorboard     the logs for TensorBoard
worker-1        the logs of another worker, and so on
"""

import contextlib
import csv
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_seq.data.corpus import Corpus
from keras_seq.data.load import load_corpus
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError, KerasSeqError, RunError
from keras_seq.files import PARTIAL, explaining, remove_partial, replacing, why_not_written
from keras_seq.json_text import parse_json
from keras_seq.locks import exclusive, exclusive_directory
from keras_seq.training.config import TrainConfig, read_config
from keras_seq.training.stored_zip import require_stored
from keras_seq.training.writing import resume_command

if TYPE_CHECKING:
    import keras

MODEL, VOCABULARY, CONFIG, HISTORY = "model.keras", "vocab.txt", "config.json", "history.csv"
STEPS, CHECKPOINT, PICTURE, TENSORBOARD = "steps.csv", "checkpoint.npz", "history.png", "tensorboard"
_USE = "trains this run"
_LONGEST_NUMBER = 100  # characters of a number in a table


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


@contextlib.contextmanager
def exclusive_run(directory: Path) -> Iterator[None]:
    """Makes the directory unless it exists, and keeps other processes from training in it while the block runs.

    A directory that was made and is still empty at the end is removed.

    Raises:
        InUseError: another process trains this run.
        RunError: the directory cannot be made.
    """
    if directory.exists() and not directory.is_dir():
        raise _exists(directory)
    with exclusive_directory(directory, _USE, RunError):
        yield


def create_run(directory: Path, vocabulary: Vocabulary, config: TrainConfig) -> None:
    """Writes the vocabulary and the configuration of a new run; training adds the other files.

    Raises:
        RunError: the directory exists and is not empty, or cannot be written.
    """
    _refuse_existing(directory)
    content = json.dumps(config.to_dict(), indent=2, ensure_ascii=False) + "\n"
    try:
        with explaining(directory, RunError):
            directory.mkdir(parents=True, exist_ok=True)
            _remove_lone_vocabulary(directory)  # First: without the partial files it would count as the user's.
            remove_partial(directory)
            # At every moment at which there is only the vocabulary, the partial configuration shows whose it is.
            with replacing(directory / CONFIG) as partial:
                partial.write_text(content, encoding="utf-8")
                vocabulary.save(directory / VOCABULARY)
    finally:  # After Ctrl-C, too.
        _remove_lone_vocabulary(directory)


def refuse_existing(directory: Path) -> None:
    """Refuses a directory in which no new run can be made.

    A run that was killed while it was created has only partial files, and perhaps its vocabulary. It is replaced. A
    vocabulary without partial files is not: it is the user's own.

    Raises:
        InUseError: another process trains a run there.
        RunError: the directory is not empty, or not a directory.
    """
    with exclusive(directory, _USE) if directory.is_dir() else contextlib.nullcontext():
        _refuse_existing(directory)


def _refuse_existing(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise _exists(directory)
    names = {file.name for file in directory.iterdir()}
    partial = {name for name in names if name.startswith(PARTIAL)}
    if names == partial or (partial and names == {VOCABULARY, *partial}):
        return
    if {CONFIG, VOCABULARY} <= names and (CHECKPOINT in names or MODEL not in names):
        raise RunError(
            f"{directory} has a run that is not finished: resume it with {resume_command(directory)}, choose another "
            "--run, or remove it"
        )
    raise _exists(directory)


def _remove_lone_vocabulary(directory: Path) -> None:
    """Removes the vocabulary of a run that has no configuration, if it can be removed."""
    with contextlib.suppress(OSError):
        if not (directory / CONFIG).exists():
            (directory / VOCABULARY).unlink()


def _exists(directory: Path) -> RunError:
    return RunError(f"{directory} exists and is not empty: choose another --run, or remove it")


def remove_run(directory: Path) -> str:
    """Removes the files of a run without a useful model, which would block the next one, and nothing else.

    Never raises an error.

    Returns:
        A sentence about what was removed, and where the norms of its steps are, if it has any.
    """
    whole = Path(os.path.abspath(directory))  # "." has no name.
    steps = whole.with_name(f"{whole.name}.diverged.csv") if whole.name else whole / "diverged.csv"
    norms = ""
    try:
        if (whole / STEPS).exists():
            with replacing(steps) as partial:  # It may be on another disk.
                partial.write_bytes((whole / STEPS).read_bytes())
            norms = f"; {steps} has the norms of its steps"
    except OSError as error:
        norms = f"; the norms of its steps are lost, because {why_not_written(steps, error)}"
    try:
        removed = [VOCABULARY, CONFIG, MODEL, HISTORY, STEPS, CHECKPOINT, PICTURE]
        for folder in (whole, *whole.glob("worker-[0-9]*")):
            for file in (*(folder / name for name in removed), *_tensorboard_files(folder)):
                file.unlink(missing_ok=True)
            remove_partial(folder)
            for name in ("train", "validation", ""):
                _remove_if_empty(folder / TENSORBOARD / name)
            _remove_if_empty(folder)
        _remove_if_empty(whole)
    except OSError as error:
        return f"The run is useless but cannot be removed: {why_not_written(directory, error)}{norms}"
    left = "The run is removed" if not whole.exists() else f"The files of the run are removed from {directory}"
    return f"{left}{norms}"


def _tensorboard_files(folder: Path) -> list[Path]:
    return list((folder / TENSORBOARD).glob("*/events.out.tfevents.*"))


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # It is not empty, a link, a mount point, or does not exist.
        folder.rmdir()


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

    import keras_seq.layers.registered  # noqa: F401  (the layers that the file names)
    from keras_seq.models.checks import reason_of

    try:
        _require_plain(directory / MODEL)
        model = keras.saving.load_model(directory / MODEL, compile=False)  # It refuses code, as in Lambda layers.
    except Exception as error:  # A damaged archive raises errors of zip, zlib, JSON, HDF5 and Keras.
        raise RunError(f"{directory / MODEL} is damaged: {reason_of(error)}") from error
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
            f"{directory} has no {MODEL} yet, because its first epoch was interrupted; resume it with "
            f"{resume_command(directory)}"
        )
    if not directory.exists():
        raise RunError(f"{directory} does not exist; check the path, or make a run with keras-seq train")
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
            raise RunError(
                "it must have the keys corpus and by_line; a run of an earlier version of keras_seq must be trained again"
            )
        config = TrainConfig.from_dict(values)
    except (KerasSeqError, ValueError) as error:
        raise RunError(f"{directory / CONFIG} is damaged: {error}; correct it, or restore it from a copy") from error
    return vocabulary, config


def read_columns(table: Path) -> dict[str, np.ndarray]:
    """Returns the columns of `history.csv` or `steps.csv`, float64, by the names in its first line.

    Raises:
        RunError: the table is damaged; its line is named.
        OSError: it cannot be read.
    """
    header, rows = _read_table(table)
    return dict(zip(header, np.array(rows, float).reshape(len(rows), len(header)).T, strict=True))


def remove_epochs(table: Path, first: int) -> None:
    """Removes the rows of epoch `first` and later from a table; removes a table that is empty or does not exist.

    Raises:
        RunError: the table is damaged; its line is named.
        OSError: it cannot be read or written.
    """
    if not table.exists():
        return
    if not table.stat().st_size:
        table.unlink()
        return
    # A shorter last row was being written when the run was killed; its epoch was not finished.
    header, rows = _read_table(table, is_cut=True)
    column = header.index("epoch")
    kept = [row for row in rows if float(row[column]) < first]
    with replacing(table) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *kept])


def _read_table(table: Path, is_cut: bool = False) -> tuple[list[str], list[list[str]]]:
    """Returns the first line of a table and the others, which it requires to hold numbers."""

    def damaged(line: int, reason: object) -> RunError:
        return RunError(
            f"{table} is damaged in line {line}: {reason}. Correct this line or, to continue without the table, remove it"
        )

    rows: list[list[str]] = []
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            if "epoch" not in header or len(set(header)) < len(header):
                raise damaged(1, "it must name the columns, one of which is epoch")
            for row in reader:
                line = reader.line_num
                if len(row) == len(header) and all(map(_is_number, row)):
                    rows.append(row)
                elif not is_cut or next(reader, None) is not None:
                    raise damaged(line, f"it must hold {len(header)} numbers")
        except UnicodeDecodeError:
            raise damaged(reader.line_num + 1, "it must be UTF-8") from None
        except csv.Error as error:
            raise damaged(reader.line_num, error) from None
    return header, rows


def _is_number(text: str) -> bool:
    if len(text) > _LONGEST_NUMBER:
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _require_plain(model: Path) -> None:
    """Refuses a `.keras` file whose parts would inflate, or whose JSON would exhaust the parser of Keras."""
    names = require_stored(model)
    with zipfile.ZipFile(model) as archive:
        for name in names:
            if name.endswith(".json"):
                parse_json(archive.read(name))


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
