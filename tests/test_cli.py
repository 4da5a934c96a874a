"""The program as a user runs it, each call a fresh process."""

import subprocess
import sys

import pytest

TEXT = "the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs.\n" * 60


def keras_seq(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-X", "utf8", "-m", "keras_seq.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=200,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a text, a run of it and both exports."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "fox.txt").write_text(TEXT)
    for arguments in (
        ("train", "--corpus=fox.txt", "--units=32", "--batch_size=4", "--length=16", "--epochs=2", "--run=fox"),
        ("export", "--run=fox"),
    ):
        answer = keras_seq(*arguments, cwd=folder)
        assert answer.returncode == 0, answer.stderr
    return folder


def test_a_run_directory_is_whole(folder):
    names = {"config.json", "export", "history.csv", "history.png", "model.keras", "vocab.txt"}
    assert {path.name for path in (folder / "fox").iterdir()} == names


def test_run_and_tflite_write_the_same_text(folder):
    options = ("--prompt=the ", "--max_tokens=50", "--seed=7", "--temperature=0.8")
    texts = [
        keras_seq("sample", source, *options, cwd=folder).stdout
        for source in ("--run=fox", "--model=fox/export/fox.tflite")
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 20
    assert texts[0].startswith("the ")


def test_run_and_tflite_evaluate_alike(folder):
    answers = [
        keras_seq("evaluate", source, "--corpus=fox.txt", cwd=folder).stdout
        for source in ("--run=fox", "--model=fox/export/fox.tflite")
    ]
    figures = [float(answer.split(": ")[1].split()[0]) for answer in answers]
    assert figures[0] == pytest.approx(figures[1], abs=5e-4)
    assert 0 < figures[0] < 1  # the text repeats itself; a uniform guess costs ln 30 = 3.4


BINARY, EMPTY, SHORT = "binary.txt", "empty.txt", "short.txt"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--corpus=none.txt", "--run=new"], "none.txt does not exist"),
        (["train", f"--corpus={EMPTY}", "--run=new"], "is empty"),
        (["train", f"--corpus={BINARY}", "--run=new"], "UTF-8"),
        (["train", f"--corpus={SHORT}", "--run=new"], "corpus"),
        (["train", "--corpus=fox.txt", "--run=fox"], "exists and is not empty"),
        (["train", "--corpus=fox.txt", "--run=new", "--clipnorm=1", "--clipvalue=1"], "only one of"),
        (["train", "--corpus=fox.txt", "--run=new", "--units=a"], "--units"),
        (["train", "--corpus=fox.txt", "--run=new", "--minutes=-1"], "positive"),
        (["sample", "--run=nowhere"], "not a run directory"),
        (["sample", "--run=fox", "--prompt=Ω"], "Ω"),
        (["sample", "--model=fox/export/fox.tflite", "--prompt=Ω"], "Ω"),
        (["sample", "--model=fox/export/fox.tflite", "--temperature=nan"], "temperature"),
        (["sample", "--model=fox/export/fox.tflite", "--top_k=-1"], "top_k"),
        (["sample", "--model=fox/export/fox.tflite", "--top_p=0"], "top_p"),
        (["sample", "--model=fox.txt"], "not a .tflite"),
        (["export", "--run=fox"], "exists"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(folder, arguments, words):
    (folder / BINARY).write_bytes(b"\x89PNG\r\n\x00\xff")
    (folder / EMPTY).write_bytes(b"")
    (folder / SHORT).write_text("to be")
    answer = keras_seq(*arguments, cwd=folder)
    assert answer.returncode != 0
    (message,) = answer.stderr.splitlines()  # TensorFlow's own notices do not come through.
    assert message.startswith("keras-seq: ")
    assert words in message
    assert not (folder / "new").exists()


@pytest.mark.parametrize("arguments", [["train", "--unit=8"], ["sample", "--run=fox", "--temp=1"], ["nonsense"], []])
def test_a_misspelt_option_or_command_is_refused(folder, arguments):
    answer = keras_seq(*arguments, cwd=folder)
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1].startswith("keras-seq")
    assert "Traceback" not in answer.stderr


def test_the_built_in_grammar_by_its_name(folder):
    options = ("--units=4", "--minutes=0.01", "--run=grammar")
    answer = keras_seq("train", "--corpus=agreement", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    answer = keras_seq("evaluate", "--run=grammar", "--corpus=agreement", "--split=test", cwd=folder)
    assert answer.stdout.startswith("agreement, test: ")
    assert answer.stderr == ""
