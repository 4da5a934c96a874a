"""What a corpus is read from: files, or one dataset of TensorFlow Datasets, or one encoded corpus."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from keras_seq.data.encoded_corpus import is_encoded_corpus
from keras_seq.data.source_files import Path, is_read_once, list_files
from keras_seq.data.text_files import describe_tables, in_lines, joined, read_texts
from keras_seq.data.tfds import is_tfds, open_tfds
from keras_seq.errors import CorpusError


def list_sources(path: Path | Sequence[Path]) -> list[Path]:
    """Returns the sources of a corpus: any number of files, or a single dataset or encoded corpus.

    Raises:
        CorpusError: the list is empty, or a dataset or an encoded corpus is listed together with others.
    """
    sources = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not sources:
        raise CorpusError("the corpus must be at least one text file, but an empty list was received; name a file")
    single = [source for source in sources if is_tfds(source) or is_encoded_corpus(source)]
    if single and len(sources) > 1:
        raise CorpusError(
            f"a dataset or an encoded corpus must be the only source, but {single[0]} is listed with others; "
            "pass it alone"
        )
    return sources


@dataclasses.dataclass(frozen=True)
class RepeatableText:
    """A text that can be read several times.

    Attributes:
        fingerprint: returns what identifies the text; it changes when the text changes.
        pieces: reads the text; if `parts` is not empty, the training part.
        parts: functions that read "validation" and "test", if the source has these parts.
        tables: how the tables among its files are read.
    """

    fingerprint: Callable[[], list[Any]]
    pieces: Callable[[], Iterator[str]]
    parts: Mapping[str, Callable[[], Iterator[str]]]
    tables: list[str]

    def require_unchanged(self, fingerprint: list[Any]) -> None:
        """Requires that the fingerprint is still the same.

        Raises:
            CorpusError: the text has changed.
        """
        if self.fingerprint() != fingerprint:
            raise CorpusError(
                "the corpus changed while it was read; remove the encoded corpus, and encode the text again"
            )


def open_repeatable(path: Path | Sequence[Path], output: pathlib.Path) -> RepeatableText:
    """Opens files or a dataset as a text that can be read several times.

    Args:
        path: files or a dataset; see `keras_seq.load_corpus`.
        output: the directory that the text is encoded to.

    Raises:
        CorpusError: the source is standard input, a pipe, an encoded corpus, or a folder that contains `output`.
    """
    sources = list_sources(path)
    if any(map(is_read_once, sources)):
        raise CorpusError(
            "the corpus is read twice, so it cannot be standard input or a pipe; write it to a file first"
        )
    if is_encoded_corpus(sources[0]):
        raise CorpusError(f"the corpus must be text, but {sources[0]} is already encoded; train on it as it is")
    if is_tfds(sources[0]):
        _, splits = open_tfds(str(sources[0]))
        lines = {split: functools.partial(_read_lines, texts) for split, texts in splits.items()}
        return RepeatableText(lambda: [str(sources[0])], lines.pop("train"), lines, [])
    for folder in (pathlib.Path(source).resolve() for source in sources):
        if folder.is_dir() and output.resolve().is_relative_to(folder):
            raise CorpusError(
                f"the encoded corpus must not be written into the corpus itself, but {output} is inside {folder}; "
                "choose another directory"
            )
    return RepeatableText(
        fingerprint=lambda: _fingerprint(sources),
        pieces=lambda: joined(text for _, text in read_texts(*sources)),
        parts={},
        tables=list(describe_tables(*sources)),
    )


def _read_lines(texts: Callable[[], Iterator[str]]) -> Iterator[str]:
    return in_lines(texts())


def _fingerprint(sources: list[Path]) -> list[Any]:
    """Returns the path, field, size and modification time of each file."""
    found: list[Any] = []
    for path, field in list_files(*sources):
        if path is not None and path.exists():  # Reading reports the missing files.
            stat = path.stat()
            found.append([str(path.resolve()), field, stat.st_size, stat.st_mtime_ns])
    return found
