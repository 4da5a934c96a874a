"""What an import costs, which public names there are, and that no import is hidden in a string."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib

import paths
import pytest

import keras_seq

HEAVY = ("tensorflow", "keras", "matplotlib", "jax", "torch")
STAGES = ("data", "layers", "models", "generation", "distribution", "training", "analysis", "benchmarks", "cli")


def heavy_modules_after(*modules, path=""):
    """The heavy packages that a fresh process has loaded after importing `modules`, from `path` too."""
    code = f"import importlib, sys\nsys.path.insert(0, {str(path)!r})\n" + "".join(
        f"importlib.import_module({module!r})\n" for module in modules
    )
    code += f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_light_modules_load_neither_tensorflow_nor_keras():
    light = [
        "keras_seq",
        *("keras_seq.data.vocabulary", "keras_seq.data.load", "keras_seq.data.agreement", "keras_seq.data.encode"),
        *("keras_seq.data.lines", "keras_seq.data.streams", "keras_seq.data.tfds"),
        *("keras_seq.generation.threefry", "keras_seq.generation.sampling", "keras_seq.generation.generation"),
        *("keras_seq.training.config", "keras_seq.training.run_directory", "keras_seq.cli.main"),
        "keras_seq.distribution.tf_config",
        *("keras_seq_export", "keras_seq_export.tflite.runtime", "keras_seq_export.client.client"),
    ]
    assert heavy_modules_after(*light) == []


def test_the_check_itself_sees_each_heavy_package(tmp_path):
    """Empty packages of these names stand for the real ones, which take seconds to load."""
    for name in HEAVY:
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "all_of_them.py").write_text(f"import {', '.join(HEAVY)}")
    assert heavy_modules_after("all_of_them", path=tmp_path) == list(HEAVY)


@pytest.mark.parametrize("package", ["keras_seq", "keras_seq.distribution", "keras_seq_export"])
def test_every_public_name_is_there(package):
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize("package", ["keras_seq", "keras_seq.distribution", "keras_seq_export"])
def test_no_module_has_a_public_names_name(package):
    """Importing a submodule sets it as an attribute of the package, over the function of that name."""
    module = importlib.import_module(package)
    assert not {part.name for part in pkgutil.iter_modules(module.__path__)} & set(module.__all__)


def test_public_names_are_those_of_the_lazy_table():
    assert sorted(keras_seq.__all__) == sorted(keras_seq._MODULE_OF)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'keras_seq' has no attribute 'lstm_everywhere'"):
        keras_seq.lstm_everywhere  # noqa: B018


def modules_in_strings(path):
    """The modules of this project that a file names in strings other than docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from re.findall(r"(?<![\w.])(keras_seq(?:_export)?(?:\.\w+)+)", node.value)


@pytest.mark.parametrize("stage", STAGES)
def test_no_import_of_a_later_stage_is_hidden_in_a_string(stage):
    """import-linter reads import statements; `python -m keras_seq.cli` in a string would escape it."""
    later = STAGES[STAGES.index(stage) + 1 :]
    forbidden = tuple(f"keras_seq.{name}" for name in later) + (("keras_seq_export",) if "benchmarks" in later else ())
    for path in (paths.REPOSITORY / "keras_seq" / stage).glob("*.py"):
        assert [name for name in modules_in_strings(path) if name.startswith(forbidden)] == [], path


def test_keras_seq_export_hides_no_import_of_the_program():
    forbidden = tuple(f"keras_seq.{name}" for name in STAGES[STAGES.index("distribution") :])
    for path in (paths.REPOSITORY / "export" / "keras_seq_export").rglob("*.py"):
        assert [name for name in modules_in_strings(path) if name.startswith(forbidden)] == [], path


def lines_of_body(function):
    """The number of lines of a function without its signature and docstring."""
    body = function.body
    has_docstring = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    first = body[1] if has_docstring and len(body) > 1 else body[0]
    return function.end_lineno - first.lineno + 1


@pytest.mark.parametrize("folder", ["keras_seq", "export/keras_seq_export"])
def test_modules_and_functions_are_short(folder):
    for path in (paths.REPOSITORY / folder).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert lines_of_body(node) <= 60, f"{path}: {node.name}"


def test_the_wheel_has_every_file_of_the_page():
    build = tomllib.loads((paths.REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    parts = (paths.REPOSITORY / "export/web").iterdir()
    page = {part.relative_to(paths.REPOSITORY).as_posix() for part in parts if part.name != "node_modules"}
    assert set(build["force-include"]) == page | {"LICENSE"}


def test_the_package_for_devices_needs_what_the_whole_one_needs():
    whole, runtime = (
        set(tomllib.loads((paths.REPOSITORY / file).read_text())["project"]["dependencies"])
        for file in ("pyproject.toml", "export/runtime/pyproject.toml")
    )
    assert runtime < whole  # the same versions of fewer packages
