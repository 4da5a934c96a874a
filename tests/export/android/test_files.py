"""The files of the kits for Android and iOS that can be checked without their compilers."""

import re
import xml.etree.ElementTree

import paths
import pytest

import keras_seq
from keras_seq.data import tokens
from keras_seq.generation import threefry

ANDROID, IOS = paths.REPOSITORY / "export" / "android", paths.REPOSITORY / "export" / "ios"
KOTLIN, SWIFT = ANDROID / "src/main/kotlin/org/kerasseq", IOS / "Sources" / "KerasSeq"


def test_the_kits_have_the_version_of_keras_seq():
    assert f'version = "{keras_seq.__version__}"' in (ANDROID / "build.gradle.kts").read_text()
    assert f'spec.version = "{keras_seq.__version__}"' in (IOS / "KerasSeq.podspec").read_text()


def test_the_manifest_is_xml():
    assert xml.etree.ElementTree.parse(ANDROID / "src/main/AndroidManifest.xml").getroot().tag == "manifest"


@pytest.mark.parametrize("file", [KOTLIN / "Tokens.kt", SWIFT / "Tokens.swift"], ids=["Kotlin", "Swift"])
def test_the_classes_of_characters_are_those_of_python(file):
    source = file.read_text()
    for name in ("SPACE", "PUNCTUATION", "SINGLE"):
        table = re.search(rf"\b{name}\b[^\n]*[(\[]\n(.*?)\n *[)\]]", source, re.S | re.I).group(1)
        bounds = [int(number, 16) for number in re.findall("0x[0-9A-F]+", table)]
        found = {
            point for first, last in zip(bounds[::2], bounds[1::2], strict=True) for point in range(first, last + 1)
        }
        pattern = re.compile(f"[{getattr(tokens, name)}]")
        assert found == {point for point in range(0x40000) if pattern.match(chr(point))}


@pytest.mark.parametrize("file", [KOTLIN / "Threefry.kt", SWIFT / "Threefry.swift"], ids=["Kotlin", "Swift"])
def test_the_constants_of_the_random_stream_are_those_of_python(file):
    source = file.read_text()
    rotations = re.search(r"rotations\b.*?[(\[]([0-9, ]+)[)\]]", source, re.I).group(1)
    assert tuple(map(int, rotations.split(","))) == threefry.ROTATIONS
    assert re.search(r"rounds = (\d+)", source, re.I).group(1) == str(threefry.ROUNDS)
    assert f"0x{threefry.PARITY:X}" in source


def test_the_kits_have_the_same_parts():
    """The Swift files follow the Kotlin ones; the runtimes differ."""
    of_kotlin, of_swift = ({file.stem for file in folder.iterdir()} for folder in (KOTLIN, SWIFT))
    assert of_kotlin - {"KerasSeqException"} == of_swift - {
        "KerasSeqError",
        "Platform",
        "LiteRTRunner",
        "TensorFlowLiteRunner",
    }
