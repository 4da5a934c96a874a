"""Reads model files that Keras 2 wrote."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_seq.errors import ModelError
from keras_seq.files import temporary_folder
from keras_seq.layers.keras2_hard_sigmoid import keras2_hard_sigmoid
from keras_seq.models.checks import reason_of

# The layers that Keras 2 called on `[sequences, state, ...]`.
_TAKE_STATES = {"Bidirectional", "GRU", "LSTM", "RNN", "SimpleRNN"}
_MODELS = {"Functional", "Model", "Sequential"}


def load_keras2(path: str | os.PathLike[str]) -> keras.Model:
    """Loads a whole model from an `.h5` file that Keras 2 wrote.

    `keras.models.load_model` refuses recurrent models of TensorFlow 2's Keras 2, because of `time_major`. It loads some
    older ones, but with other outputs: `hard_sigmoid`, then the default of LSTM and GRU, has another slope in Keras 3. Here,
    all layers are stock layers of Keras 3 that give the outputs that they gave in Keras 2:

    * `keras2_hard_sigmoid` is in place of `hard_sigmoid`;
    * a GRU from before Keras had `reset_after` gets `reset_after=False`;
    * initial states, nested models, layers inside layers and policies of mixed precision are read as Keras 2 wrote them.

    `replace_layers` switches the model to the layers of keras_seq. It is not compiled: the state of the optimizer is lost. To load
    a model with layers of your own, call this function in `keras.saving.custom_object_scope`.

    Args:
        path: a file that `model.save("....h5")` of Keras 2 wrote. Files with weights alone, and the weights in `.keras`
            files of Keras 2, are read by `model.load_weights` of a model that was built in Keras 3.

    Raises:
        ModelError: the file does not exist, is not one of Keras 2, has no model, or has something that Keras 3 lacks, such
            as `time_major=True`, `CuDNNGRU`, or an operation of TensorFlow between the layers.
    """
    path = Path(path)
    config = _read_config(path)
    with temporary_folder() as directory:
        copy = directory / "model.h5"
        shutil.copyfile(path, copy)
        try:
            with h5py.File(copy, "r+") as file:
                file.attrs["model_config"] = json.dumps(_in_keras3(json.loads(config)))
            return keras.models.load_model(copy, compile=False)
        except Exception as error:  # Keras raises what its layers raise.
            raise _cannot_be_loaded(path, reason_of(error)) from error


def _cannot_be_loaded(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"{path} cannot be loaded: {reason.rstrip('.')}. Build the model in Keras 3, and load the weights of this file with "
        "`model.load_weights`"
    )


def _read_config(path: Path) -> str:
    """Returns the configuration of the model in a file of Keras 2, as JSON.

    Raises:
        ModelError: the file is another one.
    """
    if not path.is_file():
        raise ModelError(f"the model must be an .h5 file of Keras 2, but {path} is not a file; check the path")
    if not h5py.is_hdf5(path):
        raise ModelError(
            f"{path} is not an HDF5 file of Keras 2. Load a .keras file with `keras.models.load_model`; of one that Keras 2 "
            "wrote, `model.load_weights` loads the weights into a model that was built in Keras 3"
        )
    try:
        with h5py.File(path) as file:
            names = "keras_version", "backend", "model_config"
            version, backend, config = (_text(file.attrs.get(name)) for name in names)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}. Copy it again") from error
    if config is None:
        raise ModelError(
            f"{path} has no model, only weights: build the model in Keras 3, and load them with `model.load_weights`"
        )
    if version is None or not version.startswith("2."):
        raise ModelError(
            f"{path} is not a file of Keras 2. Its version is {version}: load it with `keras.models.load_model`"
        )
    if backend != "tensorflow":
        raise _cannot_be_loaded(path, f"Keras 2 wrote it with {backend}, whose convolutions have other weights")
    return config


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _in_keras3(part: Any) -> Any:
    """Returns what Keras 3 reads in place of a part of a configuration of Keras 2.

    Raises:
        ValueError: Keras 3 has nothing in its place.
    """
    if isinstance(part, list):
        return [_in_keras3(value) for value in part]
    if not isinstance(part, dict):
        return part
    if part.get("class_name") == "Sequential":
        part = {**part, "config": _with_input_layer(part["config"])}
    part = {name: _in_keras3(value) for name, value in part.items()}
    name, config = part.get("class_name"), part.get("config")
    if name in ("Policy", "PolicyV1"):
        return config["name"]
    if isinstance(config, dict):
        part["config"] = _arguments_in_keras3(name, config)
    for inner in ("layer", "backward_layer", "cell"):
        if isinstance(part.get(inner), dict):
            part[inner] = _with_module(part[inner])
    if "cells" in part:
        part["cells"] = list(map(_with_module, part["cells"]))
    if "input_layers" in part:
        part.update(_graph_in_keras3(part["layers"], part["output_layers"]))
    return part


def _with_input_layer(sequential: dict[str, Any] | list[Any]) -> dict[str, Any]:
    """Returns the configuration of a Sequential model with an input layer, which Keras 2 did not write before 2.4."""
    if isinstance(sequential, list):  # before Keras 2.2.3
        sequential = {"name": "sequential", "layers": sequential}
    first = sequential["layers"][0]
    shape = first["config"].get("batch_input_shape")
    if first["class_name"] == "InputLayer" or shape is None:
        return sequential
    config = {"batch_input_shape": shape, "dtype": first["config"].get("dtype", "float32")}
    return {**sequential, "layers": [{"class_name": "InputLayer", "config": config}, *sequential["layers"]]}


def _with_module(part: dict[str, Any]) -> dict[str, Any]:
    """Returns the configuration of a layer inside a layer with its module, which Keras 2 did not write before 2.13."""
    if "module" in part or ">" in part["class_name"]:
        return part
    module = "keras" if part["class_name"] in _MODELS else "keras.layers"
    return {**part, "module": module, "registered_name": None}


def _arguments_in_keras3(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a layer that give in Keras 3 what `config` gave in Keras 2."""
    if config.get("time_major"):
        raise ValueError(f"layer {config['name']!r} ({class_name}) has `time_major=True`, which Keras 3 does not have")
    without_meaning = {"time_major", "input_length"}
    if class_name != "InputLayer":
        without_meaning |= {"batch_input_shape"}
    if not config.get("implementation"):  # Keras 3 has only 1 and 2, which differ in the masks of dropout.
        without_meaning |= {"implementation"}
    config = {name: value for name, value in config.items() if name not in without_meaning}
    if class_name in ("GRU", "GRUCell"):
        config.setdefault("reset_after", False)
    hard = keras.saving.serialize_keras_object(keras2_hard_sigmoid)
    return {
        name: hard if value == "hard_sigmoid" and name.endswith("activation") else value
        for name, value in config.items()
    }


