"""`language_model`: embedding, recurrent layers, logits."""

from collections.abc import Sequence

import keras

from keras_seq.layers.gru import GRU

RECURRENT_LAYERS = {"gru": GRU, "simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM}


def language_model(
    vocabulary_size: int,
    cell: str = "gru",
    units: Sequence[int] = (256,),
    embedding_dim: int = 128,
    dropout: float = 0.0,
    embedding_dropout: float = 0.0,
    weight_dropout: float = 0.0,
    tie_embeddings: bool = False,
) -> keras.Model:
    """Returns a model that predicts each next token.

    Its input is token ids `(batch, time)` int32, its output logits `(batch, time, vocabulary_size)` float32.

    Args:
        vocabulary_size: how many tokens there are, `len(vocabulary)`.
        cell: `"gru"` (`keras_seq.GRU`), `"simple_rnn"` or `"lstm"` (the stock Keras layers).
        units: state size of each recurrent layer, from input to output.
        embedding_dim: length of a token's vector.
        dropout: share of the values dropped after every recurrent layer while training (Zaremba et al. 2014, arXiv
            1409.2329).
        embedding_dropout: share of the values dropped after the embedding while training.
        weight_dropout: share of the recurrent kernels' weights dropped while training; of `"gru"` only, see
            `keras_seq.GRU`.
        tie_embeddings: whether the logits' kernel is the embeddings, transposed, after a layer that brings the state to
            their length where it has another (Press & Wolf 2017, arXiv 1608.05859). Saves weights where the vocabulary
            is large.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> language_model(65, cell="gru", units=[32]).output_shape
        (None, None, 65)
    """
    if cell not in RECURRENT_LAYERS:
        raise ValueError(f"`cell` must be one of {', '.join(RECURRENT_LAYERS)}. Received: cell={cell!r}")
    if vocabulary_size < 1 or embedding_dim < 1:
        raise ValueError(
            "`vocabulary_size` and `embedding_dim` must be positive. "
            f"Received: vocabulary_size={vocabulary_size!r}, embedding_dim={embedding_dim!r}"
        )
    if (
        not isinstance(units, Sequence)
        or not units
        or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in units)
    ):
        raise ValueError(f"`units` must be a list of positive integers, one a layer. Received: units={units!r}")
    for name, share in (("dropout", dropout), ("embedding_dropout", embedding_dropout)):
        if not 0 <= share < 1:
            raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={share!r}")
    if weight_dropout and cell != "gru":
        raise ValueError(f"`weight_dropout` needs cell='gru'. Received: cell={cell!r}")
    options = {"weight_dropout": weight_dropout} if cell == "gru" else {}
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    embedding: keras.layers.Layer = keras.layers.Embedding(vocabulary_size, embedding_dim, name="embedding")
    if tie_embeddings:
        embedding = keras.layers.ReversibleEmbedding(vocabulary_size, embedding_dim, name="embedding")
    values = embedding(tokens)
    if embedding_dropout:
        values = keras.layers.Dropout(embedding_dropout, name="embedding_dropout")(values)
    for index, size in enumerate(units):
        values = RECURRENT_LAYERS[cell](size, return_sequences=True, name=f"{cell}_{index}", **options)(values)
        if dropout:
            values = keras.layers.Dropout(dropout, name=f"dropout_{index}")(values)
    if tie_embeddings:
        if units[-1] != embedding_dim:
            values = keras.layers.Dense(embedding_dim, name="projection")(values)
        logits = keras.layers.Activation("linear", dtype="float32", name="logits")(embedding(values, reverse=True))
        return keras.Model(tokens, logits, name=f"{cell}_language_model")
    # float32 whatever the policy: a softmax over float16 logits loses the rare tokens.
    logits = keras.layers.Dense(vocabulary_size, dtype="float32", name="logits")(values)
    return keras.Model(tokens, logits, name=f"{cell}_language_model")
