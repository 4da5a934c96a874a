"""The options of text generation (`Options`) and its results (`Piece` and `Text`)."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from keras_seq.errors import ModelError
from keras_seq.generation.states import TextStates


class Options(TypedDict, total=False):
    """The options of text generation. They have the same names, defaults and effect in every runtime.

    Each token is drawn in these steps, in this order: forbid tokens and add `bias`, `repetition_penalty`,
    `temperature`, `top_k`, `top_p`, `min_p`, softmax, inverse CDF. A filter (`top_k`, `top_p`, `min_p`) keeps all
    tokens that tie with the last one it keeps, and never removes the most likely token. `temperature` and the options
    below it can be changed between two tokens with `Generation.change`.

    Attributes:
        max_tokens: Maximum number of tokens to generate. Positive integer. Default: 200.
        stop: String, or sequence of strings, that ends the text. The text ends before the first of them, even if it
            begins or ends inside a token. `<eos>` always ends a text. Non-empty strings. Default: ().
        seed: Seed of the random stream. Token `i` uses `keras_seq.generation.threefry.uniform(seed, i)`, so the same
            seed gives the same text in every runtime. Integer from -2**63 to 2**64 - 1. None takes a new random seed.
            Default: None. Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".
        num_samples: Number of texts to generate. Text `i` is the one that seed `seed + i` gives alone. With beam
            search, the number of beams to return, best first, at most `num_beams`. Positive integer; None returns one
            text instead of a list. Default: None.
        logprobs: Whether to report the log-probability of each token, in nats: that of the model's softmax before
            `bias`, the penalty, the temperature and the filters. Default: False.
        num_beams: Number of beams. Above 1, beam search looks for the most likely text and nothing is drawn, so
            `temperature`, `top_k`, `top_p` and `min_p` must keep their defaults. Positive integer. Default: 1.
        length_penalty: Exponent of the length in the score of a beam, `log_probability / tokens ** length_penalty`. The
            tokens include `<eos>` and those of a stop string. 0 favours short texts; 1 compares mean log-probabilities.
            Number from 0 to 10. Default: 1.0.
        states: States to start from, in place of the model's own. Either one array `(units,)` or `(1, units)` for each
            state, such as those of an encoder: the model then reads `<s>` and the prompt. Or the `states` of an earlier
            `Text` or `Generation` of the same model, in any runtime: the model then goes on where that text ended. It
            reads the last token of that text and the prompt, without `<s>`. `repetition_penalty` and the positions of
            the random stream begin anew. Default: None.
        temperature: Divisor of the logits. Below 1 favours likely tokens; above 1 flattens the distribution. 0, and
            any value below 1.2e-38 (the smallest normal float32), is greedy: it takes the most likely token, and the
            lowest id on a tie. Number from 0 to 1e6. Default: 1.0.
        top_k: Keep the `top_k` most likely tokens. Integer of at least 0; 0 is off. Default: 0. Fan et al. 2018,
            arXiv 1805.04833.
        top_p: Keep the smallest set of most likely tokens whose probabilities add up to at least `top_p` (nucleus
            sampling). Number above 0 and at most 1; 1 is off. Default: 1.0. Holtzman et al. 2020, arXiv 1904.09751.
        min_p: Keep the tokens whose probability is at least `min_p` times that of the most likely token. Number from 0
            to 1; 0 is off. Default: 0.0. Nguyen et al. 2024, arXiv 2407.01082.
        repetition_penalty: Divisor of the positive logits, and factor of the negative logits, of tokens that the prompt
            or the text already contains. Above 1 discourages repetition. Number from 1e-6 to 1e6; 1 is off.
            Default: 1.0. Keskar et al. 2019, arXiv 1909.05858.
        allow_unk: Whether `<unk>` may be drawn. Only a word vocabulary has it. Default: False.
        bias: Numbers to add to the logits of some tokens, such as `{"e": -2.5}`. Most tokens of a word vocabulary begin
            with a space: `{" be": 1.0}`. Numbers from -1e30 to 1e30, or -inf to forbid the token. Default: {}.
    """

    max_tokens: int
    stop: str | Sequence[str]
    seed: int | None
    num_samples: int | None
    logprobs: bool
    num_beams: int
    length_penalty: float
    states: TextStates | Sequence[Any] | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    allow_unk: bool
    bias: Mapping[str, float]


class Piece(str):
    """The text of one generated token. It is a `str` with attributes.

    Attributes:
        token_id: Id of the token.
        log_probability: Log-probability of the token, in nats, as defined in `Options`; None without `logprobs`.
        row: Index of the text among the `num_samples` texts.
    """

    token_id: int
    log_probability: float | None
    row: int

    def __new__(cls, text: str, token_id: int, log_probability: float | None, row: int) -> "Piece":
        """Creates a piece from its text and its attributes."""
        piece = super().__new__(cls, text)
        piece.token_id, piece.log_probability, piece.row = token_id, log_probability, row
        return piece

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Returns the arguments of `__new__`, for `copy` and `pickle`."""
        return str(self), self.token_id, self.log_probability, self.row


class Text(str):
    """A complete continuation of a prompt. It is a `str` with attributes.

    Attributes:
        token_ids: Ids of the tokens, without `<eos>`. If a stop string begins inside a token, that token is the last.
        log_probabilities: Log-probability of each token, in nats, as defined in `Options`; None without `logprobs`.
        finish_reason: "eos" after `<eos>`, "stop" at a stop string, "length" after `max_tokens` tokens.
    """

    token_ids: list[int]
    log_probabilities: list[float] | None
    finish_reason: str
    _states: TextStates | str

    def __new__(
        cls,
        text: str,
        token_ids: list[int],
        log_probabilities: list[float] | None,
        finish_reason: str,
        states: TextStates | str,
    ) -> "Text":
        """Creates a text from its characters and its attributes; `states` may be the reason why there are none."""
        whole = super().__new__(cls, text)
        whole.token_ids, whole.log_probabilities, whole.finish_reason = token_ids, log_probabilities, finish_reason
        whole._states = states
        return whole

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Returns the arguments of `__new__`, for `copy` and `pickle`."""
        return str(self), self.token_ids, self.log_probabilities, self.finish_reason, self._states

    @property
    def states(self) -> TextStates:
        """The states after `token_ids`, or after the prompt if there are none, from which a new text can go on.

        `<eos>` and a stop string are not part of them, but a token in which the stop string begins is.

        Raises:
            ModelError: the runtime does not return the states; the message says why.
        """
        if isinstance(self._states, str):
            raise ModelError(self._states)
        return self._states
