"""Checks of a request inside a signature of the SavedModel, and defaults for the inputs that a client leaves out.

TensorFlow Serving runs a signature with any inputs it receives. Each check fails the request with a message that names
the input.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from keras_seq.generation.sampling import LARGEST_TEMPERATURE
from keras_seq_export.errors import ExportError
from keras_seq_export.graph.endpoints import Endpoint
from keras_seq_export.signatures import LENGTH, MAX_ROWS, PLURALS, PREFILL_STEPS, SAMPLING_INPUTS, UNIFORM

Inputs = dict[str, tf.Tensor]
Checks = Callable[[Inputs], Iterator[tf.Operation]]


def checked_endpoint(
    endpoint: Endpoint,
    defaults: Mapping[str, np.ndarray],
    checks: Checks = lambda _: iter(()),
    size_checks: Checks = lambda _: iter(()),
    most_rows: int = MAX_ROWS,
) -> Endpoint:
    """Returns the same signature with default values, and with checks that a request has to pass first.

    Args:
        endpoint: the function and its input signature. Each input has as many rows as the first one.
        defaults: values, by name, of the inputs that may be left out. Such an input may also have one row for all rows.
        checks: function that yields checks of the values of the inputs.
        size_checks: function that yields checks of the sizes of the inputs as they were received. They pass before
            anything else runs, so that a request that is too large costs no time or memory.
        most_rows: largest number of rows.

    Raises:
        ExportError: two inputs have one name.
    """
    function, order = endpoint
    if doubled := sorted({spec.name for spec in order if [one.name for one in order].count(spec.name) > 1}):
        raise ExportError(
            f"the model must have an input of another name than {', '.join(doubled)}, which a signature has already; "
            "give it with keras.Input(name=...)"
        )
    # Python requires that the inputs with a default value follow after the others.
    specs = sorted(order, key=lambda spec: spec.name in defaults)

    def signature(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        shapes = [_shape_check(spec, value) for spec, value in zip(specs, inputs, strict=True)]
        with tf.control_dependencies(shapes):
            rows = tf.shape(inputs[0])[0]
            received = {spec.name: value for spec, value in zip(specs, inputs, strict=True)}
            sizes = [*shapes, _row_limit_check(specs[0].name, rows, most_rows), *size_checks(received)]
        with tf.control_dependencies(sizes):
            filled = {
                spec.name: _broadcast_rows(spec.name, value, rows, specs[0].name, may_be_one=spec.name in defaults)
                for spec, value in zip(specs, inputs, strict=True)
            }
        with tf.control_dependencies([*sizes, *checks(filled)]):
            # The identities make the function wait for the checks.
            return function(*(tf.identity(filled[spec.name]) for spec in order))

    # TensorFlow reads the names and the default values of the inputs from the signature of the Python function.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    values = [
        tf.constant(defaults[spec.name], spec.dtype) if spec.name in defaults else inspect.Parameter.empty
        for spec in specs
    ]
    signature.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(spec.name, kind, default=value) for spec, value in zip(specs, values, strict=True)]
    )
    return signature, specs


def _shape_check(spec: tf.TensorSpec, value: tf.Tensor) -> tf.Operation:
    """Returns the check that an input has the shape of its spec.

    The raw operations read the shape at run time. `tf.shape` and `tf.size` would answer from the spec, which the server
    does not enforce.
    """
    _, *sizes = spec.shape
    received = tf.raw_ops.Shape(input=value)
    has_rank = tf.equal(tf.raw_ops.Size(input=received), 1 + len(sizes))
    has_sizes = [
        tf.equal(tf.concat([received, [-1] * len(sizes)], 0)[axis], size)
        for axis, size in enumerate(sizes, 1)
        if size is not None
    ]
    shape = " ".join(["rows", *("any" if size is None else str(size) for size in sizes)])
    expected = f"`{spec.name}` must have the shape [{shape}]."
    return check(tf.stack([has_rank, *has_sizes]), expected, received)


def _row_limit_check(name: str, rows: tf.Tensor, most: int) -> tf.Operation:
    expected = f"`{name}` must have at most {most} rows: send several requests."
    return check(rows <= most, expected, rows)


def _broadcast_rows(name: str, value: tf.Tensor, rows: tf.Tensor, first: str, may_be_one: bool) -> tf.Tensor:
    """Returns an input with `rows` rows, as many as the input `first` has. If it may have one row, that is repeated."""
    received = tf.shape(value)[0]
    expected = f"`{name}` must have as many rows as `{first}`{', or one' if may_be_one else ''}."
    fits = tf.equal(received, rows) | (tf.equal(received, 1) & may_be_one)
    with tf.control_dependencies([check(fits, expected, received)]):
        return tf.broadcast_to(value, tf.concat([[rows], tf.shape(value)[1:]], 0))


def step_checks(inputs: Inputs, counts: Mapping[str, int]) -> Iterator[tf.Operation]:
    """Yields the checks of the inputs of `decode`, `prefill` and `sample`, except the states.

    Args:
        inputs: the values of the inputs, by name.
        counts: for each input of a step that holds token ids, how many ids there are.
    """
    if LENGTH in inputs:
        length = inputs[LENGTH]
        in_range = (length >= 1) & (length <= PREFILL_STEPS)
        yield check(in_range, f"`{LENGTH}` must be from 1 to {PREFILL_STEPS}.", length)
        for name, count in counts.items():
            several = PLURALS.get(name, name)
            yield id_check(several, real_tokens(inputs[several], length), count)
    else:
        for name, count in counts.items():
            yield id_check(name, inputs[name], count)
    if UNIFORM in inputs:
        uniform = inputs[UNIFORM]
        yield check((uniform >= 0) & (uniform < 1), f"`{UNIFORM}` must be at least 0 and below 1.", uniform)
        yield from sampling_checks(inputs)


def id_check(name: str, ids: tf.Tensor, count: int) -> tf.Operation:
    """Returns the check that token ids are below `count`."""
    return check((ids >= 0) & (ids < count), f"`{name}` must be from 0 to {count - 1}.", ids)


def real_tokens(tokens: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns tokens `(batch, steps, ...)` with 0 in place of those after the first `length` `(batch,)`."""
    mask = tf.sequence_mask(length, tf.shape(tokens)[1])
    return tf.where(mask[(..., *[tf.newaxis] * (len(tokens.shape) - 2))], tokens, tf.zeros_like(tokens))


