"""The picture of a training run: `history.png`."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure  # Not pyplot: it needs a display, and would change the user's own backend.
from matplotlib.ticker import MaxNLocator

from keras_seq.files import replacing
from keras_seq.training.run_directory import read_columns
from keras_seq.training.writing import writing


def plot_history(history: Path, steps: Path, picture: Path) -> None:
    """Draws a run: training and validation loss in nats per token by epoch, then norms and learning rate by step.

    An existing picture is replaced only when the new one is complete.

    Args:
        history: the file `history.csv`.
        steps: the file `steps.csv`.
        picture: the `.png` file to write.

    Raises:
        RunError: a table is damaged.
        TrainingError: the picture cannot be written.
    """
    figure = Figure(figsize=(7, 9), layout="constrained")
    panels: list[Axes] = list(figure.subplots(3))
    by_epoch, by_step = read_columns(history), read_columns(steps)
    for column, label in (("nats", "training"), ("val_nats", "validation")):
        panels[0].plot(by_epoch["epoch"] + 1, by_epoch[column], marker="o", markersize=3, label=label)
    panels[0].set(xlabel="epoch", ylabel="nats per token")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    for column, label in (("gradient_norm", "gradient"), ("clipped_norm", "after clipping")):
        panels[1].plot(by_step[column], linewidth=0.6, label=label)
    panels[1].set(xlabel="step", ylabel="norm", yscale="log")
    panels[2].plot(by_step["parameter_norm"], label="norm of the weights")
    rate = panels[2].twinx()
    rate.plot(by_step["learning_rate"], color="tab:green", label="learning rate (right)")
    panels[2].set(xlabel="step")
    for axes in panels[:2]:
        axes.legend()
    panels[2].legend(handles=[*panels[2].get_lines(), *rate.get_lines()], loc="center right")
    for axes in panels:
        axes.grid(alpha=0.3)
    with writing(picture), replacing(picture) as partial:
        figure.savefig(partial, dpi=130)
