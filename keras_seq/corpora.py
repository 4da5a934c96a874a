"""Texts to learn from: files of the user's own, or the built-in agreement grammar."""

import dataclasses
import os
from collections.abc import Sequence

from keras_seq.text_files import CorpusError, Path, read_texts

TFDS = "tfds:"  # before the name of a dataset of TensorFlow Datasets


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A text in three parts.

    Attributes:
        train: What the model learns from.
        validation: What the training is watched with.
        test: What the finished model is measured on.
        name: What to call the text in reports.
        by_line: Whether every line is a sequence of its own, rather than the text one long stream.
    """

    train: str
    validation: str
    test: str
    name: str
    by_line: bool = False


def load_corpus(path: Path | Sequence[Path], validation: float = 0.05, test: float = 0.05) -> Corpus:
    """Reads a text and cuts it into a training, a validation and a test part, in this order.

    Args:
        path: What `keras_seq.text_files.read_texts` reads: a text file, compressed or not, a folder, a pattern, a field of a
            table such as `"news.csv:body"`, or `"-"`; or several of these. Files are joined in the order given, with a line
            feed after one that does not end in one. Or a dataset of TensorFlow Datasets, with its own splits, `"tfds:NAME"`
            (`keras_seq.tfds_corpus.load_tfds`). Or `"agreement"` for `keras_seq.agreement_corpus()`; a file of that
            name is `"./agreement"`.
        validation: Share of the characters in the validation part, rounded down; at least 0.
        test: Share of the characters in the test part, rounded down; at least 0, and below 1 with `validation`.

    Returns:
        The corpus, with `by_line=False` (a text of the user's own) or `True` ("agreement").

    Raises:
        CorpusError: A file is missing, unreadable, damaged, empty, or not text.
        ValueError: A share is out of range.
    """
    require_shares(validation, test)
    if path == "agreement":
        from keras_seq.agreement import agreement_corpus  # which imports Corpus from here

        return agreement_corpus(validation=validation, test=test)
    sources = [path] if isinstance(path, str | os.PathLike) else list(path)
    datasets = [one for one in sources if isinstance(one, str) and one.startswith(TFDS)]
    if datasets:
        if len(sources) > 1:
            raise CorpusError(
                f"The corpus must be one dataset, or files, but {datasets[0]} came with others; name it alone."
            )
        from keras_seq.tfds_corpus import load_tfds  # which imports Corpus from here

        return load_tfds(datasets[0], validation, test)
    if not sources:
        raise CorpusError("The corpus must be one text file or more, but an empty list came; name a file.")
    names, texts = zip(*(text for one in sources for text in read_texts(one)), strict=True)
    text = "".join(one if one.endswith(("\n", "\r")) else one + "\n" for one in texts[:-1]) + texts[-1]
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    test_size = int(len(text) * test)
    validation_size = int(len(text) * validation)
    train_size = len(text) - validation_size - test_size
    return Corpus(
        train=text[:train_size],
        validation=text[train_size : train_size + validation_size],
        test=text[train_size + validation_size :],
        name=names[0] + others,
    )


def require_shares(validation: float, test: float) -> None:
    """Refuses shares of a corpus that are negative or leave nothing for training.

    Raises:
        ValueError: The message names the argument and the value received.
    """
    for name, share in (("validation", validation), ("test", test)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"`{name}` must be a number of at least 0 and below 1. Received: {name}={share!r}")
    if validation + test >= 1:
        raise ValueError(
            "`validation` and `test` must be below 1 together, to leave a share for training. "
            f"Received: validation={validation!r}, test={test!r}"
        )
