"""A SavedModel against the model it was made of: every signature of the file, run in TensorFlow's C++ session."""

import itertools
import pathlib
import platform
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.keras_step import KerasStep
from keras_seq.generation.sampling import SamplingSettings, log_softmax, logit_bias
from keras_seq.generation.score import score
from keras_seq.generation.threefry import uniform
from keras_seq.version import __version__
from keras_seq_export.comparison import TOLERANCE, compare, possible_tokens, reference_outputs
from keras_seq_export.errors import ExportError, SessionError
from keras_seq_export.graph.text import default_max_tokens
from keras_seq_export.requests import GenerateRequest, sampling_inputs, generate_inputs, strings, warm_up_requests, zero_states
from keras_seq_export.saved_model.cpp_session import Request, run_in_cpp_session
from keras_seq_export.signatures import (
    DECODE,
    FINISH_REASON,
    GENERATE,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_PROBABILITY,
    LOGITS,
    MAX_TOKENS,
    NEXT_TOKEN,
    PREFILL,
    PREFILL_STEPS,
    SAMPLE,
    SCORE,
    START,
    TEXT,
    TOKEN,
    TOKEN_IDS,
    TOKENS,
    UNIFORM,
    VOCABULARY_BYTES,
)

_DECODED_TOKENS = 256  # tokens that the file's decoder is compared on
_WRITTEN_TOKENS = 64  # tokens of each text that is compared
_DRAWN_ROWS = 64  # draws at once that are compared
_DRAW = SamplingSettings(temperature=0.8, top_k=40, top_p=0.95, min_p=0.01)


