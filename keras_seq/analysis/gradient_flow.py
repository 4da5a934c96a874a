"""How far back a model's loss reaches: the gradient of the loss at step T by the state that enters step T - k.

Where it falls to nothing within a few steps, no training can teach the model what stands further back: the vanishing
gradient (Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu et al. 2013, arXiv 1211.5063, equation 5).
"""

import csv
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_seq.data.load import corpus_of
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.files import replacing
from keras_seq.generation.score import segments
from keras_seq.models.checks import require_logits
from keras_seq.models.step_model import step_model
from keras_seq.training.run_directory import load_run
from keras_seq.training.train import untrained_model


def gradient_flow(model: keras.Model, tokens: np.ndarray) -> np.ndarray:
    """Returns the norm of the gradient of the loss at the last step with respect to the states before it, by lag.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        tokens: ids `(batch, time + 1)`, read from the zero state; the last column is what the loss is of.

    Returns:
        `(time,)` float64, the mean over the batch: at place k the states as they entered the step k before the last. The
        states of all layers, and both of an LSTM's, count together.

    Raises:
        ValueError: `tokens` are not two columns at least, or the model cannot be stepped.

    Example:
        >>> import keras_seq as ks
        >>> model = ks.language_model(9, cell="simple_rnn", units=[8], embedding_dim=4)
        >>> norms = gradient_flow(model, np.random.default_rng(0).integers(0, 9, (4, 31)))
        >>> norms.shape, bool(norms[20] < norms[0])
        ((30,), True)
    """
    tokens = np.asarray(tokens, np.int32)
    if tokens.ndim != 2 or tokens.shape[1] < 2:
        raise ValueError(f"`tokens` must be (batch, time + 1), of one step at least. Received: shape {tokens.shape}")
    require_logits(model)
    decoder = step_model(model)
    inputs = tf.constant(tokens)
    states = [tf.zeros([len(tokens), state.shape[1]], state.dtype) for state in decoder.inputs[1:]]
    by_step = []
    with tf.GradientTape() as tape:
        for time in range(tokens.shape[1] - 1):
            # Copies: what the layers above take from a state within its own step is not the way through time.
            by_step.append([tf.identity(state) for state in states])
            tape.watch(by_step[-1])
            logits, *states = decoder([inputs[:, time], *by_step[-1]], training=False)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(inputs[:, -1], tf.cast(logits, tf.float32))
    gradients = tape.gradient(loss, by_step)
    norms = [np.sqrt(sum((np.asarray(one, np.float64) ** 2).sum(axis=1) for one in step)) for step in gradients]
    return np.array([norm.mean() for norm in reversed(norms)])


def windows(text: str, vocabulary: Vocabulary, lags: int, count: int, *, by_line: bool, seed: int = 0) -> np.ndarray:
    """Returns pieces of a text, `(count, lags + 2)` ids, each after `<s>`: to be read, and the token to be predicted.

    Args:
        text: where they are cut out.
        vocabulary: its vocabulary.
        lags: the greatest lag that is asked for.
        count: how many; fewer where the text has fewer lines of this length.
        by_line: whether a piece must be the beginning of a line.
        seed: of the choice.

    Raises:
        ValueError: the text, or all of its lines, are too short.
    """
    random, needed = np.random.default_rng(seed), lags + 1
    parts = [part for part in segments(text, vocabulary, by_line=by_line) if len(part) >= needed]
    if lags < 0:
        raise ValueError(f"`lags` must be a whole number of steps, 0 or more. Received: lags={lags!r}")
    if not parts:
        what = "a line" if by_line else "a text"
        raise ValueError(f"`lags` of {lags} need {what} of at least {needed} tokens; there is none: ask for fewer")
    if by_line:
        cut = [parts[index][:needed] for index in random.permutation(len(parts))[:count]]
    else:
        (ids,) = parts
        cut = [ids[start : start + needed] for start in random.integers(0, len(ids) - needed + 1, count)]
    return np.array([[vocabulary.start_id, *piece] for piece in cut], np.int32)


def run_flow(directory: Path, lags: int, seed: int = 0, count: int = 64) -> dict[str, np.ndarray]:
    """Returns the norms by lag, 0 to `lags`, of a run's model and of what it was before training, by their names.

    They read text that the run did not learn from.

    Args:
        directory: the run directory.
        lags: the greatest lag.
        seed: of the choice of the text.
        count: how many pieces of text the norms are means of.

    Raises:
        ValueError: it is no run directory, or its text has no piece that is long enough.
    """
    run = load_run(directory)
    corpus = corpus_of(run.config)
    text = corpus.validation + corpus.test
    tokens = windows(text, run.vocabulary, lags, count, by_line=run.config["by_line"], seed=seed)
    untrained = untrained_model(len(run.vocabulary), run.config)
    name = f"{directory}, {run.config['cell']}"
    return {name: gradient_flow(run.model, tokens), f"{name}, untrained": gradient_flow(untrained, tokens)}


def write_flow(curves: Mapping[str, np.ndarray], table: Path) -> None:
    """Writes the norms by lag as a CSV file: `lag`, then a column a curve."""
    with replacing(table) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["lag", *curves])
        for lag, row in enumerate(zip(*curves.values(), strict=True)):
            writer.writerow([lag, *map("{:.6g}".format, row)])
