"""Reads text from files: plain or compressed files, tables, folders, standard input."""

import codecs
import contextlib
import gzip
import io
import itertools
import os
import pathlib
import select
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from keras_seq.data.source_files import Path, list_files
from keras_seq.data.tables import TABLES, describe_table, read_records
from keras_seq.errors import CorpusError
from keras_seq.files import open_at_once

LONGEST_INPUT = 2**24  # characters of a prompt, or of a text to score
_BYTES_A_CHARACTER = 16  # of a text in memory until training begins; 14 to 15 were measured
_BLOCK = 2**20  # bytes per read
_COMPRESSED = {
    b"BZh91AY&SY": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\3\4": "zip",
}  # how they begin
_SECONDS_FOR_PIPE = 5  # until something is written to a pipe


def read_texts(*sources: Path) -> Iterator[tuple[str, Iterator[str]]]:
    """Yields the name of each file and an iterator over its text, in pieces.

    A file is opened when its first piece is read. Text is UTF-8, or UTF-16 with a byte order mark. The mark is dropped;
    line ends are unchanged. Files may be compressed with gzip.

    Args:
        *sources: each one of:

            * a file;
            * a folder: all files in it and its subfolders, except hidden ones;
            * a pattern, such as `src/**/*.py`, in which `*` and `**` match no hidden names;
            * `-`: standard input;
            * a field of a `.csv`, `.tsv`, `.jsonl` or `.ndjson` table, such as `news.csv:body`: its texts, each ended
              by a line feed (`keras_seq.data.tables`). In JSON lines, the only field with text needs no name.

            Each file is read once, by whatever names it is listed. Links are followed where a source names one, but not
            out of a named folder: such a link is an error.

    Raises:
        CorpusError: a file is missing, unreadable, damaged, empty or not text. The message names the file and, for an
            invalid byte, its line and position. Errors within a file are raised when the piece there is read.
    """
    for path, field in list_files(*sources):
        if path is None:
            yield "stdin", _pieces("standard input", _blocks(sys.stdin.buffer), None)
            continue
        name = pathlib.Path(path.name.removesuffix(".gz")).stem
        yield name, _pieces(str(path), _file_blocks(path), _table_of(path, field))


def read_inputs(*sources: Path) -> Iterator[str]:
    """Yields each line of text files, without its end, and each text of a field of tables. They may be empty.

    The arguments and errors are those of `read_texts`.

    Raises:
        CorpusError: also if a line or text has more than `LONGEST_INPUT` characters.
    """
    for path, field in list_files(*sources):
        if path is None:
            yield from _short("standard input", _lines(_decoded("standard input", _blocks(sys.stdin.buffer))))
            continue
        pieces, table = _decoded(str(path), _file_blocks(path)), _table_of(path, field)
        yield from _short(str(path), _lines(pieces) if table is None else read_records(str(path), pieces, *table))


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yields the lines of a text that comes in pieces; of one longer than `LONGEST_INPUT`, only a beginning that is."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from (line.removesuffix("\r") for line in lines)
        if len(rest) > LONGEST_INPUT + 1:
            yield rest
            rest = ""
    if rest:
        yield rest.removesuffix("\r")


def _short(name: str, texts: Iterable[str]) -> Iterator[str]:
    """Yields texts; requires that none is longer than `LONGEST_INPUT`."""
    for number, text in enumerate(texts, 1):
        if len(text) > LONGEST_INPUT:
            raise CorpusError(
                f"a prompt or text must have at most {LONGEST_INPUT:,} characters, but number {number:,} of {name} has "
                "more; split it"
            )
        yield text


def describe_tables(*sources: Path) -> tuple[str, ...]:
    """Returns how the tables among some sources are read: a line for all tables that are read alike.

    A line is, for example, "news.csv and 2 more: comma-separated, header id, body, text from body". Only the beginning
    of each table is read for it. The arguments and errors are those of `read_texts`.
    """
    alike: dict[str, list[str]] = {}
    for path, field in list_files(*sources):
        if path is not None and (table := _table_of(path, field)):
            pieces = _decoded(str(path), _file_blocks(path))
            alike.setdefault(describe_table(str(path), pieces, *table), []).append(path.name)
    return tuple(f"{and_more(names)}: {description}" for description, names in alike.items())


