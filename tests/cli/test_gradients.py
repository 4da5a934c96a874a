"""`keras-seq gradients`."""


def test_gradients_of_a_run(folder, run_cli):
    answer = run_cli("gradients", "--run=fox", "--lags=20", "--output=flow", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "fox, gru, untrained" in answer.stdout
    assert sorted(path.name for path in (folder / "flow").iterdir()) == ["gradient_flow.csv", "gradient_flow.png"]
    assert len((folder / "flow" / "gradient_flow.csv").read_text().splitlines()) == 22
