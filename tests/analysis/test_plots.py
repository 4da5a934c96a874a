import resource

import matplotlib
import numpy as np
import pytest
from pictures import color_share, read_picture

from keras_seq.analysis.exploding_gradients import Explosion
from keras_seq.analysis.gradient_flow import FlowCurve
from keras_seq.analysis.plots import (
    cell_color,
    plot_agreement,
    plot_explosions,
    plot_gates,
    plot_gradient_flow,
    plot_learning,
)
from keras_seq.layers.gru_cell import Gates
from keras_seq.training.config import Clipping


def test_gradient_flow(tmp_path):
    lags = np.arange(100)
    curves = [FlowCurve("run", "gru", True, 0.9**lags), FlowCurve("run", "gru", False, 0.3**lags)]
    plot_gradient_flow(curves, tmp_path / "flow.png")
    pixels = read_picture(tmp_path / "flow.png", 8, 5)
    assert color_share(pixels, cell_color("gru")) > 0.001  # one color for both curves of a run
    assert color_share(pixels, cell_color("simple_rnn")) == 0
    plot_gradient_flow([*curves, FlowCurve("other", "simple_rnn", True, 0.5**lags)], tmp_path / "flow.png")
    assert color_share(read_picture(tmp_path / "flow.png", 8, 5), cell_color("simple_rnn")) > 0.0005


def test_runs_with_one_cell_have_one_color_and_other_markers(tmp_path):
    lags = np.arange(100)
    shares = []
    for other in ("run", "rum"):  # one width of the label
        curves = [FlowCurve("run", "gru", True, 0.9**lags), FlowCurve(other, "gru", True, 0.8**lags)]
        plot_gradient_flow(curves, tmp_path / "flow.png")
        shares.append(color_share(read_picture(tmp_path / "flow.png", 8, 5), cell_color("gru")))
    assert shares[1] > 1.2 * shares[0]


def test_explosions(tmp_path):
    runs = [
        Explosion("tanh", None, [1.0, 5.0, 20.0, 30.0], 6.0, ""),
        Explosion("tanh", Clipping("global_clipnorm", 1.0), [1.0, 2.0, 1.5, 1.1], 2.0, ""),
        Explosion("relu", None, [1.0, 30.0, 4000.0, np.nan], np.nan, "the gradient's norm became nan"),
        Explosion("relu", Clipping("global_clipnorm", 1.0), [1.0, 2.0, 1.5, 1.1], 2.0, ""),
    ]
    plot_explosions(runs, tmp_path / "explosion.png")
    pixels = read_picture(tmp_path / "explosion.png", 10, 5)
    for panel in np.split(pixels, 2, axis=1):  # one for each activation
        assert color_share(panel, cell_color("SimpleRNN")) > 0.001


def test_learning(tmp_path):
    gains = {name: ([100, 1_000, 10_000], [0.0, 0.1, level]) for name, level in (("ann", 0.2), ("bob", 0.4))}
    gains["short of turns"] = ([100], [0.05])
    turns = [("ann", 0.1), ("bob", 0.3), ("ann", 0.2), ("bob", 0.4)]
    plot_learning(gains, turns, tmp_path / "learning.png")
    pixels = read_picture(tmp_path / "learning.png", 12, 4.5)
    halves = np.split(pixels, 2, axis=1)
    for color in ("C0", "C1"):  # A line of each text in both plots.
        assert all(color_share(half, color) > 0.0005 for half in halves)
    assert color_share(halves[1], "C2") == 0


def test_agreement(tmp_path):
    curves = {"GRU": [1.0, 0.99, 0.98, 0.97], "SimpleRNN": [1.0, 0.8, 0.6, 0.5], "a new cell": [0.9, 0.7, 0.7, 0.7]}
    plot_agreement([2, 6, 10, 14], curves, tmp_path / "agreement.png")
    pixels = read_picture(tmp_path / "agreement.png", 8, 4.5)
    for color in (*map(cell_color, ("GRU", "SimpleRNN")), "C0", "0.4"):  # a curve each, the last of a random guess
        assert color_share(pixels, color) > 0.0005


@pytest.mark.parametrize("count", [6, 40])
def test_gates(tmp_path, count):
    """Draws the four of five units with the longest memory: three keep it (dark), the last one does not (bright)."""
    update = np.zeros((count, 5))
    update[:, 1] = 1.0
    update[:, 2] = 2.0  # the shortest memory: not drawn
    gates = Gates(update, np.ones((count, 5)), -np.ones((count, 5)))
    plot_gates(["the", " cats", "\n", *["x"] * (count - 3)], gates, tmp_path / "gates.png", units=4)
    pixels = read_picture(tmp_path / "gates.png", max(7, 0.3 * count), 9)
    pixels = pixels[:, : int(0.8 * pixels.shape[1])]  # without the color bars
    third = pixels.shape[0] // 3
    of_update, of_relevance, of_candidate = pixels[:third], pixels[third : 2 * third], pixels[2 * third :]

    def painted(panel, colors, end):
        return np.abs(panel - matplotlib.colormaps[colors](end)[:3]).max(axis=2) < 0.03

    dark, bright = (painted(of_update, "viridis", end) for end in (0.0, 1.0))
    assert dark.sum() / bright.sum() == pytest.approx(3, rel=0.1)
    assert np.nonzero(dark)[0].max() <= np.nonzero(bright)[0].min() + 1
    assert painted(of_relevance, "viridis", 1.0).mean() > 0.3
    assert painted(of_candidate, "coolwarm", 0.0).mean() > 0.3


def test_a_picture_on_a_full_disk_is_reported_and_the_old_one_is_kept(tmp_path):
    picture = tmp_path / "agreement.png"
    plot_agreement([2, 6], {"gru": [1.0, 0.9]}, picture)
    before = picture.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"agreement\.png cannot be written: File too large.*\. Check it, or choose"):
            plot_agreement([2, 6], {"gru": [0.5, 0.5]}, picture)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert picture.read_bytes() == before
    assert list(tmp_path.iterdir()) == [picture]


def test_a_picture_in_a_folder_that_is_a_file_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/flow\.png cannot be written: Not a directory.*\. Check it, or choose"):
        plot_gradient_flow([FlowCurve("run", "gru", True, np.ones(3))], tmp_path / "file" / "flow.png")
