"""Runs the notebooks of the course: `python docs/run_course.py [NAME ...]` writes them with their output into build/course."""

import sys
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient

COURSE = Path(__file__).resolve().parent / "course"
OUTPUT = COURSE.parents[1] / "build/course"


def run(notebook: Path, folder: Path = OUTPUT) -> Path:
    """Runs a notebook where it lies; returns the file with its output, which it writes into a folder.

    Raises:
        CellExecutionError: a cell ended with an error.
    """
    cells = jupytext.read(notebook)
    NotebookClient(cells, timeout=600, resources={"metadata": {"path": str(COURSE)}}).execute()
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"{notebook.stem}.ipynb"
    jupytext.write(cells, output)
    return output


if __name__ == "__main__":
    for notebook in sorted(COURSE.glob("[0-9]*.py")):
        if not sys.argv[1:] or notebook.stem in sys.argv[1:]:
            start = time.monotonic()
            run(notebook)
            print(f"{notebook.stem}: {time.monotonic() - start:.0f} s", flush=True)
