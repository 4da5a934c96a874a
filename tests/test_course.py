"""The notebooks of the course run, and the site shows them."""

import pytest
from docs_modules import DOCS, load

NOTEBOOKS = sorted((DOCS / "course").glob("[0-9]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_runs(notebook, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    written = load("run_course").run(notebook, tmp_path)
    cells = nbformat.read(written, as_version=4).cells
    pictures = [one for cell in cells for one in cell.get("outputs", []) if "image/png" in one.get("data", {})]
    assert pictures


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_no_other_host(tmp_path):
    pytest.importorskip("zensical")
    load("build").build(tmp_path)
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert '"https://fonts.' not in text
        for tag in ("<script src=", "<img src=", '<link rel="stylesheet" href='):
            assert f'{tag}"http' not in text.replace("'", '"'), page
