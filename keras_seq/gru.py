"""The gated recurrent unit: its equations once (`GRUCell`), and the layer that runs them over a sequence (`GRU`).

In the notation of the course notes, with memory `c`, input `x` and element-wise `*`:

    Γu = σ(Wu [c, x] + bu)                  update gate
    Γr = σ(Wr [c, x] + br)                  relevance (reset) gate
    c~ = tanh(Wc [Γr * c, x] + bc)          candidate
    c' = Γu * c~ + (1 - Γu) * c             new memory

Keras stores the same cell with `z = 1 - Γu` and its weights in the order z, r, h. The weights here follow Keras, so
that they go into `keras.layers.GRU` and back; what a person looks at (`gates`) follows the notes.

References: Cho et al. 2014 (arXiv 1406.1078, 1409.1259), Chung et al. 2014 (arXiv 1412.3555).
"""

from typing import Any, NamedTuple

import keras
from keras import ops


class Gates(NamedTuple):
    """What a GRU decides at a step; each `(..., units)`.

    Attributes:
        update: Γu in (0, 1); 0 keeps the memory, 1 replaces it by the candidate.
        relevance: Γr in (0, 1); how much of the memory the candidate looks at.
        candidate: c~ in (-1, 1) with the default tanh.
    """

    update: Any
    relevance: Any
    candidate: Any


@keras.saving.register_keras_serializable(package="keras_seq")
class GRUCell(keras.layers.GRUCell):
    """One step of a GRU. Constructor, weights and configuration are those of `keras.layers.GRUCell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: a list with the memory, `(batch, units)`.

    Returns:
        The new memory `(batch, units)`, and a list with it as the new state.

    Example:
        >>> import numpy as np
        >>> cell = GRUCell(4)
        >>> output, states = cell(np.ones((2, 3), "float32"), [np.zeros((2, 4), "float32")])
        >>> output.shape
        TensorShape([2, 4])
    """

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

        x_keep, x_relevance, x_candidate = _thirds(_project(inputs, self.kernel, input_mask, input_bias))
        if self.reset_after:
            projected = _project(memory, self.recurrent_kernel, memory_mask, recurrent_bias)
            m_keep, m_relevance, m_candidate = _thirds(projected)
            relevance = self.recurrent_activation(x_relevance + m_relevance)
            m_candidate = relevance * m_candidate
        else:
            gate_kernel, candidate_kernel = ops.split(self.recurrent_kernel, [2 * self.units], axis=1)
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
        return (self.bias[0], self.bias[1]) if self.reset_after else (self.bias, None)


def _project(values: Any, kernel: Any, mask: Any, bias: Any) -> Any:
    """Multiplies by all gates' kernels at once; gate by gate where each gate has a dropout mask of its own."""
    if isinstance(mask, list):
        kernels = ops.split(kernel, len(mask), axis=1)
        projected = ops.concatenate([ops.matmul(values * m, k) for m, k in zip(mask, kernels, strict=True)], axis=-1)
    else:
        projected = ops.matmul(values if mask is None else values * mask, kernel)
    return projected if bias is None else projected + bias


def _thirds(projected: Any) -> Any:
    return ops.split(projected, 3, axis=-1)


@keras.saving.register_keras_serializable(package="keras_seq")
class GRU(keras.layers.RNN):
    """A GRU over a sequence: `keras.layers.RNN` of a `GRUCell`.

    Args:
        units: length of the memory.
        return_sequences: give the memory at every step, `(batch, time, units)`, instead of the last, `(batch, units)`.
        return_state: give the last memory `(batch, units)` as a second output.
        go_backwards: read the sequence from its end.
        stateful: start each batch from the memory the last one ended with; needs a fixed batch size.
        unroll: write the loop out in the graph; needs a fixed length.
        zero_output_for_mask: give zeros at masked steps instead of the last memory.
        activity_regularizer: regularizer of the output.
        name: name of the layer.
        dtype: dtype or dtype policy of the layer.
        trainable: whether the weights are trained.
        **cell: any other argument of `keras.layers.GRUCell`: activations, initializers, regularizers, constraints,
            `use_bias`, `dropout`, `recurrent_dropout`, `reset_after`, `seed`, `implementation`.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: a list with the memory to start from, `(batch, units)`; zeros where absent.
        mask: `(batch, time)`, False at steps to skip.
        training: whether dropout is on.

    Example:
        >>> import numpy as np
        >>> layer = GRU(4, return_sequences=True)
        >>> layer(np.ones((2, 5, 3), "float32")).shape
        TensorShape([2, 5, 4])
    """

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        activity_regularizer: Any = None,
        name: str | None = None,
        dtype: Any = None,
        trainable: bool = True,
        **cell: Any,
    ):
        if isinstance(units, bool) or not isinstance(units, int) or units <= 0:
            raise ValueError(f"`units` must be a positive integer. Received: units={units!r}")
        super().__init__(
            GRUCell(units, dtype=dtype, trainable=trainable, name="gru_cell", **cell),
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            activity_regularizer=activity_regularizer,
            name=name,
            dtype=dtype,
            trainable=trainable,
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)

    @property
    def units(self) -> int:
        """Length of the memory."""
        return self.cell.units

    def gates(self, sequences: Any, initial_state: Any = None) -> Gates:
        """Returns Γu, Γr and c~ over time, each `(batch, time, units)`.

        Args:
            sequences: `(batch, time, features)`.
            initial_state: the memory to start from, `(batch, units)`; zeros where absent.
        """
        sequences = ops.convert_to_tensor(sequences, dtype=self.compute_dtype)
        memory = ops.zeros((sequences.shape[0], self.units), self.compute_dtype)
        if initial_state is not None:
            memory = ops.convert_to_tensor(initial_state, dtype=self.compute_dtype)
        steps = []
        for step in range(sequences.shape[1]):
            steps.append(self.cell.gates(sequences[:, step], memory))
            memory, _ = self.cell(sequences[:, step], [memory])
        return Gates(*(ops.stack(values, axis=1) for values in zip(*steps, strict=True)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, the cell's among them."""
        config = super().get_config()
        del config["cell"]
        cell = self.cell.get_config()
        for shared_with_layer in ("name", "dtype", "trainable"):
            del cell[shared_with_layer]
        return {**config, **cell, "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GRU":
        """Builds the layer from what `get_config` returned."""
        return cls(**config)
