"""What a model expects next, from Python's own runtime, and how the page shows it."""

import math

import numpy as np

NAMES = {"\n": "new line", " ": "space", "": "the end"}


def next_tokens(sampler, text, count):
    """Returns the likeliest next tokens of a LiteRTSampler, as (id, text, probability)."""
    vocabulary = sampler.vocabulary
    ids = [vocabulary.start_id, *vocabulary.encode(text).tolist()]
    logits, _ = sampler.prefill(ids, sampler.initial_states())
    shares = np.exp(logits.astype(np.float64) - logits.max())
    shares /= shares.sum()
    never = {vocabulary.pad_id, vocabulary.start_id, vocabulary.unk_id}
    ids = [int(token) for token in np.argsort(-shares, kind="stable") if token not in never][:count]
    return [(token, "" if token == vocabulary.eos_id else vocabulary.tokens[token], shares[token]) for token in ids]


def percent(probability):
    """Returns a probability as the page shows it."""
    if probability < 0.005:
        return "<1%"
    return f"{math.floor(probability * 100 + 0.5)}%" if probability < 0.995 else ">99%"


def name_of(text):
    """Returns the name of a token on the page."""
    return NAMES.get(text, text.strip())
