"""The colour of each recurrent cell in every picture of the course, and how a notebook shows a picture file."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler

COLOURS = {"SimpleRNN": "#d95f02", "GRU": "#7570b3", "LSTM": "#1b9e77"}
DOTS_PER_INCH = 130  # of the pictures of keras_seq


def in_colours_of(*cells, **styles):
    """Returns a context in which the curves of a new picture have the colours of these cells, in this order.

    `styles` are other properties of the curves, each a list as long as `cells`, such as `linestyle=["-", "--"]`.

    Example:
        >>> with in_colours_of("GRU", "GRU", linestyle=["-", "--"]):
        ...     _, axes = plt.subplots()
        >>> axes.plot([1, 2])[0].get_color()
        '#7570b3'
    """
    return mpl.rc_context({"axes.prop_cycle": cycler(color=[COLOURS[cell] for cell in cells], **styles)})


def show(picture: Path):
    """Shows a picture file below the cell of a notebook."""
    pixels = plt.imread(picture)
    height, width = pixels.shape[:2]
    figure = plt.figure(figsize=(width / DOTS_PER_INCH, height / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pixels)
    axes.set_axis_off()
