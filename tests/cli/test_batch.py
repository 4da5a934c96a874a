"""`keras-seq batch`."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_seq.locks import exclusive

MODEL = "--model=fox/export/fox.tflite"


@pytest.fixture
def batch(folder, tmp_path, run_cli):
    """`batch("--score")` runs the command on `prompts.txt`, with one process and the output `out.jsonl`."""

    def run(*options):
        files = (f"--input={tmp_path / 'prompts.txt'}", f"--output={tmp_path / 'out.jsonl'}")
        return run_cli("batch", MODEL, *files, "--workers=1", *options, cwd=folder)

    return run


def results(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]


def test_each_prompt_is_continued_with_a_seed_of_its_own(folder, batch, tmp_path, run_cli):
    (tmp_path / "prompts.txt").write_text("the \r\n\nbox")
    answer = batch("--seed=5", "--max_tokens=20", "--temperature=0.8")
    assert (answer.returncode, answer.stdout) == (0, f"{tmp_path / 'out.jsonl'}: 3 prompts\n")
    for number, (result, prompt) in enumerate(zip(results(tmp_path), ("the ", "", "box"), strict=True)):
        assert (result["prompt"], result["seed"]) == (prompt, 5 + number)
        assert result["options"] == {"max_tokens": 20, "temperature": 0.8}
        options = (f"--prompt={prompt}", f"--seed={5 + number}", "--max_tokens=20", "--temperature=0.8")
        assert run_cli("sample", MODEL, *options, cwd=folder).stdout == f"{prompt}{result['text']}\n"


def test_a_finished_job_resumes_with_its_default_given_explicitly(batch, tmp_path):
    (tmp_path / "prompts.txt").write_text("the \n")
    assert batch("--temperature=0").returncode == 0
    assert results(tmp_path)[0]["options"] == {"max_tokens": 200, "temperature": 0.0}
    answer = batch("--temperature=0", "--max_tokens=200")
    assert answer.returncode == 0, answer.stderr
    assert "1 prompts, 1 of which were done already" in answer.stdout
    answer = batch("--temperature=0", "--max_tokens=10")
    assert answer.returncode == 1
    assert "is not a result of this model, input and options" in answer.stderr


def test_lines_are_scored(batch, tmp_path):
    (tmp_path / "prompts.tsv").write_text("id\ttext\n1\tthe quick brown\n2\txof\n")
    answer = batch("--score", f"--input={tmp_path / 'prompts.tsv'}:text")
    assert (answer.returncode, answer.stderr) == (
        0,
        "keras-seq: prompts.tsv: tab-separated without quoting, header id, text, text from text\n",
    )
    likely, unlikely = results(tmp_path)
    assert (likely["scored"], likely["tokens"]) == ("the quick brown", 15)
    assert unlikely["log_probability"] / 3 < likely["log_probability"] / 15 < 0


@pytest.mark.parametrize(
    ("options", "key", "kind"),
    [(["--max_tokens=5"], "text", "prompts"), (["--score"], "log_probability", "texts")],
)
def test_a_line_that_the_model_cannot_read_is_an_error_in_the_output(options, key, kind, batch, tmp_path):
    (tmp_path / "prompts.txt").write_text("the \nΩ\nbox\n", encoding="utf-8")
    for before in ("", ", 2 of which were done already"):  # After a resume, errors from before count too.
        answer = batch(*options)
        assert (answer.returncode, answer.stdout) == (1, f"{tmp_path / 'out.jsonl'}: 3 {kind}{before}\n")
        assert answer.stderr == (
            f"keras-seq: the model could not read 1 of these {kind}: their `error` in the output says why\n"
        )
        found = results(tmp_path)
        assert [key in result for result in found] == [True, False, True]
        assert "Ω" in found[1]["error"]
        assert "corpus" not in found[1]["error"]
        lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "out.jsonl").write_bytes(b"".join(lines[:2]))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prompts.csv", 'id,body\n1,"the \nfox"\n2,\n3,box\n'),
        ("prompts.jsonl", '{"body": "the \\nfox"}\n{"body": ""}\n\n{"body": "box"}\n'),
    ],
)
def test_each_record_is_one_prompt_with_its_number(name, content, batch, tmp_path):
    (tmp_path / name).write_text(content)
    assert batch("--max_tokens=3", f"--input={tmp_path / name}:body").returncode == 0
    found = [(result["number"], result["prompt"], result["seed"]) for result in results(tmp_path)]
    assert found == [(1, "the \nfox", 0), (2, "", 1), (3, "box", 2)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "the input must be a text file, but "),
        (b"", "--input must have a prompt or text on each line, but "),
        (b"the \n\xff\n", "the input must be UTF-8 text, but "),
        (b"the \n" + b"x" * (2**24 + 1), "a prompt or text must have at most 16,777,216 characters, but number 2 of "),
    ],
)
def test_a_wrong_input_is_refused_before_the_output_is_made(content, words, batch, tmp_path):
    if content is not None:
        (tmp_path / "prompts.txt").write_bytes(content)
    answer = batch()
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith(f"keras-seq: {words}")
    assert words.startswith("--input") or answer.stderr.endswith(" (docs/sampling.md#many-prompts)\n")
    assert not (tmp_path / "out.jsonl").exists()


def test_the_output_cannot_be_the_input(batch, tmp_path):
    (tmp_path / "prompts.txt").write_text("the \n")
    (tmp_path / "out.jsonl").symlink_to("prompts.txt")
    answer = batch()
    assert (answer.returncode, answer.stderr) == (1, "keras-seq: --input and --output must be two files\n")
    assert (tmp_path / "prompts.txt").read_text() == "the \n"


def test_a_second_batch_into_the_same_file_is_refused(batch, tmp_path):
    (tmp_path / "prompts.txt").write_text("the \n")
    (tmp_path / "out.jsonl").touch()
    with exclusive(tmp_path / "out.jsonl", "writes these results"):
        answer = batch()
    assert (answer.returncode, answer.stderr) == (
        1,
        f"keras-seq: {tmp_path / 'out.jsonl'} is in use: another process writes these results. Wait until it ends, or "
        "name another\n",
    )
    assert (tmp_path / "out.jsonl").read_bytes() == b""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("seconds", [1.5, 6])
def test_a_signal_ends_a_batch_and_its_processes_in_time_and_leaves_whole_lines(seconds, number, folder, tmp_path):
    (tmp_path / "texts.txt").write_text("the fox\n" + "the quick brown fox " * 150_000 + "\n")
    options = [MODEL, f"--input={tmp_path / 'texts.txt'}", f"--output={tmp_path / 'out.jsonl'}"]
    command = [sys.executable, "-m", "keras_seq.cli", "batch", "--score", "--workers=2", *options]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(number)
        started = time.monotonic()
        _, errors = process.communicate(timeout=30)
        while any(Path(f"/proc/{child}/exe").exists() for child in children) and time.monotonic() < started + 30:
            time.sleep(0.05)
    assert time.monotonic() - started < 10
    assert process.returncode == (128 + number if number != signal.SIGKILL else -number)
    assert "Traceback" not in errors
    if (tmp_path / "out.jsonl").exists():
        assert all(json.loads(line)["number"] == 1 for line in (tmp_path / "out.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--workers=0", "--workers must be a positive integer. Received: --workers=0"),
        ("--max_tokens=0", "--max_tokens must be a positive integer. Received: --max_tokens=0"),
        ("--top_p=2", "--top_p must be"),
    ],
)
def test_a_wrong_option_is_refused_before_the_output_is_made(option, words, batch, tmp_path):
    (tmp_path / "prompts.txt").write_text("the \n")
    answer = batch(option)
    assert answer.returncode == 1
    assert words in answer.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_options_of_sampling_do_not_go_with_score(batch, tmp_path):
    (tmp_path / "prompts.txt").write_text("the \n")
    answer = batch("--score", "--top_k=3")
    assert (answer.returncode, answer.stderr) == (1, "keras-seq: --score samples nothing: leave out --top_k\n")
