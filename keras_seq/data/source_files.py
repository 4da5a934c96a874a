"""Which files the sources of a corpus name: files, folders, patterns and fields of tables."""

import fnmatch
import glob
import os
import pathlib
import re
from collections.abc import Iterator

from keras_seq.data.tables import TABLES
from keras_seq.errors import CorpusError

Path = str | os.PathLike[str]

STANDARD_INPUT = "-"
# The file of a table, a colon, and the name of a field.
_WITH_FIELD = re.compile(rf"(.+\.(?:{'|'.join(TABLES)})(?:\.gz)?):([^:/\\]+)", re.IGNORECASE)
_ANY_DEPTH = "**"


def list_files(*sources: Path) -> list[tuple[pathlib.Path | None, str | None]]:
    """Returns the files that some sources name: the path, or None for standard input, and the field of a table, or None.

    A folder or pattern has its files in the order of their names. No file is read twice: one that several sources, or
    several links, name is listed where it is named first.

    Raises:
        CorpusError: a folder has no files, or a pattern matches none; a folder cannot be read; or a link below a folder
            leads out of it, to a hidden folder in it, or to nothing.
    """
    found: dict[tuple[str, str | None], pathlib.Path | None] = {}
    for source in sources:
        if source == STANDARD_INPUT:
            found[STANDARD_INPUT, None] = None
            continue
        paths, field = _files_of(source)
        for path in paths:
            found.setdefault((os.path.realpath(path), field), path)
    return [(path, field) for (_, field), path in found.items()]


def is_read_once(source: Path) -> bool:
    """Returns whether a source is standard input or a pipe, whose text is gone once it is read."""
    if source == STANDARD_INPUT:
        return True
    with_field = _WITH_FIELD.fullmatch(os.fspath(source))
    return any(pathlib.Path(name).is_fifo() for name in (source, *([with_field[1]] if with_field else [])))


def _files_of(source: Path) -> tuple[list[pathlib.Path], str | None]:
    name = os.fspath(source)
    if not os.path.exists(name) and (with_field := _WITH_FIELD.fullmatch(name)):
        return _files(with_field[1]), with_field[2]
    return _files(name), None


def _files(name: str) -> list[pathlib.Path]:
    path = pathlib.Path(name)
    if os.path.isdir(name):
        found, problem = _matching(path, (_ANY_DEPTH,)), f"the folder {name} has no files; choose another"
    elif glob.has_magic(name) and not os.path.exists(name):
        begin = next(number for number, part in enumerate(path.parts) if glob.has_magic(part))
        folder = pathlib.Path(*path.parts[:begin])
        found, problem = _matching(folder, path.parts[begin:]), f"no file matches {name}; check the pattern"
    else:
        return [path]
    if not found:
        raise CorpusError(f"the corpus must be text files, but {problem}")
    return found


def _matching(folder: pathlib.Path, pattern: tuple[str, ...]) -> list[pathlib.Path]:
    """Returns the files below a folder that match a pattern, each once, sorted by name."""
    if pattern[-1] == _ANY_DEPTH:
        pattern = (*pattern, "*")
    found: dict[str, pathlib.Path] = {}
    try:
        # Where a file has several names, its own comes before those of links.
        for path in sorted(_matches(folder, pattern), key=lambda path: (path.is_symlink(), path)):
            if path.is_symlink() and not path.exists():
                raise CorpusError(
                    f"the link {path} leads to {os.readlink(path)}, which does not exist; remove the link"
                )
            if path.is_file():
                _require_inside(path, folder)
                found.setdefault(os.path.realpath(path), path)
    except OSError as error:
        raise CorpusError(
            f"the folder {error.filename or folder} cannot be read: {error.strerror}; check its permissions"
        ) from None
    return sorted(found.values())


def _matches(folder: pathlib.Path, pattern: tuple[str, ...]) -> Iterator[pathlib.Path]:
    """Yields the paths below a folder that match the parts of a pattern, as `glob` does.

    `**` does not follow links, which `glob` follows in a circle. A folder in the circle is found by its own name.
    """
    first, rest = pattern[0], pattern[1:]
    if not glob.has_magic(first):
        path = folder / first
        if os.path.lexists(path):
            yield from _matches(path, rest) if rest else [path]
        return
    if not folder.is_dir():
        return
    if first == _ANY_DEPTH:
        while rest[0] == _ANY_DEPTH:  # `**/**` means the same, in exponential time.
            rest = rest[1:]
        for inside in _folders_below(folder):
            yield from _matches(inside, rest)
        return
    for path in sorted(folder.iterdir()):
        if fnmatch.fnmatch(path.name, first) and (first.startswith(".") or not path.name.startswith(".")):
            yield from _matches(path, rest) if rest else [path]


def _folders_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a folder and all folders below it, except hidden ones and links."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        yield here
        for path in here.iterdir():
            if path.name.startswith(".") or not path.is_dir():
                continue
            if path.is_symlink():
                _require_inside(path, folder, hidden=False)
            else:
                waiting.append(path)


def _require_inside(path: pathlib.Path, folder: pathlib.Path, hidden: bool = True) -> None:
    """Requires that a path, if it leads through links, ends inside a folder; otherwise text would be lost silently.

    Args:
        path: the path.
        folder: the folder.
        hidden: whether it may end in a hidden part of the folder.
    """
    target, root = pathlib.Path(os.path.realpath(path)), pathlib.Path(os.path.realpath(folder))
    if not target.is_relative_to(root):
        raise CorpusError(
            f"the link {path} leads out of the folder {folder}, to {target}, and such links are refused; name {target} "
            "itself, remove the link, or copy the folder with 'cp -rL'"
        )
    if not hidden and any(part.startswith(".") for part in target.relative_to(root).parts):
        raise CorpusError(
            f"the link {path} leads to {target}, a hidden part of the folder {folder}, which is not read; name {target} "
            "itself, or remove the link"
        )
