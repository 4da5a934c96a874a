"""The file of results: its lock, what it refuses, and that it has whole lines on a full or read-only disk."""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import threading
import tracemalloc

import pytest
from devices import need

from keras_seq.errors import InUseError
from keras_seq_export.errors import ResultsError
from keras_seq_export.tflite.batch_results import ResultWriter, only_writer, resume, to_line

ANSWER = {"text": str, "tokens": int}
REQUESTS = [{"number": number, "prompt": f"to be {number}", "seed": number} for number in (1, 2, 3)]
RESULTS = [{**request, "text": "or not", "tokens": 6} for request in REQUESTS]


def resumed(path, requests=REQUESTS, room=1000):
    existing, failed, remaining = resume(path, iter(requests), ANSWER, room)
    return existing, failed, list(remaining)


def test_a_file_resumes_after_its_last_whole_line(tmp_path):
    output = tmp_path / "out.jsonl"
    lines = [to_line(result) for result in RESULTS]
    for whole, next_line in enumerate([*lines, b""]):
        for part in (b"", next_line[:1], next_line[:20], next_line[:-1]):
            output.write_bytes(b"".join(lines[:whole]) + part)
            assert resumed(output) == (whole, 0, REQUESTS[whole:])
            assert output.read_bytes() == b"".join(lines[:whole])
    output.write_bytes(lines[0] + to_line({**REQUESTS[1], "error": "it is too long"}))
    assert resumed(output) == (2, 1, REQUESTS[2:])


@pytest.mark.parametrize(
    "second",
    [
        b"[" * 100_000 + b"\n",
        b'{"number": ' * 100_000 + b"\n",
        b"\xff\xfe\n",
        b"\n",
        b"null\n",
        b"9" * 5000 + b"\n",
        to_line(REQUESTS[1]),
        to_line({**RESULTS[1], "text": None}),
        to_line({**RESULTS[1], "tokens": "6"}),
        to_line({**RESULTS[1], "error": "it failed"}),
        to_line({**REQUESTS[1], "error": 5}),
        to_line({**RESULTS[1], "seed": [2]}),
        to_line({**RESULTS[1], "more": 1}),
        to_line(RESULTS[0]),
        to_line(RESULTS[1])[:20] + b"\xff",
        to_line(RESULTS[1])[:-1] + b"x" * 2000,
    ],
    ids=lambda line: repr(line[:30]),
)
def test_a_line_that_is_not_the_result_of_its_request_is_refused(second, tmp_path):
    output = tmp_path / "out.jsonl"
    output.write_bytes(to_line(RESULTS[0]) + second)
    before = output.read_bytes()
    with pytest.raises(
        ResultsError, match=r"^line 2 of .*out\.jsonl is not a result of this model, input and options;"
    ):
        resumed(output)
    assert output.read_bytes() == before
    with pytest.raises(ResultsError, match=r"^line 2 of "):  # More lines than requests.
        resumed(output, REQUESTS[:1])


def test_a_line_of_a_gigabyte_is_refused_without_reading_it(tmp_path):
    with (tmp_path / "out.jsonl").open("wb") as file:
        file.truncate(2**30)
    tracemalloc.start()
    with pytest.raises(ResultsError, match=r"^line 1 of "):
        resumed(tmp_path / "out.jsonl")
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_only_one_batch_writes_a_new_or_old_file(tmp_path):
    output = tmp_path / "out.jsonl"
    for content in (b"", to_line(RESULTS[0])):
        with only_writer(output):
            output.write_bytes(content)
            with pytest.raises(InUseError, match=r"out\.jsonl is in use: another process writes these results\. Wait"):
                only_writer(output).__enter__()
        assert output.read_bytes() == content


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(ResultsError, match="must be a file of results, or a new file"):
            only_writer(tmp_path / name).__enter__()
    with pytest.raises(ResultsError, match=r"none/out\.jsonl cannot be written: No such file or directory\. Check it"):
        only_writer(tmp_path / "none" / "out.jsonl").__enter__()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 16 kB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)]
    need(subprocess.run(mount, capture_output=True, check=False).returncode == 0, "needs root, to mount a file system")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_leaves_whole_lines(small_disk):
    output = small_disk / "out.jsonl"
    requests = [{"number": number, "prompt": "to be " * 50} for number in range(1, 100)]

    def write():
        with only_writer(output), contextlib.closing(ResultWriter(output)) as writer:
            for request in requests:
                writer.write({**request, "text": "or not", "tokens": 6})

    with pytest.raises(ResultsError, match=r"out\.jsonl cannot be written: No space left on device\. Free some space"):
        write()
    lines = output.read_bytes().splitlines(keepends=True)
    assert len(lines) > 30
    assert all(json.loads(line)["tokens"] == 6 for line in lines)
    assert resumed(output, requests) == (len(lines), 0, requests[len(lines) :])


def test_a_finished_file_on_a_read_only_disk_is_read_and_others_are_refused(small_disk):
    (small_disk / "whole.jsonl").write_bytes(b"".join(map(to_line, RESULTS)))
    (small_disk / "cut.jsonl").write_bytes(to_line(RESULTS[0])[:-5])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with only_writer(small_disk / "whole.jsonl"):
        assert resumed(small_disk / "whole.jsonl") == (3, 0, [])
    words = r"jsonl cannot be written: Read-only file system\. Check it, or choose another place"
    with pytest.raises(ResultsError, match=words):
        resumed(small_disk / "cut.jsonl")
    with pytest.raises(ResultsError, match=words):
        ResultWriter(small_disk / "whole.jsonl")
    with pytest.raises(ResultsError, match=words):
        only_writer(small_disk / "new.jsonl").__enter__()


def test_a_lone_surrogate_is_escaped():
    assert json.loads(to_line({"prompt": "\ud800ä"}).decode("utf-8")) == {"prompt": "\ud800ä"}
    assert "ä".encode() in to_line({"prompt": "ä"})


def test_of_many_batches_that_make_the_file_at_once_one_writes(tmp_path):
    output, together = tmp_path / "out.jsonl", threading.Barrier(8)

    def write(number):
        together.wait()
        try:
            with only_writer(output), contextlib.closing(ResultWriter(output)) as writer:
                writer.write({"number": number})
                together.wait()  # The others have tried.
        except InUseError:
            together.wait()
            return 0
        return 1

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(write, range(8))) == 1
    assert len(output.read_bytes().splitlines()) == 1
