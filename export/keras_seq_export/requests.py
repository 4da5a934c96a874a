"""Requests to a SavedModel: the inputs of its signatures as arrays with one row for each text."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export.signatures import (
    DECODE,
    ENCODE,
    GENERATE,
    LENGTH,
    MAX_TOKENS,
    PREFILL,
    PREFILL_STEPS,
    PROMPT,
    SAMPLE,
    SAMPLING_INPUTS,
    SCORE,
    SEED,
    START,
    TEXT,
    TOKEN,
    TOKENS,
    UNIFORM,
    state_name,
)


class GenerateRequest(NamedTuple):
    """A text to generate: the same request for `serving_default` and for any other runtime.

    Attributes:
        prompt: the text to continue; empty starts a new text.
        max_tokens: the largest number of tokens to generate.
        seed: an integer of 64 bits, signed or unsigned.
        settings: how to sample.
    """

    prompt: str
    max_tokens: int
    seed: int
    settings: SamplingSettings


def generate_inputs(requests: Sequence[GenerateRequest]) -> dict[str, np.ndarray]:
    """Returns the inputs of `serving_default` that generate all the texts in one batch."""
    return {
        PROMPT: strings([request.prompt for request in requests]),
        MAX_TOKENS: np.array([request.max_tokens for request in requests], np.int32),
        **sampling_inputs([request.settings for request in requests]),
        # The signature takes int64; an unsigned seed has the same 64 bits.
        SEED: np.array([int(request.seed) % 2**64 for request in requests], np.uint64).astype(np.int64),
    }


def sampling_inputs(rows: Sequence[SamplingSettings]) -> dict[str, np.ndarray]:
    """Returns the sampling settings of each row, as inputs of `serving_default` and `sample`."""
    return {name: np.array([getattr(row, name) for row in rows], dtype) for name, dtype in SAMPLING_INPUTS.items()}


def strings(texts: Sequence[str]) -> np.ndarray:
    """Returns texts as a string input: an array of `bytes` objects in UTF-8."""
    return np.array([text.encode("utf-8") for text in texts], object)


def initial_states(initial: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the initial states by name, each `(1, units)` float32, from one `(units,)` for each state."""
    return {state_name(index): value[None] for index, value in enumerate(initial)}


def warm_up_requests(
    start_id: int, max_length: int, initial: Sequence[np.ndarray], at_once: Mapping[str, np.ndarray] | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Returns one small request for each signature of a model of text: one row, with every input given.

    Args:
        start_id: the token `<s>`, which starts a text.
        max_length: the largest number of tokens in a text.
        initial: the value of each state at the start of a text, `(units,)` float32.
        at_once: the inputs of `encode`; None for a model without an encoder.
    """
    token, given = np.array([start_id], np.int32), dict(at_once or {})
    settings, states = SamplingSettings(), initial_states(initial)
    requests = {
        GENERATE: {**generate_inputs([GenerateRequest("", min(8, max_length), 0, settings)]), **given},
        SCORE: {TEXT: strings([""]), **given},
        DECODE: {TOKEN: token, **states},
        PREFILL: {TOKENS: np.tile(token, (1, PREFILL_STEPS)), LENGTH: np.array([PREFILL_STEPS], np.int32), **states},
        SAMPLE: {TOKEN: token, UNIFORM: np.array([0.5], np.float32), **sampling_inputs([settings]), **states},
        START: {TOKEN: token},
    }
    return {**requests, ENCODE: given} if given else requests
