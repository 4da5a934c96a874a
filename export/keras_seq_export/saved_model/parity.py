"""Verifying a SavedModel: every signature runs in TensorFlow's C++ session and is compared with the model."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
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
from keras_seq_export.comparison import (
    TOLERANCE,
    compare,
    possible_tokens,
    reference_logits,
    require_equal_but_for_rounding,
)
from keras_seq_export.errors import ExportError
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.graph.text import default_max_tokens
from keras_seq_export.requests import (
    GenerateRequest,
    generate_inputs,
    sampling_inputs,
    strings,
)
from keras_seq_export.saved_model.at_once import AtOnce
from keras_seq_export.saved_model.cpp_session import Request
from keras_seq_export.saved_model.endpoints import encoder_description, model_id
from keras_seq_export.saved_model.session_answers import run_all
from keras_seq_export.saved_model.warm_up import text_warm_up
from keras_seq_export.signatures import (
    DECODE,
    ENCODE,
    ENCODER,
    FINISH_REASON,
    GENERATE,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_PROBABILITY,
    LOGITS,
    MAX_TOKENS,
    MODEL_ID,
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
    state_name,
)

_DECODED_TOKENS = 256  # tokens on which `decode` is compared
_GENERATED_TOKENS = 64  # tokens of each text on which `serving_default` is compared
_SAMPLED_ROWS = 64  # rows of one call of `sample`
_PREFILL_LENGTHS = (1, PREFILL_STEPS, 7)
_STEPWISE_SETTINGS = SamplingSettings(temperature=0.8, top_k=40, top_p=0.95, min_p=0.01)

_Answer = dict[str, np.ndarray]


def verify(
    model: keras.Model,
    exported: keras.Model,
    step: GraphStep,
    vocabulary: Vocabulary,
    directory: Path,
    max_length: int,
) -> dict[str, dict[str, float]]:
    """Runs every signature of a SavedModel in TensorFlow's C++ session and compares the answers with the model's.

    Args:
        model: the model of the user, over sequences.
        exported: the model from which the file was made: `model`, or its copy in float32.
        step: the one-step form of `exported`.
        vocabulary: its vocabulary.
        directory: the SavedModel.
        max_length: the largest number of tokens in a text.

    Returns:
        What was compared, by signature.

    Raises:
        ExportError: a signature does not run in the C++ session, or its outputs differ from the model's.
    """
    inputs = _Inputs.random(exported, step, vocabulary, max_length)
    warm_up, requests = text_warm_up(step, vocabulary.start_id, max_length), inputs.requests()
    given = run_all(directory, requests, warm_up)
    answers = _Answers.to(given)
    (logits,) = reference_logits(exported, [inputs.tokens], inputs.at_once.rows[0])
    comparisons = {
        DECODE: _compare_decode(model, exported, logits, inputs, answers),
        PREFILL: _compare_prefill(logits, inputs, answers),
        SAMPLE: _compare_sample(logits, inputs, answers, logit_bias(vocabulary, SamplingSettings())),
    }
    # The session runs on the CPU; on an accelerator the model's logits, and so its texts, could differ.
    with tf.device("/CPU:0"):
        keras_step = KerasStep(exported)
        comparisons[GENERATE] = _compare_texts(keras_step, vocabulary, inputs, answers.generated)
        comparisons[SCORE] = _compare_scores(keras_step, vocabulary, inputs, answers.scored)
    comparisons[START] = _compare_start(step, vocabulary, max_length, inputs, answers.started)
    if answers.encoded is not None:
        comparisons[ENCODE] = _compare_encode(inputs, answers.encoded)
    of_model = {model_id(step, vocabulary).encode()}
    for request, answer in zip(requests, given, strict=True):
        if set(answer[MODEL_ID].flat) != of_model:
            raise ExportError(f"{request.signature} must return the hash of the model as `{MODEL_ID}`, but does not")
    return comparisons


@dataclass(frozen=True)
class _Inputs:
    """The inputs on which the file is compared with the model.

    Attributes:
        tokens: `(256,)` int32; the first is `<s>`.
        uniforms: random numbers in [0, 1) for `sample`, `(64,)` float32.
        texts: requests for `serving_default`; `score` reads their prompts.
        at_once: what the encoder takes for each of the texts, and their initial states.
        states: the initial states of the first text, by name.
    """

    tokens: np.ndarray
    uniforms: np.ndarray
    texts: list[GenerateRequest]
    at_once: AtOnce
    states: dict[str, np.ndarray]

    @classmethod
    def random(cls, model: keras.Model, step: GraphStep, vocabulary: Vocabulary, max_length: int) -> "_Inputs":
        """Returns random inputs, the same on every call."""
        random = np.random.default_rng(0)
        read = np.append(np.int32(vocabulary.eos_id), vocabulary.text_ids)
        tokens = read[random.integers(0, len(read), _DECODED_TOKENS)]
        tokens[0] = vocabulary.start_id
        texts = list(_random_texts(vocabulary, random, max_length))
        at_once = AtOnce.random(model, step, len(texts))
        states = {state_name(index): state for index, state in enumerate(at_once.states[0])}
        return cls(tokens, uniform(3, np.arange(_SAMPLED_ROWS)), texts, at_once, states)

    def requests(self) -> list[Request]:
        """Returns the requests whose answers `_Answers` names, in its order."""
        tokens, states = self.tokens, self.states
        rows = np.tile(tokens[:PREFILL_STEPS], (len(_PREFILL_LENGTHS), 1))
        given = self.at_once.inputs
        stepwise = {TOKEN: tokens[:, None], **states}
        return [
            Request(DECODE, stepwise, scan=(TOKEN,)),
            Request(
                PREFILL, {TOKENS: rows, LENGTH: np.array(_PREFILL_LENGTHS, np.int32), **self._states_of(len(rows))}
            ),
            Request(
                SAMPLE,
                {**stepwise, UNIFORM: self.uniforms[:1], **sampling_inputs([_STEPWISE_SETTINGS])},
                scan=(TOKEN,),
            ),
            Request(
                SAMPLE,
                {
                    TOKEN: np.tile(tokens[:1], _SAMPLED_ROWS),
                    UNIFORM: self.uniforms,
                    **self._states_of(_SAMPLED_ROWS),
                },
            ),
            Request(GENERATE, {**generate_inputs(self.texts), **given}),
            Request(SCORE, {TEXT: strings([text.prompt for text in self.texts]), **given}),
            Request(START, {TOKEN: tokens[:2]}),
            *(Request(DECODE, {TOKEN: tokens[:length, None], **states}, scan=(TOKEN,)) for length in _PREFILL_LENGTHS),
            *([Request(ENCODE, given)] if given else []),
        ]

    def _states_of(self, rows: int) -> dict[str, np.ndarray]:
        """Returns the initial states of several rows of one text; none where they are the defaults."""
        return {name: np.tile(state, (rows, 1)) for name, state in self.states.items()} if self.at_once.inputs else {}


@dataclass(frozen=True)
class _Answers:
    """The file's answers to `_Inputs.requests`.

    Attributes:
        decoded: outputs of `decode` for all tokens, one step after another.
        prefilled: outputs of `prefill`, one row for each length.
        sampled: outputs of `sample` for all tokens, one step after another.
        sampled_rows: outputs of `sample` for one batch of first steps.
        generated: outputs of `serving_default`.
        scored: outputs of `score`.
        started: outputs of `start` for two rows.
        decoded_prefixes: outputs of `decode` for the tokens that each row of `prefill` reads.
        encoded: outputs of `encode` for the texts; None without an encoder.
    """

    decoded: _Answer
    prefilled: _Answer
    sampled: _Answer
    sampled_rows: _Answer
    generated: _Answer
    scored: _Answer
    started: _Answer
    decoded_prefixes: list[_Answer]
    encoded: _Answer | None

    @classmethod
    def to(cls, answers: list[_Answer]) -> "_Answers":
        """Returns the answers to `_Inputs.requests`, in its order."""
        decoded, prefilled, sampled, sampled_rows, generated, scored, started, *others = answers
        prefixes, encoded = others[: len(_PREFILL_LENGTHS)], others[len(_PREFILL_LENGTHS) :]
        last = encoded[0] if encoded else None
        return cls(decoded, prefilled, sampled, sampled_rows, generated, scored, started, prefixes, last)


def _random_texts(vocabulary: Vocabulary, random: np.random.Generator, max_length: int) -> Iterator[GenerateRequest]:
    """Yields one text for each kind of sampling; all but the first have a random prompt."""
    ids = vocabulary.text_ids
    max_tokens = min(_GENERATED_TOKENS, default_max_tokens(max_length))
    kinds = (
        SamplingSettings(),
        SamplingSettings(temperature=0.8),
        SamplingSettings(top_k=40, top_p=0.95, min_p=0.02),
        SamplingSettings(temperature=0),
    )
    for seed, settings in enumerate(kinds):
        length = min(20 * seed, max_length - max_tokens) if ids.size else 0
        prompt = vocabulary.decode(ids[random.integers(0, max(ids.size, 1), length)])
        yield GenerateRequest(prompt, max_tokens, (-1) ** seed * (seed << 33), settings)


def _compare_decode(
    model: keras.Model, exported: keras.Model, logits: np.ndarray, inputs: _Inputs, answers: _Answers
) -> dict[str, float]:
    """Compares the logits `(tokens, vocabulary)` of `decode`, one step after another, with those of the user's model."""
    decoded = answers.decoded[LOGITS][:, 0]
    difference = compare(DECODE, logits, decoded)
    if exported is not model:
        (logits,) = reference_logits(model, [inputs.tokens], inputs.at_once.rows[0])
        require_equal_but_for_rounding(DECODE, model, logits[None], decoded[None])
        difference = float(np.abs(logits - decoded).max())
    return {"tokens_compared": len(logits), "largest_difference": difference}


