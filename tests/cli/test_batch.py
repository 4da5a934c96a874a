"""`keras-seq batch`."""

import json

import pytest

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
    assert (answer.returncode, answer.stdout) == (0, f"{tmp_path / 'out.jsonl'}: 3 lines\n")
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
    assert "1 lines, 1 of which were done already" in answer.stdout
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


@pytest.mark.parametrize(("options", "key"), [(["--max_tokens=5"], "text"), (["--score"], "log_probability")])
def test_a_line_that_the_model_cannot_read_is_an_error_in_the_output(options, key, batch, tmp_path):
    (tmp_path / "prompts.txt").write_text("the \nΩ\nbox\n", encoding="utf-8")
    answer = batch(*options)
    assert answer.returncode == 1
    assert answer.stderr == (
        "keras-seq: the model could not read 1 of these lines: their `error` in the output says why\n"
    )
    found = results(tmp_path)
    assert [key in result for result in found] == [True, False, True]
    assert "Ω" in found[1]["error"]


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
