"""A corpus larger than memory, encoded once on disk, in parallel.

It is read twice: for its vocabulary and its size, then for its ids. Texts go through in chunks, of which a few are in
memory at a time. What was finished before an interruption is not done again.
"""

import collections
import dataclasses
import functools
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from keras_seq.data import text_files
from keras_seq.data.corpus import Corpus, part_begin, require_shares
from keras_seq.data.encoded_text import RECORD, token_type, tokens_in
from keras_seq.data.lines import LONGEST_LINE
from keras_seq.data.load import (
    MANIFEST,
    TEST,
    VALIDATION,
    VOCABULARY,
    is_dataset,
    is_encoded,
    load_encoded,
    named_texts,
    sources_of,
)
from keras_seq.data.text_files import STANDARD_INPUT, files_of, in_lines, joined
from keras_seq.data.vocabulary import Level, Vocabulary, count_tokens, split_words
from keras_seq.errors import CorpusError
from keras_seq.files import PARTIAL, replacing
from keras_seq.processes import ProcessPool, process_pool

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
    (`keras_seq.data.encoded_text`); `keras_seq.load_corpus(directory)` opens it. A call that was cut off goes on where it was
    when it is called again.

    Args:
        path: files or a dataset, as of `keras_seq.load_corpus`.
        directory: to make.
        level: as of `keras_seq.Vocabulary.from_text`, like `max_size` and `coverage`. Words are counted in the training
            part. Beyond 4,000,000 different words only the 2,000,000 most frequent so far are kept, again and again: the
            counts of rare words can then be too low.
        max_size: largest size of the vocabulary.
        coverage: share of the words that the vocabulary has at least.
        by_line: whether every line is a sequence of its own, of less than 65,535 characters, which ends in `<eos>`; empty lines
            are left out.
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
        ValueError: a share or an argument of the vocabulary is out of range, or a process was ended from outside.
    """
    require_shares(validation, test)
    directory = Path(directory)
    source = _source(path, directory)
    settings: dict[str, Any] = {
        "source": source.fingerprint(),
        "level": level,
        "max_size": max_size,
        "coverage": coverage,
        "by_line": by_line,
        "shares": [validation, test],
    }
    manifest = _begun(directory, settings)
    if manifest is None:
        with process_pool(processes) as pool:
            counts, characters, end = _counted(source, settings, pool)
        source.require(settings["source"])
        manifest = _written(directory, settings, source, counts, characters, end)
    vocabulary = Vocabulary.load(directory / VOCABULARY)
    if not _is_whole(directory, manifest, vocabulary):
        with process_pool(processes, _prepare, vocabulary.to_bytes(), by_line) as pool:
            files = _encoded(source, directory, manifest, vocabulary, pool)
        source.require(settings["source"])
        _write(directory / MANIFEST, json.dumps({**manifest, "files": files}, indent=1))
    return load_encoded(directory)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A text that can be read again and again.

    Attributes:
        fingerprint: returns what it is, and changes with it.
        pieces: reads it.
        parts: read the validation and the test part where it has its own.
    """

    fingerprint: Callable[[], list[Any]]
    pieces: Callable[[], Iterator[str]]
    parts: Mapping[str, Callable[[], Iterator[str]]]

    def require(self, fingerprint: list[Any]) -> None:
        """Refuses a text that is no longer what it was."""
        if self.fingerprint() != fingerprint:
            raise CorpusError(
                "The corpus must stay as it is, but it changed while it was read; remove what was made, and begin again."
            )


def _source(path: text_files.Path | Sequence[text_files.Path], directory: Path) -> _Source:
    sources = sources_of(path)
    if STANDARD_INPUT in sources:
        raise CorpusError("The corpus is read twice, which standard input cannot be; write it to a file first.")
    if is_encoded(sources[0]):
        raise CorpusError(f"The corpus must be a text, but {sources[0]} is encoded already; train on it as it is.")
    if is_dataset(sources[0]):
        from keras_seq.data.tfds import open_tfds

        _, splits = open_tfds(str(sources[0]))
        lines = {split: functools.partial(_in_lines, texts) for split, texts in splits.items()}
        return _Source(lambda: [str(sources[0])], lines.pop("train"), lines)
    for folder in (Path(one).resolve() for one in sources):
        if folder.is_dir() and directory.resolve().is_relative_to(folder):
            raise CorpusError(
                f"The directory of an encoded corpus must not be part of it, but {directory} is in {folder}."
            )
    return _Source(lambda: _fingerprint(sources), lambda: joined(named_texts(sources, [])), {})


