"""Texts in a graph: the whole token loop of `serving_default`, and the reading of `score`."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export.graph import sampling as graph_sampling
from keras_seq_export.graph.request_checks import Inputs, drawing_checks, for_clients, require
from keras_seq_export.graph.step import Endpoint, GraphStep
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
    """Returns the tokens that a request without `max_tokens` gets at most: 200, or half of a limit below 400."""
    return min(200, (max_length + 1) // 2)


def generate_endpoint(step: GraphStep, tokenizer: GraphTokenizer, vocabulary: Vocabulary, max_length: int) -> Endpoint:
    """The function and the input signature of `serving_default`."""
    added = logit_bias(vocabulary, SamplingSettings())

    def generate(
        prompt: tf.Tensor,
        max_tokens: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        min_p: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        batch = tf.shape(prompt)[0]
        prompt_ids = tokenizer.encode(prompt, PROMPT)
        prompt_length = tf.cast(prompt_ids.row_lengths(), tf.int32)
        fits = require(
            max_tokens <= max_length - prompt_length,
            f"`{PROMPT}` and `{MAX_TOKENS}` must be at most {max_length} tokens together.",
            prompt_length + max_tokens,
        )
        with tf.control_dependencies([fits]):
            inputs = tf.concat([tf.fill([batch, 1], vocabulary.start_id), prompt_ids.to_tensor()], axis=1)

        def draw(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
            number = graph_sampling.uniform(seed, tf.maximum(position, 0))
            return graph_sampling.next_token(logits, number, temperature, top_k, top_p, min_p, added)

        # All rows read their prompts from the first step on; each begins to write when its own has ended, whatever its
        # batch-mates do. After its end a row goes through the motions, and nothing of that is kept.
        def one_step(time, token, writing, ended, length, log_probability, drawn, *states):
            logits, new_states = step(token, states)
            position = time - prompt_length
            draws = writing & (position >= 0)
            wrong = draws & ~graph_sampling.are_numbers(logits)
            check = require(~wrong, "The model's logits must be numbers at every token.", position[wrong])
            with tf.control_dependencies([check]):
                logits = tf.identity(logits)
            # While all rows are reading, the draw with its sorts is left out.
            choice = tf.cond(tf.reduce_any(draws), lambda: draw(logits, position), lambda: tf.zeros_like(token))
            log_probability += tf.where(draws, graph_sampling.log_probability(logits, choice), 0.0)
            ends = draws & tf.equal(choice, vocabulary.eos_id)
            length += tf.cast(draws & ~ends, tf.int32)
            following = inputs[:, tf.minimum(time + 1, tf.shape(inputs)[1] - 1)]
            return (
                time + 1,
                tf.where(position < 0, following, choice),
                writing & ~ends & (length < max_tokens),
                ended | ends,
                length,
                log_probability,
                drawn.write(time, choice),
                *new_states,
            )

        nothing = tf.zeros([batch], tf.int32)
        _, _, _, ended, length, log_probability, drawn, *_ = tf.while_loop(
            lambda time, token, writing, *_: tf.reduce_any(writing),
            one_step,
            (
                tf.constant(0),
                inputs[:, 0],
                tf.ones([batch], tf.bool),
                tf.zeros([batch], tf.bool),
                nothing,
                tf.zeros([batch]),
                tf.TensorArray(tf.int32, size=0, dynamic_size=True, element_shape=[None]),
                *step.initial_states(batch),
            ),
        )
        token_ids = _of_rows(drawn.stack(), prompt_length, length, vocabulary.pad_id)
        return {
            TEXT: tokenizer.decode(token_ids, length),
            TOKEN_IDS: token_ids,
            LENGTH: length,
            LOG_PROBABILITY: log_probability,
            FINISH_REASON: tf.where(ended, "eos", "length"),
        }

    def checks(inputs: Inputs) -> Iterator[tf.Operation]:
        rows = tf.shape(inputs[PROMPT])[0]
        yield require(rows >= 1, f"`{PROMPT}` must have at least one row.", rows)
        wanted = inputs[MAX_TOKENS]
        yield require(
            (wanted >= 1) & (wanted <= max_length),
            f"`{MAX_TOKENS}` must be a positive integer, at most {max_length}.",
            wanted,
        )
        yield from drawing_checks(inputs)

    specs = [tf.TensorSpec([None], dtype, name) for name, dtype in GENERATE_INPUTS.items()]
    defaults = {
        MAX_TOKENS: np.array([default_max_tokens(max_length)]),
        **sampling_inputs([SamplingSettings()]),
        SEED: np.array([0]),
    }
    return for_clients((generate, specs), defaults, checks)


def _of_rows(drawn: tf.Tensor, prompt_length: tf.Tensor, length: tf.Tensor, pad_id: int) -> tf.Tensor:
    """What was drawn at each time `(time, batch)` -> the tokens of each row `(batch, longest)`, then `pad_id`.

    Token i of a row was drawn at the time `prompt_length + i`; all else that was drawn counts for nothing.
    """
    places = prompt_length[:, None] + tf.range(tf.reduce_max(length))[None, :]
    mask = tf.sequence_mask(length, tf.shape(places)[1])
    return tf.where(mask, tf.gather(tf.transpose(drawn), tf.where(mask, places, 0), batch_dims=1), pad_id)


def score_endpoint(step: GraphStep, tokenizer: GraphTokenizer, vocabulary: Vocabulary, max_length: int) -> Endpoint:
    """The function and the input signature of `score`."""

    def score(text: tf.Tensor) -> dict[str, tf.Tensor]:
        ids = tokenizer.encode(text, TEXT)
        length = tf.cast(ids.row_lengths(), tf.int32)
        with tf.control_dependencies(
            [require(length <= max_length, f"`text` must be at most {max_length} tokens.", length)]
        ):
            token_ids = ids.to_tensor(vocabulary.pad_id)
        batch, longest = tf.shape(token_ids)[0], tf.shape(token_ids)[1]
        # Each token is read after it was scored; one step more than needed, so that there is one for an empty text too.
        padded = tf.pad(token_ids, [[0, 0], [0, 1]], constant_values=vocabulary.pad_id)

        def one_step(time, token, chances, *states):
            logits, new_states = step(token, states)
            target = padded[:, time]
            return time + 1, target, chances.write(time, graph_sampling.log_probability(logits, target)), *new_states

        _, _, chances, *_ = tf.while_loop(
            lambda time, *_: time <= longest,
            one_step,
            (
                tf.constant(0),
                tf.fill([batch], vocabulary.start_id),
                tf.TensorArray(tf.float32, size=longest + 1, element_shape=[None]),
                *step.initial_states(batch),
            ),
        )
        by_row = tf.transpose(chances.stack())[:, :longest]
        log_probabilities = tf.where(tf.sequence_mask(length, longest), by_row, 0.0)
        return {
            LOG_PROBABILITY: tf.reduce_sum(log_probabilities, axis=1),
            LENGTH: length,
            TOKEN_IDS: token_ids,
            LOG_PROBABILITIES: log_probabilities,
        }

    return for_clients((score, [tf.TensorSpec([None], tf.string, TEXT)]), {})
