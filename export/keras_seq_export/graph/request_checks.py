"""What a signature of the SavedModel does before it answers: inputs that were left out, and errors that name the wrong one."""

import inspect
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from keras_seq.generation.sampling import LARGEST_TEMPERATURE
from keras_seq_export.graph.step import Endpoint
from keras_seq_export.signatures import LENGTH, PREFILL_STEPS, SAMPLING_INPUTS, TOKEN, TOKENS, UNIFORM

Inputs = dict[str, tf.Tensor]


def for_clients(
    endpoint: Endpoint,
    defaults: Mapping[str, np.ndarray],
    checks: Callable[[Inputs], Iterator[tf.Operation]] = lambda _: iter(()),
) -> Endpoint:
    """Returns the same signature with defaults, and with checks that every request passes first.

    Args:
        endpoint: whose inputs have a row for each of the first input.
        defaults: of the inputs that may be left out; a default, or what is given in its place, may have one row for all.
        checks: yields those of the inputs' values.
    """
    function, specs = endpoint

    def signature(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        shapes = [_shape_check(spec, value) for spec, value in zip(specs, inputs, strict=True)]
        with tf.control_dependencies(shapes):
            rows = tf.shape(inputs[0])[0]
            filled = {
                spec.name: _in_rows(spec.name, value, rows, specs[0].name, may_be_one=spec.name in defaults)
                for spec, value in zip(specs, inputs, strict=True)
            }
        with tf.control_dependencies([*shapes, *checks(filled)]):
            # The identity waits for the checks.
            return function(*map(tf.identity, filled.values()))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    given = [
        tf.constant(defaults[spec.name], spec.dtype) if spec.name in defaults else inspect.Parameter.empty
        for spec in specs
    ]
    # What TensorFlow reads the names and the defaults of a signature from.
    signature.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(spec.name, kind, default=value) for spec, value in zip(specs, given, strict=True)]
    )
    return signature, specs


def _shape_check(spec: tf.TensorSpec, value: tf.Tensor) -> tf.Operation:
    """A server feeds whatever it is given: the shapes are asked at run time, as `tf.shape` and `tf.size` trust the signature."""
    _, *sizes = spec.shape
    given = tf.raw_ops.Shape(input=value)
    has_rank = tf.equal(tf.raw_ops.Size(input=given), 1 + len(sizes))
    fits = tf.equal(tf.concat([given, [-1] * len(sizes)], 0)[1 : 1 + len(sizes)], sizes)
    expected = f"`{spec.name}` must have the shape [{' '.join(['rows', *map(str, sizes)])}]."
    return require(tf.concat([[has_rank], fits], 0), expected, given)


def _in_rows(name: str, value: tf.Tensor, rows: tf.Tensor, first: str, may_be_one: bool) -> tf.Tensor:
    """Returns an input with as many rows as the first input; one row serves all where that may be."""
    given = tf.shape(value)[0]
    expected = f"`{name}` must have as many rows as `{first}`{', or one' if may_be_one else ''}."
    fits = tf.equal(given, rows) | (tf.equal(given, 1) & may_be_one)
    with tf.control_dependencies([require(fits, expected, given)]):
        return tf.broadcast_to(value, tf.concat([[rows], tf.shape(value)[1:]], 0))


def step_checks(inputs: Inputs, tokens: int) -> Iterator[tf.Operation]:
    """Yields the checks of what `decode`, `prefill` or `sample` reads and of its draw; `tokens` is the vocabulary's size."""
    if TOKEN in inputs:
        token = inputs[TOKEN]
        yield require((token >= 0) & (token < tokens), f"`{TOKEN}` must be from 0 to {tokens - 1}.", token)
    if LENGTH in inputs:
        length, read = inputs[LENGTH], inputs[TOKENS]
        yield require(
            (length >= 1) & (length <= PREFILL_STEPS), f"`{LENGTH}` must be from 1 to {PREFILL_STEPS}.", length
        )
        read = real_tokens(read, length)
        yield require((read >= 0) & (read < tokens), f"`{TOKENS}` must be from 0 to {tokens - 1}.", read)
    if UNIFORM in inputs:
        number = inputs[UNIFORM]
        yield require((number >= 0) & (number < 1), f"`{UNIFORM}` must be at least 0 and below 1.", number)
        yield from drawing_checks(inputs)


def real_tokens(tokens: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns tokens `(batch, steps)` with 0 after the first `length` `(batch,)`, whatever a client has put there."""
    return tf.where(tf.sequence_mask(length, tf.shape(tokens)[1]), tokens, 0)


def drawing_checks(inputs: Inputs) -> Iterator[tf.Operation]:
    """Yields the checks of a draw's settings."""
    temperature, top_k, top_p, min_p = (inputs[name] for name in SAMPLING_INPUTS)
    yield require(
        (temperature >= 0) & (temperature <= LARGEST_TEMPERATURE), "`temperature` must be from 0 to 1e6.", temperature
    )
    yield require(top_k >= 0, "`top_k` must be an integer of at least 0.", top_k)
    yield require((top_p > 0) & (top_p <= 1), "`top_p` must be above 0 and at most 1.", top_p)
    yield require((min_p >= 0) & (min_p <= 1), "`min_p` must be in 0 to 1.", min_p)


def utf8_check(name: str, text: tf.Tensor) -> tf.Operation:
    """Returns the check that each row is UTF-8, as the rows of an answer must be; those that are not are told by number."""
    valid = tf.equal(tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="ignore"), text)
    return require(valid, f"`{name}` must be UTF-8.", tf.where(~valid)[:, 0], "Rows that are not:")


def require(condition: tf.Tensor, expected: str, received: tf.Tensor, label: str = "Received:") -> tf.Operation:
    """An operation that makes the request an error unless all of `condition` is true."""
    return tf.debugging.Assert(tf.reduce_all(condition), [f"{expected} {label}", received], summarize=10)
