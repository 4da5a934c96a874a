"""`keras-seq gradients`."""


def test_gradients_of_a_run(folder, run_cli):
    answer = run_cli("gradients", "--run=fox", "--lags=20", "--output=flow", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "fox, gru, untrained" in answer.stdout
    assert sorted(path.name for path in (folder / "flow").iterdir()) == ["gradient_flow.csv", "gradient_flow.png"]
    assert len((folder / "flow" / "gradient_flow.csv").read_text().splitlines()) == 22


def test_results_that_cannot_be_written_are_reported(folder, run_cli, tmp_path):
    (tmp_path / "file").touch()
    for output in ("file", "file/flow"):
        answer = run_cli("gradients", "--run=fox", "--lags=20", f"--output={tmp_path / output}", cwd=folder)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr.startswith(f"keras-seq: {tmp_path / output} cannot be written: ")
        assert answer.stderr.endswith(". Check it, or choose another place\n")
