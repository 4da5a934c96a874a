"""What an import costs, and that every public name is there."""

import importlib
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import keras_seq

HEAVY = ("tensorflow", "keras", "matplotlib", "jax", "torch")


def heavy_modules_after(*modules):
    """The heavy packages that a fresh process has loaded after importing `modules`."""
    code = "import importlib, sys\n" + "".join(f"importlib.import_module({module!r})\n" for module in modules)
    code += f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    "modules",
    [
        ["keras_seq"],
        ["keras_seq.data.vocabulary", "keras_seq.data.load", "keras_seq.data.agreement"],
        ["keras_seq.generation.threefry", "keras_seq.generation.sampling", "keras_seq.generation"],
        ["keras_seq.data.batches", "keras_seq.training.run_directory"],
        ["keras_seq_export"],
        ["keras_seq_export.tflite.runtime"],
    ],
    ids=lambda modules: modules[-1],
)
def test_imports_load_neither_tensorflow_nor_keras(modules):
    assert heavy_modules_after(*modules) == []


def test_the_check_itself_sees_keras():
    assert "keras" in heavy_modules_after("keras_seq.layers.gru")


@pytest.mark.parametrize("package", ["keras_seq", "keras_seq_export"])
def test_every_public_name_is_there(package):
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize("package", ["keras_seq", "keras_seq_export"])
def test_no_module_has_a_public_names_name(package):
    """Importing a submodule sets it as an attribute of the package, over the function of that name."""
    module = importlib.import_module(package)
    assert not {part.name for part in pkgutil.iter_modules(module.__path__)} & set(module.__all__)


def test_public_names_are_those_of_the_lazy_table():
    assert sorted(keras_seq.__all__) == sorted(keras_seq._MODULE_OF)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'keras_seq' has no attribute 'lstm_everywhere'"):
        keras_seq.lstm_everywhere  # noqa: B018


def test_the_wheel_has_every_file_of_the_page():
    repository = Path(__file__).parents[1]
    build = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    page = {file.relative_to(repository).as_posix() for file in (repository / "export/web").iterdir() if file.is_file()}
    assert set(build["force-include"]) == page
