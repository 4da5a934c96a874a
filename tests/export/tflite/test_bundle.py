"""The zip inside a .tflite: any zip reader reads it; files that are damaged, hostile or of another kind are refused."""

import contextlib
import json
import shutil
import struct
import tracemalloc
import zipfile
from types import SimpleNamespace

import pytest
from bundles import damaged_bundles, rebundled

import keras_seq as ks
from keras_seq_export import LiteRTDecoder, LiteRTSampler
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite.bundle import read_bundle, write_bundle
from keras_seq_export.tflite.inspect import inspect

ENTRY, DIRECTORY, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


WRONG_LEARNING = (None, 12, [12], {}, {"rate": "12"}, {"rate": 0}, {"rate": -1}, {"rate": 1_000_001}, {"rate": True})


@pytest.fixture(scope="module")
def exported(small_tflite):
    return small_tflite(card={"corpus": "Hamlet", "license": "CC0-1.0"})


def test_any_zip_reader_extracts_every_part(exported):
    vocabulary = LiteRTSampler(exported).vocabulary
    with zipfile.ZipFile(exported) as archive:
        assert archive.read("vocab.txt") == vocabulary.to_bytes()
        assert json.loads(archive.read("config.json"))["vocabulary_sha256"] == vocabulary.sha256
        assert json.loads(archive.read("card.json"))["license"] == "CC0-1.0"


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99, -1])
def test_a_truncated_file_is_refused(exported, tmp_path, kept):
    data = exported.read_bytes()
    end = int(kept * len(data)) if isinstance(kept, float) else kept
    (tmp_path / "cut.tflite").write_bytes(data[:end])
    for read in (LiteRTSampler, inspect):
        with pytest.raises(BundleError, match=r"cut\.tflite"):
            read(tmp_path / "cut.tflite")


def test_a_changed_vocabulary_is_refused(exported, tmp_path):
    path = rebundled(exported, tmp_path / "changed.tflite", vocabulary=ks.Vocabulary.from_text("ab"))
    with pytest.raises(BundleError, match="SHA-256"):
        read_bundle(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 1}, "bundle format 2"),
        ({"format": "x" * 900_000}, "bundle format 2"),
        ({"model_bytes": "9"}, "model_bytes"),
        ({"sampling": [1]}, "sampling"),
        ({"batch": None}, "batch"),
        ({"batch": 7}, "does not fit its signatures"),
        ({"state": "internal"}, "has no signature reset"),
        ({"state": ["explicit"]}, "`state` in config"),
        ({"model_bytes": -5}, "`model_bytes` in config.json must be a positive integer. Received: -5"),
        ({"model_bytes": 2**31 - 1}, "is truncated"),
        ({"batch": True}, "`batch` in config"),
        ({"inputs": [[1]]}, "`inputs` in config"),
        ({"inputs": ["tone"]}, "does not fit its signatures"),
        ({"outputs": 7}, "`outputs` in config"),
        ({"delays": "x"}, "`delays` in config"),
        ({"at_once": [1]}, "`at_once` in config"),
        ({"at_once": {"source": "length"}}, "has no signature encode"),
        ({"ranges": {"token": 5}}, "`ranges` in config"),
        ({"learning": {"rate": 12.0}}, "has no signature get_weights, learn, reset_weights, set_weights"),
        *(
            ({"learning": one}, "`learning` in config.json must be an object with a positive `rate`")
            for one in WRONG_LEARNING
        ),
        ({"sampling": {"bias": {"x" * 900_000: 1.0}}}, "damaged sampling defaults"),
        (b"[]", "bundle format"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' + b"[" * 30 + b"]" * 30 + b"}", "nested too deeply"),
        (b" " * (2 << 20), r"config\.json has 2097152 bytes"),
    ],
)
def test_a_wrong_configuration_is_refused(change, words, exported, tmp_path):
    path = rebundled(exported, tmp_path / "changed.tflite", config=change)
    with pytest.raises(BundleError, match=words) as found:
        LiteRTSampler(path)
    assert len(str(found.value)) < 800


@pytest.mark.parametrize(
    ("vocabulary", "words"),
    [
        (b"\n" * 10_000_000, "must have at most 524288 tokens. Received: 10000000"),
        (b"<pad>\n<s>\n<eos>\n" + b"a" * 10_000_000 + b"\n", "must be a single character"),
        (b"a" * (17 << 20), "more than the 16777216 allowed"),
        (b"a\\q\n" + b"a" * 1_000_000, "cut short"),
    ],
)
def test_a_hostile_vocabulary_is_refused_in_a_short_sentence(vocabulary, words, exported, tmp_path):
    path = rebundled(exported, tmp_path / "changed.tflite", vocabulary=vocabulary)
    with pytest.raises(BundleError, match=words) as found:
        read_bundle(path)
    assert len(str(found.value)) < 800


def test_a_vocabulary_that_could_not_be_read_is_not_written(exported, tmp_path):
    vocabulary = SimpleNamespace(sha256="", to_bytes=lambda: (1 << 20) * b"a\n")  # Real ones take seconds to make.
    shutil.copy(exported, tmp_path / "a.tflite")
    with pytest.raises(ValueError, match="at most 524288 tokens"):
        write_bundle(tmp_path / "a.tflite", vocabulary, {})


