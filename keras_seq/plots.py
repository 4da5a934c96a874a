"""Pictures: learning curves, agreement by distance, a GRU's gates over a sentence."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # Not pyplot: it needs a display, and would change the user's own backend.
from matplotlib.ticker import MaxNLocator

from keras_seq.gru import Gates


def plot_history(history: Path, picture: Path) -> None:
    """Draws training and validation loss by epoch, in nats a token, from a `history.csv`."""
    with history.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = _figure(7, 4)
    epochs = [int(row["epoch"]) + 1 for row in rows]
    for column, label in (("nats", "training"), ("val_nats", "validation")):
        axes.plot(epochs, [float(row[column]) for row in rows], marker="o", markersize=3, label=label)
    axes.set(xlabel="epoch", ylabel="nats a token")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, picture)


def plot_agreement(distances: Sequence[int], accuracies: Mapping[str, Sequence[float]], picture: Path) -> None:
    """Draws the share of right verbs by the distance between subject and verb, a curve for each model, beside chance.

    Args:
        distances: in words.
        accuracies: for each model its share of right verbs, in [0, 1], by distance.
        picture: the `.png` to write.
    """
    figure, axes = _figure(8, 4.5)
    for name, values in accuracies.items():
        axes.plot(distances, values, marker="o", markersize=3, label=name)
    axes.axhline(0.5, color="0.4", linestyle="--", label="chance")
    axes.set(
        xlabel="distance from subject to verb (words)",
        ylabel="right verb (share)",
        ylim=(0, 1.03),
        title="was or were? agreement by distance",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    _save(figure, picture)


def plot_gates(words: Sequence[str], gates: Gates, picture: Path, units: int = 16) -> None:
    """Draws Γu, Γr and c~ over a sentence, of the units that keep their memory longest, those on top.

    Args:
        words: the tokens read, `time` of them.
        gates: arrays `(time, units)`, from `GRU.gates`.
        picture: the `.png` to write.
        units: how many units to show at most.
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
            "candidate c~: what the memory is replaced by",
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


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Returns an empty picture of one plot, of a size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, picture: Path) -> None:
    figure.savefig(picture, dpi=130)
