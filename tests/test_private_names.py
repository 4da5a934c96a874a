"""Only `keras_seq.keras_internals` uses private names of Keras and TensorFlow."""

import ast
from pathlib import Path

import keras_seq
import keras_seq_export
from keras_seq import keras_internals


def private_uses(path: Path, own: set[str]) -> set[str]:
    """Returns the private names that a module uses and the packages do not define, and its imports of private modules."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            found |= {node.attr} - own
        elif isinstance(node, ast.Attribute) and node.attr == "__class__" and isinstance(node.ctx, ast.Store):
            found.add("assignment to __class__")
        elif isinstance(node, ast.ImportFrom | ast.Import):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            found |= {one for one in modules if one.startswith(("keras.src", "tensorflow.python"))}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("_keras_"):
            found.add(node.value)
    return found


def own_names(path: Path) -> set[str]:
    """Returns the names that a module defines or assigns."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return names


def test_no_other_module_uses_a_private_name():
    folders = [Path(package.__file__).parent for package in (keras_seq, keras_seq_export)]
    modules = [path for folder in folders for path in folder.rglob("*.py") if path != Path(keras_internals.__file__)]
    # Private names of Python's named tuples, of `os`, and of tensorflow-datasets.
    own = {"_asdict", "_fields", "_make", "_replace", "_exit", "_data_dir_root"}.union(*map(own_names, modules))
    used = {path.name: names for path in modules if (names := private_uses(path, own))}
    assert not used, "put the private names of Keras and TensorFlow behind a function of keras_internals"
