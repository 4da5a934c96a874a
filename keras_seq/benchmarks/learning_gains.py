"""What a model gains by learning from a text: while it reads it, and on what comes after it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from keras_seq.benchmarks.learning_texts import HELD_OUT, LEARNED, Author, beginning
from keras_seq.generation.sampling import log_softmax
from keras_seq.generation.score import segments
from keras_seq_export.tflite.learning.learner import LearningReport
from keras_seq_export.tflite.runtime import LiteRTSampler

PRINTED = (1_000, 5_000, 20_000)  # tokens read
CURVE = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
TIMES = 3  # a short text is read so often before the held-out one


class Prediction(NamedTuple):
    """How well a model predicts a text without learning from it.

    Attributes:
        nats: mean cross-entropy in nats per token.
        accuracy: part of the tokens that were the most likely ones.
    """

    nats: float
    accuracy: float


class Readings(NamedTuple):
    """How a model reads the beginnings of a text while it learns from it.

    Attributes:
        model: name of the model.
        text: name of the text.
        reports: how it reads the first tokens, by their number.
    """

    model: str
    text: str
    reports: Mapping[int, LearningReport]


class HeldOut(NamedTuple):
    """How well a model predicts what comes after the part of a text that it learned from.

    Attributes:
        model: name of the model.
        text: name of the text.
        before: the prediction of the model alone.
        after: the prediction after it has learned.
    """

    model: str
    text: str
    before: Prediction
    after: Prediction


def gain(report: LearningReport) -> float:
    """Returns the nats per token that learning saved while the text was read."""
    return report.model_nats_per_token - report.nats_per_token


def readings(sampler: LiteRTSampler, author: Author) -> dict[int, LearningReport]:
    """Returns how a model that has learned nothing reads the first tokens of a text, by their number (`CURVE`)."""
    found = {}
    for tokens in CURVE:
        if tokens <= len(author.tokens):
            sampler.forget()
            found[tokens] = sampler.learn(beginning(author, tokens, sampler.vocabulary))
    sampler.forget()
    return found


def held_out(sampler: LiteRTSampler, author: Author) -> tuple[Prediction, Prediction]:
    """Returns the predictions of what comes after the first `LEARNED` characters, before and after these were learned."""
    text = author.text[LEARNED : LEARNED + HELD_OUT]
    sampler.forget()
    before = predict(sampler, text)
    for _ in range(TIMES):
        sampler.learn(author.text[:LEARNED])
    after = predict(sampler, text)
    sampler.forget()
    return before, after


def predict(sampler: LiteRTSampler, text: str) -> Prediction:
    """Predicts each token of a text with what the model has learned, and learns nothing."""
    nats, right, start = list[float](), list[bool](), sampler.vocabulary.start_id
    for part in segments(text, sampler.vocabulary, by_line=bool(sampler.config.get("by_line"))):
        steps = sampler.read([start, *part[:-1].tolist()], sampler.initial_states())
        for (logits, _), token in zip(steps, part, strict=True):
            nats.append(-float(log_softmax(logits)[token]))
            right.append(int(logits.argmax()) == token)
    return Prediction(float(np.mean(nats)), float(np.mean(right)))


def gain_table(rows: Iterable[Readings]) -> Iterator[str]:
    """Yields the lines of a table."""
    yield "Nats per token that learning saves while the first tokens of a text are read, and those of the model alone"
    yield f"{'model':<20}{'text':<26}{'alone':>8}" + "".join(f"{count:>10,}" for count in PRINTED)
    for model, text, reports in rows:
        gains = "".join(f"{gain(reports[count]):>+10.3f}" if count in reports else f"{'-':>10}" for count in PRINTED)
        yield f"{model:<20.19}{text:<26.25}{reports[max(reports)].model_nats_per_token:>8.3f}{gains}"


def held_out_table(rows: Iterable[HeldOut]) -> Iterator[str]:
    """Yields the lines of a table."""
    yield f"The {HELD_OUT:,} characters after the first {LEARNED:,}, which were read {TIMES} times"
    yield f"{'model':<20}{'text':<26}{'nats':>8}{'learned':>10}{'right':>10}{'learned':>10}"
    for model, text, before, after in rows:
        nats = f"{before.nats:>8.3f}{after.nats:>10.3f}"
        yield f"{model:<20.19}{text:<26.25}{nats}{before.accuracy:>10.1%}{after.accuracy:>10.1%}"
