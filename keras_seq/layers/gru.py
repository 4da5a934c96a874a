"""The gated recurrent unit: its equations once (`GRUCell`), and the layer that runs them over a sequence (`GRU`).

In the notation of the course notes, with memory `c`, input `x` and element-wise `*`:

    Γu = σ(Wu [c, x] + bu)                  update gate
    Γr = σ(Wr [c, x] + br)                  relevance (reset) gate
    c~ = tanh(Wc [Γr * c, x] + bc)          candidate
    c' = Γu * c~ + (1 - Γu) * c             new memory

The simplified GRU of the notes has no Γr: `reset_gate=False`.

Keras stores the same cell with `z = 1 - Γu` and its weights in the order z, r, h. The weights here follow Keras, so
that they go into `keras.layers.GRU` and back; what a person looks at (`gates`) follows the notes.

References: Cho et al. 2014 (arXiv 1406.1078, 1409.1259), Chung et al. 2014 (arXiv 1412.3555), Tallec & Ollivier 2018
(arXiv 1804.11188).
"""

import inspect
import numbers
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops
from tensorflow.python.eager import record  # the only way to ask whether there is a tape

from keras_seq.layers import gru_fast_path as gru_sequence
from keras_seq.layers.chrono_initializer import ChronoInitializer


class Gates(NamedTuple):
    """What a GRU decides at a step; each `(..., units)`.

    Attributes:
        update: Γu in (0, 1); 0 keeps the memory, 1 replaces it by the candidate.
        relevance: Γr in (0, 1); how much of the memory the candidate looks at. All 1 with `reset_gate=False`.
        candidate: c~ in (-1, 1) with the default tanh.
    """

    update: Any
    relevance: Any
    candidate: Any


