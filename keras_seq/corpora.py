"""Texts to learn from: files of the user's own, or the built-in agreement grammar."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_seq.encoded_text import EncodedText
from keras_seq.text_files import CorpusError, Path, joined, read_texts
from keras_seq.vocabulary import Vocabulary

TFDS = "tfds:"  # before the name of a dataset of TensorFlow Datasets
# Files of an encoded corpus, beside those of its training part.
MANIFEST, VOCABULARY, VALIDATION, TEST = "encoded_corpus.json", "vocab.txt", "validation.txt", "test.txt"


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A text in three parts.

    Attributes:
        train: What the model learns from: a text, or one encoded on disk (`keras_seq.encode_corpus`).
        validation: What the training is watched with.
        test: What the finished model is measured on.
        name: What to call the text in reports.
        by_line: Whether every line is a sequence of its own, rather than the text one long stream.
    """

    train: str | EncodedText
    validation: str
    test: str
    name: str
    by_line: bool = False

    def text(self, part: str) -> str:
        """Returns a part's text.

        Raises:
            CorpusError: it is encoded on disk.

        Example:
            >>> Corpus("to be, ", "or not", "", name="hamlet").text("train")
            'to be, '
        """
        text = getattr(self, part)
        if isinstance(text, EncodedText):
            raise CorpusError(
                f"The text of {self.name} must be at hand, but its part {part} is encoded on disk; name the files it is of."
            )
        return text


def load_corpus(
    path: Path | Sequence[Path], validation: float = 0.05, test: float = 0.05, by_line: bool = False
) -> Corpus:
    """Reads a text and cuts it into a training, a validation and a test part, in this order.

    Args:
        path: What `keras_seq.text_files.read_texts` reads: a text file, compressed or not, a folder, a pattern, a field of a
            table such as `"news.csv:body"`, or `"-"`; or several of these. Files are joined in the order given, with a line
            feed after one that does not end in one. Or a dataset of TensorFlow Datasets, with its own splits, `"tfds:NAME"`
            (`keras_seq.tfds_corpus.load_tfds`). Or the directory of an encoded corpus, with its own parts
            (`keras_seq.encode_corpus`). Or `"agreement"` for `keras_seq.agreement_corpus()`; a file of that name is
            `"./agreement"`.
        validation: Share of the characters in the validation part, rounded down; at least 0.
        test: Share of the characters in the test part, rounded down; at least 0, and below 1 with `validation`.
        by_line: Whether every line is a sequence of its own: then no line is cut, and the shares are a little smaller.

    Returns:
        The corpus; that of "agreement" is always by line.

    Raises:
        CorpusError: A file is missing, unreadable, damaged, empty, or not text.
        ValueError: A share is out of range.
    """
    require_shares(validation, test)
    if path == "agreement":
        from keras_seq.agreement import agreement_corpus  # which imports Corpus from here

        return agreement_corpus(validation=validation, test=test)
    sources = sources_of(path)
    if is_encoded(sources[0]):
        return load_encoded(sources[0])
    if is_dataset(sources[0]):
        from keras_seq.tfds_corpus import load_tfds  # which imports Corpus from here

        return load_tfds(str(sources[0]), validation, test, by_line)
    names: list[str] = []
    text = "".join(joined(named_texts(sources, names)))
    test_begin = part_begin(text, len(text) - int(len(text) * test), by_line)
    validation_begin = part_begin(text, test_begin - int(len(text) * validation), by_line)
    return Corpus(
        train=text[:validation_begin],
        validation=text[validation_begin:test_begin],
        test=text[test_begin:],
        name=name_of(names),
        by_line=by_line,
    )


def is_encoded(path: Path) -> bool:
    """Returns whether this is the directory of an encoded corpus, finished or not."""
    return (pathlib.Path(path) / MANIFEST).is_file()


def load_encoded(path: Path) -> Corpus:
    """Opens the corpus that `keras_seq.encode_corpus` made.

    Raises:
        CorpusError: it is not finished, or damaged.
    """
    directory = pathlib.Path(path)
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        vocabulary = Vocabulary.load(directory / VOCABULARY)
        by_line, files = manifest["by_line"], manifest.get("files")
        validation, test = ((directory / name).read_bytes().decode("utf-8") for name in (VALIDATION, TEST))
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(
            f"The encoded corpus must be whole, but {directory} is damaged: {error}; remove it, and encode again."
        ) from error
    if files is None:
        raise CorpusError(f"The encoded corpus must be finished, but {directory} is not; encode it again to go on.")
    train = EncodedText([(directory / name, tokens) for name, tokens in files], vocabulary, by_line)
    return Corpus(train, validation, test, name=directory.resolve().name, by_line=by_line)


def corpus_of(config: Mapping[str, Any]) -> Corpus:
    """Returns the corpus of a run, by its configuration.

    Raises:
        CorpusError: as of `load_corpus`.
    """
    try:
        return load_corpus(config["corpus"], by_line=config["by_line"])
    except CorpusError as error:
        raise CorpusError(f"{error} It is what the run learned from.") from error


def sources_of(path: Path | Sequence[Path]) -> list[Path]:
    """Returns what a corpus is made of: files, or a dataset or an encoded corpus alone.

    Raises:
        CorpusError: a dataset or an encoded corpus came with others, or nothing came.
    """
    sources = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not sources:
        raise CorpusError("The corpus must be one text file or more, but an empty list came; name a file.")
    alone = [one for one in sources if is_dataset(one) or is_encoded(one)]
    if alone and len(sources) > 1:
        raise CorpusError(
            f"The corpus must be files, or one dataset or encoded corpus alone, but {alone[0]} came with others; name it alone."
        )
    return sources


def is_dataset(path: Path) -> bool:
    """Returns whether this names a dataset of TensorFlow Datasets."""
    return isinstance(path, str) and path.startswith(TFDS)


def named_texts(sources: Sequence[Path], names: list[str]) -> Iterator[Iterator[str]]:
    """Yields the texts of files, in pieces, and adds the names of the files to `names`."""
    for source in sources:
        for name, pieces in read_texts(source):
            names.append(name)
            yield pieces


def name_of(names: Sequence[str]) -> str:
    """Returns what to call several texts."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def part_begin(text: str, place: int, by_line: bool) -> int:
    """Returns where a part of a text begins that is to begin at a place: there, or `by_line` with the first line from there on."""
    if not by_line or place in (0, len(text)) or text[place - 1] == "\n":
        return place
    end = text.find("\n", place)
    return len(text) if end < 0 else end + 1


def require_shares(validation: float, test: float) -> None:
    """Refuses shares of a corpus that are negative or leave nothing for training.

    Raises:
        ValueError: The message names the argument and the value received.
    """
    for name, share in (("validation", validation), ("test", test)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"`{name}` must be a number of at least 0 and below 1. Received: {name}={share!r}")
    if validation + test >= 1:
        raise ValueError(
            "`validation` and `test` must be below 1 together, to leave a share for training. "
            f"Received: validation={validation!r}, test={test!r}"
        )
