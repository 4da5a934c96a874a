"""Texts to learn from: files of the user's own, or the built-in agreement grammar."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

Path = str | os.PathLike[str]


class CorpusError(ValueError):
    """A text file that cannot be learned from: the message says what was expected, what came and what to do."""


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
        path: A UTF-8 text file; or several, which are joined in the order given (with a line feed after a file that
            does not end in one); or `"agreement"` for `keras_seq.agreement_corpus()`. A file of that name is
            `"./agreement"`. A byte order mark is dropped; line ends stay as they are.
        validation: Share of the characters in the validation part, rounded down; at least 0.
        test: Share of the characters in the test part, rounded down; at least 0, and below 1 with `validation`.

    Returns:
        The corpus, with `by_line=False` (a text of the user's own) or `True` ("agreement").

    Raises:
        CorpusError: A file is missing, a directory, unreadable, empty, or not UTF-8 text.
        ValueError: A share is out of range.
    """
    require_shares(validation, test)
    if path == "agreement":
        from keras_seq.agreement import agreement_corpus  # which imports Corpus from here

        return agreement_corpus(validation=validation, test=test)
    paths = [pathlib.Path(one) for one in ([path] if isinstance(path, str | os.PathLike) else path)]
    if not paths:
        raise CorpusError("The corpus must be one text file or more, but an empty list came; name a file.")
    texts = [_read(one) for one in paths]
    text = "".join(one if one.endswith(("\n", "\r")) else one + "\n" for one in texts[:-1]) + texts[-1]
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    test_size = int(len(text) * test)
    validation_size = int(len(text) * validation)
    train_size = len(text) - validation_size - test_size
    return Corpus(
        train=text[:train_size],
        validation=text[train_size : train_size + validation_size],
        test=text[train_size + validation_size :],
        name=paths[0].stem + others,
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


def _read(path: pathlib.Path) -> str:
    """The text of one file, without a byte order mark."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CorpusError(f"The corpus must be a text file, but {path} does not exist; check the path.") from None
    except IsADirectoryError:
        raise CorpusError(
            f"The corpus must be a text file, but {path} is a directory; name the files in it instead."
        ) from None
    except OSError as error:
        raise CorpusError(
            f"The corpus must be a text file that can be read, but {path} cannot be: {error.strerror}; "
            "check the path and its permissions."
        ) from None
    text = _decode(path, data)
    if not text.strip():
        what = "holds nothing but white space" if text else "is empty"
        raise CorpusError(f"The corpus must hold text, but {path} {what}; put the text to learn from into it.")
    return text


def _decode(path: pathlib.Path, data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CorpusError(
            f"The corpus must be UTF-8 text, but {path} begins with a UTF-16 byte order mark; "
            "convert it first (iconv -f UTF-16 -t UTF-8)."
        )
    zero = data.find(b"\0")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if zero < 0 or error.start < zero:
            raise CorpusError(
                f"The corpus must be UTF-8 text, but {path} is not: line {_line(data, error.start)}, "
                f"byte {error.start} of the file is 0x{data[error.start]:02x}; "
                "convert it first (such as iconv -f WINDOWS-1252 -t UTF-8), or name a text file."
            ) from None
    if zero >= 0:
        raise CorpusError(
            f"The corpus must be UTF-8 text, but {path} is binary: line {_line(data, zero)}, "
            f"byte {zero} of the file is 0x00; name a text file."
        )
    return text.removeprefix("\ufeff")


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1
