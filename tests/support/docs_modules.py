"""The modules of the folder docs, which is no package."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def load(name):
    """Returns a module of the folder docs, such as `build`."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
