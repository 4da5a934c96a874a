"""A corpus larger than memory, encoded once on disk, in parallel.

It is read twice: for its vocabulary and its size, then for its ids. Texts go through in chunks, of which a few are in
memory at a time. What was finished before an interruption is not done again.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from keras_seq import text_files
from keras_seq.corpora import (
    MANIFEST,
    TEST,
    VALIDATION,
    VOCABULARY,
    Corpus,
    is_dataset,
    load_encoded,
    name_of,
    named_texts,
    part_begin,
    require_shares,
    sources_of,
)
from keras_seq.encoded_text import RECORD, token_type, tokens_in
from keras_seq.files import replacing
from keras_seq.text_files import STANDARD_INPUT, CorpusError, files_of, in_lines, joined
from keras_seq.vocabulary import Level, Vocabulary, count_tokens, split_words

CHUNK = 2**20  # characters
_CHUNKS_OF_A_FILE = 16
LONGEST_HELD_OUT = 10**6  # characters of the validation and of the test part: a larger share only takes time
# Counts of more words than these are thinned out, so that the memory they take is bounded.
_MOST_WORDS = 4_000_000


def encode_corpus(
    path: text_files.Path | Sequence[text_files.Path],
    directory: text_files.Path,
    level: Level = "char",
    max_size: int | None = None,
    coverage: float = 1.0,
    by_line: bool = False,
    validation: float = 0.05,
    test: float = 0.05,
    processes: int | None = None,
) -> Corpus:
    """Encodes a corpus on disk, for `keras_seq.streams` and `keras_seq.lines`; it may be larger than memory.

    The directory then has `vocab.txt`, `validation.txt`, `test.txt` and the training part as TFRecord files
    (`keras_seq.encoded_text`); `keras_seq.load_corpus(directory)` opens it. A call that was cut off goes on where it was
    when it is called again.

    Args:
        path: as of `keras_seq.load_corpus`, but standard input.
        directory: to make.
        level: as of `keras_seq.Vocabulary.from_text`, like `max_size` and `coverage`. Words are counted in the training
            part. Beyond 4,000,000 different words only the 2,000,000 most frequent so far are kept, again and again: the
            counts of rare words can then be too low.
        max_size: largest size of the vocabulary.
        coverage: share of the words that the vocabulary has at least.
        by_line: whether every line is a sequence of its own, which ends in `<eos>`; empty lines are left out.
        validation: share of the validation part, at most a million characters of it. Parts of words and lines begin with
            a line.
        test: share of the test part, the same.
        processes: how many encode at the same time; None for one a core. In a script, call it under
            `if __name__ == "__main__":`, since they import the script.

    Returns:
        The corpus.

    Raises:
        CorpusError: a file cannot be read or is not text, the directory has something else, or the files are no longer those
            that were begun with.
        ValueError: a share or an argument of the vocabulary is out of range.
    """
    require_shares(validation, test)
    directory = Path(directory)
    source = _source(path)
    settings = {
        "source": source.fingerprint(),
        "level": level,
        "max_size": max_size,
        "coverage": coverage,
        "by_line": by_line,
        "shares": [validation, test],
    }
    try:
        manifest = _begun(directory, settings)
        if manifest is None:
            with _pool(processes) as pool:
                manifest = _begin(source, directory, settings, pool)
        if "files" not in manifest:
            vocabulary = Vocabulary.load(directory / VOCABULARY)
            with _pool(processes, vocabulary.to_bytes(), by_line) as pool:
                files = _encode(source, directory, manifest, vocabulary, pool)
            if source.fingerprint() != settings["source"]:
                raise CorpusError("The corpus must stay as it is, but it changed while it was encoded; begin again.")
            _write(directory / MANIFEST, json.dumps({**manifest, "files": files}, indent=1))
    except concurrent.futures.BrokenExecutor as error:
        raise CorpusError(
            "All processes must stay to the end, but one was ended from outside, for want of memory perhaps; encode again to go on."
        ) from error
    return load_encoded(directory)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A text that can be read again and again.

    Attributes:
        fingerprint: returns what it is, and changes with it.
        pieces: reads it, and adds the names of its files to a list.
        parts: texts of the validation and the test part where it has its own.
    """

    fingerprint: Callable[[], list[Any]]
    pieces: Callable[[list[str]], Iterator[str]]
    parts: dict[str, str]


