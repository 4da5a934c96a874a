"""The files that folders and patterns name: against `glob` where there are no links, and each once where there are."""

import glob
import os

import pytest

from keras_seq.data.source_files import list_files
from keras_seq.data.text_files import read_texts
from keras_seq.errors import CorpusError


def listed(*sources):
    return [str(path) for path, _ in list_files(*sources)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder d, in the current one."""
    for name in ("d/a.txt", "d/b/a.txt", "d/b/c/d.txt", "d/b/c/e.py", "d/.hidden/f.txt", "d/.g.txt", "d/what[1].txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "d"


PATTERNS = (
    "d/**/*.txt", "d/**", "d/**/**/*.txt", "d/*", "d/*/*", "d/*/c/*.txt", "*/b/*.txt", "**/c/*", "d/[ab]*", "d/?.txt",
    "d/.*", "d/.*/*", "d/**/.*", "d/b/../*.txt", "d/**/c/**/d.*", "d/what[[]1].txt",
)  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_has_the_files_that_glob_finds(folder, pattern):
    for absolute in (pattern, str(folder.parent / pattern)):
        expected = {path for path in glob.glob(absolute, recursive=True) if os.path.isfile(path)}
        assert len(expected) > 0
        assert {os.path.realpath(path) for path in listed(absolute)} == set(map(os.path.realpath, expected))
        assert listed(absolute) == sorted(listed(absolute))


@pytest.mark.parametrize("source", ["d/**/*.txt", "d/**", "d", "d/**/**/**/*.txt"])
def test_links_in_a_circle_end_and_each_file_is_read_once(folder, source):
    before = listed(source)
    assert before
    for name, target in (("l", "."), ("m", "."), ("b/up", ".."), ("b/c/again", "../../b"), ("z.txt", "a.txt")):
        (folder / name).symlink_to(target)
    assert listed(source) == before
    assert listed(source, "d/a.txt", "d/l/m/l/a.txt", "d") == [*before, *sorted(set(listed("d")) - set(before))]
    (pieces,) = {"".join("".join(pieces) for _, pieces in read_texts(source)) for _ in range(2)}
    assert pieces.count("text of d/a.txt") == 1


def test_a_file_that_only_a_link_names_is_read(folder):
    # As Kubernetes mounts a ConfigMap.
    (folder / "..data").symlink_to(".hidden")
    (folder / "f.txt").symlink_to("..data/f.txt")
    assert listed("d/*.txt") == ["d/a.txt", "d/f.txt", "d/what[1].txt"]
    assert "d/f.txt" in listed("d")
    (folder.parent / "link").symlink_to("d/b")
    assert listed("link") == listed("link/**/*") == ["link/a.txt", "link/c/d.txt", "link/c/e.py"]
    (folder.parent / "named.txt").symlink_to("d/a.txt")
    assert listed("named.txt") == ["named.txt"]
    assert listed("d/a.txt", "named.txt") == ["d/a.txt"]


@pytest.mark.parametrize("source", ["d/b", "d/b/**/*.txt", "d/b/**"])
@pytest.mark.parametrize(("name", "target"), [("x", "/etc"), ("x", "../.hidden"), ("x.txt", "../a.txt")])
def test_a_link_out_of_the_folder_is_refused(folder, source, name, target):
    (folder / "b" / name).symlink_to(target)
    with pytest.raises(CorpusError, match=r"the link d/b/x\S* leads out of the folder d/b, to /.*; name /"):
        listed(source)


def test_a_link_to_a_hidden_folder_is_refused_because_its_text_would_be_lost(folder):
    (folder / "x").symlink_to(".hidden")
    with pytest.raises(
        CorpusError,
        match=r"the link d/x leads to /.*/d/\.hidden, a hidden part of the folder d, which is not read; name /",
    ):
        listed("d")
    assert listed("d/x/*.txt") == ["d/x/f.txt"]


@pytest.mark.parametrize("target", ["absent.txt", "dangling.txt"])
def test_a_link_to_nothing_is_refused(folder, target):
    (folder / "dangling.txt").symlink_to(target)
    for source in ("d", "d/*.txt"):
        with pytest.raises(CorpusError, match=rf"dangling\.txt leads to {target}, which does not exist; remove"):
            listed(source)
    assert listed("d/b/**/*.txt") == ["d/b/a.txt", "d/b/c/d.txt"]


def test_a_folder_that_cannot_be_read_is_refused(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)  # Root, as in containers, may read everything.
    for source in ("d", "d/*.txt"):
        with pytest.raises(CorpusError, match="the folder d cannot be read: Permission denied; check its permissions"):
            listed(source)


def test_one_table_has_several_fields(folder):
    (folder / "news.csv").write_text("title,body\na,b\n")
    names = [("d/news.csv", "title"), ("d/news.csv", "body")]
    assert [
        (str(path), field) for path, field in list_files("d/news.csv:title", "d/*.csv:body", "d/news.csv:body")
    ] == names
    assert list_files("-", "d/a.txt", "-")[0] == (None, None)
    assert len(list_files("-", "d/a.txt", "-")) == 2
