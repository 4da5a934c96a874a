"""Damaged tables: each is refused with one sentence, or read."""

import gzip
import json
import time

import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from peak_memory import peak_memory

import keras_seq as ks
from keras_seq.errors import CorpusError

MOST_SECONDS, MOST_MEGABYTES, LONGEST_MESSAGE = 10, 300, 2_500
ROWS = [("1", 'to be, "or" not'), ("2", "that is\tthe question"), ("3", "猫は満腹だ\U0001f600")]
TABLES = {
    "jsonl": "".join(json.dumps({"id": number, "body": text, "n": [1, {"a": None}]}) + "\n" for number, text in ROWS),
    "ndjson": "".join(json.dumps({"id": number, "body": text}, ensure_ascii=False) + "\r\n" for number, text in ROWS),
    "csv": "id,body\n" + "".join(f'{number},"{text.replace(chr(34), 2 * chr(34))}"\n' for number, text in ROWS),
    "tsv": "id\tbody\n" + "".join(f"{number}\t{text.replace(chr(9), ' ')}\n" for number, text in ROWS),
}
PIECES = st.sampled_from(
    [
        "[",
        "{",
        '{"a":',
        '"',
        "\\",
        "\\ud800",
        "\\u0000",
        "1",
        "-",
        "1e",
        ",",
        ",,",
        "\t",
        "\n",
        "\r",
        "\n\n",
        ";",
        "|",
        "}",
        '{"":0},',
        '{"body": "x"}\n',
        "null",
        "NaN",
        "true",
        " ",
        "\ufeff",
        "\0",
    ]
) | st.text(max_size=3).map(lambda text: text.encode("utf-8", "replace").decode())
GIANT = st.sampled_from([0, 0, 0, 0, 0, 10**3, 10**5, 3 * 10**6])


def read_or_refused(path, field):
    """Returns how long reading took, in seconds, and the memory, in MB."""
    begin, message = time.process_time(), ""
    with peak_memory() as megabytes:
        try:
            ks.load_corpus(f"{path}:body" if field else path)
        except CorpusError as error:
            message = str(error)
    seconds = time.process_time() - begin
    assert seconds < MOST_SECONDS
    assert megabytes() < MOST_MEGABYTES
    assert "\n" not in message
    assert len(message) < LONGEST_MESSAGE
    return seconds, megabytes()


@pytest.mark.parametrize("kind", TABLES)
@fuzzed
@given(data=st.data())
def test_a_damaged_table_is_refused_or_read(kind, data, tmp_path_factory):
    table = TABLES[kind]
    begin, end = sorted(data.draw(st.tuples(*2 * [st.integers(0, len(table))])))
    piece, giant = data.draw(PIECES), data.draw(GIANT)
    damaged = (
        table[:begin] + piece * max(1, giant // max(1, len(piece))) + table[data.draw(st.sampled_from([begin, end])) :]
    )
    content, packed = damaged.encode("utf-8"), data.draw(st.booleans())
    if packed:
        content = gzip.compress(content, 1)
        content = content[: data.draw(st.sampled_from([len(content), len(content) - 9, len(content) // 2]))]
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}{'.gz' * packed}"
    path.write_bytes(content)
    read_or_refused(path, data.draw(st.booleans()))