def test_a_directory_of_many_entries_is_refused_unread(exported, tmp_path):
    """Each of the 200,000 entries would become an object."""
    model, count = read_bundle(exported).model, 200_000
    entry = struct.pack("<4s6H3L5H2L", DIRECTORY, 20, 20, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0) + b"junk"
    end = struct.pack("<4s4H2LH", END, 0, 0, count & 0xFFFF, count & 0xFFFF, count * len(entry), len(model), 0)
    (tmp_path / "many.tflite").write_bytes(model + entry * count + end)
    with pytest.raises(BundleError, match="the directory of the zip at its end is too large"):
        read_bundle(tmp_path / "many.tflite")


def test_each_damaged_copy_is_refused(exported, tmp_path):
    accepted, path = [], tmp_path / "damaged.tflite"
    damaged = list(damaged_bundles(exported))
    for name, content in damaged:
        path.write_bytes(content)
        with contextlib.suppress(BundleError):
            read_bundle(path)
            accepted.append(name)
    assert accepted == []
    assert len(damaged) > 40


def test_a_byte_order_mark_is_accepted(exported, tmp_path):
    config = b"\xef\xbb\xbf" + json.dumps(read_bundle(exported).config).encode()
    path = rebundled(exported, tmp_path / "marked.tflite", config=config)
    assert read_bundle(path).config == read_bundle(exported).config


def test_entries_of_other_names_and_stored_ones_are_accepted(exported, tmp_path):
    path = tmp_path / "more.tflite"
    shutil.copy(exported, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("notes.txt", b"of the app")
    assert read_bundle(path).config == read_bundle(exported).config


def test_sampling_defaults_out_of_range_are_refused(exported, tmp_path):
    path = rebundled(exported, tmp_path / "changed.tflite", config={"sampling": {"top_p": 7}})
    with pytest.raises(BundleError, match="`top_p` must be"):
        LiteRTSampler(path)


@pytest.mark.parametrize("card", [b"[1]", b"{", b"\xff"])
def test_a_card_that_is_not_an_object_is_refused(card, exported, tmp_path):
    with pytest.raises(BundleError, match=r"changed\.tflite has a damaged bundle"):
        inspect(rebundled(exported, tmp_path / "changed.tflite", card=card))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_the_model_is_refused(exported, tmp_path, share):
    data = bytearray(exported.read_bytes())
    data[8 + int(share * (data.index(ENTRY) - 8))] ^= 16
    (tmp_path / "flipped.tflite").write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256"):
        LiteRTSampler(tmp_path / "flipped.tflite")


def test_an_entry_that_asks_for_a_password_is_refused(exported, tmp_path):
    data = bytearray(exported.read_bytes())
    data[data.index(DIRECTORY) + 8] |= 1  # The flag of encryption, in the central directory.
    data[data.index(ENTRY) + 6] |= 1
    (tmp_path / "locked.tflite").write_bytes(data)
    with pytest.raises(BundleError, match=r"locked\.tflite"):
        LiteRTSampler(tmp_path / "locked.tflite")


def test_an_entry_larger_than_its_stated_size_is_refused(exported, tmp_path):
    """A zip bomb: 64 MiB of zeros in a vocabulary that says it is 9 bytes long."""
    path = tmp_path / "bomb.tflite"
    path.write_bytes(read_bundle(exported).model)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vocab.txt", bytes(64 << 20))
        archive.writestr("config.json", json.dumps(read_bundle(exported).config))
    data = bytearray(path.read_bytes())
    position = data.index(DIRECTORY) + 24
    data[position : position + 4] = (9).to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(BundleError, match=r"bomb\.tflite"):
        read_bundle(path)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest < 8 << 20


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BundleError, match="No such file"):
        LiteRTSampler(tmp_path / "none.tflite")
    with pytest.raises(BundleError, match="directory or a device"):
        inspect(tmp_path)


def test_a_file_of_what_was_learned_is_named(tmp_path):
    (tmp_path / "me.learned").write_bytes(b"KSLEARN1" + bytes(200))
    for read in (LiteRTDecoder, inspect):
        with pytest.raises(BundleError, match=r"me\.learned is not a \.tflite file, but what a model has learned"):
            read(tmp_path / "me.learned")


def test_a_file_too_large_for_a_tflite_is_refused_unread(tmp_path):
    path = tmp_path / "sparse.tflite"
    with path.open("wb") as file:
        file.write(b"\x1c\0\0\0TFL3")
        file.truncate(50 << 30)
    for read in (LiteRTDecoder, inspect):
        with pytest.raises(BundleError, match=r"more than a \.tflite can have"):
            read(path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_compression_is_refused(kind, exported, tmp_path):
    path = tmp_path / "packed.tflite"
    path.write_bytes(read_bundle(exported).model)
    with zipfile.ZipFile(path, "a", kind) as archive:
        archive.writestr("config.json", json.dumps(read_bundle(exported).config))
    with pytest.raises(BundleError, match="stored or deflated"):
        read_bundle(path)
