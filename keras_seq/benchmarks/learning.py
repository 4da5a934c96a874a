"""`keras-seq benchmark learning`: what a .tflite gains by learning on the device from texts of its user, and what it costs.

Each text is that of one author, who is new to the model. All tables but that of the weeks begin each text with nothing
learned.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_seq import require
from keras_seq.analysis.plots import plot_learning
from keras_seq.benchmarks.learning_cost import cost_table, costs
from keras_seq.benchmarks.learning_gains import HeldOut, Readings, gain, gain_table, held_out, held_out_table, readings
from keras_seq.benchmarks.learning_keystrokes import Keystrokes, keystroke_table, keystrokes
from keras_seq.benchmarks.learning_texts import LEARNED, authors
from keras_seq.benchmarks.learning_weeks import simulated_weeks, weeks_table
from keras_seq.errors import ModelError
from keras_seq.files import temporary_folder
from keras_seq.training.run_directory import corpus_of, load_run
from keras_seq_export.tflite.export import export_tflite
from keras_seq_export.tflite.runtime import LiteRTSampler


def benchmark_learning_of_run(
    run: Path, texts: Mapping[str, str], picture: Path | None = None, rounds: int = 15
) -> Iterator[tuple[str, Any]]:
    """Exports a run with float32 and with int8 weights, and measures how both learn; see `benchmark_learning`.

    The text that the run was measured on, but not trained on, is one more author's.

    Args:
        run: the run directory.
        texts: the text of each author, by its name.
        picture: the `.png` file to write; None for none.
        rounds: number of turns of each call that is timed.

    Raises:
        ArgumentError: `rounds` is not a positive integer.
        CorpusError: a text is too short, or the corpus of the run cannot be read any more.
    """
    require.positive_integer("rounds", rounds)
    loaded = load_run(run)
    corpus = corpus_of(loaded.config)
    own = {f"{corpus.name}, held out": corpus.validation + corpus.test}
    with temporary_folder() as folder:
        paths = []
        for name, quantization, learn in (
            ("int8, no learn", "int8", False),
            ("float32", "none", True),
            ("int8", "int8", True),
        ):
            paths.append(folder / f"{name}.tflite")
            by_line = loaded.config.by_line
            export_tflite(
                loaded.model,
                loaded.vocabulary,
                paths[-1],
                quantization=quantization,
                learn=learn,
                by_line=by_line,
                max_loss=math.inf,
            )
        yield from benchmark_learning(paths, own | dict(texts), picture, rounds)


def benchmark_learning(
    paths: Sequence[Path], texts: Mapping[str, str], picture: Path | None = None, rounds: int = 15
) -> Iterator[tuple[str, Any]]:
    """Measures what models gain by learning from texts, and what it costs.

    Args:
        paths: .tflite files with one vocabulary. The time of all is measured, the gain of those that learn; the weeks and the
            keystrokes of the last of them.
        texts: the text of each author, by its name.
        picture: the `.png` file to write; None for none.
        rounds: number of turns of each call that is timed.

    Yields:
        The name of each measurement and its figures, as soon as they are known: `"lacking"`, `"gains"`, `"held_out"`,
        `"weeks"`, `"costs"`, `"keystrokes"`.

    Raises:
        ArgumentError: `rounds` is not a positive integer.
        CorpusError: a text is too short.
        ModelError: no file learns.
    """
    require.positive_integer("rounds", rounds)
    files = _by_name(paths)
    samplers = {name: LiteRTSampler(path) for name, path in files.items()}
    learning = {name: sampler for name, sampler in samplers.items() if sampler.decoder.has_learn}
    if not learning:
        raise ModelError("one of the files must learn: export it with `keras-seq export --learn`")
    last = list(learning.values())[-1]
    every = authors(texts, last.vocabulary)
    yield "lacking", [author.lacking for author in every if author.lacking]
    pairs = [(name, sampler, author) for name, sampler in learning.items() for author in every]
    gains = [Readings(name, author.name, readings(sampler, author)) for name, sampler, author in pairs]
    yield "gains", gains
    yield "held_out", [HeldOut(name, author.name, *held_out(sampler, author)) for name, sampler, author in pairs]
    weeks = simulated_weeks(last, every)
    yield "weeks", weeks
    if picture is not None:
        curves = {one.text: (list(one.reports), list(map(gain, one.reports.values()))) for one in gains[-len(every) :]}
        plot_learning(curves, [(turn.author, gain(turn.report)) for turn in weeks.turns], picture)
    yield "costs", list(costs(files, samplers, every[0].text[:LEARNED], rounds))
    yield "keystrokes", [Keystrokes(author.name, keystrokes(last, author)) for author in every]


_TABLES: dict[str, Callable[[Any], Iterable[str]]] = {
    "lacking": iter,
    "gains": gain_table,
    "held_out": held_out_table,
    "weeks": weeks_table,
    "costs": cost_table,
    "keystrokes": keystroke_table,
}


def table(measurements: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Yields the lines of the tables, each as soon as its figures are known."""
    for name, figures in measurements:
        if figures:
            yield from _TABLES[name](figures)
            yield ""


def _by_name(paths: Sequence[Path]) -> dict[str, Path]:
    """Returns the files by their names; by their whole paths if two have one name."""
    by_stem = {path.stem: path for path in paths}
    return by_stem if len(by_stem) == len(paths) else {str(path): path for path in paths}
