"""The signatures with strings: `serving_default`, which generates texts in one call, and `score`."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export.graph import sampling as graph_sampling
from keras_seq_export.graph.endpoints import Endpoint
from keras_seq_export.graph.first_states import FirstStates
from keras_seq_export.graph.limits import Limits
from keras_seq_export.graph.request_checks import Inputs, check, checked_endpoint, sampling_checks
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.graph.tokenizer import GraphTokenizer
from keras_seq_export.requests import sampling_inputs
from keras_seq_export.signatures import (
    FINISH_REASON,
    GENERATE_INPUTS,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_PROBABILITY,
    MAX_TOKENS,
    PROMPT,
    SEED,
    TEXT,
    TOKEN_IDS,
)


def default_max_tokens(max_length: int) -> int:
    """Returns the default of `max_tokens` in a request: 200, or half of `max_length` if that is less."""
    return min(200, (max_length + 1) // 2)


def generate_endpoint(step: GraphStep, tokenizer: GraphTokenizer, vocabulary: Vocabulary, max_length: int) -> Endpoint:
    """Returns the function and the input signature of `serving_default`.

    Args:
        step: the model.
        tokenizer: the tokenizer of the vocabulary.
        vocabulary: the vocabulary of the model.
        max_length: maximum number of tokens of a prompt and its continuation together.
    """
    bias, first_states, limits = logit_bias(vocabulary, SamplingSettings()), FirstStates(step), Limits(max_length)

    def generate(
        prompt: tf.Tensor,
        max_tokens: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        min_p: tf.Tensor,
        seed: tf.Tensor,
        *at_once: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        def draw(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
            uniform = graph_sampling.uniform(seed, tf.maximum(position, 0))
            return graph_sampling.next_token(logits, uniform, temperature, top_k, top_p, min_p, bias)

        prompts = _read_prompts(prompt, max_tokens, tokenizer, vocabulary, limits)
        states = first_states(tf.shape(prompt)[0], at_once)
        end = _TokenLoop(step, vocabulary, prompts, max_tokens, draw).run(states)
        token_ids = _continuations(end.drawn.stack(), prompts.length, end.length, vocabulary.pad_id)
        return {
            TEXT: tokenizer.decode(token_ids, end.length, prompt),
            TOKEN_IDS: token_ids,
            LENGTH: end.length,
            LOG_PROBABILITY: end.log_probability,
            FINISH_REASON: tf.where(end.has_eos, "eos", "length"),
        }

    specs = [*(tf.TensorSpec([None], dtype, name) for name, dtype in GENERATE_INPUTS.items()), *first_states.specs]
    defaults = {
        MAX_TOKENS: np.array([default_max_tokens(max_length)]),
        **sampling_inputs([SamplingSettings()]),
        SEED: np.array([0]),
    }

    def size_checks(inputs: Inputs) -> Iterator[tf.Operation]:
        rows, longest = tf.shape(inputs[PROMPT])[0], tf.reduce_max(inputs[MAX_TOKENS])
        yield from limits.text_checks(PROMPT, inputs[PROMPT], vocabulary.level)
        # `_generate_checks` refuses what is above `max_length`.
        yield limits.work_check(f"`{MAX_TOKENS}`", rows, tf.minimum(longest, max_length))
        yield from first_states.size_checks(inputs, limits)

    def checks(inputs: Inputs) -> Iterator[tf.Operation]:
        yield from _generate_checks(inputs, max_length)
        yield from first_states.checks(inputs)

    return checked_endpoint((generate, specs), defaults, checks, size_checks)


def _generate_checks(inputs: Inputs, max_length: int) -> Iterator[tf.Operation]:
    rows = tf.shape(inputs[PROMPT])[0]
    yield check(rows >= 1, f"`{PROMPT}` must have at least one row.", rows)
    max_tokens = inputs[MAX_TOKENS]
    in_range = (max_tokens >= 1) & (max_tokens <= max_length)
    yield check(in_range, f"`{MAX_TOKENS}` must be a positive integer, at most {max_length}.", max_tokens)
    yield from sampling_checks(inputs)


class _Prompts(NamedTuple):
    """The prompts of a request.

    Attributes:
        tokens: `<s>` and the token ids of each prompt, padded, `(batch, longest + 1)` int32.
        length: number of tokens of each prompt, without `<s>`, `(batch,)` int32.
    """

    tokens: tf.Tensor
    length: tf.Tensor


def _read_prompts(
    prompt: tf.Tensor, max_tokens: tf.Tensor, tokenizer: GraphTokenizer, vocabulary: Vocabulary, limits: Limits
) -> _Prompts:
    """Encodes the prompts `(batch,)`, and checks that each leaves room for `max_tokens` `(batch,)`."""
    ids, rows = tokenizer.encode(prompt, PROMPT), tf.shape(prompt)[0]
    length = tf.cast(ids.row_lengths(), tf.int32)
    expected = f"`{PROMPT}` and `{MAX_TOKENS}` must be at most {limits.max_length} tokens together."
    fits = check(max_tokens <= limits.max_length - length, expected, length + max_tokens)
    with tf.control_dependencies([fits, limits.work_check("tokens", rows, tf.reduce_max(length + max_tokens))]):
        start = tf.fill([rows, 1], vocabulary.start_id)
        return _Prompts(tf.concat([start, ids.to_tensor()], axis=1), length)


class _LoopState(NamedTuple):
    """The variables of the token loop.

    Attributes:
        time: number of tokens that each row has read, `()` int32.
        token: token that each row reads next, `(batch,)` int32.
        is_active: whether the row has not ended yet, `(batch,)` bool.
        has_eos: whether the row ended with `<eos>`, `(batch,)` bool.
        length: number of tokens in the continuation so far, `(batch,)` int32.
        log_probability: log-probability of the continuation so far, `<eos>` included, in nats, `(batch,)` float32.
        drawn: token that each row drew at each time, a TensorArray of `(batch,)` int32. What a row drew while it read
            its prompt, or after its end, has no meaning.
        states: states of the model, each `(batch, units)` float32.
    """

    time: tf.Tensor
    token: tf.Tensor
    is_active: tf.Tensor
    has_eos: tf.Tensor
    length: tf.Tensor
    log_probability: tf.Tensor
    drawn: tf.TensorArray
    states: list[tf.Tensor]


class _TokenLoop:
    """Reads the prompts and draws the continuations of all rows in one loop.

    All rows start to read at time 0. Each row starts to draw when its own prompt has ended, so a row does not depend on
    the other rows of its batch. A row that has ended continues to compute, but its results are not used.

    Args:
        step: the model.
        vocabulary: the vocabulary of the model.
        prompts: the prompts.
        max_tokens: maximum number of tokens of each continuation, `(batch,)` int32.
        draw: function from logits `(batch, vocabulary)` and the position of the token in its continuation `(batch,)` to
            tokens `(batch,)` int32.
    """

    def __init__(
        self,
        step: GraphStep,
        vocabulary: Vocabulary,
        prompts: _Prompts,
        max_tokens: tf.Tensor,
        draw: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    ):
        self._step, self._eos_id = step, vocabulary.eos_id
        self._prompts, self._max_tokens, self._draw = prompts, max_tokens, draw

    def run(self, states: list[tf.Tensor]) -> _LoopState:
        """Returns the state after the last row has ended, given the model's states before the first token."""
        return tf.while_loop(
            lambda *state: tf.reduce_any(_LoopState(*state).is_active),
            lambda *state: self._advance(_LoopState(*state)),
            self._start(states),
        )

    def _start(self, states: list[tf.Tensor]) -> _LoopState:
        batch = tf.shape(self._prompts.tokens)[0]
        return _LoopState(
            time=tf.constant(0),
            token=self._prompts.tokens[:, 0],
            is_active=tf.ones([batch], tf.bool),
            has_eos=tf.zeros([batch], tf.bool),
            length=tf.zeros([batch], tf.int32),
            log_probability=tf.zeros([batch]),
            drawn=tf.TensorArray(tf.int32, size=0, dynamic_size=True, element_shape=[None]),
            states=states,
        )

    def _advance(self, state: _LoopState) -> _LoopState:
        """Reads one token in each row, and draws the next token in the rows that have read their prompt."""
        logits, states = self._step(state.token, state.states)
        position = state.time - self._prompts.length
        draws = state.is_active & (position >= 0)
        logits = _checked_logits(logits, draws, position)
        # While all rows read their prompts, the expensive sorting of the draw is skipped.
        choice = tf.cond(tf.reduce_any(draws), lambda: self._draw(logits, position), lambda: tf.zeros_like(state.token))
        log_probability = tf.where(draws, graph_sampling.log_probability(logits, choice), 0.0)
        is_eos = draws & tf.equal(choice, self._eos_id)
        length = state.length + tf.cast(draws & ~is_eos, tf.int32)
        prompt_token = self._prompts.tokens[:, tf.minimum(state.time + 1, tf.shape(self._prompts.tokens)[1] - 1)]
        return _LoopState(
            time=state.time + 1,
            token=tf.where(position < 0, prompt_token, choice),
            is_active=state.is_active & ~is_eos & (length < self._max_tokens),
            has_eos=state.has_eos | is_eos,
            length=length,
            log_probability=state.log_probability + log_probability,
            drawn=state.drawn.write(state.time, choice),
            states=states,
        )


