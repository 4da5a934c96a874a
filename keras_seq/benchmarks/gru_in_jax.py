"""A GRU in JAX, as its users write it: the product of the input before the loop, `jax.lax.scan`, `jax.jit`, `jax.vjp`.

It needs `jax`. Its weights have the layout of `keras.layers.GRU`, without `go_backwards` its outputs too.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keras_seq.benchmarks.layer_cases import Case

_DEFAULTS: Mapping[str, Any] = {
    "return_sequences": True,
    "use_bias": True,
    "reset_after": True,
    "go_backwards": False,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "dtype": "float32",
}


class Weights(NamedTuple):
    """The kernels `(features or units, 3 * units)` and biases `(3 * units,)`; zeros without a bias."""

    kernel: Any
    recurrent_kernel: Any
    bias: Any
    recurrent_bias: Any


def in_jax(case: Case) -> bool:
    """Returns whether this module has the case. JAX traces no shape of unknown size, and has no `Model.predict`."""
    return case.layer == "GRU" and set(case.arguments) <= set(_DEFAULTS) and not case.unknown and case.call != "predict"


def jax_pass(case: Case) -> Callable[[], Any]:
    """Returns a function that runs a case once."""
    import jax
    import jax.numpy as jnp

    size, use_bias = case.size, case.arguments.get("use_bias", True)
    key, *keys = jax.random.split(jax.random.key(0), 5)
    inputs = jax.random.normal(keys[0], size[:3])
    weights = [
        _new_weights(size.features, size.units, use_bias, one) for one in keys[1 : 3 if case.bidirectional else 2]
    ]
    mask = jnp.arange(size.length) < jnp.array(case.lengths())[:, None] if case.masked else None

    def forward(inputs: Any, weights: Any, key: Any) -> Any:
        return gru(case.arguments, weights, inputs, mask, key)

    @jax.jit
    def training_pass(inputs: Any, weights: Any, upstream: Any, key: Any) -> Any:
        _, gradient = jax.vjp(lambda inputs, weights: forward(inputs, weights, key), inputs, weights)
        return gradient(upstream)

    if case.call != "training":
        inference = jax.jit(forward)
        return lambda: jax.block_until_ready(inference(inputs, weights, key))
    outputs = jax.eval_shape(forward, inputs, weights, key)
    upstream = jax.random.normal(keys[3], outputs.shape, outputs.dtype)
    return lambda: jax.block_until_ready(training_pass(inputs, weights, upstream, key))


def _new_weights(features: int, units: int, use_bias: bool, key: Any) -> Weights:
    import jax
    import jax.numpy as jnp

    kernel, recurrent_kernel = (
        jax.random.normal(one, (rows, 3 * units)) / rows**0.5
        for one, rows in zip(jax.random.split(key), (features, units), strict=True)
    )
    biases = [jnp.zeros(3 * units)] * 2 if use_bias else [None, None]
    return Weights(kernel, recurrent_kernel, *biases)


def gru(arguments: Mapping[str, Any], weights: list[Weights], inputs: Any, mask: Any, key: Any) -> Any:
    """Runs the layer.

    Args:
        arguments: arguments of `keras.layers.GRU` that differ from `_DEFAULTS`.
        weights: the weights of each direction, one or two.
        inputs: `(batch, length, features)`.
        mask: `(batch, length)`, False at steps to skip, or None.
        key: the key of the dropout masks.

    Returns:
        The memory after each step `(batch, length, units)`, or after the last `(batch, units)`. Both directions are joined.
    """
    import jax
    import jax.numpy as jnp

    options = {**_DEFAULTS, **arguments}
    dtype = options["dtype"].removeprefix("mixed_")
    inputs, weights = jax.tree.map(lambda one: one.astype(dtype), (inputs, weights))
    outputs = []
    for number, (one, direction_key) in enumerate(zip(weights, jax.random.split(key, len(weights)), strict=True)):
        backwards = options["go_backwards"] != (number == 1)
        outputs.append(_one_direction(options, one, inputs, mask, direction_key, backwards))
    return jnp.concatenate(outputs, axis=-1)


def _one_direction(
    options: Mapping[str, Any], weights: Weights, inputs: Any, mask: Any, key: Any, backwards: bool
) -> Any:
    """Returns the memories in the order of the inputs, or the last one."""
    import jax
    import jax.numpy as jnp

    batch, units = len(inputs), len(weights.recurrent_kernel)
    input_key, memory_key = jax.random.split(key)
    if options["dropout"]:
        inputs = inputs * _dropout_mask(input_key, options["dropout"], inputs[:, :1])
    x = jnp.swapaxes(inputs, 0, 1) @ weights.kernel
    if weights.bias is not None:
        x = x + weights.bias
    memory = jnp.zeros((batch, units), x.dtype)
    kept = _dropout_mask(memory_key, options["recurrent_dropout"], memory) if options["recurrent_dropout"] else None

    def step(memory: Any, values: Any) -> tuple[Any, Any]:
        x, is_real = values
        new = _step(options, weights, x, memory, kept)
        if is_real is not None:
            new = jnp.where(is_real[:, None], new, memory)
        return new, new

    last, memories = jax.lax.scan(step, memory, (x, None if mask is None else mask.T), reverse=backwards)
    return jnp.swapaxes(memories, 0, 1) if options["return_sequences"] else last


def _dropout_mask(key: Any, rate: float, like: Any) -> Any:
    import jax

    return jax.random.bernoulli(key, 1 - rate, like.shape).astype(like.dtype) / (1 - rate)


def _step(options: Mapping[str, Any], weights: Weights, x: Any, memory: Any, kept: Any) -> Any:
    """Returns the memory after a step, from the product `x` `(batch, 3 * units)` of its input."""
    import jax
    import jax.numpy as jnp

    activation, sigmoid = (
        getattr(jnp if name == "tanh" else jax.nn, name)
        for name in (options["activation"], options["recurrent_activation"])
    )
    gates = 2 * memory.shape[-1]
    read = memory if kept is None else memory * kept
    if options["reset_after"]:
        c = read @ weights.recurrent_kernel
        if weights.recurrent_bias is not None:
            c = c + weights.recurrent_bias
        keep, relevance = jnp.split(sigmoid(x[:, :gates] + c[:, :gates]), 2, axis=-1)
        candidate = activation(x[:, gates:] + relevance * c[:, gates:])
    else:
        c = read @ weights.recurrent_kernel[:, :gates]
        keep, relevance = jnp.split(sigmoid(x[:, :gates] + c), 2, axis=-1)
        candidate = activation(x[:, gates:] + (relevance * read) @ weights.recurrent_kernel[:, gates:])
    return keep * memory + (1 - keep) * candidate
