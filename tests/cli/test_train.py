"""`keras-seq train`."""

import json
import re
import shlex

import pytest
from cli_files import TEXT

# A SimpleRNN takes less time to trace than a GRU.
SMALL = ("--cell=simple_rnn", "--units=4", "--batch_size=4", "--length=8", "--epochs=1")


def test_a_run_directory_has_all_files(folder):
    names = {"config.json", "export", "history.csv", "history.png", "model.keras", "steps.csv", "vocab.txt"}
    assert {path.name for path in (folder / "fox").iterdir()} == names


@pytest.mark.slow
def test_the_built_in_grammar_by_its_name(folder, run_cli):
    options = ("--cell=simple_rnn", "--units=4", "--minutes=0.01", "--run=grammar")
    answer = run_cli("train", "--corpus=agreement", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    answer = run_cli("evaluate", "--run=grammar", "--corpus=agreement", "--split=test", cwd=folder)
    assert answer.stdout.startswith("agreement, test: ")
    assert answer.stderr == ""


@pytest.mark.parametrize(
    "options",
    [
        ["--level=word", "--max_size=8", "--cell=simple_rnn"],
        pytest.param(["--by_line", "--cell=lstm", "--units=8,4"], marks=pytest.mark.slow),
    ],
)
def test_each_kind_of_run_is_trained_exported_and_sampled(folder, options, run_cli):
    name = "-".join(options).replace("--", "").replace(",", "_")
    sizes = ("--units=8", "--batch_size=4", "--length=8", "--epochs=1")
    for arguments in (
        ["train", "--corpus=fox.txt", *sizes, *options, f"--run={name}"],
        ["export", f"--run={name}", "--format=tflite"],
    ):
        answer = run_cli(*arguments, cwd=folder)
        assert (answer.returncode, answer.stderr) == (0, "")
    sources = (f"--run={name}", f"--model={name}/export/{name}.tflite")
    answers = [
        run_cli("sample", source, "--seed=5", "--max_tokens=30", "--prompt=the ", cwd=folder) for source in sources
    ]
    assert answers[0].stdout == answers[1].stdout != ""
    told = "keras-seq: 2 of 2 tokens of the prompt are read as <unk>\n" if "--level=word" in options else ""
    assert [answer.stderr for answer in answers] == [told, told]


@pytest.mark.slow
def test_words_by_coverage_in_a_folder_of_files_and_a_file_with_a_space_in_its_name(folder, run_cli):
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text(TEXT + "rare\n")
    (folder / "my text.txt").write_text(TEXT)
    arguments = ("--corpus=my text.txt", "--corpus=texts", "--level=word", "--coverage=0.9")
    answer = run_cli("train", *arguments, *SMALL, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"a vocabulary of \d+ tokens, 4 of them reserved, \d\.\d% of the text is <unk>", answer.stdout)
    commands = [line.strip() for line in answer.stdout.splitlines() if line.startswith("  keras-seq")]
    run = next(word for word in shlex.split(commands[0]) if word.startswith("--run="))
    assert (folder / run.removeprefix("--run=") / "model.keras").is_file()


@pytest.mark.slow
def test_a_run_is_repeated_from_its_configuration_with_one_option_changed(folder, run_cli):
    answer = run_cli("train", "--config=fox/config.json", "--seed=1", "--run=again", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    first, again = (json.loads((folder / name / "config.json").read_text()) for name in ("fox", "again"))
    assert again == {**first, "seed": 1}


@pytest.mark.slow
def test_a_run_directory_and_a_byte_order_mark_are_accepted(folder, tmp_path, run_cli):
    (tmp_path / "marked.JSON").write_text((folder / "fox" / "config.json").read_text(), encoding="utf-8-sig")
    for number, config in enumerate((folder / "fox", tmp_path / "marked.JSON")):
        run = tmp_path / f"run{number}"
        answer = run_cli("train", f"--config={config}", *SMALL, f"--run={run}", cwd=folder)
        assert answer.returncode == 0, answer.stderr
        assert json.loads((run / "config.json").read_text())["units"] == [4]


@pytest.mark.slow
def test_a_configuration_in_toml_and_options_that_replace_its_length_and_clipping(folder, run_cli):
    (folder / "small.toml").write_text(
        'corpus = "fox.txt"\ncell = "simple_rnn"\nunits = [4]\nbatch_size = 4\nlength = 8\nminutes = 60.0\n'
        '[clipping]\nkind = "clipvalue"\nthreshold = 0.5\n'
    )
    options = ("--epochs=1", "--global_clipnorm=2", "--run=from_toml")
    answer = run_cli("train", "--config=small.toml", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    config = json.loads((folder / "from_toml" / "config.json").read_text())
    assert (config["units"], config["epochs"], config["minutes"]) == ([4], 1, None)
    assert config["clipping"] == {"kind": "global_clipnorm", "threshold": 2.0}
    assert config["corpus"] == [str(folder / "fox.txt")]


@pytest.mark.slow
def test_a_run_with_ngrams_is_repeated_without_them(folder, tmp_path, run_cli):
    (tmp_path / "config.json").write_text(
        '{"corpus": "fox.txt", "units": [4], "ngrams": 3, "ngram_rows": 31, "ngram_decay": 0.5}'
    )
    call = ("train", f"--config={tmp_path / 'config.json'}", *SMALL, f"--run={tmp_path / 'run'}")
    answer = run_cli(*call, "--weight_decay=0.1", cwd=folder)
    assert (
        f"keras-seq: {tmp_path / 'config.json'}: only one of `ngram_decay` and `weight_decay` can be set"
        in answer.stderr
    )
    answer = run_cli(*call, "--ngrams=0", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["ngrams"], config["ngram_rows"], config["ngram_decay"]) == (0, None, None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"corpus": "fox.txt", "learning_rat": 1}', "has no key 'learning_rat'; did you mean learning_rate?"),
        ('{"corpus": "fox.txt", "batch_size": "64"}', "config.json: `batch_size` must be a positive integer"),
        ('{"corpus": "fox.txt", "units": 8}', "config.json: `units` must be a list of positive integers"),
        (
            '{"corpus": "fox.txt", "epochs": 1, "minutes": 2.0}',
            "config.json: only one of `epochs` and `minutes` can be set",
        ),
        ('{"corpus": "fox.txt", "clipping": {"clipnorm": 1}}', "must be an object with the keys kind and threshold"),
        ('{"corpus": "fox.txt", "clipping": 1}', "must be an object with the keys kind and threshold"),
        ('{"corpus": 5}', "config.json: `corpus` must be a path or name"),
        ("[1]", "must hold a JSON object"),
        ("{", "config.json cannot be read: it is not valid JSON"),
        ("[" * 100_000, "config.json cannot be read: it is nested too deeply"),
        ('{"corpus": "fox.txt", "units": [1000000]}', "GiB of memory; this machine has"),
        ('{"corpus": "fox.txt", "epochs": 1e400}', "config.json: `epochs` must be a positive integer"),
        ("{}", "config.json must name a corpus: add one, or give it with --corpus"),
        ('{"corpus": "fox.txt", "global_clipnorm": 1}', "clipping has the keys kind (global_clipnorm) and threshold"),
        ('{"corpus": "fox.txt", "coverage": 0.5}', "config.json: `coverage` must be 1 at the character level"),
        ('{"corpus": "fox.txt", "batch_size": 4, "length": 8, "optimizer": "foo"}', "config.json: `optimizer` must be"),
        (None, "No such file or directory"),
    ],
)
def test_a_bad_configuration_is_one_sentence(content, words, folder, tmp_path, run_cli):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    answer = run_cli("train", f"--config={tmp_path / 'config.json'}", "--run=new", cwd=folder)
    assert answer.returncode == 1
    (message,) = answer.stderr.splitlines()
    assert message.startswith("keras-seq: ")
    assert words in message
    assert not (folder / "new").exists()
