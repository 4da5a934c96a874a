"""The files of the page of `export/web`, by their addresses: what `keras-seq web` serves, or writes into a folder."""

import json
import posixpath
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from keras_seq.errors import ConfigError
from keras_seq.files import read_regular
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.page_imports import with_addresses

LITERT = "@litertjs/core"
_LITERT_HELPER = "@litertjs/wasm-utils"  # which LiteRT.js imports
_NODE_MODULES = "node_modules"
_MODULE = "dist/index.js"  # of each of the two packages
# LiteRT.js has eight files of wasm. Those with threads and JSPI are for options that keras_seq does not use.
_WASM = tuple(f"litert_wasm_{kind}internal.{end}" for kind in ("", "compat_") for end in ("js", "wasm"))
_INCOMPLETE = f"the page needs LiteRT.js, which is not complete: {{}}. Repeat npm install {LITERT}"
OWN_MODEL = "models/shakespeare.tflite"  # opens if no other is given
COMPARED = ("simple_rnn.tflite", "gru.tflite")  # files of `keras-seq demo`
_FOLDERS = ("page", "keras_seq", "models")
# Types of the page's files. Others, such as the declarations of TypeScript, are for developers.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tflite": "application/octet-stream",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}


class Entry(NamedTuple):
    """What an address gives."""

    source: Path | bytes
    is_module: bool = False  # with imports, in which addresses replace packages
    is_permanent: bool = False  # because the address contains the version


@dataclass(frozen=True)
class PageFiles:
    """The files of the page. Addresses are relative to that of the page."""

    entries: dict[str, Entry]
    packages: dict[str, str]  # the addresses of their modules

    def content(self, address: str) -> Path | bytes:
        """Returns the file or the content of an address.

        Raises:
            ExportError: a script imports a package that the page does not have.
            KeyError: nothing has this address.
            OSError: a script cannot be read.
        """
        entry = self.entries[address]
        if not entry.is_module or isinstance(entry.source, bytes):
            return entry.source
        return with_addresses(read_regular(entry.source).decode(), address, self.packages).encode()


def content_type(address: str) -> str:
    """Returns the type of what an address gives. Browsers refuse modules and wasm without it."""
    return TYPES.get(posixpath.splitext(address)[1], "text/plain; charset=utf-8")


def page_folder() -> Path:
    """Returns the folder of the page: inside an installed package, or in the repository."""
    installed = Path(__file__).parents[1] / "web"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "web"


def litert_folder() -> Path:
    """Returns the `node_modules` that has LiteRT.js: in the current folder, or in the folder of the page.

    Raises:
        ValueError: neither has it; the message says how to install it.
    """
    for folder in (Path.cwd(), page_folder()):
        if (folder / _NODE_MODULES / LITERT / "wasm").is_dir():
            return folder / _NODE_MODULES
    version = json.loads((page_folder() / "package.json").read_text(encoding="utf-8"))["dependencies"][LITERT]
    raise ValueError(f"the page needs LiteRT.js: npm install {LITERT}@{version} in this folder, then try again")


def page_files(page: Path, litert: Path, model: Path | None = None, demo: Path | None = None) -> PageFiles:
    """Returns the files of the page.

    Args:
        page: the folder of the page.
        litert: the `node_modules` that has LiteRT.js.
        model: a .tflite that the page opens; None for the page's own.
        demo: the directory of `keras-seq demo`, with the models to compare; None for no comparison.

    Raises:
        ConfigError: a model of the demo is missing, or has the name of `model`.
        ExportError: a script imports a package that the page does not have.
        ValueError: LiteRT.js is incomplete.
    """
    entries = {address: Entry(file, is_module=file.suffix == ".js") for address, file in _own_files(page)}
    of_litert, packages = _litert_files(litert)
    entries |= of_litert
    entries |= _models(entries, model, demo)
    files = PageFiles(entries, packages)
    for address in entries:
        files.content(address)
    return files


def _litert_files(node_modules: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Returns the entries of LiteRT.js, and the addresses of its packages' modules."""
    core = (node_modules / LITERT).resolve()
    description = _inside(core / "package.json", node_modules)
    folder = f"litert/{json.loads(description.read_text(encoding='utf-8'))['version']}"
    entries, packages = {}, {}
    for package in (LITERT, _LITERT_HELPER):
        name = package.partition("/")[2]
        packages[package] = f"{folder}/{name}/{_MODULE}"
        # npm and pnpm place the other package beside the real folder of this one.
        entries[packages[package]] = Entry(_inside(core.parent / name / _MODULE, node_modules), is_module=True)
    for name in _WASM:
        entries[f"{folder}/core/wasm/{name}"] = Entry(_inside(core / "wasm" / name, node_modules), is_permanent=True)
    return entries, packages


def _own_files(page: Path) -> Iterator[tuple[str, Path]]:
    """Yields the addresses and files of a page's folder; links that lead out of it are not followed."""
    inside = page.resolve()
    for file in sorted([*page.glob("*"), *(file for name in _FOLDERS for file in (page / name).rglob("*"))]):
        address = file.relative_to(page)
        is_hidden = any(part.startswith(".") for part in address.parts)
        if not is_hidden and file.suffix in TYPES and file.is_file() and file.resolve().is_relative_to(inside):
            yield address.as_posix(), file.resolve()


def _inside(file: Path, node_modules: Path) -> Path:
    """Returns the real path of a file of LiteRT.js, which must not be outside of `node_modules`."""
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # It is missing, or its links lead in a circle.
        raise ValueError(_INCOMPLETE.format(f"{file} cannot be read: {error}")) from error
    if not real.is_relative_to(node_modules.resolve()) or not real.is_file():
        raise ValueError(_INCOMPLETE.format(f"{file} is no file inside {node_modules}"))
    return real


def _models(entries: dict[str, Entry], model: Path | None, demo: Path | None) -> dict[str, Entry]:
    """Returns the entries of the given models and of models.json, which names them."""
    added = {} if model is None else {f"models/{model.name}": Entry(model)}
    listed: dict[str, object] = {}
    opened = OWN_MODEL if model is None else f"models/{model.name}"
    if opened in entries | added:
        listed["open"] = urllib.parse.quote(opened)
    if demo is not None:
        listed["compare"] = [f"models/{name}" for name in COMPARED]
        for name in COMPARED:
            file = _of_demo(demo / name)
            if added.setdefault(f"models/{name}", Entry(file)).source != file:
                raise ConfigError(f"{{}} has the same name as {file}: rename it", "model")
    return {**added, "models.json": Entry(json.dumps(listed).encode())}


def _of_demo(file: Path) -> Path:
    """Returns the real path of a model of the demo."""
    if not file.is_file():
        raise ConfigError(
            f"{{}} has no {file.name}: {file.parent} must be the directory of keras-seq demo. Run it first", "demo"
        )
    read_bundle(file)
    return file.resolve()
