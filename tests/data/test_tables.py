"""Tables, read as text files."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_seq.data.text_files import read_texts
from keras_seq.errors import CorpusError


def write(folder, name, text):
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return path


def only(source):
    ((_, pieces),) = read_texts(source)
    return "".join(pieces)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).map(
    lambda text: "x" + text
)


@given(records=st.lists(TEXT, min_size=1), kind=st.sampled_from(["csv", "tsv", "jsonl"]))
def test_each_record_of_a_table_is_a_line(records, kind, tmp_path_factory):
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
        assert only(path) == expected  # The only text field needs no name.


def test_long_fields_are_read_and_the_limit_of_csv_is_restored(tmp_path):
    before = csv.field_size_limit()
    path = write(tmp_path, "long.csv", "body\n" + "x" * (before + 10) + "\n")
    assert len(only(path)) == before + 11
    assert only(write(tmp_path, "short.csv", "body\nx\n")) == "x\n"
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "field", "data", "message"),
    [
        ("a.jsonl", "", '{"a": "x"}\n{"a": ', "line 2 of .* is not: "),
        ("a.jsonl", "", '{"a": "x"}\n[1]', "line 2 of .* is a list"),
        ("a.jsonl", ":b", '{"a": "x"}', "field b must be text, but line 1 of .* has no such field; its fields are a"),
        ("a.jsonl", ":a", '{"a": 3}', "field a must be text, but line 1 of .* has int"),
        ("a.jsonl", "", '{"a": "x", "b": "y"}', r"one field of .*, which has the fields a, b; .*a\.jsonl:a"),
        ("a.jsonl", "", '{"a": "x \\ud83d"}', r"line 1 of .* has the lone surrogate U\+D83D"),
        ("a.csv", "", "a,b\nx,y\n", r"one field of .*, which has the fields a, b; .*a\.csv:a"),
        ("a.csv", ":b", "a,b\nx,y\nz\n", "field b must be text, but line 3 of .* has no such field"),
        ("a.csv", ":a", 'a,b\n"x,y\n', "is damaged: unexpected end of data"),
        ("a.csv", ":a", "a,b\n", "is empty"),
    ],
)
def test_a_table_that_cannot_be_read_is_rejected(tmp_path, name, field, data, message):
    path = write(tmp_path, name, data)
    with pytest.raises(CorpusError, match=message) as caught:
        only(f"{path}{field}")
    assert "\n" not in str(caught.value)
