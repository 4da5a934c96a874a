"""The program as a user runs it, each call a fresh process."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from keras_seq.cli.main import _copies, _lines_of, build_parser, main

TEXT = "the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs.\n" * 60


BINARY, EMPTY, SHORT = "binary.txt", "empty.txt", "short.txt"

PROGRAM = [sys.executable, "-X", "utf8", "-m", "keras_seq.cli.main"]


def keras_seq(*arguments, cwd):
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
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
    (folder / BINARY).write_bytes(b"\x89PNG\r\n\x00\xff")
    (folder / EMPTY).write_bytes(b"")
    (folder / SHORT).write_text("to be")
    (folder / "cut.tflite").write_bytes((folder / "fox" / "export" / "fox.tflite").read_bytes()[:-100])
    for name, file, content in (("no_vocabulary", "vocab.txt", "a\na\n"), ("no_config", "config.json", "{}")):
        shutil.copytree(folder / "fox", folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("export"))
        (folder / name / file).write_text(content)
    return folder


def test_a_run_directory_is_whole(folder):
    names = {"config.json", "export", "history.csv", "history.png", "model.keras", "steps.csv", "vocab.txt"}
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


def test_a_text_without_a_seed_can_be_written_again(folder):
    source, *options = "--model=fox/export/fox.tflite", "--prompt=the ", "--max_tokens=30"
    first = keras_seq("sample", source, *options, cwd=folder)
    seed = first.stderr.strip().removeprefix("keras-seq: ")
    assert keras_seq("sample", source, *options, seed, cwd=folder).stdout == first.stdout


def test_several_texts_stops_and_beams(folder):
    source, *options = "--model=fox/export/fox.tflite", "--prompt=the ", "--max_tokens=30"
    together = keras_seq("sample", source, *options, "--seed=3", "--num_samples=2", "--stop=o", "--stop=z", cwd=folder)
    alone = [
        keras_seq("sample", source, *options, f"--seed={seed}", "--stop=o", "--stop=z", cwd=folder).stdout
        for seed in (3, 4)
    ]
    assert together.stdout == "\n".join(alone)
    assert not {"o", "z"} & set(together.stdout)
    beams = keras_seq("sample", source, *options, "--num_beams=3", "--length_penalty=0.5", cwd=folder)
    assert beams.stdout.startswith("the ")


def test_gradients_of_a_run(folder):
    answer = keras_seq("gradients", "--run=fox", "--lags=20", "--output=flow", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "fox, gru, untrained" in answer.stdout
    assert sorted(path.name for path in (folder / "flow").iterdir()) == ["gradient_flow.csv", "gradient_flow.png"]
    assert len((folder / "flow" / "gradient_flow.csv").read_text().splitlines()) == 22


def test_run_and_tflite_evaluate_alike(folder):
    answers = [
        keras_seq("evaluate", source, "--corpus=fox.txt", cwd=folder).stdout
        for source in ("--run=fox", "--model=fox/export/fox.tflite")
    ]
    figures = [float(answer.split(": ")[1].split()[0]) for answer in answers]
    afresh = [float(answer.split("zero state: ")[1].split()[0]) for answer in answers]
    assert afresh[0] == pytest.approx(afresh[1], abs=5e-4)
    assert figures[0] == pytest.approx(figures[1], abs=5e-4)
    assert 0 < figures[0] < 1  # the text repeats itself; a uniform guess costs ln 30 = 3.4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--corpus=none.txt", "--run=new"], "none.txt does not exist"),
        (["train", f"--corpus={EMPTY}", "--run=new"], "is empty"),
        (["train", f"--corpus={BINARY}", "--run=new"], "UTF-8"),
        (["train", f"--corpus={SHORT}", "--run=new"], "at least batch_size * length"),
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
        (["sample", "--model=fox/export/fox.tflite", "--stop="], "`stop` must be"),
        (["sample", "--model=fox/export/fox.tflite", "--num_beams=2", "--top_k=5"], "`top_k` must be left out"),
        (["sample", "--model=cut.tflite"], "cut.tflite"),
        (["sample", "--run=" + "a" * 300], "File name too long"),
        (["evaluate", "--run=no_vocabulary"], "vocabulary is damaged"),
        (["export", "--run=fox", f"--output={SHORT}"], "cannot be written"),
        (["export", "--run=no_config"], "config.json is damaged"),
        (["evaluate", "--model=fox/export/fox.tflite"], "--corpus=FILE"),
        (["export", "--run=fox"], "exists"),
        (["export", "--run=fox", "--format=tflite", "--quantization=int8", "--max_loss=-1"], "`max_loss` must be"),
        (["export", "--run=fox", "--format=tflite", "--batch=0"], "`batch` must be an integer from 1 to 1024"),
        (
            ["export", "--run=fox", "--format=tflite", "--batch=2", f"--corpus={SHORT}"],
            "is empty: name a longer --corpus",
        ),
        (["export", "--run=fox", "--format=tflite", "--batch=2", "--corpus=none.txt"], "none.txt does not exist"),
        (["export", "--run=fox", "--format=saved_model", "--quantization=int8"], "are of the .tflite"),
        (["sample", "--model=fox.txt", "--top_k=99999999999"], "not a .tflite"),
        (["inspect", "fox.txt"], "not a .tflite"),
        (["inspect", "cut.tflite"], "cut.tflite"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(folder, arguments, words, monkeypatch, capsys):
    """Without the three seconds in which a process of its own loads TensorFlow; that is the test below."""
    monkeypatch.chdir(folder)
    assert main(build_parser().parse_args(arguments)) == 1
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("keras-seq: ")
    assert words in message
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", f"--corpus={SHORT}", "--run=new"], "at least batch_size * length"),
        (["train", "--corpus=fox.txt", "--run=new", "--units=a"], "--units"),
        (["sample", "--run=fox", "--prompt=Ω"], "Ω"),
        (["sample", "--model=cut.tflite"], "cut.tflite"),
        (["export", "--run=fox"], "exists"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_all_that_a_process_tells(folder, arguments, words):
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


def test_an_export_is_measured_on_the_held_out_text_and_inspected(folder):
    options = ("--format=tflite", "--quantization=float16", "--state=internal", "--batch=2", "--license=CC0-1.0")
    answer = keras_seq("export", "--run=fox", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "tokens of held-out text" in answer.stdout
    file = "fox/export/fox.float16.internal.batch2.tflite"
    answer = keras_seq("inspect", file, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    for told in (
        "signature reset",
        "license              CC0-1.0",
        "corpus               fox",
        "held_out_from        fox",
        "nats_per_token",
    ):
        assert told in answer.stdout
    found = json.loads(keras_seq("inspect", file, "--json", cwd=folder).stdout)
    assert found["signatures"]["decode"]["inputs"] == {"token": ["int32", [2]]}
    texts = [
        keras_seq("sample", source, "--prompt=the ", "--max_tokens=30", "--seed=7", cwd=folder).stdout
        for source in ("--run=fox", f"--model={file}")
    ]
    assert texts[0] == texts[1]


def test_an_export_without_its_corpus_says_so(folder, tmp_path):
    shutil.copytree(folder / "fox", tmp_path / "fox", ignore=shutil.ignore_patterns("export"))
    config = tmp_path / "fox" / "config.json"
    config.write_text(config.read_text().replace("fox.txt", "gone.txt"))
    answer = keras_seq("export", "--run=fox", "--format=tflite", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "measured on text of the model's own, since" in answer.stderr
    assert "gone.txt" in answer.stderr
    assert "tokens of text of its own" in answer.stdout


def test_the_built_in_grammar_by_its_name(folder):
    options = ("--units=4", "--minutes=0.01", "--run=grammar")
    answer = keras_seq("train", "--corpus=agreement", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    answer = keras_seq("evaluate", "--run=grammar", "--corpus=agreement", "--split=test", cwd=folder)
    assert answer.stdout.startswith("agreement, test: ")
    assert answer.stderr == ""


@pytest.mark.parametrize(
    "options", [["--level=word", "--max_size=8", "--cell=simple_rnn"], ["--by_line", "--cell=lstm", "--units=8,4"]]
)
def test_each_kind_of_run_goes_the_whole_road(folder, options):
    name = "-".join(options).replace("--", "").replace(",", "_")
    sizes = ("--units=8", "--batch_size=4", "--length=8", "--epochs=1")
    for arguments in (
        ["train", "--corpus=fox.txt", *sizes, *options, f"--run={name}"],
        ["export", f"--run={name}", "--format=tflite"],
    ):
        answer = keras_seq(*arguments, cwd=folder)
        assert (answer.returncode, answer.stderr) == (0, "")
    sources = (f"--run={name}", f"--model={name}/export/{name}.tflite")
    answers = [
        keras_seq("sample", source, "--seed=5", "--max_tokens=30", "--prompt=the ", cwd=folder) for source in sources
    ]
    assert answers[0].stdout == answers[1].stdout != ""
    told = "keras-seq: 2 of 2 tokens of the prompt are read as <unk>\n" if "--level=word" in options else ""
    assert [answer.stderr for answer in answers] == [told, told]


def test_lines_that_were_learned_by_heart_are_told(folder, monkeypatch, capsys):
    (folder / "names.txt").write_text("Ann\nBob\nthe Cid\n")
    monkeypatch.chdir(folder)
    told = _copies(["Ann", "An", "the Cid\n", "Dan"], *_lines_of(["names.txt"]))
    assert told == "2 of 4 texts are lines of names; 50% are new"
    options = ["--seed=1", "--max_tokens=1", "--num_samples=2", "--corpus=names.txt"]
    assert main(build_parser().parse_args(["sample", "--model=fox/export/fox.tflite", *options])) == 0
    assert capsys.readouterr().err == "keras-seq: 0 of 2 texts are lines of names; 100% are new\n"


def test_words_by_coverage_and_a_folder_of_files(folder):
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text(TEXT + "rare\n")
    options = (
        "--level=word",
        "--coverage=0.9",
        "--units=4",
        "--batch_size=4",
        "--length=8",
        "--epochs=1",
        "--run=texts_run",
    )
    answer = keras_seq("train", "--corpus=texts", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"a vocabulary of \d+ tokens, \d\.\d% of the text is <unk>", answer.stdout)


def test_two_corpora_and_a_name_with_a_space(folder):
    (folder / "my text.txt").write_text(TEXT)
    arguments = ("--corpus=my text.txt", "--corpus=fox.txt", "--units=4", "--batch_size=4", "--length=8", "--epochs=1")
    answer = keras_seq("train", *arguments, cwd=folder)
    commands = [line.strip() for line in answer.stdout.splitlines() if line.startswith("  keras-seq")]
    run = next(word for word in shlex.split(commands[0]) if word.startswith("--run="))
    assert (folder / run.removeprefix("--run=") / "model.keras").is_file()


def test_a_reader_that_has_enough_ends_the_program_quietly(folder):
    program = subprocess.Popen(
        [*PROGRAM, "sample", "--model=fox/export/fox.tflite", "--max_tokens=100000", "--seed=1"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout.read(10)
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() != 0
