"""Builds the site: `python docs/build.py` writes it into build/documentation/site.

The pages are those of this folder and the READMEs of the kits. The page of the command line is written from the parsers.
The pages of the course show the output of docs/run_course.py; before it has run, they show their code alone.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jupytext
from latex2mathml.converter import convert
from nbconvert import MarkdownExporter

from keras_seq.cli.main import COMMANDS

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
COURSE_OUTPUT = ROOT / "build/course"
# Pages that lie elsewhere in the repository, by their places in the site.
OTHER_PAGES = {
    "kits/runtime.md": ROOT / "export/runtime/README.md",
    "kits/web.md": ROOT / "export/web/README.md",
    "kits/c.md": ROOT / "export/native/README.md",
    "kits/android.md": ROOT / "export/android/README.md",
    "kits/ios.md": ROOT / "export/ios/README.md",
    "kits/microcontroller.md": ROOT / "export/native/micro/README.md",
    "security.md": ROOT / "SECURITY.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
    "changelog.md": ROOT / "CHANGELOG.md",
    "build.md": ROOT / "BUILD.md",
}
_LINK = re.compile(r"(?<=\]\()[^)#\s:]+(?=[)#])")
_EQUATION = re.compile(r"\$\$(.+?)\$\$|(?<![\w$`\\])\$([^$\n`]+?)\$(?![\w$])", re.DOTALL)
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def build(output: Path) -> None:
    """Writes the sources of all pages into `output/docs`, and the site into `output/site`."""
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(DOCS, output / "docs", ignore=shutil.ignore_patterns("*.md", "*.py", "*.toml", "__pycache__"))
    settings = (DOCS / "zensical.toml").read_text(encoding="utf-8").replace("{root}", ROOT.as_posix())
    (output / "zensical.toml").write_text(settings, encoding="utf-8")
    for source in sorted(DOCS.rglob("*.md")):
        _write(output, source.relative_to(DOCS), source.read_text(encoding="utf-8"), source)
    for place, source in OTHER_PAGES.items():
        _write(output, Path(place), source.read_text(encoding="utf-8"), source)
    for notebook in sorted((DOCS / "course").glob("[0-9]*.py")):
        page, pictures = course_page(notebook)
        _write(output, notebook.relative_to(DOCS).with_suffix(".md"), page, notebook)
        for name, content in pictures.items():
            (output / "docs/course" / name).write_bytes(content)
    _write(output, Path("command-line.md"), "\n".join(command_line()), DOCS / "command-line.md")
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=output, check=True)


def _write(output: Path, place: Path, text: str, source: Path) -> None:
    """Writes a page, with its links to files of the repository as links to pages of the site."""
    page = output / "docs" / place
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(with_mathml(with_links_of_the_site(text, place, source)), encoding="utf-8")


def with_links_of_the_site(text: str, place: Path, source: Path) -> str:
    """Returns a page whose links to other files of the repository lead to their places in the site."""
    places = {path: Path(one) for one, path in OTHER_PAGES.items()}

    def moved(match: re.Match[str]) -> str:
        target = (source.parent / match[0]).resolve()
        found = places.get(target)
        if found is None and target.is_relative_to(DOCS):
            found = target.relative_to(DOCS)
            found = found.with_suffix(".md") if found.suffix == ".py" else found
        return match[0] if found is None else os.path.relpath(found, place.parent)

    return _replaced_outside_code(_LINK, moved, text)


def _replaced_outside_code(pattern: re.Pattern[str], replacement: Callable[[re.Match[str]], str], text: str) -> str:
    parts = enumerate(_CODE.split(text))  # Every second part is code.
    return "".join(part if index % 2 else pattern.sub(replacement, part) for index, part in parts)


def with_mathml(text: str) -> str:
    """Returns a page whose equations are MathML, which browsers show without a script."""

    def equation(match: re.Match[str]) -> str:
        # In a span, because Markdown takes other elements at the beginning of a line for a block.
        return convert(match[1], display="block") if match[1] else f"<span>{convert(match[2])}</span>"

    return _replaced_outside_code(_EQUATION, equation, text)


def course_page(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """Returns the page of a notebook, and its pictures by their names."""
    executed = COURSE_OUTPUT / f"{notebook.stem}.ipynb"
    cells = jupytext.read(executed if executed.exists() else notebook)
    names = {"unique_key": notebook.stem, "output_files_dir": "."}
    page, resources = MarkdownExporter().from_notebook_node(cells, resources=names)
    return page, {Path(name).name: content for name, content in resources["outputs"].items()}


def command_line() -> Iterator[str]:
    """Yields the lines of the page of the command line."""
    program = argparse.ArgumentParser(prog="keras-seq")
    commands = program.add_subparsers()
    for command in COMMANDS:
        command.add_parser(commands)
    yield "# The command line\n"
    yield "Written from the program: `keras-seq COMMAND --help` says the same.\n"
    for name, parser in commands.choices.items():
        yield from _section(name, parser, "##")
        subjects = parser.get_default("subjects")
        for subject, other in subjects.choices.items() if subjects else ():
            yield from _section(f"{name} {subject}", other, "###")


def _section(name: str, parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    """Yields the lines about a command: what it does, and a table of the options of each group."""
    yield f"{heading} keras-seq {name}\n"
    yield f"{parser.description}\n"
    for group in parser._action_groups:
        options = [one for one in group._group_actions if one.option_strings and one.dest not in ("help", "helpfull")]
        if not options:
            continue
        yield f"| {group.title} | |"
        yield "|---|---|"
        for option in options:
            yield f"| `{_usage(option)}` | {_escaped(option.help or '')} |"
        yield ""


def _usage(option: argparse.Action) -> str:
    """Returns an option with what it takes, such as `--level {char,word}`."""
    if option.nargs == 0:
        return option.option_strings[0]
    taken = "{" + ",".join(map(str, option.choices)) + "}" if option.choices else option.metavar or option.dest.upper()
    return f"{option.option_strings[0]} {taken}".replace("|", "\\|")


def _escaped(text: str) -> str:
    """Returns text without what Markdown would take for marks."""
    return re.sub(r"([<>|*_`\[\]])", r"\\\1", text.replace("%%", "%"))


if __name__ == "__main__":
    build(ROOT / "build/documentation")
