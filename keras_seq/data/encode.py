"""`keras_seq.encode_corpus`: encodes a corpus larger than memory on disk, in parallel.

The text is read twice: first to count its tokens, then to encode it. It passes through memory in chunks, a few at a
time. A call that was interrupted does not repeat the files that it had finished.
"""

import collections
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from keras_seq import require
from keras_seq.data.chunks import Unit, first_characters, in_chunks
from keras_seq.data.corpus import Corpus, cut_off_end, require_fractions
from keras_seq.data.encoded_corpus import (
    TEST,
    VALIDATION,
    VOCABULARY,
    Manifest,
    Settings,
    corpus_of,
    file_name,
    intact_files,
    load_started,
    load_vocabulary,
)
from keras_seq.data.encoded_text import token_ids
from keras_seq.data.lines import LONGEST_LINE
from keras_seq.data.source_files import Path as AnyPath
from keras_seq.data.sources import RepeatableText, open_repeatable
from keras_seq.data.token_files import TokenFile, token_type, write_tokens
from keras_seq.data.tokens import RESERVED, Level, count_tokens
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError
from keras_seq.files import explaining, remove_partial
from keras_seq.locks import exclusive_directory
from keras_seq.processes import ProcessPool, process_pool

_CHUNKS_PER_FILE = 16
_PARTS = {VALIDATION: "validation", TEST: "test"}
# Characters of the validation part and of the test part; more would only take longer to evaluate.
LONGEST_HELD_OUT = 10**6
_MOST_WORDS = 4_000_000  # distinct words to count; beyond it, rare words are dropped to bound the memory


def encode_corpus(
    path: AnyPath | Sequence[AnyPath],
    directory: AnyPath,
    level: Level = "char",
    max_size: int | None = None,
    coverage: float = 1.0,
    by_line: bool = False,
    validation: float = 0.05,
    test: float = 0.05,
    processes: int | None = None,
) -> Corpus:
    """Encodes a corpus on disk for `keras_seq.streams` and `keras_seq.lines`. The corpus may be larger than memory.

    The directory then contains `vocab.txt`, `validation.txt`, `test.txt` and the training part as TFRecord files
    (`keras_seq.data.encoded_text`). `keras_seq.load_corpus(directory)` opens it. If a call is interrupted, the same
    call continues where it stopped.

    Args:
        path: files or a dataset; see `keras_seq.load_corpus`.
        directory: the directory to create.
        level: level of the vocabulary, "char" or "word"; see `keras_seq.Vocabulary.from_text`. Words are counted in the
            training part. Whenever there are more than 4,000,000 distinct words, only the 2,000,000 most frequent so
            far are kept, so the counts of rare words can be too low.
        max_size: largest size of the vocabulary; None for no limit.
        coverage: smallest fraction of the words that the vocabulary has.
        by_line: whether every line is a sequence of its own, ended by `<eos>`. Lines must be shorter than 65,535
            characters; empty lines are left out.
        validation: fraction of the validation part, which has at most a million characters. At the word level and by
            line, the part begins with a line.
        test: fraction of the test part, to which the same limit and the same beginning apply.
        processes: number of processes; None for one per core. They import the calling script, so a script must call
            this function under `if __name__ == "__main__":`.

    Returns:
        The corpus.

    Raises:
        CorpusError: a file cannot be read or is not text; the directory has something else; the files have changed
            since an interrupted call; or the directory cannot be written.
        InUseError: another process encodes a corpus into the directory.
        ArgumentError: a fraction or an argument of the vocabulary is out of range.
        ConfigError: the fractions add up to 1 or more.
        ProcessEndedError: a process was ended from outside.
    """
    require.one_of("level", level, RESERVED)
    require_fractions(validation, test)
    directory = Path(directory)
    source = open_repeatable(path, directory)
    settings = Settings(source.fingerprint(), level, max_size, coverage, by_line, [validation, test], source.tables)
    with exclusive_directory(directory, "encodes a corpus into it", CorpusError):
        return _encode(source, directory, settings, processes)


def _encode(source: RepeatableText, directory: Path, settings: Settings, processes: int | None) -> Corpus:
    """Does what has not been done yet; returns the corpus."""
    manifest = load_started(directory, settings)
    if manifest is None:
        with process_pool(processes) as pool:
            counts = _count(source, settings, pool)
        source.require_unchanged(settings.source)
        manifest = _write_held_out(directory, settings, source, counts)
    vocabulary = load_vocabulary(directory, manifest)
    intact = intact_files(directory, manifest, vocabulary)
    if manifest.files is not None and len(intact) == len(manifest.files):
        files = [intact[name] for name, _, _ in manifest.files]
    else:
        with process_pool(processes, _prepare, vocabulary.to_bytes(), settings.by_line) as pool:
            files = _encode_train(source, directory, settings, manifest, intact, pool, token_type(vocabulary))
        source.require_unchanged(settings.source)
    complete = dataclasses.replace(manifest, files=[(file.path.name, file.tokens, file.sha256) for file in files])
    if complete != manifest:
        with explaining(directory, CorpusError):
            complete.save(directory)
    return corpus_of(directory, complete, vocabulary, files)


@dataclasses.dataclass
class _Counts:
    """Results of the first pass over the text.

    Attributes:
        tokens: how often each token occurs.
        characters: number of characters.
        end: the end of the text, long enough to cut the held-out parts off it.
    """

    tokens: collections.Counter[str]
    characters: int
    end: str


