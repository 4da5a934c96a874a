"""Texts of TensorFlow Datasets, named `tfds:NAME`, `tfds:NAME/CONFIG` or `tfds:NAME:FEATURE`."""

import difflib
import functools
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from keras_seq.data.corpus import Corpus, cut_off_end
from keras_seq.data.source_files import Path
from keras_seq.data.text_files import in_lines, within_memory
from keras_seq.errors import CorpusError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


TFDS = "tfds:"  # before the name of a dataset


def is_tfds(path: Path) -> bool:
    """Returns whether this names a dataset of TensorFlow Datasets.

    Example:
        >>> is_tfds("tfds:tiny_shakespeare"), is_tfds("shakespeare.txt")
        (True, False)
    """
    return isinstance(path, str) and path.startswith(TFDS)


def load_tfds(source: str, validation: float, test: float, by_line: bool = False) -> Corpus:
    """Reads the texts of a dataset. If a split has several examples, each is ended by a line feed.

    The splits `train`, `validation` and `test` are kept. If the dataset lacks one of the last two, that part is cut off
    the end of `train`.

    Args:
        source: the dataset, such as `tfds:tiny_shakespeare`, `tfds:wiki40b/de` or `tfds:ag_news_subset:description`.
            Without a feature, the feature `text` is read, or the only text feature.
        validation: fraction of the validation part, if the dataset has none.
        test: fraction of the test part, if the dataset has none.
        by_line: whether a part that is cut off begins with a line.

    Raises:
        CorpusError: TensorFlow Datasets is not installed; it has no such dataset or feature; the dataset cannot be
            downloaded; or a split is empty.
    """
    name, splits = open_tfds(source)
    parts = {split: _text(source, split, texts()) for split, texts in splits.items()}
    whole = parts.pop("train")
    fractions = {"test": test, "validation": validation}
    sizes = {split: int(len(whole) * fraction) for split, fraction in fractions.items() if split not in parts}
    train, cut = cut_off_end(whole, sizes, by_line)
    parts |= cut
    return Corpus(train, parts["validation"], parts["test"], name, by_line)


def open_tfds(source: str) -> tuple[str, dict[str, Callable[[], Iterator[str]]]]:
    """Opens a dataset.

    Args:
        source: see `load_tfds`.

    Returns:
        The name of the dataset, and a function for each of its splits `train`, `validation` and `test` that yields the
        texts.

    Raises:
        CorpusError: see `load_tfds`.
    """
    name, _, feature = source.removeprefix(TFDS).partition(":")
    builder = _builder(name)
    feature = _feature(builder, name, feature)
    _prepare(builder, name)
    splits = builder.info.splits
    if "train" not in splits:
        raise CorpusError(
            f"the dataset must have the split train, but {TFDS}{name} has {', '.join(splits) or 'none'}; choose another"
        )
    found = [split for split in ("train", "validation", "test") if split in splits]
    return builder.name, {split: functools.partial(_texts, builder, split, feature) for split in found}


def _builder(name: str) -> "tfds.core.DatasetBuilder":
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise CorpusError(
            f"{TFDS}{name} requires TensorFlow Datasets: pip install tensorflow-datasets importlib_resources ({error})"
        ) from error
    # Checked here because `tfds.builder` would search the network for an unknown name for a minute.
    known = tfds.list_builders(with_community_datasets=False)
    dataset = name.partition("/")[0]
    if dataset not in known:
        near = difflib.get_close_matches(dataset, known, n=3, cutoff=0.5)
        hint = f"; similar names: {', '.join(near)}" if near else ""
        raise CorpusError(f"TensorFlow Datasets has no dataset {dataset}{hint}")
    try:
        return tfds.builder(name)
    except (ValueError, AssertionError) as error:  # an unknown configuration or version
        reason = str(error).partition("\n")[0][:300]
        raise CorpusError(f"TensorFlow Datasets has no dataset {name}: {reason}") from None


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
        if not texts:
            raise CorpusError(f"the dataset must have a text feature, but {TFDS}{name} has none; choose another")
        problem = f"has no text feature {feature}" if feature else "has several text features"
        raise CorpusError(
            f"{TFDS}{name} {problem}; name one of {', '.join(texts)}, for example {TFDS}{name}:{texts[0]}"
        )
    return feature


def _prepare(builder: Any, name: str) -> None:
    """Downloads and prepares the dataset unless that is done; TensorFlow Datasets shows the progress."""
    if builder.data_path.exists():
        return
    downloads = pathlib.Path(builder._data_dir_root) / "downloads"
    if not any(file.is_file() for file in downloads.rglob("*")):
        # Without this check, ten retries would take several minutes before an error.
        for host in {urlsplit(url).hostname for url in builder.url_infos or ()}:
            try:
                socket.getaddrinfo(host, 443)
            except OSError as error:
                raise CorpusError(
                    f"{TFDS}{name} must be downloaded from {host}, but the host cannot be found: {error.strerror}; "
                    f"connect to the network, or put the file into {downloads / 'manual'}"
                ) from None
    try:
        builder.download_and_prepare()
    except Exception as error:  # The builder runs code of its own, which can raise any error.
        reason = str(error).strip().partition("\n")[0][:300]
        raise CorpusError(f"{TFDS}{name} cannot be prepared: {type(error).__name__}: {reason}") from error


def _texts(builder: Any, split: str, feature: str) -> Iterator[str]:
    for example in builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator():
        yield example[feature].decode("utf-8")


def _text(source: str, split: str, texts: Iterator[str]) -> str:
    examples = list(within_memory(texts))
    text = examples[0] if len(examples) == 1 else "".join(in_lines(examples))
    if not text.strip():
        raise CorpusError(
            f"the corpus must hold text, but the split {split} of {source} has none; choose another feature"
        )
    return text