def _physical_memory() -> int:
    """Returns the memory of this machine in bytes; 8 GB where the operating system does not say it."""
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no `sysconf`.
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if memory > 0:
            return memory
    return 8_000_000_000


MEMORY = _physical_memory()


def within_memory(pieces: Iterable[str]) -> Iterator[str]:
    """Yields the pieces of a text that is to be held in memory.

    Raises:
        CorpusError: there are more characters than a sixteenth of the bytes of physical memory, of a compressed file perhaps.
    """
    characters, most = 0, MEMORY // _BYTES_A_CHARACTER
    for piece in pieces:
        characters += len(piece)
        if characters > most:
            raise CorpusError(
                f"a text in memory must have at most {most:,} characters where the memory has {MEMORY / 1e9:,.1f} GB, but "
                "this one has more; encode a corpus on disk with `keras-seq encode`, which reads it in parts"
            )
        yield piece


def and_more(names: Sequence[str]) -> str:
    """Returns the first of some names, and how many others there are.

    Example:
        >>> and_more(["a.txt", "b.txt", "c.txt"])
        'a.txt and 2 more'
    """
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def joined(texts: Iterable[Iterable[str]]) -> Iterator[str]:
    r"""Yields the pieces of several texts, separated by a line feed where a text does not end in one.

    Example:
        >>> "".join(joined([["to ", "be"], ["or not"]]))
        'to be\nor not'
    """
    last = "\n"
    for pieces in texts:
        if not last.endswith("\n"):
            yield "\n"
        for piece in pieces:
            yield piece
            last = piece or last


def in_lines(texts: Iterable[str]) -> Iterator[str]:
    """Yields texts, each ended by a line feed."""
    return (text if text.endswith("\n") else text + "\n" for text in texts)


def _file_blocks(path: pathlib.Path) -> Iterator[bytes]:
    """Yields the content of a file, decompressed; then checks that the file did not change while it was read."""
    try:
        with open_at_once(path) as file:
            before = os.fstat(file.fileno())
            readable = _readable(path, file, before.st_mode)
            packed = readable.peek(2).startswith(b"\x1f\x8b")
            yield from _unpacked(path, readable) if packed else _blocks(readable)
        after = os.stat(path)
    except FileNotFoundError:
        raise CorpusError(f"the corpus must be a text file, but {path} does not exist; check the path") from None
    except OSError as error:
        raise CorpusError(
            f"the corpus must be a readable text file, but {path} cannot be read: {error.strerror}; "
            "check the path and its permissions"
        ) from None
    if stat.S_ISREG(before.st_mode) and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise CorpusError(f"{path} changed while it was read; wait until it is complete, and try again")


class _Pipe(io.FileIO):
    """An open pipe that is not blocking. `has_writer` says whether a process had it open to write at the last read."""

    has_writer = True

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self.has_writer = count != 0  # None: nothing was written yet.
        return count


def _readable(path: pathlib.Path, file: io.BufferedReader, mode: int) -> io.BufferedReader:
    """Returns what an open file is read from; requires that it is a file, or a pipe that a process can write to.

    A process may take as long as it wants until it writes, as on standard input.
    """
    if stat.S_ISREG(mode):
        return file
    if not stat.S_ISFIFO(mode):
        raise CorpusError(f"the corpus must be a text file, but {path} is a device; name a file, or standard input (-)")
    pipe = _Pipe(file.fileno(), closefd=False)
    reader: io.BufferedReader = io.BufferedReader(pipe)
    is_silent = not select.select([pipe], [], [], _SECONDS_FOR_PIPE)[0]
    if is_silent and not reader.peek(1) and not pipe.has_writer:
        raise CorpusError(
            f"the corpus must be a text file, but {path} is a pipe to which nothing was written within "
            f"{_SECONDS_FOR_PIPE} seconds; write the text to a file, or to standard input (-)"
        )
    os.set_blocking(pipe.fileno(), True)
    return reader


