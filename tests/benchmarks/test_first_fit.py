import json

import keras
import numpy as np
import pytest

from keras_seq.benchmarks import first_fit
from keras_seq.benchmarks.first_fit import MODELS, FirstFit, benchmark_first_fit, table


@pytest.mark.slow
def test_the_first_fit_of_a_model_is_timed(run_cli, tmp_path, monkeypatch):
    name = "one GRU(64), 40x32"
    monkeypatch.setattr(first_fit, "MODELS", {name: MODELS[name]})
    answer = run_cli("benchmark", "layer", "--first_fit", "--rounds=1", "--json", cwd=tmp_path)
    assert answer.returncode == 0
    (row,) = (FirstFit(**row) for row in json.loads(answer.stdout))
    assert row.model == name
    assert row.stock > 0
    assert row.ratio == row.ours / row.stock


def test_both_layers_take_turns_and_the_medians_are_compared(monkeypatch):
    calls, seconds = [], iter([1.0, 3.0, 9.0, 2.0, 2.0, 4.0])

    def fit(model, layer):
        calls.append((model, layer))
        return next(seconds)

    monkeypatch.setattr(first_fit, "_in_new_process", fit)
    name = "4 stacked GRU(32)"
    assert list(benchmark_first_fit([name], rounds=3)) == [FirstFit(name, stock=2.0, ours=3.0, ratio=1.5)]
    assert calls == [(name, "stock"), (name, "ours")] * 3


def test_a_table_has_a_line_for_each_model():
    lines = list(table(FirstFit(name, 1.0, 1.25, 1.25) for name in MODELS))
    assert len(lines) == 1 + len(MODELS)
    assert {len(line) for line in lines} == {len(lines[0])}
    for name, line in zip(MODELS, lines[1:], strict=True):
        assert line.startswith(f"{name} ")
        assert line.split()[-3:] == ["1.00", "1.25", "1.25x"]


@pytest.mark.parametrize("name", MODELS)
def test_the_models_take_their_data(name):
    fit = MODELS[name](keras.layers.SimpleRNN, np.random.default_rng(0))
    if fit.batch_size is None:
        lengths = [inputs.shape[1] for inputs, _ in fit.data[0]]
        assert len(set(lengths)) == len(lengths) == 20
        return
    inputs, targets = fit.data
    assert fit.model.compute_output_shape(inputs.shape) == targets.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "`rounds` must be a positive integer. Received: rounds=0"),
        ({"models": ["LSTM"]}, "`models` must be one of one GRU"),
    ],
)
def test_bad_arguments_are_rejected(options, message):
    with pytest.raises(ValueError, match="must be") as raised:
        next(benchmark_first_fit(**options))
    assert message in str(raised.value)
