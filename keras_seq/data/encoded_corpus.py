"""The directory of an encoded corpus: its files, and how it is opened. They may be links: digests tell what is in them.

================================  ==========================================================================
file                              content
================================  ==========================================================================
`encoded_corpus.json`             the manifest: how the corpus was encoded, and once it is complete, its files
`vocab.txt`                       the vocabulary
`validation.txt`, `test.txt`      the text of these parts
`train-00000.tfrecord`, ...       the token ids of the training part (`keras_seq.data.encoded_text`)
================================  ==========================================================================
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_seq.data import source_files
from keras_seq.data.corpus import Corpus
from keras_seq.data.encoded_text import EncodedText
from keras_seq.data.token_files import TokenFile, verified
from keras_seq.data.tokens import Level
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.data.vocabulary_file import MOST_BYTES
from keras_seq.errors import CorpusError, VocabularyError, shortened
from keras_seq.files import PARTIAL, publishing, read_regular
from keras_seq.json_text import parse_json
from keras_seq.processes import cores

MANIFEST, VOCABULARY, VALIDATION, TEST = "encoded_corpus.json", "vocab.txt", "validation.txt", "test.txt"
_MOST_BYTES = 2**28  # of the manifest, which lists the source files: about a million of them
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a corpus is encoded.

    Attributes:
        source: what identifies the source files: their paths, sizes and times of change.
        level: level of the vocabulary.
        max_size: largest size of the vocabulary; None for no limit.
        coverage: smallest fraction of the words that the vocabulary has.
        by_line: whether every line is a sequence of its own.
        shares: fractions of the validation and the test part.
        tables: how the tables among the source files are read.
    """

    source: list[Any]
    level: Level
    max_size: int | None
    coverage: float
    by_line: bool
    shares: list[float]
    tables: list[str]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of the manifest file. Earlier code wrote no digests.

    Attributes:
        by_line: whether every line is a sequence of its own.
        characters: number of characters of the training part.
        settings: the `Settings`, as JSON.
        texts: the SHA-256 of the vocabulary, the validation and the test part, by the names of their files.
        files: name, number of tokens and SHA-256 of each file of the training part; None until all of them are written.
    """

    by_line: bool
    characters: int
    settings: dict[str, Any]
    texts: dict[str, str]
    files: list[tuple[str, int, str | None]] | None = None

    def save(self, directory: Path, contents: Mapping[str, bytes] | None = None) -> None:
        """Writes the manifest file, and then the files with some contents.

        Where the manifest is, the others are not those of somebody else.

        Raises:
            CorpusError: the manifest would be too large to load.
            OSError: the directory cannot be written.
        """
        values = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        written = {MANIFEST: json.dumps(values, indent=1).encode(), **(contents or {})}
        if len(written[MANIFEST]) > _MOST_BYTES:
            raise CorpusError(
                f"the manifest of an encoded corpus must have at most {_MOST_BYTES:,} bytes, but it lists so many files "
                f"that it has {len(written[MANIFEST]):,}; join the files of the corpus into fewer"
            )
        with publishing(*(directory / name for name in written), overwrite=True) as partials:
            for partial, content in zip(partials, written.values(), strict=True):
                partial.write_bytes(content)

    @classmethod
    def load(cls, directory: Path) -> "Manifest":
        """Reads the manifest file.

        Raises:
            CorpusError: the file is missing or damaged; the message names the key.
        """
        try:
            values = parse_json(read_regular(directory / MANIFEST, _MOST_BYTES))
            _require(isinstance(values, dict), MANIFEST, "a JSON object", values)
            _require(isinstance(values.get("by_line"), bool), "by_line", "true or false", values.get("by_line"))
            _require(_is_count(values.get("characters")), "characters", "a count", values.get("characters"))
            settings, texts, files = values.get("settings"), values.get("texts", {}), values.get("files")
            _require(isinstance(settings, dict), "settings", "a JSON object", settings)
            tables = settings.get("tables", [])
            _require(_is_list_of(str, tables), "settings.tables", "a list of strings", tables)
            is_named = isinstance(texts, dict) and all(map(_is_digest, texts.values()))
            _require(is_named, "texts", "an object with SHA-256 digests", texts)
            return cls(values["by_line"], values["characters"], settings, texts, _files(files))
        except (OSError, ValueError) as error:
            raise _damaged(directory, MANIFEST, error) from error


def _files(values: Any) -> list[tuple[str, int, str | None]] | None:
    """Returns the files of a manifest, which can have no names but those that encoding gives."""
    if values is None:
        return None
    _require(_is_list_of(list, values), "files", "a list of lists", values)
    files = []
    for number, file in enumerate(values):
        name, tokens, sha256 = (*file, *[None] * 3)[:3]
        key = f"files[{number}]"
        _require(name == file_name(number), key, f"the file {file_name(number)}", name)
        _require(_is_count(tokens), key, "a file with a count of tokens", tokens)
        _require(sha256 is None or _is_digest(sha256), key, "a file with a SHA-256 digest", sha256)
        files.append((name, tokens, sha256))
    return files


def _require(condition: bool, key: str, expected: str, received: Any) -> None:
    if not condition:
        shown = repr(received)
        raise ValueError(f"{key} must be {expected}, but it is {shortened(shown, 60)}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)


def file_name(number: int) -> str:
    """Returns the name of a file of the training part."""
    return f"train-{number:05}.tfrecord"


def is_encoded_corpus(path: source_files.Path) -> bool:
    """Returns whether this is the directory of an encoded corpus, complete or not."""
    return (Path(path) / MANIFEST).is_file()


def load_encoded_corpus(path: source_files.Path) -> Corpus:
    """Opens a corpus that `keras_seq.encode_corpus` wrote. All files are read once, to verify their digests.

    In a corpus of earlier code, which has no digests, the checksums of the TFRecord files are verified instead.

    Raises:
        CorpusError: it is incomplete or damaged.
    """
    directory = Path(path)
    manifest = Manifest.load(directory)
    vocabulary = load_vocabulary(directory, manifest)
    if manifest.files is None:
        raise CorpusError(f"the encoded corpus {directory} is incomplete; encode the text again to complete it")
    with concurrent.futures.ThreadPoolExecutor(cores()) as threads:
        files = list(threads.map(lambda file: verified(directory / file[0], vocabulary, *file[1:]), manifest.files))
    return corpus_of(directory, manifest, vocabulary, files)


def load_vocabulary(directory: Path, manifest: Manifest) -> Vocabulary:
    """Returns the vocabulary of an encoded corpus.

    Raises:
        CorpusError: its file is missing or damaged.
    """
    try:
        vocabulary = Vocabulary.from_bytes(_read(directory, VOCABULARY, manifest))
    except VocabularyError as error:
        raise _damaged(directory, VOCABULARY, error) from error
    if vocabulary.missing:
        raise _damaged(directory, VOCABULARY, f"it lacks {' and '.join(vocabulary.missing)}")
    return vocabulary


def corpus_of(directory: Path, manifest: Manifest, vocabulary: Vocabulary, files: list[TokenFile]) -> Corpus:
    """Returns an encoded corpus whose files of the training part have been verified.

    Raises:
        CorpusError: the file of another part is missing or damaged.
    """
    try:
        validation, test = (_read(directory, name, manifest).decode("utf-8") for name in (VALIDATION, TEST))
    except UnicodeDecodeError as error:
        raise _damaged(directory, f"{VALIDATION} or {TEST}", error) from error
    train = EncodedText(files, vocabulary, manifest.by_line)
    tables = tuple(manifest.settings.get("tables", ()))
    return Corpus(train, validation, test, directory.resolve().name, manifest.by_line, tables)


def _read(directory: Path, name: str, manifest: Manifest) -> bytes:
    """Returns the content of a file; requires that it is the one that was written."""
    try:
        content = read_regular(directory / name, MOST_BYTES if name == VOCABULARY else None)
    except OSError as error:
        raise _damaged(directory, name, error.strerror) from error
    if manifest.texts.get(name) not in (None, hashlib.sha256(content).hexdigest()):
        raise _damaged(directory, name, "it is not the file that was written")
    return content


def load_started(directory: Path, settings: Settings) -> Manifest | None:
    """Returns the manifest if encoding with these settings was started in a directory; None if it was not started.

    Raises:
        CorpusError: the directory has other files, a damaged manifest, or a corpus with other settings.
    """
    if not (directory / MANIFEST).exists():
        if directory.exists():
            others = [path.name for path in directory.iterdir() if not is_partial(path)]
            if others:
                raise CorpusError(
                    f"the directory of an encoded corpus must be new, but {directory} exists and has {min(others)}; "
                    "choose another"
                )
        return None
    manifest = Manifest.load(directory)
    if {"tables": [], **manifest.settings} != dataclasses.asdict(settings):  # Earlier code did not write `tables`.
        raise CorpusError(
            f"{directory} has a corpus of other files, of files that have changed since, or with other settings; "
            "choose another directory, or remove it"
        )
    if manifest.files is None and not all((directory / name).exists() for name in (VOCABULARY, VALIDATION, TEST)):
        return None  # A call was killed after it had written the manifest.
    return manifest


def intact_files(directory: Path, manifest: Manifest, vocabulary: Vocabulary) -> dict[str, TokenFile]:
    """Returns the files of the training part that need not be written again, by their names."""
    listed: Mapping[str, tuple[int | None, str | None]] = {
        name: (tokens, sha256) for name, tokens, sha256 in manifest.files or []
    }
    intact = {}
    for path in sorted(directory.glob("train-*.tfrecord")):
        if manifest.files is None or path.name in listed:
            with contextlib.suppress(CorpusError):
                intact[path.name] = verified(path, vocabulary, *listed.get(path.name, (None, None)))
    return intact


def is_partial(path: Path) -> bool:
    """Returns whether an interrupted write left this path behind."""
    return path.name.startswith(PARTIAL)


def _damaged(directory: Path, name: str, problem: object) -> CorpusError:
    return CorpusError(
        f"the encoded corpus {directory} is damaged: {name}: {problem}; remove it, and encode the text again"
    )