def _count(source: RepeatableText, settings: Settings, pool: ProcessPool) -> _Counts:
    """Reads the text and counts its tokens and characters."""
    counts: collections.Counter[str] = collections.Counter()
    last: collections.deque[str] = collections.deque()
    characters = kept = lines = 0
    count = functools.partial(count_tokens, level=settings.level)
    with _progress("counting", None) as bar:
        for text, found in pool.in_order(count, in_chunks(source.pieces(), _unit(settings))):
            if settings.by_line:
                lines = _require_short_lines(text, lines)
            counts += found
            if len(counts) > _MOST_WORDS:
                counts = collections.Counter(dict(counts.most_common(_MOST_WORDS // 2)))
            last.append(text)
            characters, kept = characters + len(text), kept + len(text)
            while kept - len(last[0]) > 2 * LONGEST_HELD_OUT:
                kept -= len(last.popleft())
            bar.update(len(text))
    if not any(token.strip() for token in counts):
        raise CorpusError("the corpus must hold text, but it holds nothing but white space; check the files")
    return _Counts(counts, characters, "".join(last))


def _require_short_lines(text: str, before: int) -> int:
    """Requires that `keras_seq.lines` accepts the lines of a chunk; returns the number of lines up to its end.

    Args:
        text: the chunk.
        before: number of lines before it.
    """
    for number, line in enumerate(text.split("\n"), before + 1):
        if len(line) >= LONGEST_LINE:
            raise CorpusError(
                f"a line must be shorter than {LONGEST_LINE:,} characters to be a sequence of its own, but line "
                f"{number:,} has {len(line):,}; split the line, or encode the text as a stream"
            )
    return before + text.count("\n")


def _write_held_out(directory: Path, settings: Settings, source: RepeatableText, counts: _Counts) -> Manifest:
    """Writes the manifest, the vocabulary, the validation and the test part."""
    parts = {part: "".join(first_characters(read(), LONGEST_HELD_OUT)) for part, read in source.parts.items()}
    fractions = dict(zip(("validation", "test"), settings.shares, strict=True))
    sizes = {
        part: min(int(counts.characters * fractions[part]), LONGEST_HELD_OUT)
        for part in ("test", "validation")
        if part not in parts
    }
    _, cut = cut_off_end(counts.end, sizes, by_line=settings.by_line or settings.level == "word")
    tokens = counts.tokens
    if settings.level == "char":  # No character may be missing from the vocabulary.
        for text in parts.values():
            tokens = tokens + count_tokens(text, "char")
    else:  # Only words of the training part count.
        for text in cut.values():
            tokens = tokens - count_tokens(text, "word")
    vocabulary = Vocabulary.from_counts(tokens, settings.level, settings.max_size, coverage=settings.coverage)
    characters = counts.characters - sum(map(len, cut.values()))
    parts |= cut
    contents = {name: parts[part].encode("utf-8") for name, part in _PARTS.items()}
    contents[VOCABULARY] = vocabulary.to_bytes()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest = Manifest(settings.by_line, characters, dataclasses.asdict(settings), digests)
    with explaining(directory, CorpusError):
        directory.mkdir(parents=True, exist_ok=True)
        manifest.save(directory, contents)
    return manifest


def _encode_train(
    source: RepeatableText,
    directory: Path,
    settings: Settings,
    manifest: Manifest,
    intact: dict[str, TokenFile],
    pool: ProcessPool,
    dtype: np.dtype,
) -> list[TokenFile]:
    """Writes those files of the training part that are not intact; returns all of them."""
    files: list[TokenFile | None] = []  # None until a file is written

    def missing() -> Iterator[tuple[int, str]]:
        """Yields the chunks of the files that are missing, each with the number of its file."""
        chunks = first_characters(in_chunks(source.pieces(), _unit(settings)), manifest.characters)
        for number, chunk in enumerate(chunks):
            if number % _CHUNKS_PER_FILE == 0:
                files.append(intact.get(file_name(len(files))))
            bar.update(len(chunk))
            if files[-1] is None:
                yield len(files) - 1, chunk

    with _progress("encoding", manifest.characters) as bar:
        encoded = pool.in_order(_encode_chunk, missing())
        for number, blocks in itertools.groupby(encoded, key=lambda result: result[0][0]):
            files[number] = write_tokens(directory / file_name(number), (ids for _, ids in blocks), dtype)
    remove_partial(directory)
    return [file for file in files if file is not None]


def _unit(settings: Settings) -> Unit:
    return "line" if settings.by_line else settings.level


def _progress(name: str, characters: int | None) -> "tqdm.tqdm[Any]":
    """Returns a progress bar, which is shown only in a terminal."""
    return tqdm.tqdm(desc=name, total=characters, unit=" characters", unit_scale=True, disable=None)


_vocabulary_and_by_line: tuple[Vocabulary, bool]  # of this process of the pool


def _prepare(vocabulary: bytes, by_line: bool) -> None:
    """Prepares a process of the pool for `_encode_chunk`."""
    global _vocabulary_and_by_line
    _vocabulary_and_by_line = Vocabulary.from_bytes(vocabulary), by_line


def _encode_chunk(chunk: tuple[int, str]) -> np.ndarray:
    """Returns the token ids of a chunk, given with the number of its file."""
    (vocabulary, by_line), (_, text) = _vocabulary_and_by_line, chunk
    return token_ids(text, vocabulary, by_line=by_line).astype(token_type(vocabulary))
