"""Where a text stops: at the first of some strings, found as soon as it is written, however the tokens cut it."""

from collections.abc import Sequence


def checked_stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the stop strings as a tuple; one string alone is allowed.

    Raises:
        ValueError: one of them is empty, or not a string.
    """
    stops = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stops, Sequence) or not all(isinstance(one, str) and one for one in stops):
        raise ValueError(
            f"`stop` must be a string or a list of strings, each of at least one character. Received: stop={stop!r}"
        )
    return tuple(stops)


def find_stop(text: str, stops: Sequence[str]) -> int:
    """Returns where the first stop string in `text` begins, or -1.

    Example:
        >>> find_stop("to be. Or", [" Or", "."])
        5
    """
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=-1)


def unfinished_stop(text: str, stops: Sequence[str]) -> int:
    """Returns how many characters at the end of `text` may be the beginning of a stop string.

    Example:
        >>> unfinished_stop("to be", ["because"])
        2
    """
    lengths = (length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length]))
    return max(lengths, default=0)