def _source(path: text_files.Path | Sequence[text_files.Path]) -> _Source:
    sources = sources_of(path)
    if STANDARD_INPUT in sources:
        raise CorpusError("The corpus is read twice, which standard input cannot be; write it to a file first.")
    if not is_dataset(sources[0]):
        return _Source(lambda: _files(sources), lambda names: joined(named_texts(sources, names)), {})
    from keras_seq.tfds_corpus import open_tfds  # which imports corpora, as this does

    name, splits = open_tfds(str(sources[0]))

    def pieces(names: list[str]) -> Iterator[str]:
        names.append(name)
        return in_lines(splits["train"]())

    own = {split: _at_most(in_lines(texts()), LONGEST_HELD_OUT) for split, texts in splits.items() if split != "train"}
    return _Source(lambda: [str(sources[0])], pieces, own)


def _files(sources: list[text_files.Path]) -> list[Any]:
    """Returns the files with their sizes and times."""
    found: list[Any] = []
    for source in sources:
        paths, field = files_of(source)
        stats = [(path, path.stat()) for path in paths if path.exists()]  # What is not is told when it is read.
        found += [[str(path.resolve()), field, stat.st_size, stat.st_mtime_ns] for path, stat in stats]
    return found


def _at_most(texts: Iterable[str], size: int) -> str:
    """Returns so many of the first texts that they have a number of characters, or all."""
    kept, length = [], 0
    for text in texts:
        if length >= size:
            break
        kept.append(text)
        length += len(text)
    return "".join(kept)


