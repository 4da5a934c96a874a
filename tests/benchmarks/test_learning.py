"""`keras-seq benchmark learning`, with a small model and short texts."""

import random
import shutil

import hamlet
import numpy as np
import pytest

from keras_seq.analysis.evaluate import evaluate_step
from keras_seq.benchmarks import (
    learning,
    learning_cost,
    learning_gains,
    learning_keystrokes,
    learning_texts,
    learning_weeks,
)
from keras_seq.benchmarks.learning_gains import gain, held_out, predict, readings
from keras_seq.benchmarks.learning_texts import authors
from keras_seq.benchmarks.learning_weeks import simulated_weeks, weeks_table
from keras_seq.errors import CorpusError, ModelError
from keras_seq_export import LiteRTSampler

LEARNED, HELD_OUT, TURN = 400, 200, 150
MODULES = (learning, learning_gains, learning_keystrokes, learning_texts, learning_weeks)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Makes every text of the benchmark short."""
    for module in MODULES:
        for name, value in (
            ("LEARNED", LEARNED),
            ("HELD_OUT", HELD_OUT),
            ("TURN", TURN),
            ("CHARACTERS", 5 * TURN),
            ("CURVE", (50, 100, 700)),
            ("PRINTED", (100, 700)),
            ("READ", (0, LEARNED)),
            ("TYPED", 60),
        ):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(learning_cost, "_TOKENS", 64)


@pytest.fixture(scope="module")
def sampler(small_tflite):
    return LiteRTSampler(small_tflite(learn=True))


@pytest.fixture(scope="module")
def both():
    """Two texts of the words of Hamlet in random order, one of them with digits that the vocabulary lacks."""
    draw = random.Random(1)
    ann, bob = (" ".join(draw.choices(hamlet.TEXT.split(), k=250)) for _ in range(2))
    return {"ann": ann[:900], "bob": bob[:640] + "123"}


def test_tokens_that_the_vocabulary_lacks_are_left_out(sampler, both):
    ann, bob = authors(both, sampler.vocabulary)
    assert (ann.text, ann.lacking) == (both["ann"], "")
    assert bob.text == both["bob"][:640]
    assert bob.lacking == "bob: 3 of 643 tokens, which the vocabulary lacks, are left out"
    (words,) = authors({"bob": both["bob"]}, hamlet.vocabulary_of("word"))
    assert "".join(words.tokens) == words.text == both["bob"]
    assert words.lacking.startswith("bob: ")
    assert words.lacking.endswith(" tokens, which the vocabulary lacks, are <unk>")


def test_each_beginning_is_read_from_nothing_learned(sampler, both, small_tflite):
    ann, bob = authors(both, sampler.vocabulary)
    sampler.learn(bob.text)
    found = readings(sampler, ann)
    assert list(found) == [50, 100, 700]
    for tokens, report in found.items():
        assert report == LiteRTSampler(small_tflite(learn=True)).learn(both["ann"][:tokens])
    assert list(readings(sampler, bob)) == [50, 100]  # It has 640 tokens.
    assert sampler.learned_tokens == 0


def test_a_prediction_is_that_of_the_most_likely_tokens(sampler, both):
    sampler.forget()
    text = both["ann"][:100]
    found = predict(sampler, text)
    assert found.nats == pytest.approx(evaluate_step(sampler, sampler.vocabulary, text).nats_per_token)
    states, token, right = sampler.initial_states(), sampler.vocabulary.start_id, 0
    for expected in sampler.vocabulary.encode(text):
        logits, states = sampler(token, states)
        token = int(expected)
        right += np.argmax(logits) == token
    assert found.accuracy == right / 100


def test_what_comes_after_a_text_is_predicted_before_and_after_it_was_learned(sampler, both):
    ann, _ = authors(both, sampler.vocabulary)
    before, after = held_out(sampler, ann)
    assert before == predict(sampler, both["ann"][LEARNED : LEARNED + HELD_OUT])
    assert after.nats < before.nats
    assert after.accuracy > before.accuracy
    assert sampler.learned_tokens == 0


def test_authors_have_turns_until_their_texts_end(sampler, both, small_tflite):
    weeks = simulated_weeks(sampler, authors(both, sampler.vocabulary))
    other = LiteRTSampler(small_tflite(learn=True))
    begins = {"ann": 0, "bob": 0}
    assert [turn.author for turn in weeks.turns] == ["ann", "bob", "ann", "bob", "ann"]
    for turn in weeks.turns:
        begin = begins[turn.author]
        assert turn.report == other.learn(both[turn.author][begin : begin + TURN])
        begins[turn.author] += TURN
    assert weeks.held_out["ann"][1] == predict(other, both["ann"][-HELD_OUT:])
    other.forget()
    assert weeks.held_out["ann"][0] == predict(other, both["ann"][-HELD_OUT:])

    title, _, ann, bob, worst = weeks_table(weeks)
    assert title.startswith(f"{5 * TURN:,} tokens of the authors in turn, {TURN} characters each")
    saved = sum(TURN * gain(turn.report) for turn in weeks.turns)
    assert float(ann.split()[4]) + float(bob.split()[4]) == pytest.approx(saved, abs=1.1)
    least = min(weeks.turns, key=lambda turn: gain(turn.report))
    assert worst == (
        f"the worst of 5 turns is number {weeks.turns.index(least) + 1}, {least.author}: {gain(least.report):+.3f} nats per token"
    )


def test_the_program_prints_all_tables_and_draws_a_picture(both, small_tflite, tmp_path, run_cli):
    for name, text in both.items():
        (tmp_path / f"{name}.txt").write_text(text)
    files = [tmp_path / "plain.tflite", tmp_path / "learning.tflite"]
    for file, options in zip(files, ({}, {"learn": True}), strict=True):
        shutil.copy(small_tflite(**options), file)
    models = [f"--model={file}" for file in files]
    corpora = [f"--corpus={name}.txt" for name in both]
    answer = run_cli("benchmark", "learning", *models, *corpora, "--picture=l.png", "--rounds=1", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    lacking, gains, held, weeks, cost, typed = answer.stdout.rstrip("\n").split("\n\n")
    assert lacking == "bob: 3 of 643 tokens, which the vocabulary lacks, are left out"
    assert [line.split()[1] for line in gains.splitlines()[2:]] == ["ann", "bob"]
    assert [line.split()[-1] == "-" for line in gains.splitlines()[2:]] == [False, True]  # bob is too short.
    assert [line.split()[1] for line in held.splitlines()[2:]] == ["ann", "bob"]
    assert [line.split()[0] for line in weeks.splitlines()[2:]] == ["ann", "bob", "the"]
    signatures = [line.split()[1] for line in cost.splitlines()[1:]]
    assert signatures == ["decode", "prefill", "decode", "prefill", "learn"]
    sizes = [file.stat().st_size for file in files]
    assert [line.split()[3] for line in cost.splitlines() if len(line.split()) > 3][1:] == [f"{one:,}" for one in sizes]
    assert int(cost.splitlines()[3].split()[4].replace(",", "")) > 1_000  # weights of 30 tokens, and words
    assert [line.split()[0] for line in typed.splitlines()[3:]] == ["ann", "bob"]
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_run_is_exported_and_its_held_out_text_is_an_author(both, tmp_path, run_cli):
    (tmp_path / "ann.txt").write_text(both["ann"])
    (tmp_path / "hamlet.txt").write_text(hamlet.TEXT * 30)
    train = ("--units=64", "--embedding_dim=32", "--batch_size=4", "--length=16", "--epochs=1", "--run=run")
    assert run_cli("train", "--corpus=hamlet.txt", *train, cwd=tmp_path).returncode == 0
    answer = run_cli("benchmark", "learning", "--run=run", "--corpus=ann.txt", "--rounds=1", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    gains, _, _, cost, _ = answer.stdout.rstrip("\n").split("\n\n")
    rows = [(line[:20].strip(), line[20:46].strip()) for line in gains.splitlines()[2:]]
    assert rows == [(model, text) for model in ("float32", "int8") for text in ("hamlet, held out", "ann")]
    assert [line[:20].strip() for line in cost.splitlines() if "prefill" in line] == [
        "int8, no learn",
        "float32",
        "int8",
    ]


def test_what_the_benchmark_refuses(both, small_tflite):
    with pytest.raises(ModelError, match="one of the files must learn"):
        list(learning.benchmark_learning([small_tflite()], both))
    path = small_tflite(learn=True)
    with pytest.raises(CorpusError, match="must have 600 characters, but ann has 599"):
        list(learning.benchmark_learning([path], {"ann": both["ann"][:599]}))
    with pytest.raises(CorpusError, match="there must be a text"):
        list(learning.benchmark_learning([path], {}))
    with pytest.raises(ValueError, match="`rounds` must be a positive integer"):
        list(learning.benchmark_learning([path], both, rounds=0))


def test_files_of_one_name_are_named_by_their_paths(tmp_path):
    one, two = tmp_path / "a" / "me.tflite", tmp_path / "b" / "me.tflite"
    assert learning._by_name([one, tmp_path / "you.tflite"]) == {"me": one, "you": tmp_path / "you.tflite"}
    assert learning._by_name([one, two]) == {str(one): one, str(two): two}
