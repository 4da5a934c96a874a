"""Which tokens of a text a vocabulary has, and in which order."""

import itertools
from collections.abc import Mapping

from keras_seq import require
from keras_seq.data.tokens import RESERVED, Level


def chosen_tokens(
    counts: Mapping[str, int], level: Level, max_size: int | None, min_count: int, coverage: float
) -> tuple[str, ...]:
    """Returns the tokens of a vocabulary in the order of their ids; see `keras_seq.Vocabulary.from_counts`.

    Raises:
        ArgumentError: an argument is out of range.

    Example:
        >>> chosen_tokens({"a": 1, " b": 2, " c": 1}, "word", max_size=6, min_count=1, coverage=1.0)[4:]
        (' b', ' c')
    """
    require.one_of("level", level, RESERVED)
    reserved = RESERVED[level]
    require.that(
        max_size is None or (require.is_integer(max_size) and max_size > len(reserved)),
        "max_size",
        f"None or an integer above {len(reserved)}, the number of reserved tokens",
        max_size,
    )
    require.positive_integer("min_count", min_count)
    require.positive_fraction("coverage", coverage)
    if level == "char":
        return (*reserved, *_all_characters(counts, max_size, min_count, coverage))
    kept = _frequent_words(counts, min_count, coverage)
    return (*reserved, *(kept if max_size is None else kept[: max_size - len(reserved)]))


def _all_characters(counts: Mapping[str, int], max_size: int | None, min_count: int, coverage: float) -> list[str]:
    """Returns the characters in order of their code points; refuses arguments that would leave one out."""
    for name, value in (("min_count", min_count), ("coverage", coverage)):
        require.that(value == 1, name, "1 at the character level, which has no <unk>", value)
    size = len(RESERVED["char"]) + len(counts)
    require.that(
        max_size is None or size <= max_size,
        "max_size",
        f"at least {size} for the characters of this text, because the character level has no <unk>",
        max_size,
    )
    return sorted(counts)


def _frequent_words(counts: Mapping[str, int], min_count: int, coverage: float) -> list[str]:
    """Returns the words to keep, the most frequent first."""
    kept = sorted((token for token in counts if counts[token] >= min_count), key=lambda t: (-counts[t], t))
    if coverage == 1:
        return kept
    covered = itertools.accumulate(counts[token] for token in kept)
    enough = coverage * sum(counts.values())
    return kept[: 1 + sum(1 for _ in itertools.takewhile(lambda count: count < enough, covered))]
