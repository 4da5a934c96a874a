"""The program as a whole: bad input is one sentence, and what a process of its own adds to that."""

import importlib.metadata
import inspect
import re
import subprocess
import sys

import pytest
from cli_files import BINARY, EMPTY, SHORT

from keras_seq.generation.generation import Generation
from keras_seq.generation.sampling import SamplingSettings
from keras_seq.training.config import TrainConfig
from keras_seq_export import export_tflite

PROGRAM = [sys.executable, "-X", "utf8", "-m", "keras_seq.cli"]
TFLITE = "--model=fox/export/fox.tflite"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--corpus=none.txt", "--run=new"], "none.txt does not exist"),
        (["train", f"--corpus={EMPTY}", "--run=new"], "is empty"),
        (["train", f"--corpus={BINARY}", "--run=new"], "UTF-8"),
        (["train", f"--corpus={SHORT}", "--run=new"], "at least batch_size * length"),
        (["train", "--corpus=fox.txt", "--run=fox"], "exists and is not empty"),
        (["train", "--corpus=fox.txt", "--run=new", "--minutes=-1"], "--minutes must be a positive, finite number"),
        (["train", "--corpus=fox.txt", "--run=new", "--units=0"], "--units must be a list of positive integers"),
        (
            ["train", "--corpus=fox.txt", "--run=new", "--dropout=1"],
            "--dropout must be a number of at least 0 and below 1",
        ),
        (["train", "--corpus=fox.txt", "--run=new", "--sampled_softmax=9"], "--sampled_softmax needs --tie_embeddings"),
        (
            ["train", "--run=fox", "--resume", "--units=9"],
            "--resume uses the configuration of the run: leave out --units",
        ),
        (["train", "--run=fox", "--resume", "--clipvalue=9"], "leave out --clipvalue"),
        (["train", "--run=fox", "--resume", "--config=x.toml"], "leave out --config"),
        (["train", "--resume"], "--resume needs the run to resume"),
        (["evaluate", "--run=fox", "--corpus=greek.txt"], "--corpus must hold only characters of the vocabulary"),
        (
            ["export", "--run=fox", "--format=tflite", "--batch=3", "--corpus=greek.txt"],
            "--corpus must hold only characters of the vocabulary",
        ),
        (
            ["train", "--corpus=fox.txt", "--run=new", "--tie_embeddings", "--sampled_softmax=999"],
            "--sampled_softmax must be below",
        ),
        (["sample", "--run=nowhere"], "nowhere does not exist"),
        (["sample", "--run=fox", "--prompt=Ω"], "Ω"),
        (["sample", TFLITE, "--prompt=Ω"], "Ω"),
        (["sample", TFLITE, "--temperature=nan"], "--temperature must be"),
        (["sample", TFLITE, "--top_k=-1"], "--top_k must be"),
        (["sample", TFLITE, "--top_p=0"], "--top_p must be"),
        (["sample", "--model=fox.txt"], "not a .tflite"),
        (["sample", TFLITE, "--stop="], "--stop must be"),
        (["sample", TFLITE, "--num_beams=2", "--top_k=5"], "--top_k must be left out"),
        (["sample", "--model=cut.tflite"], "cut.tflite"),
        (["sample", "--run=" + "a" * 300], "File name too long"),
        (["evaluate", "--run=no_vocabulary"], "vocabulary is damaged"),
        (["export", "--run=fox", f"--output={SHORT}"], "cannot be written"),
        (["export", "--run=no_config"], "config.json is damaged"),
        (["evaluate", TFLITE], "--corpus=FILE"),
        (["export", "--run=fox"], "exists"),
        (["export", "--run=fox", "--format=tflite", "--quantization=int8", "--max_loss=-1"], "--max_loss must be"),
        (["export", "--run=fox", "--format=tflite", "--batch=0"], "--batch must be an integer from 1 to 1,024"),
        (
            ["export", "--run=fox", "--format=tflite", "--batch=2", f"--corpus={SHORT}"],
            "is empty: name a longer --corpus",
        ),
        (["export", "--run=fox", "--format=tflite", "--batch=2", "--corpus=none.txt"], "none.txt does not exist"),
        (["export", "--run=fox", "--format=saved_model", "--quantization=int8"], "--quantization is about the .tflite"),
        (["sample", "--model=fox.txt", "--top_k=99999999999"], "not a .tflite"),
        (["inspect", "fox.txt"], "not a .tflite"),
        (["learn", "--model=fox.txt", "--corpus=fox.txt", "--learned=new"], "not a .tflite"),
        (["inspect", "cut.tflite"], "cut.tflite"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(folder, arguments, words, run_cli):
    answer = run_cli(*arguments, cwd=folder)
    assert answer.returncode == 1
    (message,) = answer.stderr.splitlines()
    assert message.startswith("keras-seq: ")
    assert words in message
    assert not (folder / "new").exists()


def test_an_error_names_the_page_that_explains_more(folder, run_cli):
    answer = run_cli("sample", "--run=nowhere", cwd=folder)
    assert answer.stderr.endswith(" (docs/training.md#the-run-directory)\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", f"--corpus={SHORT}", "--run=new"], "at least batch_size * length"),
        (["sample", "--model=cut.tflite"], "cut.tflite"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_all_that_a_process_prints(folder, arguments, words):
    answer = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, cwd=folder, timeout=200)
    assert answer.returncode != 0
    (message,) = answer.stderr.splitlines()  # TensorFlow's own notices do not come through.
    assert message.startswith("keras-seq: ")
    assert words in message
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--unit=8"], "there is no option --unit, did you mean --units?"),
        (["train", "--prompt=x"], "there is no option --prompt, it is an option of sample"),
        (["train", "--megabytes=3"], "there is no option --megabytes, it is an option of benchmark corpus"),
        (["sample", "--run=fox", "--by_line"], "there is no option --by_line, it is an option of encode, train"),
        (["sample", "--run=fox", "hello"], "unexpected argument hello"),
        (["benchmark", "layer", "--nonsense"], "there is no option --nonsense"),
        (["sample", "--run=fox", "--temp=1"], "there is no option --temp"),
        (["sample"], "one of the arguments --run --model is required"),
        (["train", "--units=a"], "argument --units: must be integers separated by commas"),
        (["train", "--clipnorm=1", "--clipvalue=1"], "--clipvalue: not allowed with argument --clipnorm"),
        (["train", "--epochs=1", "--minutes=1"], "--minutes: not allowed with argument --epochs"),
        (["nonsense"], "nonsense"),
        ([], "COMMAND"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_misspelt_option_or_command_is_refused(folder, arguments, words, run_cli):
    answer = run_cli(*arguments, cwd=folder)
    assert answer.returncode == 2
    (message,) = answer.stderr.splitlines()
    assert message.startswith("keras-seq")
    assert message.endswith(" --help")
    assert words in message


def test_absl_leaves_a_misspelt_option_to_the_program(folder):
    answer = subprocess.run([*PROGRAM, "train", "--unit=8"], capture_output=True, text=True, cwd=folder, timeout=200)
    assert answer.returncode == 2
    assert (
        answer.stderr
        == "keras-seq train: there is no option --unit, did you mean --units?; see keras-seq train --help\n"
    )


def test_the_version_is_that_of_the_package(folder, run_cli):
    answer = run_cli("--version", cwd=folder)
    assert (answer.returncode, answer.stdout) == (0, f"keras-seq {importlib.metadata.version('keras_seq')}\n")


@pytest.mark.parametrize(
    "command",
    ["encode", "train", "sample", "batch", "evaluate", "gradients", "export", "learn", "inspect", "web", "demo"],
)
def test_each_option_has_a_help_text_with_its_default(command, folder, run_cli):
    answer = run_cli(command, "--help", cwd=folder)
    assert answer.returncode == 0
    options = answer.stdout.partition("\n\n")[2].partition("show this help message and exit")[2]
    described = ("\n" + options).replace("\n  FILE", "\n  --FILE").split("\n  --")[1:]
    assert described
    for option in described:
        text = " ".join(option.partition("\n\n")[0].split())
        assert "default: " in text or "(required)" in text or "no default" in text, text


@pytest.mark.parametrize(
    ("command", "function", "names"),
    [
        ("sample", SamplingSettings, ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"]),
        ("sample", Generation, ["max_tokens", "num_beams", "length_penalty"]),
        ("batch", Generation, ["max_tokens"]),
        ("export", export_tflite, ["quantization", "state", "batch", "max_loss"]),
        (
            "train",
            TrainConfig,
            ["units", "embedding_dim", "learning_rate", "warmup", "dropout", "batch_size", "length"],
        ),
    ],
)
def test_the_defaults_in_the_help_texts_are_those_of_the_functions(command, function, names, folder, run_cli):
    printed = " ".join(run_cli(command, "--help", cwd=folder).stdout.partition("show this help")[2].split())
    for name in names:
        default = inspect.signature(function).parameters[name].default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else f"{default}"
        described = printed.partition(f" --{name} ")[2].partition(" --")[0]
        assert re.search(rf"default: {re.escape(shown.removesuffix('.0'))}[,.)]", described), (name, described)


def test_a_closed_pipe_ends_the_program_without_a_message(folder):
    program = subprocess.Popen(
        [*PROGRAM, "sample", TFLITE, "--max_tokens=100000", "--seed=1"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout.read(10)
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() != 0
