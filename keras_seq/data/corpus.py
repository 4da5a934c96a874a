"""`Corpus`: a text in a training, a validation and a test part."""

import dataclasses
from collections.abc import Mapping

from keras_seq import require
from keras_seq.data.encoded_text import EncodedText
from keras_seq.errors import ConfigError, CorpusError


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A text in three parts.

    Attributes:
        train: the part that the model is trained on: a text, or one encoded on disk (`keras_seq.encode_corpus`).
        validation: the part that is evaluated during training.
        test: the part that the trained model is evaluated on.
        name: name of the text in reports.
        by_line: whether every line is a sequence of its own; if not, the text is one long stream.
        tables: how the tables that it was read from were understood, such as "news.csv: comma-separated, header id,
            body, text from body".
    """

    train: str | EncodedText
    validation: str
    test: str
    name: str
    by_line: bool = False
    tables: tuple[str, ...] = ()

    def text(self, part: str) -> str:
        """Returns the text of a part.

        Args:
            part: "train", "validation" or "test".

        Raises:
            CorpusError: the part is encoded on disk.

        Example:
            >>> Corpus("to be, ", "or not", "", name="hamlet").text("train")
            'to be, '
        """
        text = getattr(self, part)
        if isinstance(text, EncodedText):
            raise CorpusError(
                f"the text of {self.name} is needed, but its part {part} is encoded on disk; "
                "pass the original files instead"
            )
        return text


def part_begin(text: str, position: int, by_line: bool) -> int:
    r"""Returns where a part of a text begins: at `position`, or, by line, at the first line that begins there or later.

    Example:
        >>> part_begin("to be\nor not\n", 3, by_line=False), part_begin("to be\nor not\n", 3, by_line=True)
        (3, 6)
    """
    if not by_line or position in (0, len(text)) or text[position - 1] == "\n":
        return position
    end = text.find("\n", position)
    return len(text) if end < 0 else end + 1


def cut_off_end(text: str, sizes: Mapping[str, int], by_line: bool) -> tuple[str, dict[str, str]]:
    """Cuts parts off the end of a text.

    Args:
        text: the text.
        sizes: number of characters of each part, the last part first. If `by_line`, a part can be shorter.
        by_line: whether each part begins with a line.

    Returns:
        The rest of the text, and the parts.

    Example:
        >>> cut_off_end("to be, or not", {"test": 4, "validation": 2}, by_line=False)
        ('to be, ', {'test': ' not', 'validation': 'or'})
    """
    end, parts = len(text), {}
    for part, size in sizes.items():
        begin = part_begin(text, end - size, by_line)
        end, parts[part] = begin, text[begin:end]
    return text[:end], parts


def require_fractions(validation: float, test: float) -> None:
    """Requires that two fractions of a corpus are at least 0 and leave something for training.

    Raises:
        ArgumentError: a fraction is out of range.
        ConfigError: their sum is 1 or more.
    """
    require.fraction("validation", validation)
    require.fraction("test", test)
    if validation + test >= 1:
        raise ConfigError(
            "{} and {} must add up to less than 1, because the rest is the training part. "
            f"Received: {validation} + {test}",
            "validation",
            "test",
        )
