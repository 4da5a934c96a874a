"""Pictures that were drawn, as pixels."""

import matplotlib.colors
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np

DPI = 130


def read_picture(picture, width, height):
    """Returns the pixels, `(rows, columns, 3)`. Checks the size in inches and that something is drawn on white."""
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    pixels = matplotlib.image.imread(picture)[:, :, :3]
    assert pixels.shape == (round(height * DPI), round(width * DPI), 3)
    drawn = (pixels < 0.9).any(axis=2).mean()
    assert 0.005 < drawn < 0.9
    assert plt.get_fignums() == []  # closed, so that a long run does not accumulate figures
    return pixels


def color_share(pixels, color):
    """Returns the share of the pixels that have a color, such as `"C0"`."""
    return (np.abs(pixels - matplotlib.colors.to_rgb(color)).max(axis=2) < 0.03).mean()
