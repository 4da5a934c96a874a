"""The keystrokes that suggestions save to a new user, before and after the model has learned from the user's texts."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from keras_seq.analysis.keyboard import SHOWN, KeyboardUse, use_keyboard
from keras_seq.benchmarks.learning_texts import LEARNED, Author
from keras_seq_export.tflite.runtime import LiteRTSampler

READ = (0, 5_000, LEARNED)  # characters that the model has learned from
TYPED = 3_000  # characters that are then typed, the same each time


class Keystrokes(NamedTuple):
    """How a text is typed.

    Attributes:
        text: name of the text.
        uses: how it is typed after each number of characters that was learned (`READ`).
    """

    text: str
    uses: list[KeyboardUse]


def keystrokes(sampler: LiteRTSampler, author: Author) -> list[KeyboardUse]:
    """Returns how a text is typed after the model has learned from `READ` characters before it."""
    uses, by_line = [], bool(sampler.config.get("by_line"))
    for characters in READ:
        sampler.forget()
        if characters:
            sampler.learn(author.text[:characters])
        typed = author.text[LEARNED : LEARNED + TYPED]
        uses.append(use_keyboard(sampler, sampler.vocabulary, typed, by_line))
    sampler.forget()
    return uses


def keystroke_table(rows: Iterable[Keystrokes]) -> Iterator[str]:
    """Yields the lines of a table."""
    yield f"{TYPED:,} characters typed with {SHOWN} suggestions, after so many characters were learned"
    yield f"{'':<26}{'keystrokes saved':>30}{'next word shown':>30}"
    yield f"{'text':<26}" + 2 * "".join(f"{characters:>10,}" for characters in READ)
    for text, uses in rows:
        saved = "".join(f"{use.saved:>10.1%}" for use in uses)
        yield f"{text:<26.25}{saved}" + "".join(f"{use.shown / max(1, use.words):>10.1%}" for use in uses)
