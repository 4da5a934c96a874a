"""What README and the pages in docs show is true of the program: blocks of Python run, command lines parse, links lead somewhere."""

import re
import shlex
from pathlib import Path

import keras
import pytest
from docs_modules import load

import keras_seq_export.errors  # noqa: F401 (its classes of errors)
from keras_seq.cli.main import parse
from keras_seq.errors import KerasSeqError

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LONGEST_LINE = 120  # of prose
_FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(language):
    """The blocks of a language in all pages, each with the name of its page."""
    for page in PAGES:
        found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        yield from (pytest.param(block, id=f"{name_of(page)}-{index}") for index, block in enumerate(found))


@pytest.mark.slow
@pytest.mark.parametrize("block", list(blocks("python")))
def test_python_runs_as_it_is_written(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("shakespeare.txt").write_text("ROMEO: to be or not to be, that is the question.\n" * 200, encoding="utf-8")
    keras.utils.set_random_seed(0)  # Otherwise the weights depend on the tests before.
    exec(block, {})
    if "numbers.tflite" in block:
        assert capsys.readouterr().out == 2 * "four zero seven\n"


def _calls(block):
    """Yields the words of each call in a block of a shell. Quoted texts may go over several lines."""
    shell = shlex.shlex(re.sub(r"(^|\s)#.*$", "", block, flags=re.MULTILINE), posix=True, punctuation_chars="&|;\n")
    shell.commenters = ""
    shell.whitespace = " \t"
    shell.whitespace_split = True
    words = []
    for word in [*shell, "\n"]:
        if not set(word) <= set("&|;\n"):
            words.append(word)
        elif words:
            yield words
            words = []


def command_lines(text):
    """Yields the calls of the program in shell blocks and between backticks, without what stands for something else."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for words in _calls(block.replace("\\\n", " ")):
            if words[0].rpartition("/")[2] == "keras-seq":
                yield [word for word in words[1:] if not word.startswith("$")]
    for line in re.findall(r"`keras-seq ([^`\n]*)`", text):
        if not re.search(r"\.\.\.|COMMAND|WORDS", line):
            yield shlex.split(line)


def is_understood(arguments):
    """Returns whether the program takes the arguments. A command that is only named lacks what it requires."""
    try:
        parse(arguments)
    except SystemExit as ended:
        return ended.code == 0 or len(arguments) < 3
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_command_lines_are_those_of_the_program(page):
    lines = command_lines(page.read_text(encoding="utf-8"))
    assert [shlex.join(line) for line in lines if not is_understood(line)] == []


def anchors_of(page):
    """Returns the anchors of a page's headings, as GitHub and the site make them."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_anchors_exist(page):
    text = re.sub(r"`[^`\n]*`", "", _FENCED.sub("", page.read_text(encoding="utf-8")))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http:", "https:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.name == "command-line.md":
            continue  # docs/build.py writes it.
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_of_prose_fit(page):
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if not line.startswith(("|", "    "))]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


def test_pictures_are_made_by_a_command_that_the_docs_name():
    quickstart = (ROOT / "docs/quickstart.md").read_text(encoding="utf-8")
    assert "keras-seq demo" in quickstart
    pictures = list((ROOT / "docs/pictures").glob("*.png"))  # road.svg is drawn by hand.
    assert pictures
    for picture in pictures:
        assert f"`demo/{picture.name}`" in quickstart


def _with_subclasses(error):
    yield error
    for one in error.__subclasses__():
        yield from _with_subclasses(one)


def test_the_pages_that_errors_name_exist():
    named = {error.page for error in _with_subclasses(KerasSeqError) if error.page}
    assert {"docs/corpora.md", "docs/serving.md"} < named  # a page of each package
    for page in named:
        path, _, anchor = page.partition("#")
        assert (ROOT / path).exists(), page
        assert not anchor or anchor in anchors_of(ROOT / path), page


def test_tables_have_the_figures_of_the_results():
    tables = load("tables")
    texts = {page: page.read_text(encoding="utf-8") for page in tables.PAGES}
    shown = [name for text in texts.values() for name in re.findall(r"<!-- table: (\w+) -->", text)]
    assert sorted(shown) == sorted(tables.TABLES)
    for page, text in texts.items():
        assert text == tables.with_tables(text), f"{page.name}: run `python docs/tables.py`"
