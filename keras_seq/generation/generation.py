"""The token loop of every Python runtime: feed a token to the model, draw the next one, feed it back."""

import collections
import dataclasses
import functools
import secrets
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ArgumentError, ConfigError, ModelError
from keras_seq.generation.beam_search import Beam, beam_search
from keras_seq.generation.decoder_step import Step, require_version, require_vocabulary
from keras_seq.generation.sampling import (
    DRAW_SETTINGS,
    SamplingSettings,
    adjust_logits,
    log_softmax,
    logit_bias,
)
from keras_seq.generation.states import TextStates, start_of
from keras_seq.generation.stop_strings import PieceAndStates, checked_stops, cut_pieces, find_stop, until_stop
from keras_seq.generation.text import Options, Piece, Text
from keras_seq.generation.threefry import seed_words, uniform

_YIELDED = "the pieces of this text were yielded one by one; take `states` of the iterator after its last piece"
_BLOCK = 256  # Uniforms are computed in blocks: one at a time, they would cost more than a step of a small model.


class Generation(Iterator[Piece]):
    """An iterator over the pieces of one or several continuations of a prompt.

    The model reads `<s>` and the prompt, or it goes on after an earlier text (`states`). Token `i` of the continuation is
    drawn with `uniform(seed, i)`. `<eos>` ends the text and is not yielded. A piece that may belong to a stop string is
    held back until that is decided. Arguments are checked when the object is created, not when the first piece is drawn.

    Args:
        step: the model.
        vocabulary: the vocabulary of the model.
        prompt: the text to continue; it is not yielded. An empty prompt starts from `<s>` and the initial states.
        **options: see `keras_seq.generation.text.Options`.

    Attributes:
        settings: the `SamplingSettings` of the next token. They may be replaced between two tokens.
        seed: the seed of the first text.
        finish_reasons: "eos", "stop" or "length" for each text that has ended.

    Raises:
        TypeError: an option does not exist.
        ArgumentError: an argument is out of range.
        TextError: the prompt has characters outside the vocabulary.
        ConfigError: arguments contradict each other.
        ModelError: the model has another number of logits than the vocabulary has tokens. During iteration: a logit is
            NaN; the message has the position of the token. Or the model has learned since the text began.
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
        states: TextStates | Sequence[Any] | None = None,
        **settings: Any,
    ):
        require_vocabulary(vocabulary, step.vocabulary_size)
        self.vocabulary = vocabulary
        _require_known(settings, Options.__annotations__, "is not an option. The options are")
        self._use(SamplingSettings(**settings))
        rows = 1 if num_samples is None else num_samples
        for name, value in (("max_tokens", max_tokens), ("num_samples", rows), ("num_beams", num_beams)):
            require.positive_integer(name, value)
        in_range = require.is_number(length_penalty) and 0 <= length_penalty <= 10
        require.that(in_range, "length_penalty", "from 0 to 10", length_penalty)
        require.boolean("logprobs", logprobs)
        self.seed = secrets.randbits(63) if seed is None else seed
        seed_words(self.seed)
        self.finish_reasons: list[str] = []
        self._step, self._max_tokens, self._logprobs = step, max_tokens, logprobs
        self._learned_version, self._has_ended = step.learned_version, False
        self._stops = checked_stops(stop)
        self._prompt = vocabulary.encode(prompt, name="prompt").tolist()
        self._first, self._first_states = start_of(step, vocabulary, states)
        self._text_before = prompt or vocabulary.pieces[self._first]
        self._last: PieceAndStates | None = None
        self._searches = num_beams > 1
        if self._searches:
            _require_beam_options(self.settings, rows, num_beams)
            self._pieces = self._search(rows, num_beams, length_penalty)
        else:
            step.arithmetic.require_settings(self.settings)
            self._pieces = self._draw(rows)

    def __next__(self) -> Piece:
        piece = next(self._pieces, None)
        if not self._has_ended:
            require_version(self._step, self._learned_version)
        if piece is None:
            self._has_ended = True
            raise StopIteration
        self._last = piece
        return piece[0]

    @property
    def states(self) -> TextStates:
        """The states after the last piece that was yielded, or after the prompt; a new text can go on from them.

        Raises:
            ModelError: the runtime does not return its states; the message says why.
        """
        return self._states_after(self._last)

    @property
    def settings(self) -> SamplingSettings:
        """The settings with which the next token is drawn."""
        return self._settings

    @settings.setter
    def settings(self, settings: SamplingSettings) -> None:
        if not isinstance(settings, SamplingSettings):
            raise ArgumentError("settings", "SamplingSettings; `change` takes single options", settings)
        if self._searches:
            raise ConfigError(
                "{} above 1 searches for the text as a whole, so its settings cannot be changed between tokens",
                "num_beams",
            )
        self._step.arithmetic.require_settings(settings)
        self._use(settings)

    def _use(self, settings: SamplingSettings) -> None:
        self._settings, self._logit_bias = settings, logit_bias(self.vocabulary, settings)

    def change(self, **settings: Any) -> None:
        """Changes settings from the next token on, such as `temperature=0.5`, in all following texts too.

        A new `bias` replaces the previous one completely.

        Raises:
            TypeError: a setting does not exist or cannot be changed during generation.
            ArgumentError: a setting is out of range.
            ConfigError: the text comes from beam search.
        """
        names = [field.name for field in dataclasses.fields(SamplingSettings)]
        _require_known(settings, names, "cannot be changed during generation. The options that can are")
        self.settings = dataclasses.replace(self.settings, **settings)

    def texts(self) -> list[Text]:
        """Generates all texts to their ends and returns them, without the pieces that were already yielded."""
        first = 0 if self._last is None else self._last[0].row
        pieces, last = collections.defaultdict[int, list[Piece]](list), {first: self._last}
        for piece in self:
            pieces[piece.row].append(piece)
            last[piece.row] = self._last
        states: list[TextStates | str] = [_YIELDED] * first
        states += [self._states_or_reason(last.get(row)) for row in range(first, len(self.finish_reasons))]
        return [self._text(pieces[row], reason, states[row]) for row, reason in enumerate(self.finish_reasons)]

    def _text(self, pieces: list[Piece], finish_reason: str, states: TextStates | str) -> Text:
        log_probabilities = [piece.log_probability for piece in pieces if piece.log_probability is not None]
        token_ids = [piece.token_id for piece in pieces]
        return Text("".join(pieces), token_ids, log_probabilities if self._logprobs else None, finish_reason, states)

    def _states_or_reason(self, last: PieceAndStates | None) -> TextStates | str:
        """Returns the states after a piece, or after the prompt, or the reason why there are none."""
        try:
            return self._states_after(last)
        except ModelError as error:
            return str(error)

    def _states_after(self, last: PieceAndStates | None) -> TextStates:
        token, states = self._after_prompt if last is None else (last[0].token_id, last[1])
        return TextStates(self._step.arrays_of(states), token)

    def _context(self, tokens: Sequence[int] = ()) -> list[int]:
        """Returns the first token that the model reads, usually `<s>`, the prompt and `tokens`."""
        return [self._first, *self._prompt, *tokens]

    @functools.cached_property
    def _after_prompt(self) -> tuple[int, Any]:
        """The last token of the prompt, and the states before the model reads it."""
        *context, last = self._context()
        states = self._first_states
        if context:
            _, states = self._step.prefill(context, states)
        return last, states

    def _draw(self, rows: int) -> Iterator[PieceAndStates]:
        """Yields the pieces of texts that are drawn token by token."""
        last, states = self._after_prompt
        for row in range(rows):
            yield from until_stop(self._draw_row(last, states, row), self._stops, self.finish_reasons.append)

    def _draw_row(self, token: int, states: Any, row: int) -> Generator[PieceAndStates, None, str]:
        """Yields the pieces of one text after `token`, and returns its finish reason."""
        seed = (int(self.seed) + row) % 2**64
        pieces, eos_id = self.vocabulary.pieces, self.vocabulary.eos_id
        history, position, ahead = list(self._prompt), 0, _BLOCK
        uniforms = np.zeros(0, np.float32)
        while position < self._max_tokens:
            settings, first = self._settings, position
            if not len(uniforms):
                uniforms = uniform(seed, np.arange(position, position + _BLOCK))
            given = uniforms[: min(ahead, self._max_tokens - position)]
            draws = self._step.draws(token, states, given, settings, self._logit_bias, history, self._logprobs)
            # What was drawn ahead has the settings before `change`.
            while self._settings is settings:
                try:
                    token, states, log_probability = next(draws)
                except StopIteration:
                    break
                except ValueError as error:
                    raise ModelError(f"token {position} of the continuation cannot be drawn: {error}") from error
                if token == eos_id:
                    return "eos"
                piece = pieces[token] if position else self._piece(token, position)
                position += 1
                yield Piece(piece, token, log_probability, row), states
                history.append(token)
            uniforms = uniforms[position - first :]
            # Settings that were changed may soon change again: then few tokens are drawn ahead in vain.
            ahead = min(2 * ahead, _BLOCK) if self._settings is settings else 1
        return "length"

    def _search(self, rows: int, num_beams: int, length_penalty: float) -> Iterator[PieceAndStates]:
        """Yields the pieces of the best texts that beam search finds."""
        beams = beam_search(
            self._step,
            *self._step(*self._after_prompt),
            scores=self._log_probabilities_after,
            has_stop=lambda tokens: find_stop(self.vocabulary.decode(tokens, self._text_before), self._stops) >= 0,
            eos_id=self.vocabulary.eos_id,
            max_tokens=self._max_tokens,
            num_beams=num_beams,
            length_penalty=length_penalty,
        )
        for row, beam in enumerate(beams[:rows]):
            pieces = self._pieces_of(beam, row)
            self.finish_reasons.append(beam.finish_reason)
            if beam.finish_reason == "stop":
                yield from cut_pieces(pieces, find_stop("".join(piece for piece, _ in pieces), self._stops))
            else:
                yield from pieces

    def _log_probabilities_after(self, logits: np.ndarray, tokens: list[int]) -> np.ndarray:
        """Returns the log-probabilities `(vocabulary,)` of the token after `tokens`, by which beams are ranked."""
        try:
            return log_softmax(adjust_logits(logits, self.settings, self._logit_bias, [*self._prompt, *tokens]))
        except ValueError as error:
            raise ModelError(f"token {len(tokens)} of the continuation cannot be ranked: {error}") from error

    def _pieces_of(self, beam: Beam, row: int) -> list[PieceAndStates]:
        tokens = [token for token in beam.tokens if token != self.vocabulary.eos_id]
        reported: Sequence[float | None] = [None] * len(tokens)
        if self._logprobs:
            reported = list(self._step.log_probabilities(self._context(tokens), self._first_states))
            reported = reported[len(self._prompt) :]
        states_before = beam.states_before[: len(tokens)]
        return [
            (Piece(self._piece(token, position), token, log_probability, row), states)
            for position, (token, log_probability, states) in enumerate(
                zip(tokens, reported, states_before, strict=True)
            )
        ]

    def _piece(self, token: int, position: int) -> str:
        """Returns the text that the token at a position of a continuation adds."""
        return self.vocabulary.pieces[token] if position else self.vocabulary.decode([token], self._text_before)


def _require_known(given: Iterable[str], known: Iterable[str], message: str) -> None:
    for name in given:
        if name not in known:
            raise TypeError(f"`{name}` {message}: {', '.join(known)}")


def _require_beam_options(settings: SamplingSettings, num_samples: int, num_beams: int) -> None:
    """Requires that nothing is set that only a draw uses, and enough beams for the texts to return."""
    for name in DRAW_SETTINGS:
        if (value := getattr(settings, name)) != getattr(SamplingSettings(), name):
            message = f"{{}} must be left out when {{}} is above 1: beam search draws nothing. Received: {{}}={value!r}"
            raise ConfigError(message, name, "num_beams", name)
    if num_samples > num_beams:
        message = f"{{}} must be at most {{}}, {num_beams}. Received: {{}}={num_samples}"
        raise ConfigError(message, "num_samples", "num_beams", "num_samples")


def sample(step: Step, vocabulary: Vocabulary, prompt: str = "", **options: Any) -> Any:
    """Returns all that `Generation` generates: a `Text`, or a list of them with `num_samples`."""
    texts = Generation(step, vocabulary, prompt, **options).texts()
    return texts[0] if options.get("num_samples") is None else texts
