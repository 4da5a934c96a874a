import csv
import gzip
import io
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_seq.data.text_files import read_texts
from keras_seq.errors import CorpusError


def write(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def whole(source):
    return [(name, "".join(pieces)) for name, pieces in read_texts(source)]


def only(source):
    ((_, text),) = whole(source)
    return text


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).map(
    lambda text: "x" + text
)


@given(text=TEXT, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), packed=st.booleans())
def test_every_text_comes_back(text, encoding, packed, tmp_path_factory):
    data = text.encode(encoding)
    path = write(
        tmp_path_factory.mktemp("text"), "a.txt.gz" if packed else "a.txt", gzip.compress(data) if packed else data
    )
    assert whole(path) == [("a", text.removeprefix("\ufeff"))]


@given(records=st.lists(TEXT, min_size=1), kind=st.sampled_from(["csv", "tsv", "jsonl"]))
def test_the_records_of_a_table_are_the_lines(records, kind, tmp_path_factory):
    table = io.StringIO(newline="")
    if kind == "jsonl":
        table.write("\n".join(json.dumps({"id": 1, "body": record}) for record in records))
    else:
        writer = csv.writer(table, delimiter="\t" if kind == "tsv" else ",")
        writer.writerows([["id", "body"], *([1, record] for record in records)])
    path = write(tmp_path_factory.mktemp("table"), f"news.{kind}", table.getvalue())
    expected = "".join(record if record.endswith("\n") else record + "\n" for record in records)
    assert only(f"{path}:body") == expected
    if kind == "jsonl":
        assert only(path) == expected  # The only field of text needs no name.


def test_a_long_field_is_read_and_the_limit_of_others_stays(tmp_path):
    before = csv.field_size_limit()
    path = write(tmp_path, "long.csv", "body\n" + "x" * (before + 10) + "\n")
    assert len(only(path)) == before + 11
    assert only(write(tmp_path, "short.csv", "body\nx\n")) == "x\n"
    assert csv.field_size_limit() == before


def test_a_folder_and_a_pattern_are_their_files_in_order(tmp_path):
    for name in ("b.txt", "a/c.py", "a/.hidden", ".git/config", "a/b/d.txt.gz"):
        write(tmp_path, name, gzip.compress(b"text of d") if name.endswith("gz") else f"text of {name}")
    assert [name for name, _ in read_texts(tmp_path)] == ["d", "c", "b"]
    assert [name for name, _ in read_texts(f"{tmp_path}/**/*.py")] == ["c"]
    odd = write(tmp_path, "what[1].txt", "a file of that name")
    assert only(odd) == "a file of that name"
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="is a folder without any"):
        whole(tmp_path / "empty")
    with pytest.raises(CorpusError, match=r"none is named like .*\*\.md"):
        whole(f"{tmp_path}/*.md")


def test_standard_input_is_read():
    code = "from keras_seq.data.text_files import read_texts; print([(n, ''.join(p)) for n, p in read_texts('-')])"
    done = subprocess.run([sys.executable, "-c", code], input=b"to be\n", capture_output=True, check=True)
    assert done.stdout.decode() == "[('stdin', 'to be\\n')]\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b" \n\r\n\t", "nothing but white space"),
        (b"one\ntwo\nth\0ree", "is binary: line 3, byte 10 of the file is 0x00"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "is not: line 1, byte 0 of the file is 0x89"),
        (b"one\ncaf\xe9\n", "is not: line 2, byte 7 of the file is 0xe9"),
        (b"a\0\xff", "is binary: line 1, byte 1"),
        (b"one \xed\xa0\x80", "is not: line 1, byte 4 of the file is 0xed"),
        ("one\ntwo".encode("utf-16") + b"\x00\xd8", "is damaged UTF-16: line 2, byte 16 of"),
        ("text".encode("utf-32"), "is UTF-32; convert it first"),
        (gzip.compress(b"to be, or not")[:-9], "is damaged: .*; fetch it again"),
        (b"\x1f\x8b\x08", "is damaged: .*; fetch it again"),
    ],
)
def test_a_file_that_is_not_text_is_refused(tmp_path, data, message):
    path = write(tmp_path, "bad.txt", data)
    with pytest.raises(CorpusError, match=message) as caught:
        whole(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "field", "data", "message"),
    [
        ("a.jsonl", "", '{"a": "x"}\n{"a": ', "line 2 of .* is not: "),
        ("a.jsonl", "", '{"a": "x"}\n[1]', "line 2 of .* is a list"),
        ("a.jsonl", ":b", '{"a": "x"}', "field b, but line 1 of .* has none; its fields are a"),
        ("a.jsonl", ":a", '{"a": 3}', "field a, but line 1 of .* has int"),
        ("a.jsonl", "", '{"a": "x", "b": "y"}', r"one field of .*a\.jsonl:a; it has a, b"),
        ("a.jsonl", "", '{"a": "x \\ud83d"}', r"line 1 of .* has the lone surrogate U\+D83D"),
        ("a.csv", "", "a,b\nx,y\n", r"one field of .*a\.csv:a; it has a, b"),
        ("a.csv", ":b", "a,b\nx,y\nz\n", "field b, but line 3 of .* has none"),
        ("a.csv", ":a", 'a,b\n"x,y\n', "is damaged: unexpected end of data"),
        ("a.csv", ":a", "a,b\n", "is empty"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, name, field, data, message):
    path = write(tmp_path, name, data)
    with pytest.raises(CorpusError, match=message) as caught:
        whole(f"{path}{field}")
    assert "\n" not in str(caught.value)


def test_what_is_not_there_or_cannot_be_read(tmp_path):
    with pytest.raises(CorpusError, match=r"must be a text file, but .*absent.txt does not exist; check the path"):
        whole(tmp_path / "absent.txt")
    with pytest.raises(CorpusError, match="cannot be: Not a directory"):
        whole(write(tmp_path, "file.txt", "text") / "below.txt")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = write(tmp_path, "growing.txt", "to be")
    ((_, pieces),) = read_texts(path)
    assert next(pieces) == "to be"
    with path.open("ab") as file:
        file.write(b", or not")
    with pytest.raises(CorpusError, match=r"growing\.txt changed while it was read"):
        list(pieces)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_long_files_come_in_pieces_and_their_wrong_bytes_have_their_place(tmp_path, encoding):
    text = "to bé, or not\n" * 300_000
    data = text.encode(encoding)
    ((_, pieces),) = read_texts(write(tmp_path, "long.txt", data))
    pieces = list(pieces)
    assert len(pieces) > 3
    assert max(map(len, pieces)) <= 2**20
    assert "".join(pieces) == text
    wrong = b"\xff\n" if encoding == "utf-8" else b"\x00\xd8\n\0"
    with pytest.raises(CorpusError, match=rf"line 300001, byte {len(data)} of the file"):
        whole(write(tmp_path, "wrong.txt", data + wrong + data))
    if encoding == "utf-8":
        with pytest.raises(CorpusError, match=rf"is binary: line 300001, byte {len(data)} of the file"):
            whole(write(tmp_path, "binary.txt", data + b"\0" + data))
