"""Beam search: the most likely text that a few parallel guesses find."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Beam:
    """A text in the making, or made.

    Attributes:
        tokens: its tokens, `<eos>` too.
        log_probabilities: of each token, in nats, as `scores` gives them.
        logits: after its last token, `(vocabulary,)`.
        states: likewise.
        finish_reason: "eos", "stop", "length", or "" while it goes on.
    """

    tokens: list[int]
    log_probabilities: list[float]
    logits: np.ndarray
    states: list[Any]
    finish_reason: str = ""

    def score(self, length_penalty: float) -> float:
        """Returns the log-probability of the text, divided by its number of tokens to the power of `length_penalty`."""
        return sum(self.log_probabilities) / len(self.tokens) ** length_penalty


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
    """Returns the best texts that were found, the best first, at most `num_beams`.

    At each step every beam is tried with every token. The `num_beams` most likely that do not end go on; those among the
    `num_beams` most likely that do are finished. The search ends when no beam can become better than the finished ones.

    Args:
        step: one step of the model, as `keras_seq.generation.decoder_step.Step`.
        logits: after the prompt.
        states: after the prompt.
        scores: log-probabilities `(vocabulary,)` from logits and the tokens so far.
        has_stop: whether tokens hold a stop string.
        eos_id: the token that ends a text.
        max_tokens: tokens of a text at most.
        num_beams: how many texts are pursued at once.
        length_penalty: see `Beam.score`.
    """
    going, finished = [Beam([], [], logits, states)], list[Beam]()
    for length in range(1, max_tokens + 1):
        ranked = _continued(going, [scores(beam.logits, beam.tokens) for beam in going])
        going = []
        for rank, beam in enumerate(ranked):
            if len(going) == num_beams or (length == max_tokens and rank == num_beams):
                break
            reason = "eos" if beam.tokens[-1] == eos_id else "stop" if has_stop(beam.tokens) else ""
            if not reason and length < max_tokens:
                after_token = step(beam.tokens[-1], beam.states)
                going.append(Beam(beam.tokens, beam.log_probabilities, *after_token))
            elif rank < num_beams:
                finished.append(dataclasses.replace(beam, finish_reason=reason or "length"))
        finished = sorted(finished, key=lambda beam: -beam.score(length_penalty))[:num_beams]
        # No token makes a text more likely; its penalty is the least at its greatest length.
        attainable = max((sum(beam.log_probabilities) for beam in going), default=-np.inf) / max_tokens**length_penalty
        if len(finished) == num_beams and attainable <= finished[-1].score(length_penalty):
            break
    return finished


def _continued(beams: list[Beam], scores: list[np.ndarray]) -> Iterator[Beam]:
    """Yields each beam with each token after it, the likeliest first; the model is not yet asked what comes then."""
    totals = np.stack([sum(beam.log_probabilities) + own for beam, own in zip(beams, scores, strict=True)])
    for place in np.argsort(-totals, axis=None, kind="stable"):
        index, token = divmod(int(place), totals.shape[1])
        beam, chance = beams[index], float(scores[index][token])
        if chance == -np.inf:
            return
        yield Beam([*beam.tokens, token], [*beam.log_probabilities, chance], beam.logits, beam.states)
