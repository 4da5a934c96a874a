"""A model that learns from several authors in turn for weeks: whether it is ever much worse than the model alone."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from keras_seq.benchmarks.learning_gains import Prediction, gain, predict
from keras_seq.benchmarks.learning_texts import HELD_OUT, Author
from keras_seq_export.tflite.learning.learner import LearningReport
from keras_seq_export.tflite.runtime import LiteRTSampler

CHARACTERS = 200_000  # that are read in all
TURN = 5_000  # characters of one author, before those of the next


class Turn(NamedTuple):
    """What a model reads of one author before the next one's turn.

    Attributes:
        author: name of the text.
        report: how the model read it.
    """

    author: str
    report: LearningReport


class Weeks(NamedTuple):
    """All turns, and how the model then predicts the end of each author's text, which it has not read.

    Attributes:
        turns: the turns in their order.
        held_out: by author, the predictions of the model alone and with what it has learned.
    """

    turns: list[Turn]
    held_out: dict[str, tuple[Prediction, Prediction]]


def simulated_weeks(sampler: LiteRTSampler, every: Sequence[Author]) -> Weeks:
    """Learns from the texts of authors in turn. A text that has come to its held-out end has no more turns."""
    sampler.forget()
    alone = [predict(sampler, author.text[-HELD_OUT:]) for author in every]
    turns = [Turn(author, sampler.learn(text)) for author, text in _turns(every)]
    learned = [predict(sampler, author.text[-HELD_OUT:]) for author in every]
    sampler.forget()
    return Weeks(turns, dict(zip((one.name for one in every), zip(alone, learned, strict=True), strict=True)))


def weeks_table(weeks: Weeks) -> Iterator[str]:
    """Yields the lines of a table: a row for each author."""
    count = sum(turn.report.tokens for turn in weeks.turns)
    yield f"{count:,} tokens of the authors in turn, {TURN:,} characters each; then the last {HELD_OUT:,} of each"
    yield (
        f"{'text':<26}{'turns':>6}{'alone':>8}{'learning':>10}{'nats saved':>12}{'worst turn':>12}"
        f"{'held out':>10}{'learned':>9}{'right':>8}{'learned':>9}"
    )
    for author, (before, after) in weeks.held_out.items():
        reports = [turn.report for turn in weeks.turns if turn.author == author]
        if not reports:  # So many authors that some have no turn.
            continue
        tokens = sum(one.tokens for one in reports)
        alone = sum(one.tokens * one.model_nats_per_token for one in reports)
        learning = sum(one.tokens * one.nats_per_token for one in reports)
        yield (
            f"{author:<26.25}{len(reports):>6}{alone / tokens:>8.3f}{learning / tokens:>10.3f}{alone - learning:>+12,.0f}"
            f"{min(map(gain, reports)):>+12.3f}{before.nats:>10.3f}{after.nats:>9.3f}"
            f"{before.accuracy:>8.1%}{after.accuracy:>9.1%}"
        )
    gains = [gain(turn.report) for turn in weeks.turns]
    worst = gains.index(min(gains))
    yield f"the worst of {len(gains)} turns is number {worst + 1}, {weeks.turns[worst].author}: {gains[worst]:+.3f} nats per token"


def _turns(every: Sequence[Author]) -> Iterator[tuple[str, str]]:
    """Yields the name of the author and the text of each turn."""
    read = 0
    for begin in range(0, CHARACTERS, TURN):
        for author in every:
            piece = author.text[:-HELD_OUT][begin : begin + TURN]
            if len(piece) == TURN and read < CHARACTERS:
                read += TURN
                yield author.name, piece
