"""The configuration of `ks.GRU`, and what Keras makes of it without this package."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from numpy_gru import BATCH, FEATURES, TIME, UNITS, numbers, random_weights

import keras_seq as ks

layers = keras.layers


@pytest.mark.parametrize(("ours", "stock"), [(ks.GRU, layers.GRU), (ks.GRUCell, layers.GRUCell)])
def test_a_configuration_with_the_defaults_loads_into_the_stock_class(ours, stock):
    mine = ours(UNITS, reset_gate=True, weight_dropout=0, reset_after=False, dropout=0.1, name="memory")
    copy = stock.from_config(mine.get_config())
    assert type(copy) is stock
    assert copy.get_config() == mine.get_config()
    assert ours.from_config(copy.get_config()).get_config() == mine.get_config()


@pytest.mark.parametrize(("ours", "stock"), [(ks.GRU, layers.GRU), (ks.GRUCell, layers.GRUCell)])
@pytest.mark.parametrize(
    "own", [{"reset_gate": False}, {"weight_dropout": 0.1}, {"reset_gate": False, "weight_dropout": 0.5}]
)
def test_what_only_our_class_computes_is_kept_and_refused_by_the_stock_class(ours, stock, own):
    config = ours(UNITS, **own).get_config()
    assert own.items() <= config.items()
    copy = ours.from_config(config)
    assert (copy.reset_gate, copy.weight_dropout) == (own.get("reset_gate", True), own.get("weight_dropout", 0))
    with pytest.raises((TypeError, ValueError), match="|".join(own)):
        stock.from_config(config)


def test_configurations_of_earlier_versions_load():
    config = {**ks.GRU(UNITS).get_config(), "reset_gate": True, "weight_dropout": 0.0}
    assert ks.GRU.from_config(config).get_config() == ks.GRU(UNITS, name=config["name"]).get_config()


WITHOUT_THIS_PACKAGE = """
import sys, keras, numpy as np
stock = {"keras_seq>GRU": keras.layers.GRU, "keras_seq>GRUCell": keras.layers.GRUCell}
for path in sys.argv[1:]:
    model = keras.models.load_model(path, custom_objects=stock)
    np.save(path + ".npy", model(np.load("inputs.npy"), training=False))
assert not any(name.startswith("keras_seq") for name in sys.modules)
"""


@pytest.mark.slow
def test_files_load_into_stock_layers_where_this_package_is_not_imported(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            ks.GRU(UNITS, return_sequences=True),
            layers.Bidirectional(ks.GRU(UNITS, return_sequences=True)),
            layers.RNN([ks.GRUCell(UNITS), layers.LSTMCell(3)]),
        ]
    )
    model.set_weights(random_weights(model))
    sequences = numbers(BATCH, TIME, FEATURES)
    np.save(tmp_path / "inputs.npy", sequences)
    names = ["model.keras", "model.h5"]
    for name in names:
        model.save(tmp_path / name)
    program = [sys.executable, "-c", WITHOUT_THIS_PACKAGE, *names]
    subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
    for name in names:
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), model(sequences), atol=1e-6)


def test_a_file_has_the_registered_names_and_no_argument_of_ours(tmp_path):
    keras.Sequential([keras.Input((None, FEATURES)), ks.GRU(UNITS)]).save(tmp_path / "model.keras")
    text = zipfile.ZipFile(tmp_path / "model.keras").read("config.json").decode()
    layer = json.loads(text)["config"]["layers"][1]
    assert (layer["module"], layer["registered_name"]) == ("keras_seq.layers.gru", "keras_seq>GRU")
    assert not layer["config"].keys() & {"reset_gate", "weight_dropout"}
