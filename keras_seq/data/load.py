"""Texts to learn from: files of the user's own, or the built-in agreement grammar."""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_seq.data.corpus import TFDS, Corpus, part_begin, require_shares
from keras_seq.data.encoded_text import EncodedText
from keras_seq.data.text_files import Path, joined, read_texts
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError

# Files of an encoded corpus, beside those of its training part.
MANIFEST, VOCABULARY, VALIDATION, TEST = "encoded_corpus.json", "vocab.txt", "validation.txt", "test.txt"


def load_corpus(
    path: Path | Sequence[Path], validation: float = 0.05, test: float = 0.05, by_line: bool = False
) -> Corpus:
    """Reads a text and cuts it into a training, a validation and a test part, in this order.

    Args:
        path: What `keras_seq.data.text_files.read_texts` reads: a text file, compressed or not, a folder, a pattern, a field of a
            table such as `"news.csv:body"`, or `"-"`; or several of these. Files are joined in the order given, with a line
            feed after one that does not end in one. Or a dataset of TensorFlow Datasets, with its own splits, `"tfds:NAME"`
            (`keras_seq.data.tfds.load_tfds`). Or the directory of an encoded corpus, with its own parts
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
        from keras_seq.data.agreement import agreement_corpus

        return agreement_corpus(validation=validation, test=test)
    sources = sources_of(path)
    if is_encoded(sources[0]):
        return load_encoded(sources[0])
    if is_dataset(sources[0]):
        from keras_seq.data.tfds import load_tfds

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