def verify(
    model: keras.Model, vocabulary: Vocabulary, directory: pathlib.Path, units: Sequence[int], max_length: int
) -> dict[str, Any]:
    """Runs every signature of the file in TensorFlow's C++ session; returns the report of what was compared.

    Args:
        model: over sequences.
        vocabulary: its vocabulary.
        directory: the SavedModel.
        units: the size of each state.
        max_length: tokens that a text may have.

    Raises:
        ExportError: the file does not run there, or does not give what the model does.
    """
    random = np.random.default_rng(0)
    tokens = random.integers(vocabulary.reserved - 1, len(vocabulary), _DECODED_TOKENS).astype(np.int32)
    tokens[0] = vocabulary.start_id
    texts = list(_texts(vocabulary, random, max_length))
    states = zero_states(units)
    prompts = [text.prompt for text in texts]
    lengths = np.array([1, PREFILL_STEPS, 7], np.int32)
    rows = np.tile(tokens[:PREFILL_STEPS], (len(lengths), 1))
    numbers = uniform(3, np.arange(_DRAWN_ROWS))
    requests = [
        Request(DECODE, {TOKEN: tokens[:, None], **states}, scan=TOKEN),
        Request(PREFILL, {TOKENS: rows, LENGTH: lengths}),
        Request(
            SAMPLE, {TOKEN: tokens[:, None], UNIFORM: numbers[:1], **sampling_inputs([_DRAW]), **states}, scan=TOKEN
        ),
        Request(SAMPLE, {TOKEN: np.full(_DRAWN_ROWS, vocabulary.start_id, np.int32), UNIFORM: numbers}),
        Request(GENERATE, generate_inputs(texts)),
        Request(SCORE, {TEXT: strings(prompts)}),
        Request(START, {TOKEN: tokens[:2]}),
        *(Request(DECODE, {TOKEN: tokens[:length, None], **states}, scan=TOKEN) for length in lengths),
        *(
            Request(signature, inputs)
            for signature, inputs in warm_up_requests(vocabulary.start_id, max_length, units).items()
        ),
    ]
    try:
        answers = run_in_cpp_session(directory, requests)
    except SessionError as error:
        reason = str(error).partition("\n")[0][:300]
        raise ExportError(f"the SavedModel does not run in TensorFlow's C++ session: {reason}") from error
    decoded, prefilled, sampled, sampled_rows, written, scored, told, *others = answers
    (expected,) = reference_outputs(model, [tokens])
    difference = compare(DECODE, expected, decoded[LOGITS][:, 0])
    prefill_difference = compare(PREFILL, expected[lengths - 1], prefilled[LOGITS])
    for name in states:
        read = np.concatenate([answer[name] for answer in others[: len(lengths)]])
        compare(f"{PREFILL}, {name}", read, prefilled[name])
        compare(f"{SAMPLE}, {name}", decoded[name], sampled[name])
        compare(f"{START}, {name}", np.zeros_like(told[name]), told[name])
    added = logit_bias(vocabulary, SamplingSettings())
    draws = [
        *zip(expected, itertools.repeat(numbers[0]), itertools.repeat(_DRAW), _draws(sampled, 0), strict=False),
        *zip(
            itertools.repeat(expected[0]),
            numbers,
            itertools.repeat(SamplingSettings()),
            _draws(sampled_rows),
            strict=False,
        ),
    ]
    draw_near_ties = sum(
        _compare_draw(logits, float(number), settings, added, drawn) for logits, number, settings, drawn in draws
    )
    near_ties = 0
    # The session computes on the CPU; an accelerator's shorter products would give other logits and other texts.
    with tf.device("/CPU:0"):
        step = KerasStep(model)
        for row, text in enumerate(texts):
            answer = {name: values[row] for name, values in written.items()}
            near_ties += _compare_text(step, vocabulary, text, answer)
        score_difference = max(
            _compare_score(step, vocabulary, prompt, {name: values[row] for name, values in scored.items()})
            for row, prompt in enumerate(prompts)
        )
    if told[VOCABULARY_BYTES].tolist() != 2 * [vocabulary.to_bytes()]:
        raise ExportError(f"{START} does not tell the vocabulary")
    if told[MAX_TOKENS].tolist() != 2 * [default_max_tokens(max_length)]:
        raise ExportError(f"{START} does not tell the usual `{MAX_TOKENS}`")
    return {
        "format": "SavedModel",
        "signatures": {
            GENERATE: {"texts_compared": len(texts), "near_ties": near_ties},
            SCORE: {"texts_compared": len(prompts), "largest_difference": score_difference},
            DECODE: {"tokens_compared": len(tokens), "largest_difference": difference},
            PREFILL: {"rows_compared": len(lengths), "largest_difference": prefill_difference},
            START: {"rows_compared": 2},
            SAMPLE: {"draws_compared": len(draws), "near_ties": draw_near_ties},
        },
        "vocabulary": {"level": vocabulary.level, "size": len(vocabulary), "sha256": vocabulary.sha256},
        "bytes": {
            file.relative_to(directory).as_posix(): file.stat().st_size
            for file in sorted(directory.rglob("*"))
            if file.is_file()
        },
        "versions": {
            "keras_seq": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
    }


def _draws(answer: dict[str, Any], column: int | None = None) -> Iterator[tuple[int, float]]:
    """Yields the tokens that `sample` drew, and their log-probabilities; of a scan, those of one row."""
    drawn, chances = answer[NEXT_TOKEN], answer[LOG_PROBABILITY]
    if column is not None:
        drawn, chances = drawn[:, column], chances[:, column]
    yield from zip(drawn.tolist(), chances.tolist(), strict=True)


def _compare_draw(
    logits: np.ndarray, number: float, settings: SamplingSettings, added: np.ndarray, answer: tuple[int, float]
) -> bool:
    """Compares a draw of `sample` with the host's; returns whether it was so near to an edge that rounding decides.

    Raises:
        ExportError: the host would not draw this token, or its log-probability is another.
    """
    drawn, log_probability = answer
    possible = possible_tokens(logits, number, settings, added)
    if drawn not in possible:
        raise ExportError(
            f"{SAMPLE} draws token {drawn}, the host one of {sorted(possible)} (uniform={number}, {settings})"
        )
    compare(f"{SAMPLE}, {LOG_PROBABILITY}", log_softmax(logits)[[drawn]], np.array([log_probability]))
    return len(possible) > 1


def _texts(vocabulary: Vocabulary, random: np.random.Generator, max_length: int) -> Iterator[GenerateRequest]:
    """One text for each kind of draw, all but the first after a random prompt."""
    tokens = vocabulary.tokens[vocabulary.reserved :]
    max_tokens = min(_WRITTEN_TOKENS, default_max_tokens(max_length))
    for seed, settings in enumerate(
        (
            SamplingSettings(),
            SamplingSettings(temperature=0.8),
            SamplingSettings(top_k=40, top_p=0.95, min_p=0.02),
            SamplingSettings(temperature=0),
        )
    ):
        length = min(20 * seed, max_length - max_tokens) if tokens else 0
        prompt = "".join(tokens[index] for index in random.integers(0, max(len(tokens), 1), length))
        yield GenerateRequest(prompt, max_tokens, (-1) ** seed * (seed << 33), settings)


def _compare_text(step: Step, vocabulary: Vocabulary, text: GenerateRequest, answer: dict[str, Any]) -> int:
    """Leads Keras along the tokens that the file drew, and compares all that the file says of them.

    Returns:
        How many draws were so near to an edge between two tokens that rounding may decide them.

    Raises:
        ExportError: the model would not write this text, or an output does not belong to it.
    """

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise ExportError(
                f"{GENERATE} must write what the model writes: {what}. Received: {answer} (prompt={text.prompt!r}, "
                f"seed={text.seed}, {text.settings})"
            )

    ids = answer[TOKEN_IDS][: answer[LENGTH]].tolist()
    ended = answer[FINISH_REASON] == b"eos"
    log_probability, near_ties, added = 0.0, 0, logit_bias(vocabulary, text.settings)
    context = [vocabulary.start_id, *vocabulary.encode(text.prompt).tolist()]
    drawn = [*ids, vocabulary.eos_id] if ended else ids
    after_context = itertools.islice(step.read([*context, *drawn[:-1]], step.initial_states()), len(context) - 1, None)
    for position, (token, (logits, _)) in enumerate(zip(drawn, after_context, strict=True)):
        possible = possible_tokens(logits, float(uniform(text.seed, position)), text.settings, added)
        require(token in possible, f"token {position} must be one of {sorted(possible)}")
        near_ties += len(possible) > 1
        log_probability += log_softmax(logits)[token]
    require(answer[TEXT] == vocabulary.decode(ids).encode(), "the text must be that of the tokens")
    require(ended or len(ids) == text.max_tokens, "a text that has not ended must have `max_tokens`")
    difference = abs(float(answer[LOG_PROBABILITY]) - log_probability)
    require(difference <= TOLERANCE * text.max_tokens, f"log_probability must be {log_probability:.6f}")
    return near_ties


def _compare_score(step: Step, vocabulary: Vocabulary, text: str, answer: dict[str, Any]) -> float:
    """Returns the largest difference of a token's log-probability between the file and Keras."""
    expected = score(step, vocabulary, text)
    length = answer[LENGTH]
    if not np.array_equal(answer[TOKEN_IDS][:length], expected.token_ids):
        raise ExportError(f"{SCORE} must read the tokens of {text!r}. Received: {answer}")
    whole = np.array(expected.log_probability, np.float32)
    compare(SCORE, whole, np.asarray(answer[LOG_PROBABILITY]), TOLERANCE * max(length, 1))
    if not length:
        return 0.0
    return compare(SCORE, expected.log_probabilities, answer[LOG_PROBABILITIES][:length])
