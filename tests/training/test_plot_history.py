from pictures import color_share, read_picture

from keras_seq.training.plot_history import plot_history


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
    one, other = read_picture(tmp_path / "one.png", 7, 9), read_picture(tmp_path / "other.png", 7, 9)
    assert (one != other).any()
    for color in ("C0", "C1"):  # a curve for training, one for validation
        assert color_share(one, color) > 0.0005


def test_history_of_one_epoch(tmp_path):
    table = history(tmp_path / "history.csv", [(3.1, 3.2)])
    plot_history(table, steps(tmp_path / "steps.csv", 1), tmp_path / "history.png")
    read_picture(tmp_path / "history.png", 7, 9)
