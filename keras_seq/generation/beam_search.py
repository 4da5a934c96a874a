"""Beam search: looks for the most likely text by extending the few most likely beginnings in parallel."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Beam:
    """A text, complete or not.

    Attributes:
        tokens: ids of its tokens, `<eos>` included.
        log_probabilities: log-probability of each token, in nats, from `scores` of `beam_search`.
        logits: logits after the last token that the model has read, `(vocabulary,)`.
        states: states after that token.
        states_before: for each token, the states before the model reads it.
        finish_reason: "eos", "stop" or "length"; "" while the text is not complete.
    """

    tokens: list[int]
    log_probabilities: list[float]
    logits: np.ndarray
    states: list[Any]
    states_before: list[list[Any]]
    finish_reason: str = ""

    @property
    def log_probability(self) -> float:
        """Log-probability of the text, in nats."""
        return sum(self.log_probabilities)

    def score(self, length_penalty: float) -> float:
        """Returns the log-probability divided by the number of tokens to the power of `length_penalty`."""
        return self.log_probability / len(self.tokens) ** length_penalty


def beam_search(
    step: Callable[[int, list[Any]], tuple[np.ndarray, list[Any]]],
    logits: np.ndarray,
    states: list[Any],
    *,
    scores: Callable[[np.ndarray, list[int]], np.ndarray],
    has_stop: Callable[[list[int]], bool],
    eos_id: int,
    max_tokens: int,
    num_beams: int,
    length_penalty: float,
) -> list[Beam]:
    """Returns the best texts found, at most `num_beams`, best first.

    Each step extends every open beam by every token and ranks the results by log-probability. The best `num_beams` that
    are not complete stay open. A complete text is a finished beam if it is among the best `num_beams`. The search ends
    when no open beam can become better than the finished ones.

    Args:
        step: one step of the model, such as a `keras_seq.generation.decoder_step.Step`.
        logits: logits after the prompt, `(vocabulary,)`.
        states: states after the prompt.
        scores: function from logits and the tokens so far to log-probabilities `(vocabulary,)`, in nats.
        has_stop: function that tells whether tokens contain a stop string.
        eos_id: id of the token that ends a text.
        max_tokens: maximum number of tokens of a text.
        num_beams: maximum number of open beams, and of finished beams.
        length_penalty: see `Beam.score`.
    """
    open_beams, finished = [Beam([], [], logits, states, [])], list[Beam]()
    for length in range(1, max_tokens + 1):
        candidates = _extensions(open_beams, [scores(beam.logits, beam.tokens) for beam in open_beams])
        open_beams = []
        for rank, beam in enumerate(candidates):
            if len(open_beams) == num_beams or (length == max_tokens and rank == num_beams):
                break
            reason = "eos" if beam.tokens[-1] == eos_id else "stop" if has_stop(beam.tokens) else ""
            if not reason and length < max_tokens:
                logits_and_states = step(beam.tokens[-1], beam.states)
                open_beams.append(Beam(beam.tokens, beam.log_probabilities, *logits_and_states, beam.states_before))
            elif rank < num_beams:
                finished.append(dataclasses.replace(beam, finish_reason=reason or "length"))
        finished = sorted(finished, key=lambda beam: -beam.score(length_penalty))[:num_beams]
        # More tokens never make a text more likely, and its divisor is largest at the maximum length.
        attainable = max((beam.log_probability for beam in open_beams), default=-np.inf) / max_tokens**length_penalty
        if len(finished) == num_beams and attainable <= finished[-1].score(length_penalty):
            break
    return finished


def _extensions(beams: list[Beam], scores: list[np.ndarray]) -> Iterator[Beam]:
    """Yields each beam extended by each possible token, most likely first. Logits and states are still those before it.

    Args:
        beams: the beams.
        scores: for each beam, the log-probabilities of the next token, `(vocabulary,)`.
    """
    totals = np.stack([beam.log_probability + own for beam, own in zip(beams, scores, strict=True)])
    for position in np.argsort(-totals, axis=None, kind="stable"):
        index, token = divmod(int(position), totals.shape[1])
        beam, log_probability = beams[index], float(scores[index][token])
        if log_probability == -np.inf:
            return
        yield Beam(
            [*beam.tokens, token],
            [*beam.log_probabilities, log_probability],
            beam.logits,
            beam.states,
            [*beam.states_before, beam.states],
        )
