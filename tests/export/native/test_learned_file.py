"""The learned file in C: what is written is what docs/formats.md says, and each damage is refused in a sentence."""

import hashlib
import re
import resource
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from learned_files import learned_file
from native_library import BAD_FILE

from keras_seq_export.errors import LearnedFileError
from keras_seq_export.tflite.learning.file import read_learned

ROWS, COLUMNS = 3, 4
SHARES = np.array([-1.5, -0.25, 0.125], np.float32)


def read(parts, *files):
    command = [parts, "learned", str(ROWS), str(COLUMNS), *files]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode().splitlines()


@pytest.mark.parametrize("words", [b"\n", b"2 the\n\n"])
@pytest.mark.parametrize("tokens", [0, 12_345, 2**64 - 1])
def test_a_file_is_read_and_written(parts, tmp_path, tokens, words):
    content = learned_file(ROWS, COLUMNS, tokens=tokens, shares=SHARES, words=words)
    (tmp_path / "a").write_bytes(content)
    assert read(parts, tmp_path / "a") == [f"0 {tokens} -1.5 -0.25 0.125 0 1.375 {words.hex()}"]
    assert (tmp_path / "a.again").read_bytes() == content


def damaged():
    """Yields the name of a damaged file and its bytes."""
    whole = learned_file(ROWS, COLUMNS)
    flipped = lambda at: bytes([*whole[:at], whole[at] ^ 1, *whole[at + 1 :]])  # noqa: E731
    yield "empty", b""
    yield "text", b"to be or not to be"
    yield "format", learned_file(ROWS, COLUMNS, magic=b"KSLEARN2")
    for size in (6, 7, 8, 40, 71, 87, 88, 103, len(whole) - 1):
        yield f"{size} bytes", whole[:size]
    yield "a byte more", whole + b"\0"
    for at in (7, 8, 56, 68, len(whole) - 37, len(whole) - 1):
        yield f"a bit of byte {at}", flipped(at)
    yield "other model", learned_file(ROWS, COLUMNS, sha256=bytes(31) + b"\1")
    for shape in ((COLUMNS, ROWS), (0, 2**31), (2**32 - 1, 2**32 - 1), (2**30, 4), (1, 12), (0, 0)):
        yield f"{shape}", with_sum(whole[:40] + struct.pack("<II", *shape) + whole[48:-32])
    for size in (0, 31, 32, 33, 36, 36 + 12 + 48, 36 + 12 + 51, 36 + 12 + 52):
        yield f"{size} bytes and a sum", with_sum(whole[: 20 + size])
    for size in (0, 2, 2**31, 2**32 - 1):
        yield f"{size} bytes of words", with_sum(whole[:-37] + struct.pack("<I", size) + whole[-33:-32])
    for number in (np.nan, np.inf, -np.inf):
        for at in (0, ROWS * COLUMNS - 1):
            weights = np.arange(ROWS * COLUMNS, dtype=np.float32)
            weights[at] = number
            yield f"weight {at} {number}", learned_file(ROWS, COLUMNS, weights=weights)
        for at in range(3):
            shares = SHARES.copy()
            shares[at] = number
            yield f"share {at} {number}", learned_file(ROWS, COLUMNS, shares=shares)


def with_sum(content):
    return content + hashlib.sha256(content).digest()


def test_damaged_files_are_refused_as_by_python(parts, tmp_path):
    cases = list(damaged())
    for number, (_, content) in enumerate(cases):
        (tmp_path / str(number)).write_bytes(content)
    answers = read(parts, *(tmp_path / str(number) for number in range(len(cases))))
    for number, (name, _) in enumerate(cases):
        with pytest.raises(LearnedFileError) as refused:
            read_learned(tmp_path / str(number), "00" * 32, (ROWS, COLUMNS))
        sentence = re.sub(r"\. Received: .*; update keras_seq", "; update this program", str(refused.value))
        assert answers[number] == f"{BAD_FILE} {sentence}", name


@pytest.mark.parametrize("name", ["missing", "folder", "device"])
def test_what_is_not_a_file_is_neither_read_nor_written(parts, tmp_path, name):
    path = {"missing": tmp_path / "none" / "a", "folder": tmp_path, "device": Path("/dev/null")}[name]
    for kind, done in (("read", "read"), ("write", "written")):
        answer = subprocess.run([parts, kind, path], input=b"12", capture_output=True, check=True).stdout.decode()
        assert answer.startswith(f"{BAD_FILE} ")
        assert f"cannot be {done}" in answer or "is a directory or a device; name " in answer
    assert name != "folder" or not list(tmp_path.iterdir())


def test_a_file_is_replaced_or_left_as_it_was(parts, tmp_path):
    path = tmp_path / "a"
    for content in (b"first", b"the second"):
        subprocess.run([parts, "write", path], input=content, capture_output=True, check=True)
        assert path.read_bytes() == content
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3, 3))  # noqa: E731
    full = subprocess.run(
        [parts, "write", path], input=b"too large", capture_output=True, preexec_fn=limit, check=False
    )
    assert b"cannot be written: File too large" in full.stdout
    assert path.read_bytes() == b"the second"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