def _checked_logits(logits: tf.Tensor, draws: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Returns the logits, after the check that they are numbers in the rows that draw."""
    wrong = draws & ~graph_sampling.are_numbers(logits)
    expected = "The model's logits must be numbers at every token."
    with tf.control_dependencies([check(~wrong, expected, position[wrong])]):
        return tf.identity(logits)


def _continuations(drawn: tf.Tensor, prompt_length: tf.Tensor, length: tf.Tensor, pad_id: int) -> tf.Tensor:
    """Returns the tokens of each continuation, `(batch, longest)` int32, padded with `pad_id`.

    Args:
        drawn: token that each row drew at each time, `(time, batch)`. Token `i` of the continuation of a row was drawn
            at time `prompt_length + i`.
        prompt_length: `(batch,)`.
        length: number of tokens of each continuation, `(batch,)`.
        pad_id: id of `<pad>`.
    """
    times = prompt_length[:, None] + tf.range(tf.reduce_max(length))[None, :]
    mask = tf.sequence_mask(length, tf.shape(times)[1])
    return tf.where(mask, tf.gather(tf.transpose(drawn), tf.where(mask, times, 0), batch_dims=1), pad_id)


def score_endpoint(step: GraphStep, tokenizer: GraphTokenizer, vocabulary: Vocabulary, max_length: int) -> Endpoint:
    """Returns the function and the input signature of `score`.

    Args:
        step: the model.
        tokenizer: the tokenizer of the vocabulary.
        vocabulary: the vocabulary of the model.
        max_length: maximum number of tokens of a text.
    """
    first_states, limits = FirstStates(step), Limits(max_length)

    def score(text: tf.Tensor, *at_once: tf.Tensor) -> dict[str, tf.Tensor]:
        ids, rows = tokenizer.encode(text, TEXT), tf.shape(text)[0]
        length = tf.cast(ids.row_lengths(), tf.int32)
        fits = check(length <= max_length, f"`{TEXT}` must be at most {max_length} tokens.", length)
        with tf.control_dependencies([fits, limits.work_check("tokens", rows, tf.reduce_max(length))]):
            token_ids = ids.to_tensor(vocabulary.pad_id)
        by_row = _token_log_probabilities(step, token_ids, vocabulary, first_states(rows, at_once))
        log_probabilities = tf.where(tf.sequence_mask(length, tf.shape(token_ids)[1]), by_row, 0.0)
        return {
            LOG_PROBABILITY: tf.reduce_sum(log_probabilities, axis=1),
            LENGTH: length,
            TOKEN_IDS: token_ids,
            LOG_PROBABILITIES: log_probabilities,
        }

    specs = [tf.TensorSpec([None], tf.string, TEXT), *first_states.specs]

    def size_checks(inputs: Inputs) -> Iterator[tf.Operation]:
        yield from limits.text_checks(TEXT, inputs[TEXT], vocabulary.level)
        yield from first_states.size_checks(inputs, limits)

    return checked_endpoint((score, specs), {}, first_states.checks, size_checks)


def _token_log_probabilities(
    step: GraphStep, token_ids: tf.Tensor, vocabulary: Vocabulary, states: list[tf.Tensor]
) -> tf.Tensor:
    """Returns the log-probability of each of the tokens `(batch, time)` after `<s>` and those before it, in nats."""
    batch, longest = tf.shape(token_ids)[0], tf.shape(token_ids)[1]
    # Each token is scored and then read. The loop runs one step more than needed, so that it also runs for empty texts.
    targets = tf.pad(token_ids, [[0, 0], [0, 1]], constant_values=vocabulary.pad_id)

    def advance(time, token, log_probabilities, *states):
        logits, new_states = step(token, states)
        target = targets[:, time]
        log_probabilities = log_probabilities.write(time, graph_sampling.log_probability(logits, target))
        return time + 1, target, log_probabilities, *new_states

    _, _, log_probabilities, *_ = tf.while_loop(
        lambda time, *_: time <= longest,
        advance,
        (
            tf.constant(0),
            tf.fill([batch], vocabulary.start_id),
            tf.TensorArray(tf.float32, size=longest + 1, element_shape=[None]),
            *states,
        ),
    )
    return tf.transpose(log_probabilities.stack())[:, :longest]
