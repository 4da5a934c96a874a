"""Many prompts and texts in several processes: the results are those of one sampler, and jobs resume."""

import json

import pytest
from hamlet import TEXT

from keras_seq_export import LiteRTSampler
from keras_seq_export.errors import ResultsError
from keras_seq_export.tflite.batch_jobs import score_all, write_all

PROMPTS = ["", "To be", "or not ", "that is: ", "the ", "to suffer"] * 3
OPTIONS = {"max_tokens": 12, "temperature": 0.8}


def answers(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_texts_do_not_depend_on_the_number_of_processes(exported, tmp_path):
    sampler = LiteRTSampler(exported)
    for processes in (1, 2):
        assert write_all(exported, PROMPTS, tmp_path / f"{processes}.jsonl", processes, seed=5, **OPTIONS) == (0, 0)
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()
    for number, answer in enumerate(answers(tmp_path / "1.jsonl")):
        text = sampler.sample(PROMPTS[number], seed=5 + number, logprobs=True, **OPTIONS)
        assert (answer["number"], answer["seed"]) == (number + 1, 5 + number)
        assert (answer["prompt"], answer["text"]) == (PROMPTS[number], text)
        assert answer["log_probability"] == pytest.approx(sum(text.log_probabilities))
        assert (answer["tokens"], answer["finish_reason"]) == (len(text.token_ids), text.finish_reason)


@pytest.mark.parametrize("options", [{}, {"max_tokens": 200}])
def test_the_effective_number_of_tokens_is_recorded(options, exported, tmp_path):
    write_all(exported, ["To"], tmp_path / "out.jsonl", 1, temperature=0.8)
    assert answers(tmp_path / "out.jsonl")[0]["options"] == {"max_tokens": 200, "temperature": 0.8}
    assert write_all(exported, ["To"], tmp_path / "out.jsonl", 1, temperature=0.8, **options).existing == 1


def test_an_interrupted_job_resumes(exported, tmp_path):
    write_all(exported, PROMPTS, tmp_path / "whole.jsonl", 1, **OPTIONS)
    whole = (tmp_path / "whole.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    whole_lines = b"".join(lines[:4])
    for kept in (b"", whole_lines, whole_lines + lines[4][:-3], whole_lines + lines[4][:7], whole):
        (tmp_path / "cut.jsonl").write_bytes(kept)
        assert write_all(exported, PROMPTS, tmp_path / "cut.jsonl", 1, **OPTIONS).existing == kept.count(b"\n")
        assert (tmp_path / "cut.jsonl").read_bytes() == whole


def test_scores_equal_those_of_the_sampler(exported, tmp_path):
    texts = TEXT.splitlines()
    score_all(exported, texts, tmp_path / "scores.jsonl", 1)
    sampler = LiteRTSampler(exported)
    for text, answer in zip(texts, answers(tmp_path / "scores.jsonl"), strict=True):
        assert answer["scored"] == text
        assert answer["log_probability"] == pytest.approx(sampler.score(text).log_probability)
        assert answer["tokens"] == len(text)


def test_an_output_of_another_job_is_refused_and_kept(exported, tmp_path):
    write_all(exported, PROMPTS[:3], tmp_path / "out.jsonl", 1, **OPTIONS)
    before = (tmp_path / "out.jsonl").read_bytes()
    for prompts, others in (
        (PROMPTS[1:], {}),
        (PROMPTS, {"seed": 1}),
        (PROMPTS[:2], {}),
        (PROMPTS, {"temperature": 0.0}),
    ):
        with pytest.raises(ResultsError, match=r"line \d of .* is not a result of this model, input and options"):
            write_all(exported, prompts, tmp_path / "out.jsonl", 1, **{**OPTIONS, **others})
    assert (tmp_path / "out.jsonl").read_bytes() == before
    (tmp_path / "notes.txt").write_text("my notes, one line")
    with pytest.raises(ResultsError, match=r"line 1 of .*notes\.txt is not a result"):
        write_all(exported, PROMPTS, tmp_path / "notes.txt", 1, **OPTIONS)
    assert (tmp_path / "notes.txt").read_text() == "my notes, one line"


def test_a_line_that_the_model_cannot_read_becomes_an_error_and_the_others_texts(exported, tmp_path):
    assert write_all(exported, ["To", "be", "漢", "or"], tmp_path / "out.jsonl", 1, **OPTIONS) == (0, 1)
    found = answers(tmp_path / "out.jsonl")
    assert "漢" in found[2]["error"]
    assert ["text" in answer for answer in found] == [True, True, False, True]
    assert score_all(exported, ["To", "漢", "\ud800", "漢" * 2000], tmp_path / "scores.jsonl", 1) == (0, 3)
    assert score_all(exported, ["To", "漢", "\ud800", "漢" * 2000], tmp_path / "scores.jsonl", 1) == (4, 3)


def test_a_wrong_option_or_model_is_refused_before_the_output_is_made(exported, tmp_path):
    with pytest.raises(ValueError, match=r"^`temperature` must be"):
        write_all(exported, PROMPTS, tmp_path / "none.jsonl", 1, temperature=-1)
    with pytest.raises(ValueError, match="absent"):
        write_all(tmp_path / "absent.tflite", PROMPTS, tmp_path / "none.jsonl", 1)
    assert not (tmp_path / "none.jsonl").exists()