@keras.saving.register_keras_serializable(package="keras_seq")
class GRUCell(keras.layers.GRUCell):
    """One step of a GRU.

    Constructor, weights and configuration are those of `keras.layers.GRUCell`, whose place it takes.

    Args:
        units: length of the memory.
        *positional: the other arguments of `keras.layers.GRUCell`, in its order.
        reset_gate: False leaves Γr out, the simplified GRU of the notes. The weights then have two blocks, z and h,
            the bias is `(2 * units,)`, and `reset_after` means nothing.
        weight_dropout: share of the recurrent kernel's weights that are dropped in training, the same ones at every
            step and in every row of a batch: DropConnect (Wan et al. 2013) as Merity et al. 2017 (arXiv 1708.02182) use
            it. It keeps a large memory from learning a small text by heart, for one mask a batch.
        **named: the other arguments of `keras.layers.GRUCell`, by name.

    Call arguments:
        inputs: `(batch, features)`.
        states: a list with the memory, `(batch, units)`.

    Returns:
        The new memory `(batch, units)`, and a list with it as the new state.

    Raises:
        ValueError: `units` is not a positive integer, `weight_dropout` not in [0, 1), or `reset_gate` no bool.

    Example:
        >>> import numpy as np
        >>> cell = GRUCell(4)
        >>> output, states = cell(np.ones((2, 3), "float32"), [np.zeros((2, 4), "float32")])
        >>> output.shape
        TensorShape([2, 4])
    """

    reset_gate: bool
    weight_dropout: float
    bias: Any

    def __init__(
        self, units: int, *positional: Any, reset_gate: bool = True, weight_dropout: float = 0.0, **named: Any
    ):
        if isinstance(units, bool) or not isinstance(units, numbers.Integral) or units <= 0:
            raise ValueError(f"`units` must be a positive integer. Received: units={units!r}")
        if not isinstance(reset_gate, bool):
            raise ValueError(f"`reset_gate` must be True or False. Received: reset_gate={reset_gate!r}")
        if not isinstance(weight_dropout, numbers.Real) or not 0 <= weight_dropout < 1:
            raise ValueError(f"`weight_dropout` must be in [0, 1). Received: weight_dropout={weight_dropout!r}")
        super().__init__(int(units), *positional, **named)
        self.reset_gate = reset_gate
        self.weight_dropout = weight_dropout
        self._dropped_kernel: Any = None
        blocks = 3 if reset_gate else 2
        if isinstance(self.bias_initializer, ChronoInitializer) and self.bias_initializer.gates != blocks:
            raise ValueError(
                f"`gates` of the ChronoInitializer must be those of the layer: give it gates={blocks}. "
                f"Received: gates={self.bias_initializer.gates}"
            )
        if self.implementation == 1:
            self.dropout_mask_count = blocks

    def build(self, input_shape: Any) -> None:
        """Makes the weights for inputs `(batch, features)`."""
        if self.reset_gate:
            super().build(input_shape)
            return
        keras.layers.Layer.build(self, input_shape)
        columns = 2 * self.units
        self.kernel = self._weight("kernel", "kernel", (input_shape[-1], columns))
        self.recurrent_kernel = self._weight("recurrent_kernel", "recurrent", (self.units, columns))
        self.bias = self._weight("bias", "bias", (columns,)) if self.use_bias else None

    def get_recurrent_dropout_mask(self, step_input: Any) -> Any:
        """Makes what is dropped in a batch, before the loop over its steps; Keras's layers call it there."""
        self.recurrent_kernel_of(training=True)
        return super().get_recurrent_dropout_mask(step_input)

    def reset_recurrent_dropout_mask(self) -> None:
        """Forgets what was dropped, after a batch; Keras's layers call it there."""
        super().reset_recurrent_dropout_mask()
        self._dropped_kernel = None

    def recurrent_kernel_of(self, training: bool) -> Any:
        """Returns the recurrent kernel; in training with `weight_dropout`, without what is dropped in this batch."""
        if not (training and self.weight_dropout):
            return self.recurrent_kernel
        if self._dropped_kernel is None:
            self._dropped_kernel = keras.random.dropout(
                ops.convert_to_tensor(self.recurrent_kernel), self.weight_dropout, seed=self.seed_generator
            )
        return self._dropped_kernel

    def _weight(self, name: str, kind: str, shape: tuple[int, ...]) -> Any:
        settings = {what: getattr(self, f"{kind}_{what}") for what in ("initializer", "regularizer", "constraint")}
        return self.add_weight(name=name, shape=shape, **settings)

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, Any]:
        """Computes `c' = Γu * c~ + (1 - Γu) * c`."""
        memory = states[0] if isinstance(states, list | tuple) else states
        keep, _, candidate = self._keep_relevance_candidate(inputs, memory, training)
        # Mixed in Keras's own order of operations, so that both layers round alike.
        memory = keep * memory + (1 - keep) * candidate
        return memory, [memory] if isinstance(states, list | tuple) else memory

    def gates(self, inputs: Any, memory: Any) -> Gates:
        """Returns Γu, Γr, c~, each `(batch, units)`, for `inputs` `(batch, features)` and `memory` `(batch, units)`."""
        keep, relevance, candidate = self._keep_relevance_candidate(inputs, memory, training=False)
        return Gates(1 - keep, relevance, candidate)

    def _keep_relevance_candidate(self, inputs: Any, memory: Any, training: bool) -> tuple[Any, Any, Any]:
        dropped = training and 0 < self.dropout < 1
        recurrently_dropped = training and 0 < self.recurrent_dropout < 1
        input_mask = self.get_dropout_mask(inputs) if dropped else None
        memory_mask = self.get_recurrent_dropout_mask(memory) if recurrently_dropped else None
        input_bias, recurrent_bias = self._biases()
        recurrent_kernel = self.recurrent_kernel_of(training)

        of_input = _project(inputs, self.kernel, input_mask, input_bias)
        if not self.reset_gate:
            x_keep, x_candidate = ops.split(of_input, 2, axis=-1)
            m_keep, m_candidate = ops.split(_project(memory, recurrent_kernel, memory_mask, None), 2, axis=-1)
            keep = self.recurrent_activation(x_keep + m_keep)
            return keep, ops.ones_like(keep), self.activation(x_candidate + m_candidate)
        x_keep, x_relevance, x_candidate = ops.split(of_input, 3, axis=-1)
        if self.reset_after:
            projected = _project(memory, recurrent_kernel, memory_mask, recurrent_bias)
            m_keep, m_relevance, m_candidate = ops.split(projected, 3, axis=-1)
            relevance = self.recurrent_activation(x_relevance + m_relevance)
            m_candidate = relevance * m_candidate
        else:
            gate_kernel, candidate_kernel = ops.split(recurrent_kernel, [2 * self.units], axis=1)
            gate_masks = memory_mask[:2] if isinstance(memory_mask, list) else memory_mask
            projected = _project(memory, gate_kernel, gate_masks, None)
            m_keep, m_relevance = ops.split(projected, 2, axis=-1)
            relevance = self.recurrent_activation(x_relevance + m_relevance)
            if memory_mask is not None:
                memory = memory * memory_mask[2]
            m_candidate = ops.matmul(relevance * memory, candidate_kernel)
        keep = self.recurrent_activation(x_keep + m_keep)
        return keep, relevance, self.activation(x_candidate + m_candidate)

    def _biases(self) -> tuple[Any, Any]:
        """The bias of the input's and of the memory's projection: two with `reset_after`, else one."""
        if not self.use_bias:
            return None, None
        return (self.bias[0], self.bias[1]) if self.reset_gate and self.reset_after else (self.bias, None)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "reset_gate": self.reset_gate, "weight_dropout": self.weight_dropout}


