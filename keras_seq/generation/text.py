"""What a text is asked for with (`Options`), and what comes of it (`Piece`, `Text`)."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class Options(TypedDict, total=False):
    """What a text is asked for with, in every runtime; each may be left out.

    Attributes:
        max_tokens: how many tokens to draw at most; 200.
        stop: a string, or a list of them, at the first of which the text ends; it is not given out; none, `()`. `<eos>` always
            ends a text.
        seed: seed of the draws, a whole number of 64 bits; the same seed gives the same text in every runtime. None
            takes a new one.
        num_samples: how many texts to write; None, one. That of row i is the one that `seed + i` gives alone. With
            `num_beams`, how many of the best beams, or all that were found.
        logprobs: whether to tell each token's log-probability, in nats, by the model's own softmax before any filter;
            False.
        num_beams: above 1, search for the most likely text with so many beams, instead of drawing; 1.
        length_penalty: a beam's log-probability is divided by its tokens, those of a stop string too, to this power, 0 to
            10: 0 favours short texts, 1 (the default) compares means.
        temperature: logits are divided by it, 1, up to 1e6; 0 (or below 1.2e-38) takes the most likely token,
            the lowest id on a tie.
        top_k: keep the k most likely tokens; 0, off.
        top_p: keep the smallest set of most likely tokens that has this probability, above 0; 1, off. Holtzman et al.
            2020, arXiv 1904.09751.
        min_p: keep tokens with at least this share of the highest probability, to 1; 0, off.
        repetition_penalty: above 1 makes tokens of the text so far, its prompt too, less likely, 1e-6 to 1e6; 1, off.
            Keskar et al. 2019, arXiv 1909.05858.
        allow_unk: let `<unk>` be drawn; False.
        bias: what is added to the logits of some tokens, `{"e": -2.5}`; none, `{}`; -inf forbids a token. Most word tokens begin with
            their space: `{" be": 1.0}`.
    """

    max_tokens: int
    stop: str | Sequence[str]
    seed: int | None
    num_samples: int | None
    logprobs: bool
    num_beams: int
    length_penalty: float
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    allow_unk: bool
    bias: Mapping[str, float]


class Piece(str):
    """A token's text as it is written.

    Attributes:
        token_id: the token.
        log_probability: its log-probability in nats, by the model's own softmax before any filter; None unless asked for.
        row: which of `num_samples` texts it belongs to.
    """

    token_id: int
    log_probability: float | None
    row: int

    def __new__(cls, text: str, token_id: int, log_probability: float | None, row: int) -> "Piece":
        """Makes a piece; all else is that of a `str`."""
        piece = super().__new__(cls, text)
        piece.token_id, piece.log_probability, piece.row = token_id, log_probability, row
        return piece

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Returns what a copy is made of."""
        return str(self), self.token_id, self.log_probability, self.row


class Text(str):
    """A continuation, whole.

    Attributes:
        token_ids: its tokens. Where a stop string begins within a token, that token is the last.
        log_probabilities: of each token, in nats; None unless asked for.
        finish_reason: "eos", "stop" or "length".
    """

    token_ids: list[int]
    log_probabilities: list[float] | None
    finish_reason: str

    def __new__(
        cls, text: str, token_ids: list[int], log_probabilities: list[float] | None, finish_reason: str
    ) -> "Text":
        """Makes a text; all else is that of a `str`."""
        whole = super().__new__(cls, text)
        whole.token_ids, whole.log_probabilities, whole.finish_reason = token_ids, log_probabilities, finish_reason
        return whole

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Returns what a copy is made of."""
        return str(self), self.token_ids, self.log_probabilities, self.finish_reason