def _graph_in_keras3(layers: list[dict[str, Any]], outputs: list[Any]) -> dict[str, Any]:
    """Returns the layers and outputs of a graph, with their references to tensors as Keras 3 has them.

    A reference has the name of a layer, the number of its call and the number of its output.
    """
    classes = {layer["name"]: layer["class_name"] for layer in layers}

    def shifted(reference: list[Any], models: set[str]) -> list[Any]:
        name, call, *others = reference
        # The first call of a nested model was number 1 in Keras 2, and is number 0 in Keras 3.
        return [name, call - (classes.get(name) in models), *others]

    def new_call(layer: dict[str, Any], tensors: list[Any]) -> Any:
        if not all(isinstance(reference, list) for reference in tensors):
            raise ValueError(
                f"layer {layer['name']!r} ({layer['class_name']}) is an operation of TensorFlow, not a layer"
            )
        references = [shifted(reference, _MODELS) for reference in tensors]
        if layer["class_name"] not in _TAKE_STATES or len(references) == 1:
            return references
        sequences, *states = [
            {
                "class_name": "__keras_tensor__",
                "config": {"shape": [], "dtype": "float32", "keras_history": reference[:3]},
            }
            for reference in references
        ]
        named: dict[str, Any] = next((reference[3] for reference in references if len(reference) > 3), {})
        named = {name: value for name, value in named.items() if value is not None}
        return {"args": [sequences], "kwargs": {**named, "initial_state": states}}

    # Keras itself shifts the outputs of a graph that are those of a Functional model.
    return {
        "layers": [
            {**layer, "inbound_nodes": [new_call(layer, tensors) for tensors in layer["inbound_nodes"]]}
            for layer in layers
        ],
        "output_layers": [shifted(reference, {"Sequential"}) for reference in outputs],
    }
