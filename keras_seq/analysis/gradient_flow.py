"""How far back a model's loss reaches: the gradient of the loss at step T with respect to the state that enters step T - k.

If the gradient vanishes within a few steps, training cannot teach the model anything that stands further back: the
vanishing gradient (Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu et al. 2013, arXiv 1211.5063, equation 5).
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_seq import require
from keras_seq.data.encoded_text import token_ids
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.files import explaining, replacing
from keras_seq.generation.score import segments
from keras_seq.models.step_model import stepped_language_model
from keras_seq.training.run_directory import corpus_of, load_run
from keras_seq.training.train import starting_counts, untrained_model


class FlowCurve(NamedTuple):
    """The gradient norms of one model by lag.

    Attributes:
        run: the run directory.
        cell: the recurrent cell of the model, such as `"gru"`.
        trained: whether this is the trained model of the run; otherwise it is the model before its first step.
        norms: norms by lag, float64 `(lags + 1,)`, from `gradient_flow`.
    """

    run: str
    cell: str
    trained: bool
    norms: np.ndarray

    @property
    def label(self) -> str:
        """The name of the curve in pictures and tables.

        Example:
            >>> FlowCurve("runs/fox", "gru", False, np.ones(3)).label
            'runs/fox, gru, untrained'
        """
        return f"{self.run}, {self.cell}" + ("" if self.trained else ", untrained")


def gradient_flow(model: keras.Model, tokens: np.ndarray) -> np.ndarray:
    """Returns the norm of the gradient of the last step's loss with respect to the states before it, by lag.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        tokens: token ids `(batch, time + 1)`, read from the initial states. The loss is that of the last column.

    Returns:
        float64 `(time,)`, the mean over the batch. Element k belongs to the states that enter the step k before the last
        one. The norm is taken over the states of all layers together, and over both states of an LSTM.

    Raises:
        ArgumentError: `tokens` is not a matrix with at least two columns.
        SteppingError: the model cannot be run one step at a time.

    Example:
        >>> import keras_seq as ks
        >>> model = ks.language_model(9, cell="simple_rnn", units=[8], embedding_dim=4)
        >>> norms = gradient_flow(model, np.random.default_rng(0).integers(0, 9, (4, 31)))
        >>> norms.shape, bool(norms[20] < norms[0])
        ((30,), True)
    """
    tokens = np.asarray(tokens, np.int32)
    is_matrix = tokens.ndim == 2 and tokens.shape[1] >= 2
    require.that(is_matrix, "tokens.shape", "(batch, time + 1) with at least 2 columns", tokens.shape)
    stepped = stepped_language_model(model, tokens[0])
    decoder = stepped.decoder
    inputs = tf.constant(tokens)
    states = [tf.tile(state[None], (len(tokens), 1)) for state in stepped.initial_states]
    by_step = []
    with tf.GradientTape() as tape:
        for time in range(tokens.shape[1] - 1):
            # A copy, so that a layer above that reads the state within its own step does not count as a path through time.
            by_step.append([tf.identity(state) for state in states])
            tape.watch(by_step[-1])
            outputs, *states = decoder([inputs[:, time], *by_step[-1]], training=False)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
            inputs[:, -1], tf.cast(stepped.logits_of(outputs), tf.float32)
        )
    gradients = tape.gradient(loss, by_step)
    norms = [
        np.sqrt(sum((np.asarray(one, np.float64) ** 2).sum(axis=1) for one in step if one is not None))
        for step in gradients
    ]
    return np.array([norm.mean() for norm in reversed(norms)])


def windows(text: str, vocabulary: Vocabulary, lags: int, count: int, *, by_line: bool, seed: int = 0) -> np.ndarray:
    """Returns random excerpts of a text as token ids, `(count, lags + 2)`. Each one starts with `<s>`.

    Args:
        text: the text.
        vocabulary: its vocabulary.
        lags: the largest lag. An excerpt has `lags + 1` tokens: all but the last are read, the last is predicted.
        count: number of excerpts; fewer if the text has fewer lines that are long enough.
        by_line: whether an excerpt must be the beginning of a line.
        seed: seed of the choice.

    Raises:
        ArgumentError: `lags` is negative, or as large as the number of tokens in the text or in its longest line.
    """
    require.integer("lags", lags, at_least=0)
    random, needed = np.random.default_rng(seed), lags + 1
    parts = segments(text, vocabulary, by_line=by_line)
    longest = max(map(len, parts), default=0)
    source = "longest line" if by_line else "text"
    require.that(needed <= longest, "lags", f"below {longest}, the number of tokens in the {source}", lags)
    if by_line:
        parts = [part for part in parts if len(part) >= needed]
        excerpts = [parts[index][:needed] for index in random.permutation(len(parts))[:count]]
    else:
        (ids,) = parts
        excerpts = [ids[start : start + needed] for start in random.integers(0, len(ids) - needed + 1, count)]
    return np.array([[vocabulary.start_id, *excerpt] for excerpt in excerpts], np.int32)


def run_flow(directory: Path, lags: int, seed: int = 0, count: int = 64) -> list[FlowCurve]:
    """Returns the curve of a run's trained model and that of the same model before training.

    Both models read held-out text of the run.

    Args:
        directory: the run directory.
        lags: the largest lag.
        seed: seed of the choice of the text.
        count: number of excerpts that the norms are averaged over.

    Raises:
        RunError: `directory` is not a run directory.
        ArgumentError: `lags` is out of range for the held-out text.
    """
    run = load_run(directory)
    corpus = corpus_of(run.config)
    text = corpus.validation + corpus.test
    tokens = windows(text, run.vocabulary, lags, count, by_line=run.config.by_line, seed=seed)
    counts = starting_counts(
        run.vocabulary, lambda: token_ids(corpus.train, run.vocabulary, by_line=run.config.by_line)
    )
    untrained = untrained_model(len(run.vocabulary), run.config, counts)
    return [
        FlowCurve(str(directory), run.config.cell, trained, gradient_flow(model, tokens))
        for model, trained in ((run.model, True), (untrained, False))
    ]


def write_flow(curves: Sequence[FlowCurve], table: Path) -> None:
    """Writes the norms by lag to a CSV file: the column `lag`, then one column for each curve."""
    with explaining(table), replacing(table) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["lag", *(curve.label for curve in curves)])
        for lag, row in enumerate(zip(*(curve.norms for curve in curves), strict=True)):
            writer.writerow([lag, *map("{:.6g}".format, row)])
