"""A corpus: a text in a training, a validation and a test part."""

import dataclasses

from keras_seq.data.encoded_text import EncodedText
from keras_seq.errors import CorpusError

TFDS = "tfds:"  # before the name of a dataset of TensorFlow Datasets


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A text in three parts.

    Attributes:
        train: What the model learns from: a text, or one encoded on disk (`keras_seq.encode_corpus`).
        validation: What the training is watched with.
        test: What the finished model is measured on.
        name: What to call the text in reports.
        by_line: Whether every line is a sequence of its own, rather than the text one long stream.
    """

    train: str | EncodedText
    validation: str
    test: str
    name: str
    by_line: bool = False

    def text(self, part: str) -> str:
        """Returns a part's text.

        Raises:
            CorpusError: it is encoded on disk.

        Example:
            >>> Corpus("to be, ", "or not", "", name="hamlet").text("train")
            'to be, '
        """
        text = getattr(self, part)
        if isinstance(text, EncodedText):
            raise CorpusError(
                f"The text of {self.name} must be at hand, but its part {part} is encoded on disk; name the files it is of."
            )
        return text


def part_begin(text: str, place: int, by_line: bool) -> int:
    """Returns where a part of a text begins that is to begin at a place: there, or `by_line` with the first line from there on."""
    if not by_line or place in (0, len(text)) or text[place - 1] == "\n":
        return place
    end = text.find("\n", place)
    return len(text) if end < 0 else end + 1


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
