"""Tables, read as text files: always as they were written, or refused."""

import concurrent.futures
import csv
import gzip
import io
import json
import tracemalloc

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from keras_seq.data.tables import read_records
from keras_seq.data.text_files import describe_tables, read_texts
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


# Without a carriage return at the end, which belongs to the end of the line in a TSV, and without what cuts its rows.
TSV_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r"), min_size=1)


def written(rows, delimiter=",", quoting=csv.QUOTE_MINIMAL, end="\n"):
    """A table as Python's `csv` module writes it."""
    table = io.StringIO(newline="")
    csv.writer(table, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows(rows)
    return table.getvalue()


def as_lines(texts):
    return "".join(text if text.endswith("\n") else text + "\n" for text in texts)


@given(
    records=st.lists(TEXT, min_size=1),
    header=st.sampled_from([["id", "body"], ["body", "id"], ["a|b;c", "body", "d,e"]]),
    delimiter=st.sampled_from(",;|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_a_csv_of_any_delimiter_is_read_as_it_was_written(records, header, delimiter, quoting, end, tmp_path_factory):
    rows = [[record if name == "body" else "x" for name in header] for record in records]
    # Before Python 3.13, `csv` leaves a lone carriage return unquoted, which no reader accepts.
    quoting = csv.QUOTE_ALL if "\r" in "".join(records) else quoting
    table = written([header, *rows], delimiter, quoting, end)
    path = write(tmp_path_factory.mktemp("table"), "news.csv", table)
    assert only(f"{path}:body") == as_lines(records)


@given(records=st.lists(TSV_TEXT, min_size=1), end=st.sampled_from(["\n", "\r\n"]))
@example(records=['"Hello.', 'Bye."', "\\t", '"'], end="\n")
def test_every_character_of_a_tsv_is_text(records, end, tmp_path_factory):
    assume("".join(records).strip())  # A table of white space is refused.
    records = ["x" + record if record[0] == '"' == record[-1] else record for record in records]  # as if quoted
    rows = ["id\tbody", *(f"{number}\t{record}" for number, record in enumerate(records))]
    path = write(tmp_path_factory.mktemp("table"), "news.tsv", end.join(rows))
    assert only(f"{path}:body") == as_lines(records)
    if records[0].strip():
        assert len(only(f"{path}:id").split()) == len(records)


@given(rows=st.lists(st.tuples(st.text('"\t\nx', max_size=4), st.text('"\t\nx;', max_size=6)), min_size=1))
@example(rows=[("1", '"Hi," he')])
def test_a_tab_separated_csv_is_read_as_it_was_written_or_refused(rows, tmp_path_factory):
    table = written([("id", "body"), *rows], "\t")
    path = write(tmp_path_factory.mktemp("table"), "news.csv", table)
    if any("\t" in cell and ("\n" in first + text) for first, text in rows for cell in (first, text)):
        with pytest.raises(CorpusError, match="a tab and a line break"):
            only(f"{path}:body")
    elif "".join(text for _, text in rows).strip():
        assert only(f"{path}:body") == as_lines(text for _, text in rows)


@given(records=st.lists(TEXT, min_size=1))
def test_each_record_of_json_lines_is_a_line(records, tmp_path_factory):
    table = "\n".join(json.dumps({"id": 1, "body": record}) for record in records)
    path = write(tmp_path_factory.mktemp("table"), "news.jsonl", table)
    assert only(f"{path}:body") == only(path) == as_lines(records)  # The only text field needs no name.


@pytest.mark.parametrize(
    ("name", "table", "description"),
    [
        ("a.csv:body", "\ufeffid,body\r\n1,to be\r\n", "comma-separated, header id, body, text from body"),
        ("a.csv:body", '\n"id";"body"\n\n1;to be\n;\n \n', "semicolon-separated, header id, body, text from body"),
        ("a.csv:body", "id\tbody\n1\tto be", "tab-separated, header id, body, text from body"),
        ("a.csv:body", "id|body\n1|to be", "separated by |, header id, body, text from body"),
        ("a.csv:body", "body\nto be", "a single field, header body, text from body"),
        ("a.CSV:body", "a;b,body, c\nx,to be,", "comma-separated, header a;b, body, ' c', text from body"),
        ("a.tsv:body", "id\tbody\n1\tto be\n\n", "tab-separated without quoting, header id, body, text from body"),
        ("a.jsonl", '\n{"id": 1, "body": "to be"}\n\n', "JSON lines, text from body"),
        ("a.ndjson:body", '{"id": "1", "body": "to be"}', "JSON lines, text from body"),
    ],
)
def test_the_delimiter_and_the_header_are_reported(name, table, description, tmp_path):
    file, _, field = name.partition(":")
    source = str(write(tmp_path, file, table)) + (f":{field}" if field else "")
    assert only(source).split() == ["to", "be"]
    assert describe_tables(source) == (f"{file}: {description}",)


def test_tables_that_are_read_alike_are_reported_together(tmp_path):
    for name, delimiter in (("a.csv", ","), ("b.csv", ","), ("c.csv", ";")):
        write(tmp_path, name, written([["id", "body"], [1, "x"]], delimiter))
    packed = tmp_path / "d.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert only(f"{packed}:body") == "x\n"
    assert describe_tables(f"{tmp_path}/*.csv:body", write(tmp_path, "e.txt", "id,body"), f"{packed}:body") == (
        "a.csv and 2 more: comma-separated, header id, body, text from body",
        "c.csv: semicolon-separated, header id, body, text from body",
    )


def test_many_threads_read_long_fields(tmp_path):
    csv.field_size_limit(131_072)  # as Python has it
    text = "x" * 131_082

    def read(number):
        first, *_ = read_records("a.csv", [f"body\n{text}\n" + "x\n" * (number * 100)], "csv", "body")
        return first

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, range(16))) == [text] * 16
    assert csv.field_size_limit() == 2**24
    assert len(only(f"{write(tmp_path, 'long.csv', 'body' + chr(10) + text)}:body")) == len(text) + 1


@pytest.mark.parametrize(
    ("name", "field", "data", "message"),
    [
        ("a.jsonl", "", '{"a": "x"}\n{"a": ', "line 2 of .* is not: "),
        ("a.jsonl", "", '{"a": "x"}\n[1]', "line 2 of .* is a list"),
        ("a.jsonl", ":b", '{"a": "x"}', "field b must be text, but line 1 of .* has no such field; its fields are a"),
        ("a.jsonl", ":a", '{"a": 3}', "field a must be text, but line 1 of .* has int"),
        ("a.jsonl", "", '{"a": "x", "b": "y"}', r"one field of .*, which has the fields a, b on line 1; .*a\.jsonl:a"),
        ("a.jsonl", "", '{"a": "x \\ud83d"}', r"line 1 of .* has the lone surrogate U\+D83D"),
        ("a.jsonl", ":a", '{"a": "x", "a": "y"}', "line 1 of .* is not: it has the field a twice"),
        ("a.jsonl", "", '{"a": "x"}\n{"a": "x", "b": "y"}', "one field of .*, which has the fields a, b on line 2"),
        ("a.jsonl", "", '{"a": "x"}\n{"b": "y"}', "line 2 of .* has no such field; its fields are b"),
        ("a.jsonl", ":a", "[" * 100_000, "line 1 of .* is not: it is nested too deeply"),
        ("a.csv", "", "a,b\nx,y\n", r"field of a table must be named, as in .*a\.csv:FIELD, .* first row a, b; if"),
        ("a.csv", "", "id;text\n1;x\n", r"must be named, .* with the first row id, text; if"),
        ("a.csv", "", "Ann\nBob\n", r"must be named, .* row Ann; if that row is not a header, name the file \.txt"),
        ("a.tsv", "", "Ann\nBob\n", r"must be named, .* row Ann; if that row is not a header, name the file \.txt"),
        (
            "a.csv",
            ":b",
            "1,x\n2,y\n",
            r"must be a header with the field b\. Received: 1, x; .*, put a row with the names",
        ),
        ("a.tsv", ":b", "1\tx\n2\ty\n", r"must be a header with the field b\. Received: 1, x; name one of these"),
        (
            "a.csv",
            ":id;text",
            "id;text\n1;x\n",
            "must be a header with the field id;text. Received: id, text; name one",
        ),
        ("a.csv", ":b", "b,a;b\nx,y;z\n", "has it both comma-separated and semicolon-separated; rename one"),
        ("a.csv", ":b", "b,b\nx,y\n", "must have the field b once"),
        ("a.csv", ":b", f"{'x' * 200_000},c\nx,y\n", r"Received: x{36}\.\.\., c; name one"),
        (
            "a.csv",
            ":b",
            'a,b\nx,"y\nz"\nz\n',
            "as many fields as its header, 2, but the row on line 4 has 1; .* quote text",
        ),
        ("a.csv", ":a", "a\nto be, or not\n", "its header, 1, but the row on line 2 has 2; .* quote text"),
        ("a.tsv", ":b", "a\tb\nx\ty\tz\n", r"its header, 2, but the row on line 2 has 3; .* name the file \.csv"),
        (
            "a.tsv",
            ":b",
            'a\tb\nx\t"""Hi,"" he"\n',
            r"must not be quoted, but line 2 .* '\"\"\"Hi,\"\" he\"'; name the file",
        ),
        ("a.tsv", ":b", '"a"\t"b"\n"x"\t"y"\n', r"must not be quoted\. .* name the file \.csv"),
        (
            "a.csv",
            ":b",
            'a\tb\n1\t"Hi.\n2\tBye."\n',
            r"row on line 2 .* a tab and a line break, .* name the file \.tsv",
        ),
        ("a.csv", ":a", 'a,b\nx,y\n"x,y\n', "row on line 3 of .* is damaged: unexpected end of data"),
        (
            "a.csv",
            ":a",
            "a,b\nx,y\rx,y\n",
            "row on line 2 of .* is damaged: new-line character seen in unquoted field; ",
        ),
        ("a.csv", ":a", '"a\nb",a\nx,y\n', "the header of .* must be on one line, .*; correct line 1"),
        ("a.csv", ":a", "a,b\n", "is empty"),
    ],
)
def test_a_table_that_cannot_be_read_is_rejected(tmp_path, name, field, data, message):
    path = write(tmp_path, name, data)
    with pytest.raises(CorpusError, match=message) as caught:
        only(f"{path}{field}")
    assert "\n" not in str(caught.value)


MEBI = "x" * 2**20
GIANTS = {
    "one JSON value": ("jsonl", ['{"a": "'], MEBI),
    "one field": ("csv", ['a\n"'], MEBI[:-1] + "\n"),
    "one row of many lines": ("csv", ['a,b\n"'], 2**10 * ("," + "x" * 1019 + '\n","')),
    "one line": ("tsv", ["a\n"], MEBI),
    "long blank lines": ("jsonl", ['{"a": "b"}\n'], 2**10 * (1023 * " " + "\n")),
    "blank lines": ("jsonl", ['{"a": "b"}\n'], 2**20 * "\n"),
    "empty rows": ("csv", ["a,b\n"], 2**10 * (1021 * " " + ",,\n")),
}


@pytest.mark.parametrize("giant", GIANTS)
def test_a_record_without_end_is_refused(giant):
    kind, begin, more = GIANTS[giant]
    read = 0

    def pieces():
        nonlocal read
        yield from begin
        while True:
            read += len(more)
            yield more

    tracemalloc.start()
    with pytest.raises(
        CorpusError, match=r"a record must have at most 8,388,608 characters and 1,048,576 lines, but that up to"
    ):
        list(read_records("giant", pieces(), kind, "a"))
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()
    assert read <= 10 * len(more)


@pytest.mark.slow
def test_json_of_many_values_takes_less_than_300_megabytes():
    line = '{"a": "x", "b": [' + ",".join(['{"":0}'] * 1_190_000) + "]}"
    assert 8_000_000 < len(line) < 2**23
    tracemalloc.start()
    assert list(read_records("many", [line], "jsonl", "a")) == ["x"]
    assert tracemalloc.get_traced_memory()[1] < 300_000_000
    tracemalloc.stop()
