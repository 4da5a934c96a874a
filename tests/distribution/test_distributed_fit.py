"""Training on two replicas, in one process and in two, against training on one."""

import os
import sys

import fits
import keras
import numpy as np
import pytest
from workers import run_all, worker_environments

from keras_seq import distribution
from keras_seq.errors import DistributionError

REPLICAS = ("mirrored", "worker 0", "worker 1")
STOCK_KERAS_ERROR = "with an unsupported type (<class 'tensorflow.python.distribute.values.PerReplica'>) to a Tensor"


@pytest.fixture(scope="module")
def two_replicas(tmp_path_factory):
    """Trains on two devices of one process and in each of two workers; returns the results of each by name."""
    folder = tmp_path_factory.mktemp("fits")
    kinds = {"mirrored": "mirrored", "worker 0": "multi_worker", "worker 1": "multi_worker"}
    commands = [[sys.executable, fits.__file__, kind, folder / f"{name}.npz"] for name, kind in kinds.items()]
    for output, code in run_all(commands, [dict(os.environ), *worker_environments()]):
        assert code == 0, output[-3000:]
    return {name: np.load(folder / f"{name}.npz") for name in kinds}


@pytest.fixture(scope="module")
def one_replica():
    return {case: fits.fit(case) for case in fits.CASES}


@pytest.fixture(scope="module")
def one_replica_weighted():
    return fits.fit_weighted()


@pytest.mark.slow
@pytest.mark.parametrize("name", REPLICAS)
@pytest.mark.parametrize("case", fits.CASES)
def test_two_replicas_train_like_one(one_replica, two_replicas, name, case):
    assert len(one_replica[case]["losses"]) == fits.STEPS
    assert one_replica[case]["losses"][-1] < one_replica[case]["losses"][0]
    for what, expected in one_replica[case].items():
        found = two_replicas[name][f"{case}/{what}"]
        if what == "losses":
            np.testing.assert_allclose(found, expected, atol=1e-4)
        else:  # Weights, norms before clipping, and the states of all rows.
            np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=what)


@pytest.mark.slow
@pytest.mark.parametrize("name", REPLICAS)
def test_sample_weights_count_like_on_one_replica(one_replica_weighted, two_replicas, name):
    for what, expected in one_replica_weighted.items():
        np.testing.assert_allclose(two_replicas[name][f"weighted/{what}"], expected, atol=1e-6, err_msg=what)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["worker 0", "worker 1"])
def test_keras_alone_does_not_train_in_several_workers(two_replicas, name):
    """If this fails, Keras's own `fit` works: remove `BuildsFromOneReplica` and the step functions from `DistributedFit`."""
    assert STOCK_KERAS_ERROR in str(two_replicas[name]["stock_keras"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_workers_exchange_values(two_replicas, number):
    """Tests `collectives` between the workers that the other tests of this file need anyway."""
    results = two_replicas[f"worker {number}"]
    assert results["exchange/worker_number"] == number
    assert results["exchange/any_of_one"]
    assert not results["exchange/any_of_none"]
    expected = "all workers must have the same code, but they do not"
    assert str(results["exchange/difference"]).startswith(expected)


def dense(**options):
    """Returns a custom model under a strategy of one device."""
    with distribution.scope(distribution.strategy("mirrored", ["CPU:0"])):
        model = distribution.distributed(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
        model.compile(**{"optimizer": "sgd", "loss": "mse"} | options)
    return model


def test_float16_is_rejected():
    with pytest.raises(DistributionError, match="must be in float32 or bfloat16"):
        dense(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()))


@pytest.mark.parametrize(
    "options",
    [
        {"run_eagerly": True},
        {"steps_per_execution": 2},
        {"optimizer": keras.optimizers.SGD(gradient_accumulation_steps=2)},
    ],
)
def test_options_that_work_on_one_device_only_are_rejected(options):
    with pytest.raises(DistributionError, match="must run one step at a time in a graph"):
        dense(**options)


def test_a_compiled_model_is_rejected():
    compiled = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    compiled.compile("sgd", "mse")
    with pytest.raises(DistributionError, match="must be called before `compile`"):
        distribution.distributed(compiled)


def test_a_distributed_model_is_saved_and_loaded_under_its_own_class(tmp_path):
    model = dense()
    assert distribution.distributed(model) is model
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    model.save(tmp_path / "dense.keras")
    loaded = keras.saving.load_model(tmp_path / "dense.keras")
    assert type(loaded) is keras.Sequential
    assert type(loaded.optimizer) is keras.optimizers.SGD
    np.testing.assert_array_equal(loaded.predict(np.ones((2, 3)), verbose=0), model.predict(np.ones((2, 3)), verbose=0))
