"""Requests to a SavedModel: the inputs of its signatures as arrays, a row for each text."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export.signatures import (
    DECODE,
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
    """A text to be written, by `serving_default` and by another runtime."""

    prompt: str
    max_tokens: int
    seed: int
    settings: SamplingSettings


def generate_inputs(texts: Sequence[GenerateRequest]) -> dict[str, np.ndarray]:
    """Returns the inputs of `serving_default` that ask for all the texts at once."""
    return {
        PROMPT: strings([text.prompt for text in texts]),
        MAX_TOKENS: np.array([text.max_tokens for text in texts], np.int32),
        **sampling_inputs([text.settings for text in texts]),
        # A seed of 64 bits may be given without a sign.
        SEED: np.array([int(text.seed) % 2**64 for text in texts], np.uint64).astype(np.int64),
    }


def sampling_inputs(rows: Sequence[SamplingSettings]) -> dict[str, np.ndarray]:
    """Returns the inputs of `serving_default` and `sample` that say how each row is drawn."""
    return {name: np.array([getattr(row, name) for row in rows], dtype) for name, dtype in SAMPLING_INPUTS.items()}


def strings(texts: Sequence[str]) -> np.ndarray:
    """Returns texts as an input: an array of `bytes` objects."""
    return np.array([text.encode("utf-8") for text in texts], object)


def zero_states(units: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns the states of one row at the start of a text."""
    return {state_name(index): np.zeros((1, size), np.float32) for index, size in enumerate(units)}


def warm_up_requests(start_id: int, max_length: int, units: Sequence[int]) -> dict[str, dict[str, np.ndarray]]:
    """Returns a small request of each signature, for one row, with all inputs.

    Args:
        start_id: the token at the start of a text.
        max_length: tokens that a text may have.
        units: the size of each state.
    """
    token, text = np.array([start_id], np.int32), GenerateRequest("", min(8, max_length), 0, SamplingSettings())
    states = zero_states(units)
    return {
        GENERATE: generate_inputs([text]),
        SCORE: {TEXT: strings([""])},
        DECODE: {TOKEN: token, **states},
        PREFILL: {TOKENS: np.tile(token, (1, PREFILL_STEPS)), LENGTH: np.array([PREFILL_STEPS], np.int32), **states},
        SAMPLE: {TOKEN: token, UNIFORM: np.array([0.5], np.float32), **sampling_inputs([text.settings]), **states},
        START: {TOKEN: token},
    }