def _compare_prefill(logits: np.ndarray, inputs: _Inputs, answers: _Answers) -> dict[str, float]:
    """Compares the logits of `prefill` with the model's, and its states with those of `decode` step by step."""
    last_steps = np.array(_PREFILL_LENGTHS) - 1
    difference = compare(PREFILL, logits[last_steps], answers.prefilled[LOGITS])
    for name in inputs.states:
        stepwise = np.concatenate([answer[name] for answer in answers.decoded_prefixes])
        compare(f"{PREFILL}, {name}", stepwise, answers.prefilled[name])
    return {"rows_compared": len(last_steps), "largest_difference": difference}


def _compare_sample(logits: np.ndarray, inputs: _Inputs, answers: _Answers, bias: np.ndarray) -> dict[str, float]:
    """Compares the tokens that `sample` draws with the host's, and its states with those of `decode`."""
    for name in inputs.states:
        compare(f"{SAMPLE}, {name}", answers.decoded[name], answers.sampled[name])
    steps = zip(answers.sampled[NEXT_TOKEN][:, 0], answers.sampled[LOG_PROBABILITY][:, 0], strict=True)
    rows = zip(answers.sampled_rows[NEXT_TOKEN], answers.sampled_rows[LOG_PROBABILITY], strict=True)
    draws = [
        *((row, inputs.uniforms[0], _STEPWISE_SETTINGS, draw) for row, draw in zip(logits, steps, strict=True)),
        *((logits[0], number, SamplingSettings(), draw) for number, draw in zip(inputs.uniforms, rows, strict=True)),
    ]
    near_ties = 0
    for row, number, settings, (token, log_probability) in draws:
        possible = possible_tokens(row, float(number), settings, bias)
        if token not in possible:
            raise ExportError(
                f"{SAMPLE} draws token {token}, the host one of {sorted(possible)} (uniform={number}, {settings})"
            )
        compare(f"{SAMPLE}, {LOG_PROBABILITY}", log_softmax(row)[[token]], np.array([log_probability]))
        near_ties += len(possible) > 1
    return {"draws_compared": len(draws), "near_ties": near_ties}


