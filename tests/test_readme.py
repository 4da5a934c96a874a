"""What the README and the pages in docs show in Python runs as it is written there."""

import re
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[1]


def blocks(*pages):
    """The blocks of Python in pages, each with the name of its page."""
    for page in pages:
        found = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        yield from (pytest.param(block, id=f"{page.stem}-{index}") for index, block in enumerate(found))


@pytest.mark.slow
@pytest.mark.parametrize("block", list(blocks(*sorted((ROOT / "docs").glob("*.md")))))
def test_python_in_the_docs_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)  # Otherwise the weights depend on the tests before.
    exec(block, {})
    if "numbers.tflite" in block:
        assert capsys.readouterr().out == 2 * "four zero seven\n"


@pytest.mark.slow
@pytest.mark.parametrize("block", list(blocks(ROOT / "README.md")))
def test_python_in_the_readme_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shakespeare.txt").write_text("ROMEO: to be or not to be, that is the question.\n" * 200, encoding="utf-8")
    exec(block, {})