def _project(values: Any, kernel: Any, mask: Any, bias: Any) -> Any:
    """Multiplies by all gates' kernels at once; gate by gate where each gate has a dropout mask of its own."""
    if isinstance(mask, list):
        kernels = ops.split(kernel, len(mask), axis=1)
        projected = ops.concatenate([ops.matmul(values * m, k) for m, k in zip(mask, kernels, strict=True)], axis=-1)
    else:
        projected = ops.matmul(values if mask is None else values * mask, kernel)
    return projected if bias is None else projected + bias


# The constructor's parameters after `self`.
_LAYER_SIGNATURE = inspect.signature(keras.layers.GRU.__init__)
_CELL_ARGUMENTS = {*inspect.signature(keras.layers.GRUCell.__init__).parameters, "implementation"} - {"self", "kwargs"}


@keras.saving.register_keras_serializable(package="keras_seq")
class GRU(keras.layers.GRU):
    """A GRU over a sequence: `keras.layers.GRU`, but that it trains faster on a CPU and shows its gates.

    Constructor, weights, attributes and behaviour are those of `keras.layers.GRU`, whose place it takes; weights go
    from one into the other.

    **The fast path.** While a graph with a gradient is traced on a machine without a GPU, as in `model.fit`, the sequence
    runs by a backward pass of our own, compiled by XLA (`gru_sequence`): 1.5 to 2.3 times as fast as `keras.layers.GRU`
    in batches of 32 or 64, 8 to 10 times one by one (BUILD.md has the table). It knows both forms of `reset_after`, masks,
    `initial_state`, `go_backwards`, `stateful`, `dropout` and `weight_dropout`. Keras's loop runs instead:

    * without a gradient tape, so that nothing exported holds compiled code, for inference, and in eager mode;
    * with `recurrent_dropout`, other activations, `unroll=True`, `reset_gate=False`, `implementation=1` with dropout;
    * in half precision, and where the length of the sequences is not known when the graph is traced, since each length
      is compiled by itself, in a second or two;
    * on a GPU, where it reaches cuDNN under the same conditions as `keras.layers.GRU`.

    Each size of the batch is compiled by itself too. A model with this layer is never compiled by XLA as a whole:
    `jit_compile=True` in `compile` is turned off with a warning, with `use_cudnn=False` too.

    Args:
        units: length of the memory.
        *positional: the other arguments of `keras.layers.GRU`, in its order.
        reset_gate: False leaves Γr out, the simplified GRU of the notes; see `GRUCell`.
        weight_dropout: share of the recurrent kernel's weights dropped in training; see `GRUCell`.
        **named: the other arguments of `keras.layers.GRU`, by name.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: a list with the memory to start from, `(batch, units)`; zeros where absent.
        mask: `(batch, time)`, False at steps to skip.
        training: whether dropout is on.

    Raises:
        ValueError: an argument is out of range, or `use_cudnn=True` cannot be had.
        NotImplementedError: a second derivative of the fast path is asked for; `unroll=True` has it.

    Example:
        >>> import numpy as np
        >>> layer = GRU(4, return_sequences=True)
        >>> layer(np.ones((2, 5, 3), "float32")).shape
        TensorShape([2, 5, 4])
    """

    def __init__(
        self, units: int, *positional: Any, reset_gate: bool = True, weight_dropout: float = 0.0, **named: Any
    ):
        arguments = dict(_LAYER_SIGNATURE.bind(self, units, *positional, **named).arguments)
        arguments.update(arguments.pop("kwargs", {}))
        del arguments["self"]
        use_cudnn = arguments.pop("use_cudnn", "auto")
        if use_cudnn not in ("auto", True, False):
            raise ValueError(f"`use_cudnn` must be 'auto', True or False. Received: use_cudnn={use_cudnn!r}")
        if use_cudnn is True and not reset_gate:
            raise ValueError("`use_cudnn=True` needs the reset gate: cuDNN has no GRU without it")
        if use_cudnn is True and weight_dropout:
            raise ValueError("`use_cudnn=True` cannot drop weights: leave out `weight_dropout`")
        of_cell = {name: arguments.pop(name) for name in _CELL_ARGUMENTS & set(arguments)}
        shared = {name: arguments[name] for name in ("dtype", "trainable") if name in arguments}
        cell = GRUCell(reset_gate=reset_gate, weight_dropout=weight_dropout, name="gru_cell", **of_cell, **shared)
        # Past the constructor of `keras.layers.GRU`, which would make a cell of its own.
        keras.layers.RNN.__init__(self, cell, **arguments)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.use_cudnn = use_cudnn
        # XLA over the whole model would take the large products too, at which it is slower; cuDNN it cannot compile.
        self.supports_jit = False

    @property
    def reset_gate(self) -> bool:
        """Whether there is a relevance gate Γr."""
        return self.cell.reset_gate

    @property
    def weight_dropout(self) -> float:
        """Share of the recurrent kernel's weights that are dropped in training."""
        return self.cell.weight_dropout

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> tuple[Any, Any, Any]:
        """Runs over the sequence; `keras.layers.RNN.call` does the rest."""
        if not self._takes_fast_path(sequences, training):
            own_kernel = training and self.weight_dropout
            own_masks = training and self.dropout and self.cell.implementation == 1 and not self.recurrent_dropout
            if not self.reset_gate or own_kernel or (own_masks and self.use_cudnn is not True):
                # Past what `keras.layers.GRU` does for cuDNN, which knows the full cell and one dropout mask only.
                return keras.layers.RNN.inner_loop(self, sequences, initial_state, mask=mask, training=training)
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)
        memory = initial_state[0] if isinstance(initial_state, list | tuple) else initial_state
        memory = tf.ensure_shape(memory, (None, self.units))
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        if mask is not None:
            mask = ops.reshape(ops.cast(mask, "bool"), ops.shape(sequences)[:2])
        if 0 < self.dropout < 1:
            sequences *= self.cell.get_dropout_mask(sequences[:, 0])[:, None]
        if self.go_backwards:
            sequences, mask = sequences[:, ::-1], None if mask is None else mask[:, ::-1]
        memories = gru_sequence.gru_sequence(sequences, memory, *self._kernels_and_bias(), mask, self.reset_after)
        outputs = memories
        if mask is not None:
            # As in Keras: a masked step gives the output before it, and zeros where there is none.
            mask = ops.cast(mask, "int32")
            seen = mask if self.zero_output_for_mask else ops.cumsum(mask, axis=1)
            outputs = ops.where(seen[:, :, None] > 0, memories, ops.zeros_like(memories))
        last = outputs[:, -1]
        return last, outputs if self.return_sequences else last[:, None], [memories[:, -1]]

    def _takes_fast_path(self, sequences: Any, training: bool) -> bool:
        """Whether `gru_sequence` runs; the class's docstring says when."""
        cell = self.cell
        return (
            bool(training)
            and record.could_possibly_record()
            and not tf.executing_eagerly()
            and self.use_cudnn is not True
            and not self.unroll
            and self.reset_gate
            and not cell.recurrent_dropout
            and not (self.dropout and cell.implementation == 1)
            and cell.activation in (keras.activations.tanh, ops.tanh, tf.tanh)
            and cell.recurrent_activation in (keras.activations.sigmoid, ops.sigmoid, tf.sigmoid)
            and self.compute_dtype in ("float32", "float64")
            and sequences.shape[1] is not None
            and gru_sequence.runs_here()
        )

    def _kernels_and_bias(self) -> tuple[Any, Any, Any]:
        """Returns the kernel, the recurrent kernel and both biases, `(2, 3 * units)`, as tensors."""
        cell = self.cell
        # Tensors: to a custom gradient, variables are arguments of another kind.
        kernels = [tf.convert_to_tensor(one) for one in (cell.kernel, cell.recurrent_kernel_of(training=True))]
        zeros = tf.zeros_like(kernels[0][0])
        biases = [zeros if one is None else tf.convert_to_tensor(one) for one in cell._biases()]
        return *kernels, tf.stack(biases)

    def gates(self, sequences: Any, initial_state: Any = None) -> Gates:
        """Returns Γu, Γr and c~ over time, each `(batch, time, units)`, in the order in which the layer reads.

        Args:
            sequences: `(batch, time, features)`; no step is masked.
            initial_state: the memory to start from, `(batch, units)`, or a list with it; zeros where absent.

        Raises:
            ValueError: a shape is another, or `sequences` are not data but an input of a model.
        """
        if isinstance(sequences, keras.KerasTensor):
            raise ValueError(f"`sequences` must be data, whose gates there are. Received: {sequences}")
        sequences = ops.convert_to_tensor(sequences, dtype=self.compute_dtype)
        if len(sequences.shape) != 3 or not sequences.shape[1]:
            raise ValueError(f"`sequences` must be (batch, time, features). Received: shape={tuple(sequences.shape)}")
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
        if not self.built:
            self.build(sequences.shape)
        memory = ops.zeros((sequences.shape[0], self.units), self.compute_dtype)
        if initial_state is not None:
            expected = tuple(memory.shape)
            if isinstance(initial_state, list | tuple) and len(initial_state) == 1:
                (initial_state,) = initial_state
            memory = ops.convert_to_tensor(initial_state, dtype=self.compute_dtype)
            if tuple(memory.shape) != expected:
                raise ValueError(f"`initial_state` must be {expected}. Received: shape={tuple(memory.shape)}")
        steps = []
        for step in range(sequences.shape[1]):
            steps.append(self.cell.gates(sequences[:, step], memory))
            memory, _ = self.cell(sequences[:, step], [memory])
        return Gates(*(ops.stack(values, axis=1) for values in zip(*steps, strict=True)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "reset_gate": self.reset_gate, "weight_dropout": self.weight_dropout}
