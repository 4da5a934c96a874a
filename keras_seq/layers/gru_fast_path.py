"""A GRU over a whole sequence, forward and backward, which `GRU` uses on a CPU.

The equations and names are those of `keras_seq.layers.gru_step`. The following makes it fast:

* XLA compiles the loops over the steps (`gru_loops`), so that the element-wise part of a step is a single pass over memory.
* The backward pass is written by hand. The gradient of each kernel is one large product over many steps; automatic
  differentiation would add it up step by step. The large products stay outside the loops, where TensorFlow is faster than
  XLA.
* The two halves of the batch are independent and run in parallel: one computes its gates during the matrix product of
  the other.
* A sequence whose length is unknown when the graph is traced is read in parts of a fixed number of steps, so that XLA
  compiles each loop once for all lengths. Batches whose size is unknown are filled up to one of a few sizes with rows of
  zeros.

BUILD.md has the measurements, and what else was tried.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_seq import keras_internals
from keras_seq.layers.gru_activations import ACTIVATIONS
from keras_seq.layers.gru_loops import (
    AFTER,
    BEFORE,
    Cell,
    backward,
    compiled,
    forward,
    gate_and_candidate_drops,
    product,
    product_gradient,
)
from keras_seq.layers.gru_parts import Parts

SMALLEST_BATCH_TO_HALVE = 16


@functools.cache
def is_available() -> bool:
    """Returns whether this machine has no GPU, on which cuDNN is faster, and a TensorFlow with XLA."""
    if tf.config.get_visible_devices("GPU"):
        return False
    try:
        with tf.init_scope():
            tf.function(lambda: tf.zeros(()), jit_compile=True)()
    except (tf.errors.OpError, ValueError):
        return False
    return True


class Operands(NamedTuple):
    """What the fast path computes with.

    Attributes:
        inputs: `(batch, time, features)`, float32 or float64.
        memory: the initial memory, `(batch, units)`.
        kernel: `(features, blocks * units)`, with the blocks keep, relevance (if there is one), candidate.
        recurrent_kernel: `(units, blocks * units)`, with the same blocks.
        bias: the biases of the input's and of the memory's products, `(2, blocks * units)`; the second one has an effect
            with `AFTER` alone.
        mask: bool `(batch, time)`, False at steps that leave the memory unchanged; or None.
        input_drops: dropout mask of the inputs `(1, batch, features)`, or one for each block `(blocks, ...)`; or None.
        drops: dropout mask of the memory `(1, batch, units)`, or one for each block; or None.
    """

    inputs: Any
    memory: Any
    kernel: Any
    recurrent_kernel: Any
    bias: Any
    mask: Any = None
    input_drops: Any = None
    drops: Any = None


DIFFERENTIABLE = 5  # Operands with a gradient, the first ones.


def run(cell: Cell, operands: Operands, keeps: bool) -> Any:
    """Returns the memory after each step, `(batch, time, units)`.

    Args:
        cell: the form of the step.
        operands: what it computes with. Features and units must be known; batch and time may be unknown.
        keeps: whether what a backward pass needs is kept. Without it, a backward pass runs the forward pass again.
    """
    shape = (*operands.inputs.shape[:2], operands.memory.shape[1])
    batch = shape[0]
    if batch is not None and batch < SMALLEST_BATCH_TO_HALVE:
        return tf.ensure_shape(_run_rows(cell, _by_time(operands), keeps), shape)
    count = tf.shape(operands.inputs)[0] if batch is None else batch
    size = _size_of_rows(-(-count // 2)) if batch is None else -(-batch // 2)
    halves = _halves(operands if batch == 2 * size else _filled_up(operands, 2 * size))
    memories = tf.concat([_run_rows(cell, _by_time(half), keeps) for half in halves], axis=0)
    return tf.ensure_shape(memories if batch == 2 * size else memories[:count], shape)


def _size_of_rows(count: Any) -> Any:
    """Returns to how many rows half a batch is filled up. There are few sizes, because each is compiled.

    These are 1, 2, 4, 8, 12, 16, and from there on four in each octave.
    """
    sizes = tf.constant([1, 2, 4, 8, 12, *(step * 2**power for power in range(2, 24) for step in range(4, 8))])
    return sizes[tf.searchsorted(sizes, count[None])[0]]


# The axis of the batch of each operand that has one.
_BATCH_AXES = {"inputs": 0, "memory": 0, "mask": 0, "input_drops": 1, "drops": 1}


def _filled_up(operands: Operands, size: Any) -> Operands:
    """Returns a batch of `size` rows. The rows after the last are zeros."""

    def filled(values: Any, axis: int) -> Any:
        missing = size - tf.shape(values)[axis]
        return tf.pad(values, [[0, missing if index == axis else 0] for index in range(len(values.shape))])

    return _for_each_batch(operands, filled)


def _halves(operands: Operands) -> list[Operands]:
    """Returns the two halves of a batch."""
    split = _for_each_batch(operands, lambda values, axis: tf.split(values, 2, axis=axis))

    def half(index: int) -> Operands:
        return _for_each_batch(split, lambda halves, _: halves[index])

    return [half(0), half(1)]


def _for_each_batch(operands: Operands, function: Callable[[Any, int], Any]) -> Operands:
    """Returns operands after a function of each one that has a batch, and of its axis."""
    given = operands._asdict()
    return operands._replace(
        **{name: function(given[name], axis) for name, axis in _BATCH_AXES.items() if given[name] is not None}
    )


def _swap(values: Any) -> Any:
    """Swaps batch and time."""
    return tf.transpose(values, (1, 0, *range(2, len(values.shape))))


def _by_time(operands: Operands) -> Operands:
    """Returns operands whose inputs and mask are `(time, batch, ...)`."""
    mask = None if operands.mask is None else tf.transpose(operands.mask)[:, :, None]
    return operands._replace(inputs=_swap(operands.inputs), mask=mask)


def _run_rows(cell: Cell, operands: Operands, keeps: bool) -> Any:
    """Returns the memory after each step, `(rows, time, units)`, with the backward pass written by hand.

    Without `keeps`, a backward pass, which a later use of a traced function may need, runs the forward pass again.
    """
    given = [one for one in operands if one is not None]
    count = len(given)

    def operands_of(given: Sequence[Any]) -> Operands:
        values = iter(given)
        return Operands(*(None if one is None else next(values) for one in operands))

    @tf.custom_gradient
    def memories_after(*given: Any) -> tuple[Any, Callable[..., Any]]:
        memories, *saved = _forward_pass(cell, keeps, _has_length(operands), True)(*operands_of(given))
        # For a second derivative, `gradients` computes them again.
        saved = [tf.stop_gradient(one) for one in saved] if keeps else []

        def gradient(d_memories: Any) -> Any:
            return gradients(*_copies([d_memories, *given, *saved]))

        return memories, gradient

    @tf.custom_gradient
    def gradients(d_memories: Any, *given_and_saved: Any) -> tuple[list[Any], Callable[..., Any]]:
        given, saved = given_and_saved[:count], list(given_and_saved[count:])
        differentiated = [d_memories, *given[:DIFFERENTIABLE]]

        # It is right, but slow, and only for a function that was traced under one tape and is then differentiated twice.
        # Under several tapes, the loop of Keras runs.
        def second(*d_gradients: Any) -> list[Any]:
            copies = _copies([d_memories, *given])
            sources = copies[: len(differentiated)]
            with tf.GradientTape() as tape:
                tape.watch(sources)
                whole = operands_of(copies[1:])
                _, *again = _forward_parts(cell, True, False, *whole)
                results = _backward_parts(cell, False, copies[0], *whole, *again)
            found = tape.gradient(results, sources, d_gradients[: len(results)], unconnected_gradients="zero")
            return [*found, *[None] * (len(given_and_saved) - DIFFERENTIABLE)]

        # Under a second or a persistent tape, TensorFlow would prepare to differentiate the compiled loops.
        is_compiled = keras_internals.possible_derivatives(differentiated) <= 1
        if not keeps:
            _, *saved = _forward_pass(cell, True, _has_length(operands), is_compiled)(*operands_of(given))
        backward_pass = _backward_pass(cell, _has_length(operands), is_compiled)
        results = list(backward_pass(d_memories, *operands_of(given), *saved))
        return [*results, *map(tf.zeros_like, given[DIFFERENTIABLE:])], second

    return memories_after(*given)


def _has_length(operands: Operands) -> bool:
    """Returns whether the length of the inputs by time is known."""
    return operands.inputs.shape[0] is not None


def _copies(tensors: Sequence[Any]) -> list[Any]:
    """Returns copies that belong to the current graph. A gradient may be traced in another graph than its function."""
    return [tf.identity(one) for one in tensors]


@functools.cache
def _forward_pass(cell: Cell, keeps: bool, has_length: bool, is_compiled: bool) -> Callable[..., Sequence[Any]]:
    """Returns the forward pass: operands by time -> the memory after each step, and what the backward pass needs.

    One function for sequences of known length and one for others: a trace for the latter would serve the former too.
    """
    return tf.function(functools.partial(_forward_parts, cell, keeps, is_compiled), autograph=False)


def _forward_parts(cell: Cell, keeps: bool, is_compiled: bool, *given: Any) -> list[Any]:
    operands, parts = Operands(*given), Parts.of(given[0])
    memory, kernel = operands.memory, operands.recurrent_kernel
    loop = compiled(forward, cell, keeps) if is_compiled else functools.partial(forward, cell, keeps)
    transposed = tf.transpose(kernel)
    input_bias, memory_bias = operands.bias[0], operands.bias[1] if cell.reset == AFTER else None

    def read(index: Any, memory: Any, outputs: Any, *saved: Any) -> tuple[Any, ...]:
        x = product(parts.part(operands.inputs, index), operands.kernel, operands.input_drops)
        x = parts.filled(x + input_bias)
        mask = None if operands.mask is None else parts.filled(parts.part(operands.mask, index))
        steps = parts.steps(index)
        memories, *more = loop(steps, x, memory, kernel, transposed, memory_bias, mask, operands.drops)
        memories = tf.ensure_shape(memories, (parts.longest + 1, *operands.memory.shape))
        saved = tuple(parts.written(array, index, one) for array, one in zip(saved, [memories, *more], strict=True))
        last = tf.ensure_shape(memories[steps], memory.shape)
        return last, parts.written(outputs, index, memories[1 : steps + 1]), *saved

    arrays = [parts.empty(memory.dtype) for _ in range(5 if cell.reset == AFTER else 4)]
    _, outputs, *saved = parts.each(read, memory, *arrays)
    memories = tf.ensure_shape(parts.joined(outputs), (operands.inputs.shape[0], *memory.shape))
    return [_swap(memories), *map(parts.kept, saved)]


@functools.cache
def _backward_pass(cell: Cell, has_length: bool, is_compiled: bool) -> Callable[..., Sequence[Any]]:
    """Returns the backward pass: gradient of the memories, operands by time, what is kept -> gradients of the operands.

    See `_forward_pass` for `has_length`.
    """
    return tf.function(functools.partial(_backward_parts, cell, is_compiled), autograph=False)


def _backward_parts(cell: Cell, is_compiled: bool, d_memories: Any, *given: Any) -> list[Any]:
    operands, kept = Operands(*given[: len(Operands._fields)]), given[len(Operands._fields) :]
    parts, memory, kernel = Parts.of(operands.inputs), operands.memory, operands.recurrent_kernel
    loop = compiled(backward, cell) if is_compiled else functools.partial(backward, cell)
    transposed, d_memories = tf.transpose(kernel), _swap(d_memories)
    rows, units = memory.shape
    sizes = [cell.gates * units, units, units]
    shapes = [(parts.longest + 1, rows, units), *((parts.longest, rows, size) for size in sizes)]

    def read(number: Any, d_memory: Any, d_inputs: Any, *sums: Any) -> tuple[Any, ...]:
        index = parts.count - 1 - number
        memories, *saved = (
            tf.ensure_shape(parts.read(one, index), shape) for one, shape in zip(kept, shapes, strict=False)
        )
        mask = None if operands.mask is None else parts.filled(parts.part(operands.mask, index))
        steps, d_after = parts.steps(index), parts.filled(parts.part(d_memories, index))
        d_memory, *d_steps = loop(steps, d_after, d_memory, kernel, transposed, mask, operands.drops, memories, *saved)
        d_memory, inputs = tf.ensure_shape(d_memory, memory.shape), parts.part(operands.inputs, index)
        d_steps = [tf.ensure_shape(one, shape)[:steps] for one, shape in zip(d_steps, shapes[1:], strict=False)]
        d_inputs = parts.written(d_inputs, index, _input_gradient(operands, d_steps))
        more = _weight_gradients(cell, operands, inputs, memories[:steps], saved[0][:steps], d_steps)
        return d_memory, d_inputs, *(total + one for total, one in zip(sums, more, strict=True))

    weights = [operands.kernel, operands.recurrent_kernel, operands.bias]
    start = (tf.zeros_like(memory), parts.empty(memory.dtype), *map(tf.zeros_like, weights))
    d_memory, d_inputs, *d_weights = parts.each(read, *start)
    return [tf.ensure_shape(parts.joined(d_inputs), operands.inputs.shape), d_memory, *d_weights]


def _input_gradient(operands: Operands, d_steps: Sequence[Any]) -> Any:
    """Returns the gradient of the inputs of a part, `(steps, rows, features)`."""
    d_gates, d_candidate = d_steps[:2]
    gate_kernel, candidate_kernel = tf.split(operands.kernel, [one.shape[-1] for one in d_steps[:2]], axis=1)
    gate_drops, candidate_drops = gate_and_candidate_drops(operands.input_drops)
    return product_gradient(d_gates, tf.transpose(gate_kernel), gate_drops) + product_gradient(
        d_candidate, tf.transpose(candidate_kernel), candidate_drops
    )


def _weight_gradients(
    cell: Cell, operands: Operands, inputs: Any, memory: Any, gates: Any, d_steps: Sequence[Any]
) -> list[Any]:
    """Returns the parts of the gradients of the kernel, the recurrent kernel and the biases that some steps give.

    Args:
        cell: the form of the step.
        operands: what the layer computes with.
        inputs: the inputs of the steps.
        memory: the memory before each of them.
        gates: their gates, as the forward pass keeps them.
        d_steps: from `gru_loops.backward`.
    """
    d_gates, d_candidate = d_steps[:2]
    d_c_candidate = d_steps[-1]
    candidate_memory = memory  # what the candidate's recurrent kernel multiplies
    if cell.reset == BEFORE:
        relevance = ACTIVATIONS[cell.recurrent_activation].value(gates)[..., memory.shape[-1] :]
        candidate_memory = relevance * memory
    sums = [_sum_of_steps(one) for one in d_steps]
    x_bias = tf.concat(sums[:2], axis=0)
    c_bias = tf.concat([sums[0], sums[2]], axis=0) if cell.reset == AFTER else tf.zeros_like(x_bias)
    input_drops, drops = map(gate_and_candidate_drops, (operands.input_drops, operands.drops))
    return [
        _kernel_gradient(((inputs, d_gates), (inputs, d_candidate)), input_drops),
        _kernel_gradient(((memory, d_gates), (candidate_memory, d_c_candidate)), drops),
        tf.stack([x_bias, c_bias]),
    ]


def _kernel_gradient(pairs: Any, drops: Any) -> Any:
    """Returns the gradient of the kernel of `product`, from values and gradients of products, each for some blocks."""
    return tf.concat(
        [
            block
            for (values, d_product), of_blocks in zip(pairs, drops, strict=True)
            for block in _kernel_gradients(values, d_product, of_blocks)
        ],
        axis=1,
    )


def _kernel_gradients(values: Any, d_product: Any, drops: Any) -> list[Any]:
    if drops is None:
        return [tf.matmul(_rows_of_steps(values), _rows_of_steps(d_product), transpose_a=True)]
    blocks = tf.split(d_product, drops.shape[0], axis=-1)
    return [
        tf.matmul(_rows_of_steps(values * drop), _rows_of_steps(block), transpose_a=True)
        for drop, block in zip(tf.unstack(drops), blocks, strict=True)
    ]


def _rows_of_steps(values: Any) -> Any:
    return tf.reshape(values, (-1, values.shape[-1]))


def _sum_of_steps(values: Any) -> Any:
    """Returns the sum over steps and rows as a matrix product: `reduce_sum` along the rows takes three times as long."""
    values = _rows_of_steps(values)
    return tf.matmul(tf.ones((1, tf.shape(values)[0]), values.dtype), values)[0]