def _begun(directory: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the manifest of a directory that was begun; None of one that was not."""
    manifest = directory / MANIFEST
    if not manifest.exists():
        known = {VOCABULARY, VALIDATION, TEST}
        if directory.exists() and (not directory.is_dir() or {file.name for file in directory.iterdir()} - known):
            raise CorpusError(
                f"The directory of an encoded corpus must be new, but {directory} is not; choose another."
            )
        return None
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorpusError(
            f"The encoded corpus must be whole, but {manifest} is damaged: {error}; remove {directory}."
        ) from None
    if found.get("settings") != settings:
        raise CorpusError(
            f"The directory must be of this corpus, but {directory} has one of other files, of files as they were before, or with "
            "other settings; choose another, or remove it."
        )
    return found


def _begin(source: _Source, directory: Path, settings: dict[str, Any], pool: "_Pool") -> dict[str, Any]:
    """Writes all but the training part; returns the manifest."""
    level, by_line = settings["level"], settings["by_line"]
    counts: collections.Counter[str] = collections.Counter()
    names: list[str] = []
    last: collections.deque[str] = collections.deque()
    characters = kept = 0
    with _progress("counting", None) as bar:
        for text, found in pool.in_order(
            functools.partial(count_tokens, level=level), _chunks(source.pieces(names), settings)
        ):
            counts += found
            if len(counts) > _MOST_WORDS:
                counts = collections.Counter(dict(counts.most_common(_MOST_WORDS // 2)))
            last.append(text)
            characters, kept = characters + len(text), kept + len(text)
            while kept - len(last[0]) > 2 * LONGEST_HELD_OUT:
                kept -= len(last.popleft())
            bar.update(len(text))
    if not any(token.strip() for token in counts):
        raise CorpusError(f"The corpus must hold text, but {name_of(names)} holds nothing but white space.")
    end, parts, whole = "".join(last), dict(source.parts), characters
    for part, share in zip(("test", "validation"), reversed(settings["shares"]), strict=True):
        if part not in parts:
            size = min(int(whole * share), LONGEST_HELD_OUT)
            begin = part_begin(end, len(end) - size, by_line=by_line or level == "word")
            end, parts[part] = end[:begin], end[begin:]
            characters -= len(parts[part])
            if level == "word":
                counts -= count_tokens(parts[part], level)
        elif level == "char":
            counts += count_tokens(parts[part], level)
    vocabulary = Vocabulary.from_counts(counts, level, settings["max_size"], coverage=settings["coverage"])
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary.save(directory / VOCABULARY)
    _write(directory / VALIDATION, parts["validation"])
    _write(directory / TEST, parts["test"])
    manifest = {"name": name_of(names), "by_line": by_line, "characters": characters, "settings": settings}
    _write(directory / MANIFEST, json.dumps(manifest, indent=1))
    return manifest


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_bytes(text.encode("utf-8"))


def _encode(
    source: _Source, directory: Path, manifest: dict[str, Any], vocabulary: Vocabulary, pool: "_Pool"
) -> list[tuple[str, int]]:
    """Writes the files of the training part that are not there yet; returns the name of each and how many tokens it has."""
    for half_written in directory.glob(".partial-*"):
        half_written.unlink()
    files: list[tuple[str, int]] = []
    chunks = _until(_chunks(source.pieces([]), manifest["settings"]), manifest["characters"])
    with _progress("encoding", manifest["characters"]) as bar:
        while some := list(itertools.islice(chunks, _CHUNKS_OF_A_FILE)):
            path = directory / f"train-{len(files):05}.tfrecord"
            if not path.exists():
                _write_records(path, (ids for _, ids in pool.in_order(_ids, some)))
            files.append((path.name, tokens_in(path, vocabulary)))
            bar.update(sum(map(len, some)))
    return files


def _write_records(path: Path, blocks: Iterable[np.ndarray]) -> None:
    """Writes blocks of ids as records of `RECORD` of them; the file gets its name after its checksums were looked at."""
    import tensorflow as tf

    try:
        with replacing(path) as partial:
            with tf.io.TFRecordWriter(str(partial)) as file:
                written = 0
                rest = np.zeros(0)
                for block in itertools.chain(blocks, [None]):
                    ids = rest if block is None else np.concatenate([rest.astype(block.dtype), block])
                    end = len(ids) if block is None else len(ids) // RECORD * RECORD
                    for begin in range(0, end, RECORD):
                        file.write(ids[begin : begin + RECORD].tobytes())
                        written += 1
                    rest = ids[end:]
            if sum(1 for _ in tf.data.TFRecordDataset(str(partial))) != written:
                raise CorpusError(f"The files must be written whole, but of {path} records are missing; encode again.")
    except tf.errors.OpError as error:
        raise CorpusError(
            f"{path} must be written, but it cannot be: {error.message}; encode again to go on."
        ) from error


def _progress(name: str, characters: int | None) -> "tqdm.tqdm[Any]":
    """Returns a bar for a terminal, and nothing elsewhere."""
    return tqdm.tqdm(desc=name, total=characters, unit=" characters", unit_scale=True, disable=None)


def _chunks(pieces: Iterable[str], settings: dict[str, Any]) -> Iterator[str]:
    """Yields a text in chunks whose tokens, or lines, are those of the whole."""
    what = "line" if settings["by_line"] else settings["level"]
    end_of_last: Callable[[str], int] = {"line": _lines_end, "word": _words_end, "char": len}[what]
    held, size = [], 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size < CHUNK:
            continue
        text = "".join(held)
        end = end_of_last(text)
        if not end:
            raise CorpusError(
                f"The corpus must have no {what} of more than {CHUNK:,} characters, but one of {len(text):,} came."
            )
        yield text[:end]
        held, size = [text[end:]], len(text) - end
    if size:
        yield "".join(held)


def _lines_end(text: str) -> int:
    return text.rfind("\n") + 1


def _words_end(text: str) -> int:
    """Returns where the last token that is whole ends, whatever comes after the text; 0 where there is none.

    A space is only ever the first character of a token, so that one ends before the last space. Of a text without any, the last
    two tokens can become one with what comes: a word and its apostrophe.
    """
    return text.rfind(" ") if text.rfind(" ") > 0 else len("".join(split_words(text)[:-2]))


def _until(chunks: Iterable[str], characters: int) -> Iterator[str]:
    for chunk in chunks:
        if characters <= 0:
            return
        yield chunk[:characters]
        characters -= len(chunk)


class _Pool:
    """Processes of Python, in which TensorFlow is not loaded."""

    def __init__(self, executor: concurrent.futures.Executor, ahead: int):
        self._executor, self._ahead = executor, ahead

    def in_order(self, function: Callable[[str], Any], texts: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yields each text and what the function makes of it; a few are under way at a time."""
        waiting: collections.deque[tuple[str, concurrent.futures.Future[Any]]] = collections.deque()
        for text in texts:
            waiting.append((text, self._executor.submit(function, text)))
            if len(waiting) > self._ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


@contextlib.contextmanager
def _pool(processes: int | None, *of_each: Any) -> Iterator[_Pool]:
    """Starts processes; `of_each` is what `_start` is called with."""
    count = processes or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    # Forked, they would have what TensorFlow's threads left of its locks.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(count, spawn, _start, of_each) as executor:
        yield _Pool(executor, 2 * count)


_in_this_process: tuple[Vocabulary, bool]


def _start(vocabulary: bytes | None = None, by_line: bool = False) -> None:
    """Makes a new process ready: Ctrl-C is for the one that started it."""
    global _in_this_process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if vocabulary is not None:
        _in_this_process = Vocabulary.from_bytes(vocabulary), by_line


def _ids(text: str) -> np.ndarray:
    vocabulary, by_line = _in_this_process
    return (vocabulary.encode_lines(text) if by_line else vocabulary.encode(text)).astype(token_type(vocabulary))
