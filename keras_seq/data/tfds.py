"""A text of TensorFlow Datasets: `tfds:NAME`, `tfds:NAME/CONFIG`, and with `:FEATURE` one of its texts."""

import difflib
import functools
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from keras_seq.data.corpus import TFDS, Corpus, part_begin
from keras_seq.data.text_files import in_lines
from keras_seq.errors import CorpusError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def load_tfds(source: str, validation: float, test: float, by_line: bool = False) -> Corpus:
    """Reads a dataset's texts, an example after the other, each ended by a line feed where there are several.

    The splits `train`, `validation` and `test` are kept; one that the dataset lacks is cut off the end of `train`.

    Args:
        source: such as `tfds:tiny_shakespeare`, `tfds:wiki40b/de`, `tfds:ag_news_subset:description`. Without a feature
            that of the name `text` is taken, or the only one that is text.
        validation: the share of a validation part that the dataset lacks.
        test: the share of a test part that the dataset lacks.
        by_line: whether such a part begins with a line.

    Raises:
        CorpusError: TensorFlow Datasets is not installed, has no such dataset or feature, or cannot download it; or a split
            is empty.
    """
    name, splits = open_tfds(source)
    parts = {split: _text(source, split, texts()) for split, texts in splits.items()}
    train = parts["train"]
    for split, share in (("test", test), ("validation", validation)):
        if split not in parts:
            kept = part_begin(train, len(train) - int(len(parts["train"]) * share), by_line)
            train, parts[split] = train[:kept], train[kept:]
    return Corpus(train=train, validation=parts["validation"], test=parts["test"], name=name, by_line=by_line)


def open_tfds(source: str) -> tuple[str, dict[str, Callable[[], Iterator[str]]]]:
    """Returns a dataset's name and, for each of the splits `train`, `validation` and `test` that it has, what reads its texts.

    Raises:
        CorpusError: as of `load_tfds`.
    """
    name, _, feature = source.removeprefix(TFDS).partition(":")
    builder = _builder(name)
    feature = _feature(builder, name, feature)
    _prepare(builder, name)
    splits = builder.info.splits
    if "train" not in splits:
        raise CorpusError(f"The corpus must have a split train, but {TFDS}{name} has {', '.join(splits) or 'none'}.")
    found = [split for split in ("train", "validation", "test") if split in splits]
    return builder.name, {split: functools.partial(_texts, builder, split, feature) for split in found}


def _builder(name: str) -> "tfds.core.DatasetBuilder":
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise CorpusError(
            f"{TFDS}{name} needs TensorFlow Datasets: pip install tensorflow-datasets importlib_resources ({error})"
        ) from error
    # Asked before TensorFlow Datasets is, which would look for the name in the network for a minute.
    known = tfds.list_builders(with_community_datasets=False)
    dataset = name.partition("/")[0]
    if dataset not in known:
        near = difflib.get_close_matches(dataset, known, n=3, cutoff=0.5)
        hint = f"; near are {', '.join(near)}" if near else ""
        raise CorpusError(f"The corpus must be a dataset of TensorFlow Datasets, but it has no {dataset}{hint}.")
    try:
        return tfds.builder(name)
    except (ValueError, AssertionError) as error:  # a configuration, or a version
        reason = str(error).partition("\n")[0][:300]
        raise CorpusError(
            f"The corpus must be a dataset of TensorFlow Datasets, but {name} is none: {reason}"
        ) from None


def _feature(builder: Any, name: str, feature: str) -> str:
    """Returns the name of the feature to read."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    texts = (
        [key for key in features if isinstance(features[key], tfds.features.Text)] if hasattr(features, "keys") else []
    )
    if not feature:
        feature = "text" if "text" in texts else texts[0] if len(texts) == 1 else ""
    if feature not in texts:
        what = f"has no text {feature}" if feature else "has several texts" if texts else "has no text"
        example = f"; name one, such as {TFDS}{name}:{texts[0]}" if texts else ""
        raise CorpusError(
            f"The corpus must be a text, but {TFDS}{name} {what}: its texts are {', '.join(texts) or 'none'}{example}."
        )
    return feature


def _prepare(builder: Any, name: str) -> None:
    """Downloads the dataset where it is not there yet; TensorFlow Datasets shows how far it is."""
    if builder.data_path.exists():
        return
    downloads = pathlib.Path(builder._data_dir_root) / "downloads"
    if not any(file.is_file() for file in downloads.rglob("*")):
        # Else ten retries would pass, several minutes, before it says so.
        for host in {urlsplit(url).hostname for url in builder.url_infos or ()}:
            try:
                socket.getaddrinfo(host, 443)
            except OSError as error:
                raise CorpusError(
                    f"{TFDS}{name} must be downloaded from {host}, which cannot be found: {error.strerror}; go on-line, or put the "
                    f"file into {downloads / 'manual'}."
                ) from None
    try:
        builder.download_and_prepare()
    except Exception as error:  # Of any class: the builder's own code runs here.
        reason = str(error).strip().partition("\n")[0][:300]
        raise CorpusError(f"{TFDS}{name} cannot be prepared: {type(error).__name__}: {reason}") from error


def _texts(builder: Any, split: str, feature: str) -> Iterator[str]:
    for example in builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator():
        yield example[feature].decode("utf-8")


def _text(source: str, split: str, texts: Iterator[str]) -> str:
    examples = list(texts)
    text = examples[0] if len(examples) == 1 else "".join(in_lines(examples))
    if not text.strip():
        raise CorpusError(f"The corpus must hold text, but the split {split} of {source} has none.")
    return text