def _compare_start(
    step: GraphStep, vocabulary: Vocabulary, max_length: int, inputs: _Inputs, started: _Answer
) -> dict[str, float]:
    """Compares what `start` returns for two rows: vocabulary, default length, and the initial states or the encoder."""
    if step.has_encoder:
        if [json.loads(one) for one in started[ENCODER]] != 2 * [encoder_description(step)]:
            raise ExportError(f"{START} must return what `{ENCODE}` takes as `{ENCODER}`, but returns something else")
    else:
        for name, state in inputs.states.items():
            compare(f"{START}, {name}", np.tile(state, (2, 1)), started[name])
    if started[VOCABULARY_BYTES].tolist() != 2 * [vocabulary.to_bytes()]:
        raise ExportError(f"{START} must return the vocabulary as `{VOCABULARY_BYTES}`, but returns something else")
    default, returned = default_max_tokens(max_length), started[MAX_TOKENS].tolist()
    if returned != 2 * [default]:
        raise ExportError(f"{START} must return the default `{MAX_TOKENS}`, {default}. Received: {returned}")
    return {"rows_compared": len(returned)}


def _compare_encode(inputs: _Inputs, encoded: _Answer) -> dict[str, float]:
    """Compares the states that `encode` returns for sources of several lengths with those of each source alone."""
    rows = inputs.at_once.states
    difference = max(
        compare(f"{ENCODE}, {name}", np.concatenate(state), encoded[name])
        for name, state in zip(inputs.states, zip(*rows, strict=True), strict=True)
    )
    return {"rows_compared": len(rows), "largest_difference": difference}


