import matplotlib
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_seq.analysis.exploding_gradients import Explosion, plot_explosions
from keras_seq.analysis.plots import plot_agreement, plot_gates, plot_gradient_flow
from keras_seq.layers.gru import Gates
from keras_seq.training.plot_history import plot_history

DPI = 130


def read(picture, width, height):
    """The picture's pixels, `(rows, columns, 3)`; checks its size, and that something is drawn on the white."""
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    pixels = matplotlib.image.imread(picture)[:, :, :3]
    assert pixels.shape == (round(height * DPI), round(width * DPI), 3)
    drawn = (pixels < 0.9).any(axis=2).mean()
    assert 0.005 < drawn < 0.9
    assert plt.get_fignums() == []  # closed: a long run would gather figures
    return pixels


def share(pixels, color):
    return (np.abs(pixels - matplotlib.colors.to_rgb(color)).max(axis=2) < 0.03).mean()


def history(path, rows):
    path.write_text(
        "epoch,nats,val_nats\n" + "".join(f"{epoch},{a},{b}\n" for epoch, (a, b) in enumerate(rows)), "utf-8"
    )
    return path


def steps(path, count):
    header = "epoch,step,gradient_norm,clipped_norm,parameter_norm,learning_rate\n"
    rows = (f"0,{step},{2 + step % 7},{1 + step % 3},{30 + step / 100},{0.01 / (step + 1)}\n" for step in range(count))
    path.write_text(header + "".join(rows), "utf-8")
    return path


def test_history(tmp_path):
    by_step = steps(tmp_path / "steps.csv", 90)
    for name, last in (("one", 2.6), ("other", 2.9)):
        rows = [(3.1, 3.2), (2.5, 2.7), (2.2, last)]
        plot_history(history(tmp_path / f"{name}.csv", rows), by_step, tmp_path / f"{name}.png")
    one, other = read(tmp_path / "one.png", 7, 9), read(tmp_path / "other.png", 7, 9)
    assert (one != other).any()
    for color in ("C0", "C1"):  # a curve for training, one for validation
        assert share(one, color) > 0.0005


def test_history_of_one_epoch(tmp_path):
    table = history(tmp_path / "history.csv", [(3.1, 3.2)])
    plot_history(table, steps(tmp_path / "steps.csv", 1), tmp_path / "history.png")
    read(tmp_path / "history.png", 7, 9)


def test_gradient_flow(tmp_path):
    lags = np.arange(100)
    plot_gradient_flow({"gru": 0.9**lags, "gru, untrained": 0.3**lags}, tmp_path / "flow.png")
    pixels = read(tmp_path / "flow.png", 8, 5)
    assert share(pixels, "C0") > 0.001  # one color for both
    assert share(pixels, "C1") == 0


def test_explosions(tmp_path):
    runs = [
        Explosion("relu", {}, [1.0, 30.0, 4000.0, np.nan], np.nan, "the gradient's norm became nan"),
        Explosion("relu", {"global_clipnorm": 1.0}, [1.0, 2.0, 1.5, 1.1], 2.0, ""),
    ]
    plot_explosions(runs, tmp_path / "explosion.png")
    pixels = read(tmp_path / "explosion.png", 8, 5)
    assert share(pixels, "C0") > 0.0005
    assert share(pixels, "C1") > 0.0005


def test_agreement(tmp_path):
    curves = {"gru": [1.0, 0.99, 0.98, 0.97], "simple_rnn": [1.0, 0.8, 0.6, 0.5]}
    plot_agreement([2, 6, 10, 14], curves, tmp_path / "agreement.png")
    pixels = read(tmp_path / "agreement.png", 8, 4.5)
    for color in ("C0", "C1", "0.4"):  # a curve each, and chance
        assert share(pixels, color) > 0.0005


@pytest.mark.parametrize("count", [6, 40])
def test_gates(tmp_path, count):
    """Of five units, the four most lasting are drawn: three keep their memory (dark), one does not (bright), lowest."""
    update = np.zeros((count, 5))
    update[:, 1] = 1.0
    update[:, 2] = 2.0  # the least lasting of all: not drawn
    gates = Gates(update, np.ones((count, 5)), -np.ones((count, 5)))
    plot_gates(["the", " cats", "\n", *["x"] * (count - 3)], gates, tmp_path / "gates.png", units=4)
    pixels = read(tmp_path / "gates.png", max(7, 0.3 * count), 9)
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