def sampling_checks(inputs: Inputs) -> Iterator[tf.Operation]:
    """Yields the checks of the sampling settings."""
    temperature, top_k, top_p, min_p = (inputs[name] for name in SAMPLING_INPUTS)
    in_range = (temperature >= 0) & (temperature <= LARGEST_TEMPERATURE)
    yield check(in_range, "`temperature` must be from 0 to 1e6.", temperature)
    yield check(top_k >= 0, "`top_k` must be an integer of at least 0.", top_k)
    yield check((top_p > 0) & (top_p <= 1), "`top_p` must be above 0 and at most 1.", top_p)
    yield check((min_p >= 0) & (min_p <= 1), "`min_p` must be from 0 to 1.", min_p)


def utf8_check(name: str, text: tf.Tensor) -> tf.Operation:
    """Returns the check that each row of `text` `(batch,)` is UTF-8. The message has the numbers of the other rows.

    It cannot show those rows themselves, because a message has to be UTF-8 too.
    """
    valid = tf.equal(tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="ignore"), text)
    return check(valid, f"`{name}` must be UTF-8.", tf.where(~valid)[:, 0], "Rows that are not:")


def check(condition: tf.Tensor, expected: str, received: tf.Tensor, label: str = "Received:") -> tf.Operation:
    """Returns an operation that fails the request unless all of `condition` is true.

    Args:
        condition: bool, of any shape.
        expected: sentence that names the input and says what it must be.
        received: tensor whose first values end the message.
        label: text between the two.
    """
    return tf.debugging.Assert(tf.reduce_all(condition), [f"{expected} {label}", received], summarize=10)