def _unpacked(path: pathlib.Path, file: IO[bytes]) -> Iterator[bytes]:
    try:
        yield from _blocks(io.BufferedReader(gzip.GzipFile(fileobj=file)))
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"the compressed file {path} is damaged: {error}; download it again") from None


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(_BLOCK) or b"", b"")  # None from files such as /proc/kmsg


def _table_of(path: pathlib.Path, field: str | None) -> tuple[str, str | None] | None:
    """Returns the kind of a table, by its suffix, and the field to read; None for plain text."""
    suffixes = [suffix.lower().removeprefix(".") for suffix in path.suffixes]
    if suffixes[-1:] == ["gz"]:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind not in TABLES:
        return None
    if path.is_fifo():
        raise CorpusError(f"a table is read twice, so it cannot be a pipe, but {path} is; write it to a file first")
    return kind, field


def _pieces(name: str, blocks: Iterable[bytes], table: tuple[str, str | None] | None) -> Iterator[str]:
    """Yields the text of a file; requires that there is any."""
    pieces = _decoded(name, blocks)
    if table is not None:
        pieces = in_lines(read_records(name, pieces, *table))
    problem = "is empty"
    for piece in pieces:
        if problem and piece:
            problem = "" if piece.strip() else "holds nothing but white space"
        yield piece
    if problem:
        raise CorpusError(f"the corpus must hold text, but {name} {problem}; choose another file")


def _decoded(name: str, blocks: Iterable[bytes]) -> Iterator[str]:
    """Yields the text of blocks of bytes; an error names the line and the byte."""
    done, line, decoder = 0, 1, None
    for block in itertools.chain(blocks, [b""]):
        if decoder is None:
            encoding = _encoding(name, block)
            decoder = codecs.getincrementaldecoder(encoding)()
        waiting = len(decoder.getstate()[0])
        zero = block.find(b"\0") if encoding == "utf-8" else -1
        try:
            piece = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            if zero < 0 or error.start < waiting + zero:
                line += error.object[: error.start].decode(error.encoding, "ignore").count("\n")
                raise _decoding_error(name, line, done + error.start - waiting, error) from None
        if zero >= 0:
            line += block.count(b"\n", 0, zero)
            raise CorpusError(
                f"the corpus must be UTF-8 text, but {name} is binary: line {line}, byte {done + zero} of the file is "
                "0x00; choose a text file, or convert UTF-16 without a mark first (iconv -f UTF-16LE -t UTF-8)"
            )
        yield piece if done or encoding != "utf-8" else piece.removeprefix("\ufeff")
        done, line = done + len(block), line + piece.count("\n")


def _encoding(name: str, begin: bytes) -> str:
    for magic, program in _COMPRESSED.items():
        if begin.startswith(magic):
            raise CorpusError(
                f"the corpus must be text, or compressed with gzip, but {name} is compressed with {program}; unpack it first"
            )
    if begin.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise CorpusError(
            f"the corpus must be UTF-8 text, but {name} is UTF-32; convert it first (iconv -f UTF-32 -t UTF-8)"
        )
    return "utf-16" if begin.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"


def _decoding_error(name: str, line: int, position: int, error: UnicodeDecodeError) -> CorpusError:
    if error.encoding.startswith("utf-16"):
        return CorpusError(
            f"the UTF-16 text {name} is damaged: line {line}, byte {position} of the file; download it again"
        )
    return CorpusError(
        f"the corpus must be UTF-8 text, but {name} is not: line {line}, "
        f"byte {position} of the file is 0x{error.object[error.start]:02x}; "
        "convert it first (for example iconv -f WINDOWS-1252 -t UTF-8), or choose a text file"
    )