def _in_lines(texts: Callable[[], Iterator[str]]) -> Iterator[str]:
    return in_lines(texts())


def _fingerprint(sources: list[text_files.Path]) -> list[Any]:
    """Returns the files with their sizes and times."""
    found: list[Any] = []
    for source in sources:
        paths, field = files_of(source)
        stats = [(path, path.stat()) for path in paths if path.exists()]  # What is not is told when it is read.
        found += [[str(path.resolve()), field, stat.st_size, stat.st_mtime_ns] for path, stat in stats]
    return found


def _begun(directory: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the manifest of a directory that was begun; None of one that was not."""
    manifest = directory / MANIFEST
    if not manifest.exists():
        known = {VOCABULARY, VALIDATION, TEST}
        if directory.exists() and (
            not directory.is_dir() or not all(_is_partial(one) or one.name in known for one in directory.iterdir())
        ):
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


def _is_partial(path: Path) -> bool:
    """Returns whether this is a file that was not finished."""
    return path.name.startswith(PARTIAL)


def _counted(source: _Source, settings: dict[str, Any], pool: ProcessPool) -> tuple[collections.Counter[str], int, str]:
    """Reads the text; returns how often it has each token, how many characters it has, and the last of them."""
    counts: collections.Counter[str] = collections.Counter()
    last: collections.deque[str] = collections.deque()
    characters = kept = lines = 0
    count = functools.partial(count_tokens, level=settings["level"])
    with _progress("counting", None) as bar:
        for text, found in pool.in_order(count, _chunks(source.pieces(), settings)):
            if settings["by_line"]:
                lines = _require_short(text, lines)
            counts += found
            if len(counts) > _MOST_WORDS:
                counts = collections.Counter(dict(counts.most_common(_MOST_WORDS // 2)))
            last.append(text)
            characters, kept = characters + len(text), kept + len(text)
            while kept - len(last[0]) > 2 * LONGEST_HELD_OUT:
                kept -= len(last.popleft())
            bar.update(len(text))
    if not any(token.strip() for token in counts):
        raise CorpusError("The corpus must hold text, but it holds nothing but white space.")
    return counts, characters, "".join(last)


def _require_short(text: str, lines: int) -> int:
    """Refuses lines that `keras_seq.lines` does not take; returns the number of lines before and in a chunk."""
    for number, line in enumerate(text.split("\n"), lines + 1):
        if len(line) >= LONGEST_LINE:
            raise CorpusError(
                f"The corpus must have lines of less than {LONGEST_LINE:,} characters to be read by line, but line {number:,} has "
                f"{len(line):,}; cut it, or leave out --by_line."
            )
    return lines + text.count("\n")


def _written(
    directory: Path,
    settings: dict[str, Any],
    source: _Source,
    counts: collections.Counter[str],
    characters: int,
    end: str,
) -> dict[str, Any]:
    """Writes all but the training part; returns the manifest.

    Args:
        directory: to make.
        settings: how to encode.
        source: of the parts that it has itself.
        counts: of the tokens of all of the text.
        characters: how many it has.
        end: the last of them, from which the parts are cut.
    """
    level, parts, whole = settings["level"], dict[str, str](), characters
    for part, share in zip(("test", "validation"), reversed(settings["shares"]), strict=True):
        if part in source.parts:
            parts[part] = _at_most(source.parts[part](), LONGEST_HELD_OUT)
            if level == "char":
                counts += count_tokens(parts[part], level)
            continue
        size = min(int(whole * share), LONGEST_HELD_OUT)
        begin = part_begin(end, len(end) - size, by_line=settings["by_line"] or level == "word")
        end, parts[part] = end[:begin], end[begin:]
        characters -= len(parts[part])
        if level == "word":
            counts -= count_tokens(parts[part], level)
    vocabulary = Vocabulary.from_counts(counts, level, settings["max_size"], coverage=settings["coverage"])
    manifest = {"by_line": settings["by_line"], "characters": characters, "settings": settings}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        vocabulary.save(directory / VOCABULARY)
        _write(directory / VALIDATION, parts["validation"])
        _write(directory / TEST, parts["test"])
        _write(directory / MANIFEST, json.dumps(manifest, indent=1))
    except OSError as error:
        raise CorpusError(
            f"The encoded corpus must be written, but {directory} cannot be: {error.strerror}; make room."
        ) from error
    return manifest


def _at_most(texts: Iterable[str], size: int) -> str:
    """Returns the first characters of texts, a number of them or all."""
    kept, length = [], 0
    for text in texts:
        kept.append(text)
        length += len(text)
        if length >= size:
            break
    return "".join(kept)[:size]


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_bytes(text.encode("utf-8"))


def _is_whole(directory: Path, manifest: dict[str, Any], vocabulary: Vocabulary) -> bool:
    """Returns whether all files of the training part are there."""
    dtype = token_type(vocabulary)
    return "files" in manifest and all(_tokens(directory / name, dtype) == tokens for name, tokens in manifest["files"])


def _tokens(path: Path, dtype: np.dtype) -> int | None:
    """Returns how many tokens a file has; None if it is not there, or not whole."""
    return tokens_in(path.stat().st_size, dtype) if path.exists() else None


def _encoded(
    source: _Source, directory: Path, manifest: dict[str, Any], vocabulary: Vocabulary, pool: ProcessPool
) -> list[tuple[str, int]]:
    """Writes the files of the training part that are not there yet; returns the name of each and how many tokens it has."""
    dtype = token_type(vocabulary)
    names: list[str] = []
    known = dict(manifest.get("files", []))  # of files that were whole once

    def missing() -> Iterator[tuple[Path, str]]:
        """Yields the chunks of files that are to be written."""
        there = False
        for number, chunk in enumerate(_until(_chunks(source.pieces(), manifest["settings"]), manifest["characters"])):
            if number % _CHUNKS_OF_A_FILE == 0:
                names.append(f"train-{len(names):05}.tfrecord")
                tokens = _tokens(directory / names[-1], dtype)
                there = tokens is not None and tokens == known.get(names[-1], tokens)
            bar.update(len(chunk))
            if not there:
                yield directory / names[-1], chunk

    with _progress("encoding", manifest["characters"]) as bar:
        encoded = pool.in_order(_ids, missing())
        for path, blocks in itertools.groupby(encoded, key=lambda one: one[0][0]):
            _write_records(path, (ids for _, ids in blocks), dtype)
    for half_written in filter(_is_partial, directory.iterdir()):
        shutil.rmtree(half_written)
    return [(name, _tokens(directory / name, dtype) or 0) for name in names]


def _write_records(path: Path, blocks: Iterable[np.ndarray], dtype: np.dtype) -> None:
    """Writes blocks of ids as records of `RECORD` of them; the file gets its name when it has the length it must have."""
    import tensorflow as tf

    tokens, rest = 0, np.zeros(0, dtype)
    try:
        with replacing(path) as partial:
            with tf.io.TFRecordWriter(str(partial)) as file:
                for block in itertools.chain(blocks, [None]):
                    ids = rest if block is None else np.concatenate([rest, block])
                    end = len(ids) if block is None else len(ids) // RECORD * RECORD
                    for begin in range(0, end, RECORD):
                        file.write(ids[begin : begin + RECORD].tobytes())
                    tokens, rest = tokens + end, ids[end:]
            if _tokens(partial, dtype) != tokens:
                raise CorpusError(
                    f"The files must be written whole, but {path} is not; make room, and encode again to go on."
                )
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message.rpartition("; ")[2]
        raise CorpusError(f"{path} must be written, but it cannot be: {reason}; encode again to go on.") from error


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
                f"The corpus must have no {what} of {CHUNK:,} characters, but one of {len(text):,} or more came; cut it, or encode "
                "the text by characters."
            )
        yield text[:end]
        held, size = [text[end:]], len(text) - end
    if size:
        yield "".join(held)


def _lines_end(text: str) -> int:
    return text.rfind("\n") + 1


def _words_end(text: str) -> int:
    """Returns where the last token that is whole ends, whatever comes after the text; 0 where there is none.

    A space or a line feed is only ever the first character of a token, so that one ends before the last of them. Of a text without
    any, the last two tokens can become one with what comes: a word and its apostrophe.
    """
    end = max(text.rfind(" "), text.rfind("\n"))
    return end if end > 0 else len("".join(split_words(text)[:-2]))


def _until(chunks: Iterable[str], characters: int) -> Iterator[str]:
    for chunk in chunks:
        if characters <= 0:
            return
        yield chunk[:characters]
        characters -= len(chunk)


_in_this_process: tuple[Vocabulary, bool]


def _prepare(vocabulary: bytes, by_line: bool) -> None:
    """Tells a process how to encode."""
    global _in_this_process
    _in_this_process = Vocabulary.from_bytes(vocabulary), by_line


def _ids(chunk: tuple[Path, str]) -> np.ndarray:
    (vocabulary, by_line), (_, text) = _in_this_process, chunk
    return (vocabulary.encode_lines(text) if by_line else vocabulary.encode(text)).astype(token_type(vocabulary))
