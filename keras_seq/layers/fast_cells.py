"""One step of each cell that the fast path knows, forward, and backward by hand.

`d_...` is the gradient of the loss with respect to what it names. For a gate and for a candidate, `d_...` is the gradient
with respect to the argument of its activation.

A cell computes its activations from x, the product of the input with the kernel, and c, the product of the memory with the
recurrent kernel. The memory is the first of its states, and its output.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf

from keras_seq.layers.fast_activations import ACTIVATIONS, Activation
from keras_seq.layers.fast_products import RecurrentKernel

AFTER, BEFORE, NONE = "after", "before", "none"


@dataclasses.dataclass(frozen=True)
class FastCell(abc.ABC):
    """A cell of the fast path.

    Attributes:
        activation: name of the activation, of `fast_activations.ACTIVATIONS`.
        state_count: the number of states.
    """

    activation: str
    state_count: ClassVar[int] = 1

    @property
    def x_gradients(self) -> tuple[int, ...]:
        """Indices: which of the gradients that `gradients` returns of each step are those of x, in the order of its columns."""
        return (0,)

    @property
    def c_gradients(self) -> tuple[int, ...]:
        """The same for c."""
        return (0,)

    @abc.abstractmethod
    def widths(self, units: int) -> list[int]:
        """Returns the length of each vector that `step` keeps, and that `gradients` returns, of a step."""

    def kernels(self, kernel: RecurrentKernel) -> list[RecurrentKernel]:
        """Returns the parts of the recurrent kernel that `step` multiplies by, each by another value."""
        return [kernel]

    def multiplied_memories(self, memory: Any, kept: Sequence[Any]) -> list[Any]:
        """Returns what the recurrent kernel was multiplied by, over some steps, for each of `c_gradients`."""
        return [memory]

    @abc.abstractmethod
    def step(self, x: Any, states: Sequence[Any], kernels: Sequence[RecurrentKernel]) -> tuple[list[Any], list[Any]]:
        """Returns the states after a step, and what `gradients` needs of it.

        Args:
            x: `(rows, columns)`.
            states: the states before the step, each `(rows, units)`.
            kernels: from `kernels`.
        """

    @abc.abstractmethod
    def gradients(
        self, d_states: Sequence[Any], states: Sequence[Any], kept: Sequence[Any], kernels: Sequence[RecurrentKernel]
    ) -> tuple[list[Any], Any, list[Any]]:
        """Returns the gradients of a step.

        Args:
            d_states: the gradients of the states after the step.
            states: the states before the step.
            kept: what `step` kept.
            kernels: from `kernels`.

        Returns:
            Three results: the gradients of the states before the step, where that of the memory lacks the path through the
            recurrent kernel; the gradient along this path, from `RecurrentKernel.gradient`; and the gradients of x and c, see
            `x_gradients` and `c_gradients`.
        """


@dataclasses.dataclass(frozen=True)
class FastGRU(FastCell):
    """A GRU. The equations and names are those of `keras_seq.layers.gru_step`.

    Attributes:
        recurrent_activation: name of the activation of the gates.
        reset: where the relevance gate acts: `AFTER` the product of the memory, `BEFORE` it, or nowhere (`NONE`).
    """

    recurrent_activation: str
    reset: str

    @property
    def x_gradients(self) -> tuple[int, ...]:
        """See `FastCell`."""
        return (0, 1)

    @property
    def c_gradients(self) -> tuple[int, ...]:
        """See `FastCell`."""
        return (0, 2) if self.reset == AFTER else (0, 1)

    @property
    def _gates(self) -> int:
        """The number of gates: keep, and relevance if there is one."""
        return 1 if self.reset == NONE else 2

    def widths(self, units: int) -> list[int]:
        """Returns those of gates and candidate, and with `AFTER` that of c of the candidate."""
        return [self._gates * units, units, *([units] if self.reset == AFTER else [])]

    def kernels(self, kernel: RecurrentKernel) -> list[RecurrentKernel]:
        """See `FastCell`."""
        return kernel.split(2 * kernel.values.shape[0]) if self.reset == BEFORE else [kernel]

    def multiplied_memories(self, memory: Any, kept: Sequence[Any]) -> list[Any]:
        """See `FastCell`."""
        if self.reset != BEFORE:
            return [memory, memory]
        relevance = ACTIVATIONS[self.recurrent_activation].value(kept[0])[..., memory.shape[-1] :]
        return [memory, relevance * memory]

    def step(self, x: Any, states: Sequence[Any], kernels: Sequence[RecurrentKernel]) -> tuple[list[Any], list[Any]]:
        """See `FastCell`."""
        sigmoid, tanh = ACTIVATIONS[self.recurrent_activation], ACTIVATIONS[self.activation]
        memory = states[0]
        sizes = [self._gates * memory.shape[1], memory.shape[1]]
        x_gates, x_candidate = tf.split(x, sizes, axis=1)
        if self.reset == BEFORE:
            gates = sigmoid.kept(x_gates + kernels[0].product(memory))
            keep, relevance = tf.split(sigmoid.value(gates), 2, axis=1)
            candidate = tanh.kept(x_candidate + kernels[1].product(relevance * memory))
            kept = [gates, candidate]
        else:
            c_gates, c_candidate = tf.split(kernels[0].product(memory), sizes, axis=1)
            gates = sigmoid.kept(x_gates + c_gates)
            keep, *relevances = tf.split(sigmoid.value(gates), self._gates, axis=1)
            candidate = tanh.kept(x_candidate + (relevances[0] * c_candidate if relevances else c_candidate))
            kept = [gates, candidate, *([c_candidate] if relevances else [])]
        return [keep * memory + (1 - keep) * tanh.value(candidate)], kept

    def gradients(
        self, d_states: Sequence[Any], states: Sequence[Any], kept: Sequence[Any], kernels: Sequence[RecurrentKernel]
    ) -> tuple[list[Any], Any, list[Any]]:
        """See `FastCell`."""
        sigmoid, tanh = ACTIVATIONS[self.recurrent_activation], ACTIVATIONS[self.activation]
        (d_memory,), (memory,), (gates, candidate, *c_candidate) = d_states, states, kept
        keep, *relevance = tf.split(sigmoid.value(gates), self._gates, axis=1)
        slopes = tf.split(sigmoid.slope(gates), self._gates, axis=1)
        d_candidate = d_memory * (1 - keep) * tanh.slope(candidate)
        d_keep = d_memory * (memory - tanh.value(candidate)) * slopes[0]
        d_direct = d_memory * keep
        if self.reset == NONE:
            return [d_direct], kernels[0].gradient(tf.concat([d_keep, d_candidate], axis=1)), [d_keep, d_candidate]
        if self.reset == BEFORE:
            d_relevant_memory = kernels[1].gradient(d_candidate)
            d_gates = tf.concat([d_keep, d_relevant_memory * memory * slopes[1]], axis=1)
            d_direct += d_relevant_memory * relevance[0]
            return [d_direct], kernels[0].gradient(d_gates), [d_gates, d_candidate]
        d_c_candidate = d_candidate * relevance[0]
        d_gates = tf.concat([d_keep, d_candidate * c_candidate[0] * slopes[1]], axis=1)
        d_product = kernels[0].gradient(tf.concat([d_gates, d_c_candidate], axis=1))
        return [d_direct], d_product, [d_gates, d_candidate, d_c_candidate]


@dataclasses.dataclass(frozen=True)
class FastSimpleRNN(FastCell):
    """The plain recurrent cell: `h' = tanh(x + c)`."""

    def widths(self, units: int) -> list[int]:
        """Returns that of the output."""
        return [units]

    def step(self, x: Any, states: Sequence[Any], kernels: Sequence[RecurrentKernel]) -> tuple[list[Any], list[Any]]:
        """See `FastCell`."""
        tanh = ACTIVATIONS[self.activation]
        kept = tanh.kept(x + kernels[0].product(states[0]))
        return [tanh.value(kept)], [kept]

    def gradients(
        self, d_states: Sequence[Any], states: Sequence[Any], kept: Sequence[Any], kernels: Sequence[RecurrentKernel]
    ) -> tuple[list[Any], Any, list[Any]]:
        """See `FastCell`."""
        d_sum = d_states[0] * ACTIVATIONS[self.activation].slope(kept[0])
        return [tf.zeros_like(d_sum)], kernels[0].gradient(d_sum), [d_sum]


@dataclasses.dataclass(frozen=True)
class FastLSTM(FastCell):
    """An LSTM: `i, f, o = σ(x + c)`, `g = tanh(x + c)`, `carry' = f * carry + i * g`, `h' = o * tanh(carry')`.

    The columns of x and c have the blocks i, f, g, o (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    Attributes:
        recurrent_activation: name of the activation of the gates.
    """

    recurrent_activation: str
    state_count: ClassVar[int] = 2

    def widths(self, units: int) -> list[int]:
        """Returns that of the blocks together."""
        return [4 * units]

    def _blocks(self, values: Any) -> list[tuple[Activation, Any]]:
        """Returns the blocks of x, of c or of what is kept, each with its activation."""
        sigmoid, tanh = ACTIVATIONS[self.recurrent_activation], ACTIVATIONS[self.activation]
        return list(zip((sigmoid, sigmoid, tanh, sigmoid), tf.split(values, 4, axis=1), strict=True))

    def step(self, x: Any, states: Sequence[Any], kernels: Sequence[RecurrentKernel]) -> tuple[list[Any], list[Any]]:
        """See `FastCell`."""
        memory, carry = states
        blocks = self._blocks(x + kernels[0].product(memory))
        kept = tf.concat([activation.kept(block) for activation, block in blocks], axis=1)
        i, f, g, o = (activation.value(block) for activation, block in self._blocks(kept))
        carry = f * carry + i * g
        return [o * ACTIVATIONS[self.activation](carry), carry], [kept]

    def gradients(
        self, d_states: Sequence[Any], states: Sequence[Any], kept: Sequence[Any], kernels: Sequence[RecurrentKernel]
    ) -> tuple[list[Any], Any, list[Any]]:
        """See `FastCell`."""
        (d_memory, d_carry), (_, carry), tanh = d_states, states, ACTIVATIONS[self.activation]
        blocks = self._blocks(kept[0])
        i, f, g, o = (activation.value(block) for activation, block in blocks)
        following = tanh.kept(f * carry + i * g)
        d_carry += d_memory * o * tanh.slope(following)
        d_values = [d_carry * g, d_carry * carry, d_carry * i, d_memory * tanh.value(following)]
        d_blocks = [one * activation.slope(block) for one, (activation, block) in zip(d_values, blocks, strict=True)]
        d_sum = tf.concat(d_blocks, axis=1)
        return [tf.zeros_like(d_memory), d_carry * f], kernels[0].gradient(d_sum), [d_sum]
