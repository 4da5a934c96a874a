"""The files of the kits for Android and iOS that can be checked without their compilers."""

import xml.etree.ElementTree

import paths

import keras_seq

ANDROID, IOS = paths.REPOSITORY / "export" / "android", paths.REPOSITORY / "export" / "ios"
KOTLIN, SWIFT = ANDROID / "src/main/kotlin/org/kerasseq", IOS / "Sources" / "KerasSeq"


def test_the_kits_have_the_version_of_keras_seq():
    assert f'version = "{keras_seq.__version__}"' in (ANDROID / "build.gradle.kts").read_text()
    assert f'spec.version = "{keras_seq.__version__}"' in (IOS / "KerasSeq.podspec").read_text()


def test_the_manifest_is_xml():
    assert xml.etree.ElementTree.parse(ANDROID / "src/main/AndroidManifest.xml").getroot().tag == "manifest"


def test_the_kits_have_the_same_parts():
    """The Swift files follow the Kotlin ones; the runtimes differ."""
    of_kotlin, of_swift = ({file.stem for file in folder.iterdir()} for folder in (KOTLIN, SWIFT))
    assert of_kotlin - {"KerasSeqException"} == of_swift - {
        "KerasSeqError",
        "Platform",
        "LiteRTRunner",
        "TensorFlowLiteRunner",
    }
