"""The pictures of the analyses: agreement by distance, a GRU's gates, gradient flow, exploding gradients, learning.

A picture that cannot be written is an OSError whose reason names it and says what to do; an older one is unchanged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # Not pyplot: it needs a display, and would change the user's own backend.

from keras_seq.analysis.exploding_gradients import Explosion
from keras_seq.analysis.gradient_flow import FlowCurve
from keras_seq.files import explaining, replacing
from keras_seq.layers.gru_cell import Gates

_DPI = 130
_SMALLEST_NORM = 1e-30  # A logarithmic axis cannot show 0.
_COLORS = {"simplernn": "#d95f02", "gru": "#7570b3", "lstm": "#1b9e77"}  # Dark2 of ColorBrewer
_MARKERS = ("", "o", "^", "s", "d", "v")  # of the curves that have one color


def cell_color(cell: str) -> str | None:
    """Returns the color that a recurrent cell has in every picture, or None, matplotlib's next color, for other names.

    Example:
        >>> cell_color("SimpleRNN"), cell_color("simple_rnn"), cell_color("Jordan network")
        ('#d95f02', '#d95f02', None)
    """
    return _COLORS.get(cell.lower().replace("_", ""))


def plot_agreement(
    distances: Sequence[int], accuracies: Mapping[str, Sequence[float] | np.ndarray], picture: Path
) -> None:
    """Draws the accuracy of the verb by the distance from its subject: one curve per model, and that of a random guess.

    Args:
        distances: distances in words.
        accuracies: for each model, its accuracies in [0, 1] by distance. A model named after its cell has the cell's
            color.
        picture: the `.png` file to write.
    """
    figure, axes = _figure(8, 4.5)
    for name, values in accuracies.items():
        axes.plot(distances, values, marker="o", markersize=3, color=cell_color(name), label=name)
    axes.axhline(0.5, color="0.4", linestyle="--", label="random guess")
    axes.set(
        xlabel="distance from subject to verb (words)",
        ylabel="accuracy",
        ylim=(0, 1.03),
        title="was or were? Agreement by distance",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    _save(figure, picture)


def plot_gates(words: Sequence[str], gates: Gates, picture: Path, units: int = 16) -> None:
    """Draws Γu, Γr and c~ over a sentence, for the units that keep their memory longest, which are drawn first.

    Args:
        words: the tokens of the sentence, `time` of them.
        gates: arrays `(time, units)`, from `GRU.gates`.
        picture: the `.png` file to write.
        units: largest number of units to draw.
    """
    shown = np.argsort(np.median(gates.update, axis=0))[:units]
    figure = Figure(figsize=(max(7.0, 0.3 * len(words)), 9), layout="constrained")
    panels: list[Axes] = list(figure.subplots(3, sharex=True))
    for axes, values, title, least, colors in zip(
        panels,
        gates,
        (
            "update gate Γu: 0 keeps the memory, 1 replaces it",
            "relevance gate Γr: how much of the memory the candidate sees",
            "candidate c~: the value that replaces the memory",
        ),
        (0, 0, -1),
        ("viridis", "viridis", "coolwarm"),
        strict=True,
    ):
        image = axes.imshow(values[:, shown].T, aspect="auto", vmin=least, vmax=1, cmap=colors, interpolation="nearest")
        axes.set(title=title, ylabel="unit", yticks=range(len(shown)), yticklabels=shown)
        axes.tick_params(axis="y", labelsize=7)
        figure.colorbar(image, ax=axes)
    panels[-1].set_xticks(
        range(len(words)), [word.strip() or repr(word) for word in words], rotation=70, ha="right", fontsize=8
    )
    _save(figure, picture)


def plot_gradient_flow(curves: Sequence[FlowCurve], picture: Path) -> None:
    """Draws the norm of the gradient of the loss with respect to the state, by the age of the state, on a log scale.

    Args:
        curves: the curves, from `run_flow`. Each has the color of its cell. Markers tell runs with the same cell
            apart. An untrained model is drawn dashed.
        picture: the `.png` file to write.
    """
    figure, axes = _figure(8, 5)
    for curve in curves:
        runs = list(dict.fromkeys(other.run for other in curves if other.cell == curve.cell))
        axes.plot(
            np.maximum(curve.norms, _SMALLEST_NORM),
            label=curve.label,
            color=cell_color(curve.cell),
            linestyle="-" if curve.trained else "--",
            marker=_MARKERS[runs.index(curve.run) % len(_MARKERS)],
            markevery=0.1,
        )
    axes.set(
        xlabel="k: age of the state, in steps",
        ylabel="norm of the gradient of the loss at T\nwith respect to the state entering step T - k",
        yscale="log",
        title="how far back the loss reaches",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, picture)


def plot_explosions(runs: Sequence[Explosion], picture: Path) -> None:
    """Draws the norm of the gradient by step, without and with clipping, on a log scale: one plot for each activation.

    Args:
        runs: the training runs, from `explosions`. A run without clipping is drawn dashed. A cross marks the last finite
            norm of a run that diverged.
        picture: the `.png` file to write.
    """
    activations = list(dict.fromkeys(run.activation for run in runs))
    figure = Figure(figsize=(10, 5), layout="constrained")
    figure.suptitle("Gradients explode (x: no longer finite) unless they are clipped")
    panels = figure.subplots(1, len(activations), sharey=True, squeeze=False)[0]
    for axes, activation in zip(panels, activations, strict=True):
        for run in runs:
            if run.activation == activation:
                _plot_norms(run, axes)
        axes.set(xlabel="step", yscale="log", title=f"SimpleRNN, {activation}")
        axes.grid(alpha=0.3)
        axes.legend()
    panels[0].set_ylabel("norm of the gradient, before clipping")
    _save(figure, picture)


def _plot_norms(run: Explosion, axes: Axes) -> None:
    label, linestyle = (run.clipping.kind, "-") if run.clipping else ("no clipping", "--")
    axes.plot(run.norms, label=label, color=cell_color("SimpleRNN"), linestyle=linestyle)
    if run.error:
        last = np.flatnonzero(np.isfinite(run.norms))[-1]
        axes.plot(last, run.norms[last], marker="x", markersize=10, color="black")


def plot_learning(
    gains: Mapping[str, tuple[Sequence[int], Sequence[float]]], turns: Sequence[tuple[str, float]], picture: Path
) -> None:
    """Draws what a model gains while it learns from texts: from each alone, by tokens read, and from all of them in turn.

    Args:
        gains: for each text, numbers of tokens read, and the nats per token that learning saved up to there.
        turns: for each turn in their order, the name of its text, and the nats per token that learning saved.
        picture: the `.png` file to write.
    """
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    alone, in_turn = figure.subplots(1, 2)
    for index, (name, (tokens, saved)) in enumerate(gains.items()):
        alone.plot(tokens, saved, marker="o", markersize=3, color=f"C{index}", label=name)
        own = [number for number, (text, _) in enumerate(turns, 1) if text == name]
        gained = [turns[number - 1][1] for number in own]
        in_turn.plot(own, gained, marker="o", markersize=3, linewidth=0.8, color=f"C{index}", label=name)
    alone.set(
        xlabel="tokens read", ylabel="nats per token saved so far", xscale="log", title="each text from nothing learned"
    )
    in_turn.set(xlabel="turn", ylabel="nats per token saved in the turn", title="all texts in turn")
    for axes in (alone, in_turn):
        axes.axhline(0, color="0.4", linestyle="--", linewidth=1)
        axes.grid(alpha=0.3)
    alone.legend()
    _save(figure, picture)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Returns an empty figure with one plot. The size is in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, picture: Path) -> None:
    with explaining(picture), replacing(picture) as partial:
        figure.savefig(partial, dpi=_DPI)
