"""A recurrent layer over a whole sequence, forward and backward, which `GRU`, `LSTM` and `SimpleRNN` use on a CPU.

The following makes it fast:

* XLA compiles the loops over the steps (`fast_loops`), so that the element-wise part of a step is a single pass over memory.
* The backward pass is written by hand (`fast_cells`). The gradient of each kernel is one large product over many steps;
  automatic differentiation would add it up step by step. The large products stay outside the loops, where TensorFlow is
  faster than XLA.
* The two halves of the batch are independent and run in parallel: one computes its gates during the matrix product of
  the other.
* A sequence whose length is unknown when the graph is traced is read in parts of a fixed number of steps, so that XLA
  compiles each loop once for all lengths. Batches whose size is unknown are filled up to one of a few sizes with rows of
  zeros.

docs/decisions/fast-path.md has what else was tried, docs/benchmarks/layers.md the measurements.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_seq import keras_internals
from keras_seq.layers.fast_cells import FastCell
from keras_seq.layers.fast_loops import backward, compiled, forward
from keras_seq.layers.fast_parts import Parts
from keras_seq.layers.fast_products import (
    RecurrentKernel,
    kernel_gradient,
    product,
    product_gradient,
    split_drops,
    sum_of_steps,
)

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
    """What the fast path computes with. Those up to `bias` have a gradient.

    Attributes:
        inputs: `(batch, time, features)`, float32 or float64.
        memory: the initial memory, `(batch, units)`.
        carry: the initial carry of an LSTM, `(batch, units)`; otherwise None.
        kernel: `(features, blocks * units)`, with the blocks of the cell in the order of Keras.
        recurrent_kernel: `(units, blocks * units)`, with the same blocks.
        bias: the biases of the input's and of the memory's products, `(2, blocks * units)`.
        mask: bool `(batch, time)`, False at steps that leave the states unchanged; or None.
        input_drops: dropout mask of the inputs `(1, batch, features)`, or one for each block `(blocks, ...)`; or None.
        drops: dropout mask of the memory `(1, batch, units)`, or one for each block; or None.
    """

    inputs: Any
    memory: Any
    carry: Any
    kernel: Any
    recurrent_kernel: Any
    bias: Any
    mask: Any = None
    input_drops: Any = None
    drops: Any = None

    @property
    def states(self) -> list[Any]:
        """The initial states."""
        return [self.memory] if self.carry is None else [self.memory, self.carry]

    def whole_kernel(self) -> RecurrentKernel:
        """Returns the recurrent kernel with what its product needs."""
        return RecurrentKernel(self.recurrent_kernel, tf.transpose(self.recurrent_kernel), self.bias[1], self.drops)


_DIFFERENTIABLE = ("inputs", "memory", "carry", "kernel", "recurrent_kernel", "bias")


def run(cell: FastCell, operands: Operands, keeps: bool) -> tuple[Any, list[Any]]:
    """Returns the memory after each step, `(batch, time, units)`, and the states after the last one.

    Args:
        cell: the cell.
        operands: what it computes with. Features and units must be known; batch and time may be unknown.
        keeps: whether what a backward pass needs is kept. Without it, a backward pass runs the forward pass again.
    """
    batch, time = operands.inputs.shape[:2]
    units = operands.memory.shape[1]
    if batch is not None and batch < SMALLEST_BATCH_TO_HALVE:
        memories, *states = _run_rows(cell, _by_time(operands), keeps)
    else:
        count = tf.shape(operands.inputs)[0] if batch is None else batch
        size = _size_of_rows(-(-count // 2)) if batch is None else -(-batch // 2)
        halves = _halves(operands if batch == 2 * size else _filled_up(operands, 2 * size))
        results = zip(*(_run_rows(cell, _by_time(half), keeps) for half in halves), strict=True)
        joined = [tf.concat(halves, axis=0) for halves in results]
        memories, *states = joined if batch == 2 * size else [one[:count] for one in joined]
    return tf.ensure_shape(memories, (batch, time, units)), [tf.ensure_shape(one, (batch, units)) for one in states]


@functools.cache
def _eager_run(cell: FastCell, keeps: bool, known: tuple[int | None, ...]) -> Callable[..., Any]:
    # From the second batch size on, a trace serves every batch size; the same holds for lengths. So few sizes are compiled.
    # The sizes that must stay known in a trace are part of the key: `known`.
    return tf.function(functools.partial(run, cell, keeps=keeps), autograph=False, reduce_retracing=True)


def run_eagerly(cell: FastCell, operands: Operands, keeps: bool) -> tuple[Any, list[Any]]:
    """Returns what `run` does, outside of a graph."""
    drops = (None if one is None else one.shape[0] for one in (operands.input_drops, operands.drops))
    return _eager_run(cell, keeps, (*operands.kernel.shape, *drops))(operands)


def _size_of_rows(count: Any) -> Any:
    """Returns to how many rows half a batch is filled up. There are few sizes, because each is compiled.

    These are 1, 2, 4, 8, 12, 16, and from there on four in each octave.
    """
    sizes = tf.constant([1, 2, 4, 8, 12, *(step * 2**power for power in range(2, 24) for step in range(4, 8))])
    return sizes[tf.searchsorted(sizes, count[None])[0]]


# The axis of the batch of each operand that has one.
_BATCH_AXES = {"inputs": 0, "memory": 0, "carry": 0, "mask": 0, "input_drops": 1, "drops": 1}


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


def _run_rows(cell: FastCell, operands: Operands, keeps: bool) -> list[Any]:
    """Returns the memory after each step, `(rows, time, units)`, and the last states. The backward pass is written by hand.

    Without `keeps`, a backward pass, which a later use of a traced function may need, runs the forward pass again.
    """
    given = [one for one in operands if one is not None]
    count = len(given)
    differentiable = sum(getattr(operands, name) is not None for name in _DIFFERENTIABLE)
    results = 1 + cell.state_count

    def operands_of(given: Sequence[Any]) -> Operands:
        values = iter(given)
        return Operands(*(None if one is None else next(values) for one in operands))

    @tf.custom_gradient
    def run_forward(*given: Any) -> tuple[Any, Callable[..., Any]]:
        found = _forward_pass(cell, keeps, _has_length(operands), True)(*operands_of(given))
        # For a second derivative, `gradients` computes them again.
        saved = [tf.stop_gradient(one) for one in found[results:]]

        def gradient(*d_results: Any) -> Any:
            return gradients(*_copies([*d_results, *given, *saved]))

        return found[:results], gradient

    @tf.custom_gradient
    def gradients(*d_results_given_and_saved: Any) -> tuple[list[Any], Callable[..., Any]]:
        d_results = d_results_given_and_saved[:results]
        given = d_results_given_and_saved[results : results + count]
        saved: Sequence[Any] = d_results_given_and_saved[results + count :]
        differentiated = [*d_results, *given[:differentiable]]

        # This second derivative is right, but slow. It runs only for a function that was traced under one tape and is then
        # differentiated twice. Under several tapes, the loop of Keras runs.
        def second(*d_gradients: Any) -> list[Any]:
            copies = _copies([*d_results, *given])
            sources = copies[: len(differentiated)]
            with tf.GradientTape() as tape:
                tape.watch(sources)
                whole = operands_of(copies[results:])
                again = _forward_parts(cell, True, False, *whole)[results:]
                found = _backward_parts(cell, False, copies[:results], *whole, *again)
            second_gradients = tape.gradient(found, sources, d_gradients[: len(found)], unconnected_gradients="zero")
            return [*second_gradients, *[None] * (len(d_results_given_and_saved) - len(differentiated))]

        # Under a second or a persistent tape, TensorFlow would prepare to differentiate the compiled loops.
        is_compiled = keras_internals.possible_derivatives(differentiated) <= 1
        if not keeps:
            saved = _forward_pass(cell, True, _has_length(operands), is_compiled)(*operands_of(given))[results:]
        backward_pass = _backward_pass(cell, _has_length(operands), is_compiled)
        found = list(backward_pass(d_results, *operands_of(given), *saved))
        return [*found, *map(tf.zeros_like, given[differentiable:])], second

    return run_forward(*given)


def _has_length(operands: Operands) -> bool:
    """Returns whether the length of the inputs by time is known."""
    return operands.inputs.shape[0] is not None


def _copies(tensors: Sequence[Any]) -> list[Any]:
    """Returns copies that belong to the current graph. A gradient may be traced in another graph than its function."""
    return [tf.identity(one) for one in tensors]


@functools.cache
def _forward_pass(cell: FastCell, keeps: bool, has_length: bool, is_compiled: bool) -> Callable[..., Sequence[Any]]:
    """Returns the forward pass: operands by time -> memories by row, last states, and what the backward pass needs.

    One function for sequences of known length and one for others: a trace for the latter would serve the former too.
    """
    return tf.function(functools.partial(_forward_parts, cell, keeps, is_compiled), autograph=False)


def _forward_parts(cell: FastCell, keeps: bool, is_compiled: bool, *given: Any) -> list[Any]:
    operands, parts = Operands(*given), Parts.of(given[0])
    kernel, states = operands.whole_kernel(), operands.states
    loop = compiled(forward, cell, keeps) if is_compiled else functools.partial(forward, cell, keeps)
    shape = operands.memory.shape

    def read(index: Any, outputs: Any, arrays: Sequence[Any], states: Sequence[Any]) -> tuple[Any, ...]:
        x = product(parts.filled(parts.part(operands.inputs, index)), operands.kernel, operands.input_drops)
        mask = None if operands.mask is None else parts.filled(parts.part(operands.mask, index))
        steps = parts.steps(index)
        states, histories, saved = loop(steps, x, operands.bias[0], states, kernel, mask)
        memories = tf.ensure_shape(histories[0], (parts.longest + 1, *shape))
        outputs = parts.written(outputs, index, memories[1:])
        kept = zip(arrays, [*histories, *saved] if keeps else [], strict=True)
        arrays = [parts.written(array, index, one) for array, one in kept]
        return outputs, arrays, [tf.ensure_shape(one, shape) for one in states]

    count = cell.state_count + len(cell.widths(shape[1])) if keeps else 0
    arrays = [parts.empty(operands.memory.dtype) for _ in range(count)]
    outputs, arrays, states = parts.each(read, parts.empty(operands.memory.dtype), arrays, states)
    memories = tf.ensure_shape(parts.joined(outputs), (operands.inputs.shape[0], *shape))
    return [_swap(memories), *states, *map(parts.kept, arrays)]


@functools.cache
def _backward_pass(cell: FastCell, has_length: bool, is_compiled: bool) -> Callable[..., Sequence[Any]]:
    """Returns the backward pass: gradients of memories and last states, operands by time, what is kept -> gradients.

    See `_forward_pass` for `has_length`.
    """
    return tf.function(functools.partial(_backward_parts, cell, is_compiled), autograph=False)


def _backward_parts(cell: FastCell, is_compiled: bool, d_results: Sequence[Any], *given: Any) -> list[Any]:
    operands, kept = Operands(*given[: len(Operands._fields)]), given[len(Operands._fields) :]
    parts, kernel = Parts.of(operands.inputs), operands.whole_kernel()
    loop = compiled(backward, cell) if is_compiled else functools.partial(backward, cell)
    d_memories, d_states = _swap(d_results[0]), list(d_results[1:])
    rows, units = operands.memory.shape
    of_steps = [(parts.longest, rows, width) for width in cell.widths(units)]
    shapes = [*[(parts.longest + 1, rows, units)] * cell.state_count, *of_steps]

    def read(number: Any, d_states: Any, d_inputs: Any, sums: Sequence[Any]) -> tuple[Any, ...]:
        index = parts.count - 1 - number
        saved = [tf.ensure_shape(parts.read(one, index), shape) for one, shape in zip(kept, shapes, strict=True)]
        histories, saved = saved[: cell.state_count], saved[cell.state_count :]
        mask = None if operands.mask is None else parts.filled(parts.part(operands.mask, index))
        steps, d_after = parts.steps(index), parts.filled(parts.part(d_memories, index))
        d_states, d_steps = loop(steps, d_after, d_states, kernel, mask, histories, saved)
        d_states = [tf.ensure_shape(one, (rows, units)) for one in d_states]
        d_steps = [tf.ensure_shape(one, shape) for one, shape in zip(d_steps, of_steps, strict=True)]
        d_inputs = parts.written(d_inputs, index, _input_gradient(cell, operands, d_steps))
        multiplied = cell.multiplied_memories(histories[0][:-1], saved)
        inputs = parts.filled(parts.part(operands.inputs, index))
        more = _weight_gradients(cell, operands, inputs, multiplied, d_steps)
        return d_states, d_inputs, [total + one for total, one in zip(sums, more, strict=True)]

    sums = [tf.zeros_like(one) for one in (operands.kernel, operands.recurrent_kernel, operands.bias)]
    d_states, d_inputs, d_weights = parts.each(read, d_states, parts.empty(operands.memory.dtype), sums)
    return [tf.ensure_shape(parts.joined(d_inputs), operands.inputs.shape), *d_states, *d_weights]


def _input_gradient(cell: FastCell, operands: Operands, d_steps: Sequence[Any]) -> Any:
    """Returns the gradient of the inputs of a part, `(steps, rows, features)`."""
    d_x = [d_steps[index] for index in cell.x_gradients]
    kernels = tf.split(operands.kernel, [one.shape[-1] for one in d_x], axis=1)
    drops = split_drops(operands.input_drops, len(d_x))
    return tf.add_n(
        [product_gradient(one, tf.transpose(kernel), of) for one, kernel, of in zip(d_x, kernels, drops, strict=True)]
    )


def _weight_gradients(
    cell: FastCell, operands: Operands, inputs: Any, multiplied: Sequence[Any], d_steps: Sequence[Any]
) -> list[Any]:
    """Returns the parts of the gradients of the kernel, the recurrent kernel and the biases that some steps give.

    Args:
        cell: the cell.
        operands: what the layer computes with.
        inputs: the inputs of the steps.
        multiplied: from `FastCell.multiplied_memories`.
        d_steps: from `fast_loops.backward`.
    """
    sums = [sum_of_steps(one) for one in d_steps]

    def gradient(values: Sequence[Any], indices: Sequence[int], drops: Any) -> Any:
        parts = zip(values, indices, split_drops(drops, len(indices)), strict=True)
        return tf.concat([kernel_gradient(one, d_steps[index], of) for one, index, of in parts], axis=1)

    return [
        gradient([inputs] * len(cell.x_gradients), cell.x_gradients, operands.input_drops),
        gradient(multiplied, cell.c_gradients, operands.drops),
        tf.stack(
            [tf.concat([sums[index] for index in indices], axis=0) for indices in (cell.x_gradients, cell.c_gradients)]
        ),
    ]
