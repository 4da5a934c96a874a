"""Pictures: learning curves, norms of gradients, agreement by distance, a GRU's gates over a sentence."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # Not pyplot: it needs a display, and would change the user's own backend.

from keras_seq.layers.gru import Gates


def plot_agreement(
    distances: Sequence[int], accuracies: Mapping[str, Sequence[float] | np.ndarray], picture: Path
) -> None:
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


def plot_gradient_flow(curves: Mapping[str, np.ndarray], picture: Path) -> None:
    """Draws the norm of the loss's gradient with respect to the state, by its age, on a logarithmic scale.

    Args:
        curves: norms by lag, from `gradient_flow`, for each model; one that ends in "untrained" is dashed, in the colour
            of the one before it.
        picture: the `.png` to write.
    """
    figure, axes = _figure(8, 5)
    for name, norms in curves.items():
        untrained = name.endswith("untrained")
        color = axes.lines[-1].get_color() if untrained and axes.lines else None
        axes.plot(np.maximum(norms, 1e-30), label=name, color=color, linestyle="--" if untrained else "-")
    axes.set(
        xlabel="k: age of the state, in steps",
        ylabel="norm of the gradient of the loss at T\nwith respect to the state entering step T - k",
        yscale="log",
        title="how far back the loss reaches",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, picture)