def _compare_texts(step: Step, vocabulary: Vocabulary, inputs: _Inputs, generated: _Answer) -> dict[str, float]:
    """Compares every text of `serving_default` with the model's."""
    near_ties = sum(
        _compare_text(step, states, vocabulary, text, {name: values[row] for name, values in generated.items()})
        for row, (text, states) in enumerate(zip(inputs.texts, inputs.at_once.states, strict=True))
    )
    return {"texts_compared": len(inputs.texts), "near_ties": near_ties}


def _compare_text(
    step: Step, states: list[np.ndarray], vocabulary: Vocabulary, text: GenerateRequest, answer: dict[str, Any]
) -> int:
    """Feeds the file's tokens to the model and checks each draw and every other output of one row.

    Returns:
        The number of draws so close to an edge between two tokens that rounding decides them.

    Raises:
        ExportError: the model would not sample this text, or an output does not match it.
    """

    def check(holds: bool, expected: str) -> None:
        if not holds:
            raise ExportError(
                f"{GENERATE} must generate the model's text: {expected}. Received: {answer} (prompt={text.prompt!r}, "
                f"seed={text.seed}, {text.settings})"
            )

    ids = answer[TOKEN_IDS][: answer[LENGTH]].tolist()
    ended = answer[FINISH_REASON] == b"eos"
    log_probability, near_ties, added = 0.0, 0, logit_bias(vocabulary, text.settings)
    context = [vocabulary.start_id, *vocabulary.encode(text.prompt).tolist()]
    drawn = [*ids, vocabulary.eos_id] if ended else ids
    check(bool(drawn), "a text without tokens must end with <eos>")
    steps = step.read([*context, *drawn[:-1]], step.states_of(states))
    after_context = itertools.islice(steps, len(context) - 1, None)
    for position, (token, (logits, _)) in enumerate(zip(drawn, after_context, strict=True)):
        possible = possible_tokens(logits, float(uniform(text.seed, position)), text.settings, added)
        check(token in possible, f"token {position} must be one of {sorted(possible)}")
        near_ties += len(possible) > 1
        log_probability += log_softmax(logits)[token]
    check(answer[TEXT] == vocabulary.decode(ids, text.prompt).encode(), f"`{TEXT}` must be the decoded `{TOKEN_IDS}`")
    check(ended or len(ids) == text.max_tokens, f"a text without <eos> must have {text.max_tokens} tokens")
    difference = abs(float(answer[LOG_PROBABILITY]) - log_probability)
    check(difference <= TOLERANCE * text.max_tokens, f"`{LOG_PROBABILITY}` must be {log_probability:.6f}")
    return near_ties


def _compare_scores(step: Step, vocabulary: Vocabulary, inputs: _Inputs, scored: _Answer) -> dict[str, float]:
    """Compares the log-probabilities of `score`, in nats, for the prompts."""
    difference = max(
        _compare_score(step, states, vocabulary, text.prompt, {name: values[row] for name, values in scored.items()})
        for row, (text, states) in enumerate(zip(inputs.texts, inputs.at_once.states, strict=True))
    )
    return {"texts_compared": len(inputs.texts), "largest_difference": difference}


def _compare_score(
    step: Step, states: list[np.ndarray], vocabulary: Vocabulary, text: str, answer: dict[str, Any]
) -> float:
    """Returns the largest difference, in nats, of one token's log-probability between the file and the model."""
    expected = score(step, vocabulary, text, states=states)
    length = answer[LENGTH]
    if not np.array_equal(answer[TOKEN_IDS][:length], expected.token_ids):
        raise ExportError(f"{SCORE} must return the tokens of {text!r}. Received: {answer}")
    total = np.array(expected.log_probability, np.float32)
    compare(SCORE, total, np.asarray(answer[LOG_PROBABILITY]), TOLERANCE * max(length, 1))
    if not length:
        return 0.0
    return compare(SCORE, expected.log_probabilities, answer[LOG_PROBABILITIES][:length])
