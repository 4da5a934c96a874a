"""Vectors of the last tokens: `NgramEmbedding`."""

from typing import Any

import keras
from keras import ops, tree

from keras_seq import require
from keras_seq.errors import ConfigError
from keras_seq.layers.ngram_limits import LONGEST, ROWS, hash_base, largest_rows


@keras.saving.register_keras_serializable(package="keras_seq")
class NgramCell(keras.layers.Layer):
    """One step of an `NgramEmbedding`, which has the same arguments; `named` are those of `keras.layers.Layer`.

    Call arguments:
        inputs: token ids `(batch,)` or `(batch, 1)`.
        states: a list with the tokens before, the latest one first, `(batch, longest - 1)` float32.

    Returns:
        The vectors `(batch, output_dim)`, and a list with the new state.
    """

    def __init__(self, input_dim: int, output_dim: int, longest: int, rows: int, **named: Any):
        super().__init__(**{"dtype": "float32", **named})
        is_exact = self.compute_dtype in ("float32", "float64")
        require.that(is_exact, "dtype", "float32, because half precision rounds token ids", self.compute_dtype)
        require.positive_integer("input_dim", input_dim)
        require.positive_integer("output_dim", output_dim)
        require.integer("longest", longest, at_least=2, at_most=LONGEST)
        require.integer("rows", rows, at_least=2, at_most=largest_rows(input_dim, longest))
        # Keras takes integers of Python only.
        self.input_dim, self.output_dim, self.longest, self.rows = map(int, (input_dim, output_dim, longest, rows))
        self.state_size, self.output_size = self.longest - 1, self.output_dim

    def build(self, input_shape: Any) -> None:
        """Creates the table `(rows, output_dim)`."""
        small = keras.initializers.RandomUniform(-0.01, 0.01)
        shape = (self.rows, self.output_dim)
        self.embeddings = self.add_weight(name="embeddings", shape=shape, initializer=small)

    def call(self, inputs: Any, states: Any) -> tuple[Any, Any]:
        """Returns the vectors after one token."""
        (before,) = states
        tokens = ops.cast(ops.reshape(inputs, (-1, 1)), "int32")
        known = ops.concatenate([tokens, ops.cast(before, "int32")], axis=-1)
        # In TFLite, GATHER takes a third of the time of STRIDED_SLICE.
        after = ops.cast(ops.take(known, range(self.longest - 1), axis=-1), before.dtype)
        return self.vectors(known), [after]

    def vectors(self, known: Any) -> Any:
        """Returns the sums `(..., output_dim)` of the rows of all n-grams that end in the latest token.

        Args:
            known: the last tokens, the latest one first, `(..., longest)` int32.
        """
        base = hash_base(self.input_dim, self.rows)
        factors = [pow(base, age, self.rows) for age in range(self.longest)]
        sums = ops.cumsum(known * ops.convert_to_tensor(factors, "int32"), axis=-1)
        rows = ops.mod(ops.take(sums, range(1, self.longest), axis=-1), self.rows)
        return ops.sum(ops.take(self.embeddings, rows, axis=0), axis=-2)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {name: getattr(self, name) for name in ("input_dim", "output_dim", "longest", "rows")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_seq")
class NgramEmbedding(keras.layers.RNN):
    """The sum of the vectors of all n-grams that end in a token: an embedding of the last 2, the last 3, ... tokens together.

    All n-grams have their vectors in one table. The row of an n-gram is a hash of its tokens, so that n-grams may share a
    row::

        v(t) = sum over n = 2 .. longest of table[hash_n(t)]
        hash_n(t) = (x(t) + x(t-1) * b + ... + x(t-n+1) * b^(n-1)) mod rows

    where x are token ids, the tokens before the first one have id 0, and b is the smallest number from `input_dim` on that
    has no factor in common with `rows`; from the golden section of `rows` on (Knuth, The Art of Computer Programming 3,
    section 6.4), if there are fewer rows than pairs of tokens.

    Added to the logits of a recurrent model, the vectors are the hashed features of a maximum-entropy model that is trained
    together with it (Mikolov et al. 2011, "Strategies for training large scale neural network language models",
    doi:10.1109/ASRU.2011.6163930): the table learns what follows often, and the recurrent layers what needs a memory. The
    price is a larger file rather than slower writing: a step reads `longest - 1` rows, however many there are. A step of
    training updates the whole table.

    The state is the last `longest - 1` tokens, as float32 numbers.

    Args:
        input_dim: number of tokens, `len(vocabulary)`.
        output_dim: length of a vector; for vectors that are added to logits, also the number of tokens.
        longest: number of tokens of the longest n-grams, 2 to 8.
        rows: rows of the table; `longest * input_dim * rows` must be below 2^31. A prime number spreads hashes evenly.
        **named: the arguments of `keras.layers.RNN`, by name. `return_sequences` is True unless it is given, and `dtype` is
            float32 under every dtype policy; half precision would round token ids.

    Call arguments:
        sequences: token ids `(batch, time)`, from 0 to `input_dim - 1`; other ids are hashed too.
        initial_state: a list with the tokens before the first one, the latest one first, `(batch, longest - 1)`; zeros if
            absent.
        mask: `(batch, time)`, False at steps to skip.

    Returns:
        The vectors, `(batch, time, output_dim)` float32.

    Raises:
        ArgumentError: an argument is out of range.
        ConfigError: `initial_state` has another shape.
        ValueError: the token ids are not `(batch, time)`.

    Example:
        >>> import numpy as np
        >>> layer = NgramEmbedding(10, 4, longest=3, rows=101)
        >>> layer(np.array([[1, 2, 3]])).shape
        TensorShape([1, 3, 4])

        An optimizer under which only the table decays, as with `keras-seq train --ngram_decay=0.5`:

        >>> import keras_seq as ks
        >>> model = ks.language_model(10, units=[4], ngrams=3, ngram_rows=101)
        >>> others = [one for layer in model.layers if not isinstance(layer, NgramEmbedding) for one in layer.weights]
        >>> optimizer = keras.optimizers.AdamW(5e-3, weight_decay=0.5, clipnorm=1.0)
        >>> optimizer.exclude_from_weight_decay(var_list=others)
    """

    def __init__(self, input_dim: int, output_dim: int, longest: int = 4, rows: int = ROWS, **named: Any):
        dtype = {"dtype": named.pop("dtype", "float32")}
        cell = NgramCell(input_dim, output_dim, longest, rows, name="ngram_cell", **dtype)
        super().__init__(cell, **{"return_sequences": True, **named}, **dtype)
        self.input_spec = keras.layers.InputSpec(ndim=2)

    @property
    def input_dim(self) -> int:
        """The number of tokens."""
        return self.cell.input_dim

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Returns the vectors; with `return_state`, a list of them and the state."""
        if initial_state is not None:
            shapes, size = [tuple(one.shape) for one in tree.flatten(initial_state)], self.cell.state_size
            if [shape[1:] for shape in shapes] != [(size,)]:
                # Keras makes another error of this class from its message, so it has no arguments.
                raise ConfigError(f"`initial_state` must be a list with one array (batch, {size}). Received: {shapes}")
        return super().call(ops.expand_dims(sequences, -1), initial_state, mask, training)

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> tuple[Any, Any, Any]:
        """Looks all vectors up at once; see `keras_internals.rnn_loop` for the arguments and results."""
        if mask is not None or self.go_backwards:
            return super().inner_loop(sequences, initial_state, mask, training)
        before = ops.flip(ops.cast(initial_state[0], "int32"), axis=-1)
        tokens = ops.concatenate([before, ops.cast(sequences[..., 0], "int32")], axis=1)
        time, longest = ops.shape(sequences)[1], self.cell.longest
        known = ops.stack([tokens[:, longest - 1 - age :][:, :time] for age in range(longest)], axis=-1)
        vectors = self.cell.vectors(known)
        return vectors[:, -1], vectors if self.return_sequences else vectors[:, -1:], [known[:, -1, :-1]]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        cell = self.cell.get_config()
        own = {name: cell[name] for name in ("input_dim", "output_dim", "longest", "rows")}
        inherited = {name: value for name, value in super().get_config().items() if name != "cell"}
        return {**inherited, **own}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "NgramEmbedding":
        """Returns a layer with the arguments of `get_config`."""
        return cls(**config)
