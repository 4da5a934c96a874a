"""The one token loop of every Python runtime: feed a token, draw the next from the logits, feed it back."""

import dataclasses
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.beam_search import beam_search
from keras_seq.generation.decoder_step import Step, check_vocabulary
from keras_seq.generation.sampling import (
    DRAWING,
    SamplingSettings,
    adjust,
    log_softmax,
    logit_bias,
    next_token,
)
from keras_seq.generation.stop_strings import checked_stops, find_stop, unfinished_stop
from keras_seq.generation.text import Options, Piece, Text
from keras_seq.generation.threefry import seed_words, uniform

_BLOCK = 256  # uniforms at a time: one by one they cost more than a small model's step


class Generation(Iterator[Piece]):
    """Writes continuations of a prompt, a piece at a time; what was asked is checked at once.

    The model reads `<s>` and the prompt; token `i` of the continuation is drawn with `uniform(seed, i)`. `<eos>` ends the
    text and is not given out. What may be the beginning of a stop string is held back until it is decided.

    Args:
        step: the model.
        vocabulary: its vocabulary.
        prompt: the text to go on from, which is not given out; empty starts from `<s>` and the zero state.
        **options: see `Options`.

    Attributes:
        settings: how the next token is drawn; another may be put here between two tokens.
        seed: the seed of the first row.
        finish_reasons: why each row ended that has: "eos", "stop" or "length".

    Raises:
        TypeError: an option has another name.
        ValueError: an argument is out of range, or the prompt has characters that the vocabulary lacks. While drawing: a
            logit is not a number; the step is named.
    """

    def __init__(
        self,
        step: Step,
        vocabulary: Vocabulary,
        prompt: str = "",
        *,
        max_tokens: int = 200,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        num_samples: int | None = None,
        logprobs: bool = False,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        **settings: Any,
    ):
        check_vocabulary(vocabulary, step.vocabulary_size)
        self.vocabulary = vocabulary
        _refuse_unknown(settings, Options.__annotations__, "no option")
        self._use(SamplingSettings(**settings))
        rows = 1 if num_samples is None else num_samples
        for name, value in (("max_tokens", max_tokens), ("num_samples", rows), ("num_beams", num_beams)):
            require.positive_integer(name, value)
        penalty_in_range = require.is_number(length_penalty) and 0 <= length_penalty <= 10
        require.that(penalty_in_range, "length_penalty", "from 0 to 10", length_penalty)
        require.boolean("logprobs", logprobs)
        self.seed = secrets.randbits(63) if seed is None else seed
        seed_words(self.seed)
        self.finish_reasons: list[str] = []
        self._step, self._max_tokens, self._logprobs = step, max_tokens, logprobs
        self._stops = checked_stops(stop)
        self._history = encode_prompt(vocabulary, prompt)
        self._searches = num_beams > 1
        if self._searches:
            self._check_beams(num_beams, rows)
            self._pieces = self._best_beams(num_beams, rows, length_penalty)
        else:
            self._pieces = self._drawn(rows)

    def __next__(self) -> Piece:
        return next(self._pieces)

    @property
    def settings(self) -> SamplingSettings:
        """How the next token is drawn."""
        return self._settings

    @settings.setter
    def settings(self, settings: SamplingSettings) -> None:
        if not isinstance(settings, SamplingSettings):
            raise ValueError(f"`settings` must be SamplingSettings; or call `change`. Received: {settings!r}")
        if self._searches:
            raise ValueError(
                "`num_beams` above 1 finds a text as a whole, so its settings cannot change while it is written"
            )
        self._use(settings)

    def _use(self, settings: SamplingSettings) -> None:
        self._settings, self._logit_bias = settings, logit_bias(self.vocabulary, settings)

    def change(self, **settings: Any) -> None:
        """Changes some of the settings from the next token on, such as `temperature=0.5`, in the rows to come too.

        A bias takes the place of the one before it, whole.

        Raises:
            TypeError: one of them is not among those that can change; they are named.
            ValueError: one is out of range, or the text is searched for with beams.
        """
        can_change = [field.name for field in dataclasses.fields(SamplingSettings)]
        _refuse_unknown(settings, can_change, "nothing that can change from token to token")
        self.settings = dataclasses.replace(self.settings, **settings)

    def texts(self) -> list[Text]:
        """Writes all rows to their ends, and returns what had not been given out of each."""
        pieces = list(self)
        texts = []
        for row, reason in enumerate(self.finish_reasons):
            own = [piece for piece in pieces if piece.row == row]
            chances = [piece.log_probability for piece in own if piece.log_probability is not None]
            texts.append(
                Text("".join(own), [piece.token_id for piece in own], chances if self._logprobs else None, reason)
            )
        return texts

    def _context(self, tokens: Sequence[int] = ()) -> list[int]:
        return [self.vocabulary.start_id, *self._history, *tokens]

    def _drawn(self, rows: int) -> Iterator[Piece]:
        *before, last = self._context()
        states = self._step.initial_states()
        if before:
            _, states = self._step.prefill(before, states)
        for row in range(rows):
            seed = (int(self.seed) + row) % 2**64
            pieces = self._draw_row(last, states, seed, row)
            yield from self._until_stop(pieces) if self._stops else pieces

    def _draw_row(self, token: int, states: Any, seed: int, row: int) -> Iterator[Piece]:
        """Yields the pieces of one text after `token`, up to `<eos>` or the greatest length."""
        history, written = list(self._history), self.vocabulary.pieces
        for position in range(self._max_tokens):
            if position % _BLOCK == 0:
                uniforms = uniform(seed, position + np.arange(_BLOCK))
            try:
                token, states, log_probability = self._draw(token, states, uniforms[position % _BLOCK], history)
            except ValueError as error:
                raise ValueError(f"token {position} of the continuation cannot be drawn: {error}") from error
            if token == self.vocabulary.eos_id:
                self.finish_reasons.append("eos")
                return
            yield Piece(written[token], token, log_probability, row)
            history.append(token)
        self.finish_reasons.append("length")

    def _draw(self, token: int, states: Any, uniform: float, history: Sequence[int]) -> tuple[int, Any, float | None]:
        if not self._logprobs:
            return *self._step.draw(token, states, uniform, self._settings, self._logit_bias, history), None
        logits, states = self._step(token, states)
        drawn = next_token(logits, uniform, self._settings, self._logit_bias, history)
        return drawn, states, float(log_softmax(logits)[drawn])

    def _until_stop(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Passes pieces on, up to a stop string."""
        held: list[Piece] = []
        for piece in pieces:
            held.append(piece)
            text = "".join(held)
            place = find_stop(text, self._stops)
            if place >= 0:
                self.finish_reasons.append("stop")
                yield from _cut(held, place)
                return
            safe = len(text) - unfinished_stop(text, self._stops)
            while held and len(held[0]) <= safe:
                safe -= len(held[0])
                yield held.pop(0)
        yield from held

    def _check_beams(self, num_beams: int, rows: int) -> None:
        for name in DRAWING:
            if (value := getattr(self.settings, name)) != getattr(SamplingSettings(), name):
                raise ValueError(
                    f"`num_beams` above 1 draws nothing, so `{name}` must be left out. Received: {value!r}"
                )
        if rows > num_beams:
            raise ValueError(f"`num_samples` must be at most `num_beams`, {num_beams}. Received: num_samples={rows}")

    def _best_beams(self, num_beams: int, rows: int, length_penalty: float) -> Iterator[Piece]:
        def scores(logits: np.ndarray, tokens: list[int]) -> np.ndarray:
            history = [*self._history, *tokens]
            try:
                return log_softmax(adjust(logits, self.settings, self._logit_bias, history))
            except ValueError as error:
                raise ValueError(f"token {len(tokens)} of the continuation cannot be ranked: {error}") from error

        def has_stop(tokens: list[int]) -> bool:
            return find_stop(self.vocabulary.decode(tokens), self._stops) >= 0

        beams = beam_search(
            self._step,
            *self._step.prefill(self._context(), self._step.initial_states()),
            scores=scores,
            has_stop=has_stop,
            eos_id=self.vocabulary.eos_id,
            max_tokens=self._max_tokens,
            num_beams=num_beams,
            length_penalty=length_penalty,
        )
        for row, beam in enumerate(beams[:rows]):
            tokens = [token for token in beam.tokens if token != self.vocabulary.eos_id]
            told: Sequence[float | None] = [None] * len(tokens)
            if self._logprobs:
                told = list(self._step.log_probabilities(self._context(tokens)))[len(self._history) :]
            pieces = [
                Piece(self.vocabulary.pieces[token], token, chance, row)
                for token, chance in zip(tokens, told, strict=True)
            ]
            self.finish_reasons.append(beam.finish_reason)
            if beam.finish_reason == "stop":
                pieces = list(_cut(pieces, find_stop("".join(pieces), self._stops)))
            yield from pieces


def encode_prompt(vocabulary: Vocabulary, prompt: str) -> list[int]:
    """Returns the tokens of a prompt; an error speaks of `prompt`.

    Raises:
        ValueError: the prompt is no text, or has characters that the vocabulary lacks.
    """
    try:
        return vocabulary.encode(prompt).tolist()
    except ValueError as error:
        raise ValueError(str(error).replace("`text`", "`prompt`").replace("text=", "prompt=")) from error


def _cut(pieces: Sequence[Piece], place: int) -> Iterator[Piece]:
    """Yields the pieces of the first `place` characters, the last of them cut."""
    for piece in pieces:
        if place <= 0:
            return
        yield Piece(piece[:place], piece.token_id, piece.log_probability, piece.row)
        place -= len(piece)


def _refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    for name in given:
        if name not in known:
            raise TypeError(f"`{name}` is {what}; these are: {', '.join(known)}")


def sample(step: Step, vocabulary: Vocabulary, prompt: str = "", **options: Any) -> Any:
    """Returns what `Generation` writes, whole: a `Text`, or with `num_samples` a list of them."""
    texts = Generation(step, vocabulary, prompt, **options).texts()
    return texts[0] if options.get("num_samples") is None else texts
