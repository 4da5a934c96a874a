"""Text read from files of every kind, and the errors of those that are not text."""

import bz2
import gzip
import lzma
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_seq.data import text_files
from keras_seq.data.load import load_corpus
from keras_seq.data.text_files import LONGEST_INPUT, read_inputs, read_texts
from keras_seq.data.tokens import split_lines
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
def test_every_text_is_read_as_written(text, encoding, packed, tmp_path_factory):
    data = text.encode(encoding)
    path = write(
        tmp_path_factory.mktemp("text"), "a.txt.gz" if packed else "a.txt", gzip.compress(data) if packed else data
    )
    assert whole(path) == [("a", text.removeprefix("\ufeff"))]


def test_a_folder_or_pattern_is_read_as_its_files_in_order(tmp_path):
    for name in ("b.txt", "a/c.py", "a/.hidden", ".git/config", "a/b/d.txt.gz"):
        write(tmp_path, name, gzip.compress(b"text of d") if name.endswith("gz") else f"text of {name}")
    assert [name for name, _ in read_texts(tmp_path)] == ["d", "c", "b"]
    assert [name for name, _ in read_texts(f"{tmp_path}/**/*.py")] == ["c"]
    odd = write(tmp_path, "what[1].txt", "a file of that name")
    assert only(odd) == "a file of that name"
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty has no files"):
        whole(tmp_path / "empty")
    with pytest.raises(CorpusError, match=r"no file matches .*\*\.md"):
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
        ("one\ntwo".encode("utf-16") + b"\x00\xd8", "the UTF-16 text .* is damaged: line 2, byte 16 of"),
        ("text".encode("utf-32"), "is UTF-32; convert it first"),
        (
            gzip.compress(b"to be, or not", mtime=0)[:-9],
            "is damaged: .*; download it again",
        ),  # mtime=0: a test has one name.
        (b"\x1f\x8b\x08", "is damaged: .*; download it again"),
        (bz2.compress(b"to be"), "is compressed with bzip2; unpack it first"),
        (lzma.compress(b"to be"), "is compressed with xz; unpack it first"),
        (b"PK\3\4", "is compressed with zip; unpack it first"),
    ],
)
def test_a_file_that_is_not_text_is_rejected(tmp_path, data, message):
    path = write(tmp_path, "bad.txt", data)
    with pytest.raises(CorpusError, match=message) as caught:
        whole(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(CorpusError, match=r"must be a text file, but .*absent.txt does not exist; check the path"):
        whole(tmp_path / "absent.txt")
    with pytest.raises(CorpusError, match="cannot be read: Not a directory"):
        whole(write(tmp_path, "file.txt", "text") / "below.txt")


def test_a_file_that_changes_while_it_is_read_is_rejected(tmp_path):
    path = write(tmp_path, "growing.txt", "to be")
    ((_, pieces),) = read_texts(path)
    assert next(pieces) == "to be"
    with path.open("ab") as file:
        file.write(b", or not")
    with pytest.raises(CorpusError, match=r"growing\.txt changed while it was read"):
        list(pieces)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_long_files_are_read_in_pieces_and_errors_have_positions(tmp_path, encoding):
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


@given(text=st.text(st.sampled_from("a\r\n\u2028漢")), block=st.integers(1, 8))
def test_each_line_is_an_input(text, block, tmp_path_factory):
    path = write(tmp_path_factory.getbasetemp(), "inputs.txt", text)
    with mock.patch.object(text_files, "_BLOCK", block):
        assert list(read_inputs(path)) == (split_lines(text.removesuffix("\n")) if text else [])


def test_each_field_is_an_input(tmp_path):
    path = write(tmp_path, "news.csv", 'id,body\n1,"to be\nor not"\n2,\n3,that is\n')
    assert list(read_inputs(f"{path}:body", f"{path}:id")) == [
        *("to be\nor not", "", "that is"),
        *("1", "2", "3"),
    ]


def test_an_input_that_is_too_long_is_refused_without_reading_all_of_it(tmp_path):
    path = write(tmp_path, "long.txt", b"to be\n" + b"x" * LONGEST_INPUT + b"\n")
    assert [len(text) for text in read_inputs(path)] == [5, LONGEST_INPUT]
    with path.open("ab") as file:
        file.write(b"x" * (LONGEST_INPUT + 1))
    with pytest.raises(
        CorpusError, match=r"at most 16,777,216 characters, but number 3 of .*long\.txt has more; split it"
    ):
        list(read_inputs(path))


def test_a_pipe_is_read_only_if_something_writes_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_SECONDS_FOR_PIPE", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match=r"pipe is a pipe to which nothing was written within 0\.05 seconds; write"):
        whole(tmp_path / "pipe")
    monkeypatch.setattr(text_files, "_SECONDS_FOR_PIPE", 5)
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("to be\n" * 100_000))
    writer.start()
    assert only(tmp_path / "pipe") == "to be\n" * 100_000
    writer.join()


