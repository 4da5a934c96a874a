"""The files of the page of `export/web`, by their addresses: what `keras-seq web` serves, or writes into a folder."""

import functools
import hashlib
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from keras_seq.errors import ConfigError
from keras_seq.files import read_regular
from keras_seq_export.errors import BundleError
from keras_seq_export.signatures import is_integer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.page_imports import with_addresses

LITERT = "@litertjs/core"
_LITERT_HELPER = "@litertjs/wasm-utils"  # which LiteRT.js imports
_NODE_MODULES = "node_modules"
_MODULE = "dist/index.js"  # of each of the two packages
# LiteRT.js has eight files of wasm. Those with threads and JSPI are for options that keras_seq does not use.
_WASM = tuple(f"litert_wasm_{kind}internal.{end}" for kind in ("", "compat_") for end in ("js", "wasm"))
_INCOMPLETE = f"the page needs LiteRT.js, which is not complete: {{}}. Repeat npm install {LITERT}"
MODELS = "models.json"  # the models to open and to compare
FILES = "files.json"  # from which the service worker sees that the page has changed
_SERVICE_WORKER = "service-worker.js"  # which the browser itself compares with the one before
OWN_MODEL = "models/own/shakespeare.tflite"  # opens if no other is given; no given file has this address
COMPARED = ("simple_rnn.tflite", "gru.tflite")  # files of `keras-seq demo`
_NOTICE = """LiteRT.js {version}: @litertjs/core and @litertjs/wasm-utils of npm, https://github.com/google-ai-edge/LiteRT
Its license is {license}. The text of the Apache License 2.0 is in the file LICENSE of this page.
keras_seq has changed imports in */dist/index.js, which name addresses instead of packages.
"""
_FOLDERS = ("page", "keras_seq", "models")
# Types of the page's files. Others, such as the declarations of TypeScript, are for developers.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tflite": "application/octet-stream",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
_TEXT = "text/plain; charset=utf-8"


class Entry(NamedTuple):
    """What an address gives."""

    source: Path | bytes
    is_module: bool = False  # with imports, in which addresses replace packages
    is_permanent: bool = False  # because the address contains the version


@dataclass(frozen=True)
class PageFiles:
    """The files of the page. Addresses are relative to that of the page."""

    entries: dict[str, Entry]  # all but FILES, which is made from them
    packages: dict[str, str]  # the addresses of their modules

    def addresses(self) -> list[str]:
        """Returns all addresses."""
        return [*self.entries, FILES]

    def is_permanent(self, address: str) -> bool:
        """Returns whether the content of an address never changes."""
        return address in self.entries and self.entries[address].is_permanent

    def content(self, address: str) -> Path | bytes:
        """Returns the file or the content of an address.

        Raises:
            ExportError: a script imports a package that the page does not have.
            KeyError: nothing has this address.
            OSError: a file cannot be read.
        """
        if address == FILES:
            return self._hashes()
        entry = self.entries[address]
        if not entry.is_module or isinstance(entry.source, bytes):
            return entry.source
        return with_addresses(read_regular(entry.source).decode(), address, self.packages).encode()

    def _hashes(self) -> bytes:
        """Returns the SHA-256 of each file that makes a version of the page, by its address, as JSON."""
        hashes = {}
        for address in sorted(self.entries):
            if address not in (MODELS, _SERVICE_WORKER) and not address.startswith("models/"):
                hashes[address] = _hash_of(self.content(address))
        return json.dumps(hashes, indent=0).encode()


def _hash_of(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    status = content.stat()
    return _hash_at(content, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=256)  # The service worker asks at each visit, and hashing the wasm takes a while.
def _hash_at(file: Path, time: int, size: int) -> str:
    """Returns the SHA-256 of a file that has this time and size."""
    return hashlib.sha256(read_regular(file)).hexdigest()


def content_type(address: str) -> str:
    """Returns the type of what an address gives. Browsers refuse modules and wasm without it."""
    return "application/json" if address in (MODELS, FILES) else TYPES.get(PurePosixPath(address).suffix, _TEXT)


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


def page_files(page: Path, litert: Path, model: str | Path | None = None, demo: str | Path | None = None) -> PageFiles:
    """Returns the files of the page.

    Args:
        page: the folder of the page.
        litert: the `node_modules` that has LiteRT.js.
        model: a .tflite that the page opens; None for the page's own.
        demo: the directory of `keras-seq demo`, with the models to compare; None for no comparison.

    Raises:
        BundleError: a model was not written by this package, or is a file of integers.
        ConfigError: the name of `model` is not in UTF-8, or that of a model of the demo, or one of these is missing.
        ExportError: a script imports a package that the page does not have.
        ValueError: LiteRT.js is incomplete.
    """
    entries = {address: Entry(file, is_module=file.suffix == ".js") for address, file in _own_files(page)}
    of_litert, packages = _litert_files(litert)
    entries |= of_litert
    entries["LICENSE"] = Entry(_license(page))
    entries |= _models(OWN_MODEL in entries, model, demo)
    files = PageFiles(entries, packages)
    for address in files.addresses():
        files.content(address)
    return files


def _litert_files(node_modules: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Returns the entries of LiteRT.js, and the addresses of its packages' modules."""
    core = (node_modules / LITERT).resolve()
    description = json.loads(_inside(core / "package.json", node_modules).read_text(encoding="utf-8"))
    folder = f"litert/{description['version']}"
    entries, packages = {f"{folder}/NOTICE.txt": Entry(_NOTICE.format_map(description).encode())}, {}
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


def _models(has_own: bool, model: str | Path | None, demo: str | Path | None) -> dict[str, Entry]:
    """Returns the entries of the given models and of models.json, which names them."""
    added: dict[str, Entry] = {}
    listed: dict[str, object] = {"open": OWN_MODEL} if has_own else {}
    if model is not None:
        opened = f"models/{_name_in_utf8(Path(model))}"
        added[opened] = Entry(_checked(Path(model)))
        listed["open"] = urllib.parse.quote(opened)
    if demo is not None:
        listed["compare"] = [f"models/{name}" for name in COMPARED]
        for name in COMPARED:
            file = _of_demo(Path(demo) / name)
            if added.setdefault(f"models/{name}", Entry(file)).source != file:
                raise ConfigError(f"{{}} has the same name as {file}: rename it", "model")
    return {**added, MODELS: Entry(json.dumps(listed).encode())}


def _name_in_utf8(model: Path) -> str:
    """Returns the name of a file, which becomes a part of addresses."""
    try:
        model.name.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{{}} must have a name in UTF-8, not {model.name!r}: rename it", "model") from error
    return model.name


def _of_demo(file: Path) -> Path:
    """Returns the real path of a model of the demo."""
    if not file.is_file():
        expected = f"{{}} must be the directory of keras-seq demo, with {' and '.join(COMPARED)}"
        raise ConfigError(f"{expected}. {file} does not exist: run keras-seq demo first", "demo")
    return _checked(file)


def _checked(model: Path) -> Path:
    """Returns the real path of a .tflite with a bundle that LiteRT.js runs."""
    if is_integer(read_bundle(model).config):
        raise BundleError(
            f"{model} has integers only, and LiteRT.js has no tensors of 16-bit integers: export the model with "
            "--quantization=int8 for a page"
        )
    return model.resolve()


def _license(page: Path) -> Path:
    """Returns the file of our license: in an installed package beside the page, or in the repository."""
    installed = page / "LICENSE"
    return installed if installed.is_file() else page.parents[1] / "LICENSE"
