"""The directory of an encoded corpus: its files, and how it is opened.

================================  ==========================================================================
file                              content
================================  ==========================================================================
`encoded_corpus.json`             the manifest: how the corpus was encoded, and once it is complete, its files
`vocab.txt`                       the vocabulary
`validation.txt`, `test.txt`      the text of these parts
`train-00000.tfrecord`, ...       the token ids of the training part (`keras_seq.data.encoded_text`)
================================  ==========================================================================
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from keras_seq.data import text_files
from keras_seq.data.corpus import Corpus
from keras_seq.data.encoded_text import EncodedText, stored_tokens, token_type
from keras_seq.data.tokens import Level
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError, VocabularyError
from keras_seq.files import PARTIAL, replacing

MANIFEST, VOCABULARY, VALIDATION, TEST = "encoded_corpus.json", "vocab.txt", "validation.txt", "test.txt"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a corpus is encoded.

    Attributes:
        source: what identifies the source files: their paths, sizes and times of change.
        level: level of the vocabulary.
        max_size: largest size of the vocabulary; None for no limit.
        coverage: smallest fraction of the words that the vocabulary has.
        by_line: whether every line is a sequence of its own.
        shares: fractions of the validation and the test part.
        tables: how the tables among the source files are read.
    """

    source: list[Any]
    level: Level
    max_size: int | None
    coverage: float
    by_line: bool
    shares: list[float]
    tables: list[str]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of the manifest file.

    Attributes:
        by_line: whether every line is a sequence of its own.
        characters: number of characters of the training part.
        settings: the `Settings`, as JSON.
        files: name and number of tokens of each file of the training part; None until all of them are written.
    """

    by_line: bool
    characters: int
    settings: dict[str, Any]
    files: list[tuple[str, int]] | None = None

    def save(self, directory: Path) -> None:
        """Writes the manifest file."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        write_text(directory / MANIFEST, json.dumps(values, indent=1))

    @classmethod
    def load(cls, directory: Path) -> "Manifest":
        """Reads the manifest file.

        Raises:
            CorpusError: the file is missing or damaged.
        """
        try:
            values = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
            return cls(values["by_line"], values["characters"], values["settings"], values.get("files"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(directory, error) from error


def is_encoded_corpus(path: text_files.Path) -> bool:
    """Returns whether this is the directory of an encoded corpus, complete or not."""
    return (Path(path) / MANIFEST).is_file()


def load_encoded_corpus(path: text_files.Path) -> Corpus:
    """Opens a corpus that `keras_seq.encode_corpus` wrote.

    Raises:
        CorpusError: it is incomplete or damaged.
    """
    directory = Path(path)
    manifest = Manifest.load(directory)
    try:
        vocabulary = Vocabulary.load(directory / VOCABULARY)
        if vocabulary.missing:
            raise VocabularyError(f"{VOCABULARY} lacks {' and '.join(vocabulary.missing)}")
        validation, test = ((directory / name).read_bytes().decode("utf-8") for name in (VALIDATION, TEST))
    except (OSError, ValueError) as error:
        raise _damaged(directory, error) from error
    if manifest.files is None:
        raise CorpusError(f"the encoded corpus {directory} is incomplete; encode the text again to complete it")
    files = [(directory / name, tokens) for name, tokens in manifest.files]
    train = EncodedText(files, vocabulary, manifest.by_line)
    tables = tuple(manifest.settings.get("tables", ()))
    return Corpus(train, validation, test, directory.resolve().name, manifest.by_line, tables)


def load_started(directory: Path, settings: Settings) -> Manifest | None:
    """Returns the manifest if encoding with these settings was started in a directory; None if it was not started.

    Raises:
        CorpusError: the directory has other files, a damaged manifest, or a corpus with other settings.
    """
    if not (directory / MANIFEST).exists():
        ours = {VOCABULARY, VALIDATION, TEST}
        if directory.exists() and (
            not directory.is_dir() or not all(is_partial(path) or path.name in ours for path in directory.iterdir())
        ):
            raise CorpusError(f"the directory of an encoded corpus must be new, but {directory} exists; choose another")
        return None
    manifest = Manifest.load(directory)
    if {"tables": [], **manifest.settings} != dataclasses.asdict(settings):  # Earlier code did not write `tables`.
        raise CorpusError(
            f"{directory} has a corpus of other files, of files that have changed since, or with other settings; "
            "choose another directory, or remove it"
        )
    return manifest


def is_complete(directory: Path, manifest: Manifest, vocabulary: Vocabulary) -> bool:
    """Returns whether all files of the training part are there, with the right sizes."""
    dtype = token_type(vocabulary)
    return manifest.files is not None and all(
        stored_tokens(directory / name, dtype) == tokens for name, tokens in manifest.files
    )


def is_partial(path: Path) -> bool:
    """Returns whether an interrupted write left this path behind."""
    return path.name.startswith(PARTIAL)


def write_text(path: Path, text: str) -> None:
    """Writes a text file as UTF-8. The file is either written completely or left as it was."""
    with replacing(path) as partial:
        partial.write_bytes(text.encode("utf-8"))


def _damaged(directory: Path, error: Exception) -> CorpusError:
    return CorpusError(f"the encoded corpus {directory} is damaged: {error}; remove it, and encode the text again")
