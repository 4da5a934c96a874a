"""Damaged files of results: each is resumed or refused with one sentence, in little time and memory."""

import time
import tracemalloc

from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from keras_seq_export.errors import ResultsError
from keras_seq_export.tflite.batch_results import resume, to_line

ANSWER = {"text": str, "log_probability": int | float, "tokens": int, "finish_reason": str}
REQUESTS = [
    {
        "number": number,
        "prompt": prompt,
        "seed": number - 1,
        "options": {"max_tokens": 200},
        "model": "a380f8d5d5585cde",
    }
    for number, prompt in enumerate(["To be", "", 'or "not"\n', "漢"], 1)
]
ADDED = {"text": "a\n漢", "log_probability": -17.5, "tokens": 3, "finish_reason": "length"}
LINES = [
    to_line({**request, **(ADDED if number != 2 else {"error": "it is empty"})})
    for number, request in enumerate(REQUESTS)
]
ROOM = 8_000 + 200 * 6
# What a program, an editor or an attacker may leave in the file.
PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"\n", b"\r\n", b"\0", b"\xff", b"\xed\xa0\x80", b"NaN", b"1e999", b"9" * 5000, b"null", b"{}", b"[]"]
    ),
    st.sampled_from([b"[", b'{"a":', b"[[],", b'{"text": "a", ', b"x" * 64]).flatmap(
        lambda piece: st.sampled_from([1, 10, 1_000, 100_000]).map(lambda times: piece * times)
    ),
    st.sampled_from(LINES),
)
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 60), PIECES), min_size=1, max_size=4)


def damaged(changes):
    """The file after some pieces were put at relative positions, in the place of some bytes."""
    content = b"".join(LINES)
    for place, replaced, piece in changes:
        begin = int(place * len(content))
        content = content[:begin] + piece + content[begin + replaced :]
    return content


@given(CHANGES)
@fuzzed
def test_a_damaged_file_is_resumed_or_refused(tmp_path_factory, changes):
    output = tmp_path_factory.getbasetemp() / "damaged.jsonl"
    content = damaged(changes)
    output.write_bytes(content)
    started = time.monotonic()
    tracemalloc.start()
    try:
        existing, failed, remaining = resume(output, iter(REQUESTS), ANSWER, ROOM)
    except ResultsError as error:
        message = str(error)
        assert message.startswith("line ")
        assert len(message) < 1_000
        assert output.read_bytes() == content
    else:
        kept = output.read_bytes()
        assert content.startswith(kept)
        assert kept.count(b"\n") == existing
        assert failed <= existing
        assert list(remaining) == REQUESTS[existing:]
    finally:
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert memory < 300e6
    assert time.monotonic() - started < 10
