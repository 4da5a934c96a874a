"""Stop strings: the text ends before the first of them, wherever the tokens begin and end."""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from keras_seq import require
from keras_seq.generation.text import Piece

# A piece, and the states before the model reads its token.
PieceAndStates = tuple[Piece, Any]


def checked_stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the stop strings as a tuple. `stop` may be one string.

    Raises:
        ArgumentError: `stop` is not a string or a sequence of strings, or a string is empty.
    """
    stops = (stop,) if isinstance(stop, str) else stop
    are_strings = isinstance(stops, Sequence) and all(isinstance(one, str) and one for one in stops)
    require.that(are_strings, "stop", "a string or a list of strings, each of at least one character", stop)
    return tuple(stops)


def find_stop(text: str, stops: Sequence[str]) -> int:
    """Returns the position at which the first stop string in `text` begins, or -1.

    Example:
        >>> find_stop("to be. Or", [" Or", "."])
        5
    """
    return min((position for stop in stops if (position := text.find(stop)) >= 0), default=-1)


def unfinished_stop(text: str, stops: Sequence[str]) -> int:
    """Returns the number of characters at the end of `text` that may be the beginning of a stop string.

    Example:
        >>> unfinished_stop("to be", ["because"])
        2
    """
    lengths = (length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length]))
    return max(lengths, default=0)


def until_stop(
    pieces: Generator[PieceAndStates, None, str], stops: Sequence[str], report: Callable[[str], None]
) -> Iterator[PieceAndStates]:
    """Yields pieces up to the first stop string, and reports the finish reason.

    A piece that may belong to a stop string is held back until the following pieces show whether it does.

    Args:
        pieces: the pieces of a text; the generator returns its finish reason.
        stops: the stop strings.
        report: is called with the finish reason as soon as it is known, before the pieces that are still held back are
            yielded: "stop" if a stop string was found, else the finish reason of `pieces`.
    """
    if not stops:
        report((yield from pieces))
        return
    held: list[PieceAndStates] = []
    while True:
        try:
            held.append(next(pieces))
        except StopIteration as end:
            report(end.value)
            yield from held
            return
        text = "".join(piece for piece, _ in held)
        position = find_stop(text, stops)
        if position >= 0:
            report("stop")
            yield from cut_pieces(held, position)
            return
        safe = len(text) - unfinished_stop(text, stops)
        while held and len(held[0][0]) <= safe:
            safe -= len(held[0][0])
            yield held.pop(0)


def cut_pieces(pieces: Sequence[PieceAndStates], count: int) -> Iterator[PieceAndStates]:
    """Yields the pieces of the first `count` characters. The last piece is cut if necessary."""
    for piece, states in pieces:
        if count <= 0:
            return
        yield Piece(piece[:count], piece.token_id, piece.log_probability, piece.row), states
        count -= len(piece)
