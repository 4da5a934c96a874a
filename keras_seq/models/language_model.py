"""`language_model`: a Keras model of an embedding, recurrent layers and logits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_seq import require
from keras_seq.errors import ArgumentError, ConfigError
from keras_seq.layers.ngram_limits import LONGEST, ROWS, largest_rows

if TYPE_CHECKING:
    import keras

CELLS = ("gru", "simple_rnn", "lstm")
EMBEDDING_INITIALIZERS = ("normal", "uniform")
_MOST_LAYERS = 100
# Defaults of `language_model` and of `keras_seq.training.config.TrainConfig`, which must not import Keras.
UNITS = (384,)
EMBEDDING_DIM = 64


def language_model(
    vocabulary_size: int,
    cell: str = "gru",
    units: Sequence[int] = UNITS,
    embedding_dim: int = EMBEDDING_DIM,
    embedding_initializer: str | None = None,
    dropout: float = 0.0,
    embedding_dropout: float = 0.0,
    weight_dropout: float = 0.0,
    tie_embeddings: bool = False,
    ngrams: int = 0,
    ngram_rows: int | None = None,
    token_counts: "Sequence[int] | np.ndarray | None" = None,
) -> "keras.Model":
    """Returns a model that predicts each next token.

    Its input is token ids `(batch, time)` int32, its output logits `(batch, time, vocabulary_size)` float32.

    Args:
        vocabulary_size: number of tokens, `len(vocabulary)`.
        cell: `"gru"` (`keras_seq.GRU`), `"simple_rnn"` (`keras_seq.SimpleRNN`) or `"lstm"` (`keras_seq.LSTM`).
        units: state size of each recurrent layer, from input to output.
        embedding_dim: length of a token's vector.
        embedding_initializer: how its numbers begin: `"normal"`, with a deviation of 1, learns faster at first;
            `"uniform"` in ±0.05, as in Keras, ends better after an hour with n-grams. None is `"normal"`, with
            `tie_embeddings` `"uniform"`.
        dropout: fraction of the values to drop in training after each recurrent layer (Zaremba et al. 2014, arXiv
            1409.2329).
        embedding_dropout: fraction of the values to drop in training after the embedding.
        weight_dropout: fraction of the recurrent kernels' weights to drop in training; only for `"gru"`, see
            `keras_seq.GRU`.
        tie_embeddings: whether the transposed embeddings are also the kernel of the logits (Press & Wolf 2017, arXiv
            1608.05859), which saves weights if the vocabulary is large. If the last state has another length than the
            embeddings, a dense layer projects it.
        ngrams: length of the longest n-grams, in tokens, 2 to 8, whose vectors are added to the logits, or with
            `tie_embeddings` to what the embeddings turn into logits (`keras_seq.NgramEmbedding`); 0 is off.
        ngram_rows: rows in the table of n-grams, each of `vocabulary_size` numbers, with `tie_embeddings` of
            `embedding_dim`; the table is most of the file. None is 22,993, or as many as a large vocabulary allows. A prime
            number spreads hashes evenly.
        token_counts: how often each token occurs in the training text, `(vocabulary_size,)`. Training then begins at
            these frequencies: the bias of the logits is `log((count + 1) / sum(counts + 1))` (Lin et al. 2017, arXiv
            1708.02002, section 3.3). None begins at 0, which is better for characters.
            `keras_seq.data.encoded_text.token_counts` counts.

    Raises:
        ArgumentError: an argument is out of range.
        ConfigError: `weight_dropout` is set for a cell other than `"gru"`, or `ngram_rows` without `ngrams`.

    Example:
        >>> language_model(65, cell="gru", units=[32]).output_shape
        (None, None, 65)
    """
    require.positive_integer("vocabulary_size", vocabulary_size)
    require_language_model_arguments(
        cell=cell,
        units=units,
        embedding_dim=embedding_dim,
        embedding_initializer=embedding_initializer,
        dropout=dropout,
        embedding_dropout=embedding_dropout,
        weight_dropout=weight_dropout,
        tie_embeddings=tie_embeddings,
        ngrams=ngrams,
        ngram_rows=ngram_rows,
    )
    vocabulary_size, ngrams = int(vocabulary_size), int(ngrams)  # Keras takes integers of Python only.
    rows = _rows(vocabulary_size, ngrams, ngram_rows) if ngrams else 0
    counts = None if token_counts is None else _counts(token_counts, vocabulary_size)
    import keras

    from keras_seq.layers.add_bias import AddBias
    from keras_seq.layers.gru import GRU
    from keras_seq.layers.lstm import LSTM
    from keras_seq.layers.ngram_embedding import NgramEmbedding
    from keras_seq.layers.simple_rnn import SimpleRNN

    recurrent_layer: Any = {"gru": GRU, "simple_rnn": SimpleRNN, "lstm": LSTM}[cell]
    options = {"weight_dropout": weight_dropout} if cell == "gru" else {}
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    if embedding_initializer is None:
        embedding_initializer = "uniform" if tie_embeddings else "normal"
    is_normal = embedding_initializer == "normal"
    embedding_layer: Any = keras.layers.ReversibleEmbedding if tie_embeddings else keras.layers.Embedding
    embedding = embedding_layer(
        vocabulary_size,
        embedding_dim,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0) if is_normal else "uniform",
        name="embedding",
    )
    values = embedding(tokens)
    if embedding_dropout:
        values = keras.layers.Dropout(embedding_dropout, name="embedding_dropout")(values)
    for index, size in enumerate(units):
        values = recurrent_layer(size, return_sequences=True, name=f"{cell}_{index}", **options)(values)
        if dropout:
            values = keras.layers.Dropout(dropout, name=f"dropout_{index}")(values)
    if tie_embeddings and units[-1] != embedding_dim:
        values = keras.layers.Dense(embedding_dim, name="projection")(values)
    if not tie_embeddings:
        # float32 under every dtype policy: in float16, a softmax rounds the probabilities of rare tokens to 0.
        values = keras.layers.Dense(vocabulary_size, dtype="float32", name="logits")(values)
    if ngrams:
        width = embedding_dim if tie_embeddings else vocabulary_size
        vectors = NgramEmbedding(vocabulary_size, width, ngrams, rows, name="ngrams")(tokens)
        values = keras.layers.Add(dtype="float32", name="logits_and_ngrams")([values, vectors])
    if tie_embeddings:
        values = AddBias(dtype="float32", name="logits")(embedding(values, reverse=True))
    model = keras.Model(tokens, values, name=f"{cell}_language_model")
    if counts is not None:
        smoothed = counts + 1
        model.get_layer("logits").bias.assign(np.log(smoothed / smoothed.sum()))
    return model


def _counts(token_counts: Any, vocabulary_size: int) -> np.ndarray:
    """Returns the counts of the tokens as float64 numbers.

    Raises:
        ArgumentError: they are not such numbers.
    """
    expected = f"{vocabulary_size} finite numbers of at least 0, whose sum is finite too"
    try:
        counts = np.asarray(token_counts)
    except ValueError:  # lists of different lengths
        raise ArgumentError("token_counts", expected, "lists of different lengths") from None
    received = f"{counts.dtype} of shape {counts.shape}"
    is_right = counts.shape == (vocabulary_size,) and counts.dtype.kind in "iuf"
    require.that(is_right, "token_counts", expected, received)
    require.that(counts.min() >= 0, "token_counts", expected, f"{counts.min()} at {counts.argmin()}")
    require.that(np.isfinite(np.sum(counts, dtype=np.float64)), "token_counts", expected, f"the sum {counts.sum()}")
    return counts.astype(np.float64)


def _rows(vocabulary_size: int, ngrams: int, ngram_rows: int | None) -> int:
    """Returns the rows in the table of n-grams.

    Raises:
        ArgumentError: the hashes of so many tokens would not be int32 numbers.
    """
    most = largest_rows(vocabulary_size, ngrams)
    rows = min(ROWS, most) if ngram_rows is None else ngram_rows
    expected = f"an integer from 2 to {most:,}, for {vocabulary_size:,} tokens and ngrams={ngrams}"
    require.that(rows <= most, "ngram_rows", expected, rows)
    return rows


def parameter_count(
    vocabulary_size: int,
    cell: str,
    units: Sequence[int],
    embedding_dim: int,
    tie_embeddings: bool,
    ngrams: int = 0,
    ngram_rows: int | None = None,
) -> int:
    """Returns the number of weights of a `language_model`, without making it.

    Example:
        >>> parameter_count(65, "gru", [32], 16, tie_embeddings=False)
        7985
        >>> language_model(65, "gru", [32], 16).count_params()
        7985
    """
    count, width = vocabulary_size * embedding_dim, embedding_dim
    for size in units:
        gates, biases = {"gru": (3, 2), "simple_rnn": (1, 1), "lstm": (4, 1)}[cell]
        count += gates * size * (width + size + biases)
        width = size
    if ngrams:
        count += _rows(vocabulary_size, ngrams, ngram_rows) * (embedding_dim if tie_embeddings else vocabulary_size)
    if not tie_embeddings:
        return count + (width + 1) * vocabulary_size
    count += vocabulary_size
    return count if width == embedding_dim else count + (width + 1) * embedding_dim


def require_language_model_arguments(
    *,
    cell: str,
    units: Sequence[int],
    embedding_dim: int,
    embedding_initializer: str | None,
    dropout: float,
    embedding_dropout: float,
    weight_dropout: float,
    tie_embeddings: bool,
    ngrams: int,
    ngram_rows: int | None,
) -> None:
    """Checks the arguments of `language_model` without importing Keras.

    Raises:
        ArgumentError: an argument is out of range.
        ConfigError: `weight_dropout` is set for a cell other than `"gru"`, or `ngram_rows` without `ngrams`.
    """
    require.one_of("cell", cell, CELLS)
    are_sizes = isinstance(units, Sequence) and units and all(require.is_integer(size) and size > 0 for size in units)
    require.that(bool(are_sizes), "units", "a list of positive integers, one per layer", units)
    require.that(len(units) <= _MOST_LAYERS, "units", f"a list of at most {_MOST_LAYERS} integers", units)
    require.positive_integer("embedding_dim", embedding_dim)
    if embedding_initializer is not None:
        require.one_of("embedding_initializer", embedding_initializer, EMBEDDING_INITIALIZERS)
    for name, fraction in (
        ("dropout", dropout),
        ("embedding_dropout", embedding_dropout),
        ("weight_dropout", weight_dropout),
    ):
        require.fraction(name, fraction)
    require.boolean("tie_embeddings", tie_embeddings)
    if weight_dropout and cell != "gru":
        raise ConfigError(f"{{}} needs {{}} to be gru. Received: {cell}", "weight_dropout", "cell")
    is_length = require.is_integer(ngrams) and ngrams in (0, *range(2, LONGEST + 1))
    require.that(is_length, "ngrams", f"0 or an integer from 2 to {LONGEST}", ngrams)
    if ngram_rows is not None:
        require.integer("ngram_rows", ngram_rows, at_least=2)
        if not ngrams:
            raise ConfigError("{} needs {}", "ngram_rows", "ngrams")