@pytest.mark.parametrize("text", [b"to be\n" * 100_000, gzip.compress(b"to be\n" * 100_000)])
def test_a_writer_may_take_long_until_it_writes(tmp_path, monkeypatch, text):
    monkeypatch.setattr(text_files, "_SECONDS_FOR_PIPE", 0.05)
    os.mkfifo(tmp_path / "pipe")

    def write_late():
        with (tmp_path / "pipe").open("wb") as pipe:
            time.sleep(0.3)
            pipe.write(text)

    writer = threading.Thread(target=write_late)
    writer.start()
    assert only(tmp_path / "pipe") == "to be\n" * 100_000
    writer.join()


@pytest.mark.parametrize("source", ["news.csv:body", "news.jsonl"])
def test_a_table_in_a_pipe_is_refused_at_once(tmp_path, source):
    os.mkfifo(tmp_path / source.partition(":")[0])
    begin = time.monotonic()
    for read in (load_corpus, lambda path: list(read_inputs(path))):
        with pytest.raises(
            CorpusError, match=r"a table is read twice, so it cannot be a pipe, but .*/news\.\w+ is; write"
        ):
            read(f"{tmp_path}/{source}")
    assert time.monotonic() - begin < 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_is_that_of_the_machine():
    (kilobytes,) = re.findall(r"MemTotal: *(\d+) kB", Path("/proc/meminfo").read_text())
    assert int(kilobytes) * 1024 == text_files.MEMORY


def test_devices_and_sockets_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match="/dev/zero is a device; name a file, or standard input"):
        whole("/dev/zero")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")
        with pytest.raises(CorpusError, match="socket cannot be read: No such device or address"):
            whole("socket")


def bomb(path, mebibytes):
    """Writes a compressed file of several members that inflates to a thousand times its size."""
    member = gzip.compress(b"to be, or not to be, that is it\n" * 2**15 * 16)  # 16 MiB
    path.write_bytes(member * (mebibytes // 16))
    return path


def test_more_text_than_fits_in_memory_is_refused(tmp_path, monkeypatch):
    path = bomb(tmp_path / "bomb.txt.gz", 1600)
    assert path.stat().st_size < 6_000_000
    monkeypatch.setattr(text_files, "MEMORY", 2**27)
    begin = time.monotonic()
    tracemalloc.start()
    with pytest.raises(
        CorpusError, match=r"8,388,608 characters where the memory has 0\.1 GB, but this .*`keras-seq encode`"
    ):
        load_corpus(path)
    assert tracemalloc.get_traced_memory()[1] < 5 * 2**23
    tracemalloc.stop()
    assert time.monotonic() - begin < 5


@pytest.mark.slow
def test_a_bomb_of_gigabytes_is_refused_in_seconds(tmp_path):
    path = bomb(tmp_path / "bomb.txt.gz", 5600)
    code = (
        "import sys; from keras_seq.data import text_files; from keras_seq.data.load import load_corpus\n"
        "text_files.MEMORY = 8_000_000_000\n"
        "try: load_corpus(sys.argv[1])\n"
        "except ValueError as error: print(error)\n"
        # Not `ru_maxrss`, which a process inherits from the one that started it.
        "print(next(int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    sentence, mebibytes = done.stdout.splitlines()
    assert "at most 500,000,000 characters where the memory has 8.0 GB, but this one has more" in sentence
    assert int(mebibytes) < 700
    assert time.monotonic() - begin < 30  # 3 s if nothing else runs
