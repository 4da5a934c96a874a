"""A run from a corpus to its directory."""

import csv
import dataclasses
import math
import time

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import keras_seq as ks
from keras_seq.analysis.evaluate import evaluate
from keras_seq.errors import InUseError, TrainingError
from keras_seq.locks import exclusive
from keras_seq.training import train as training_run
from keras_seq.training.config import TrainConfig
from keras_seq.training.run_directory import load_run, read_columns
from keras_seq.training.train import train

RANDOM = np.random.default_rng(0)
TEXT = "".join(RANDOM.choice(list("abcdefgh \n"), 4000))
LINES = "\n".join("ab" * length for length in RANDOM.integers(1, 12, 300)) + "\n"
CONFIG = TrainConfig(
    corpus="memory",
    cell="simple_rnn",
    units=(8,),
    embedding_dim=6,
    dropout=0.0,
    batch_size=4,
    length=16,
    learning_rate=0.01,
    warmup=0.0,
    epochs=1,
    seed=3,
)


def corpus(text):
    return ks.Corpus(train=text, validation=text[:1000], test=text[:500], name="memory")


def run(directory, text=TEXT, **changes):
    vocabulary = ks.Vocabulary.from_text(text)
    return train(directory, corpus(text), vocabulary, dataclasses.replace(CONFIG, **changes))


def history(directory):
    with (directory / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """A run of two epochs."""
    return run(tmp_path_factory.mktemp("two") / "run", epochs=2)


def test_the_directory_holds_the_run(two_epochs):
    made = two_epochs
    names = {"config.json", "history.csv", "history.png", "model.keras", "steps.csv", "vocab.txt"}
    assert {path.name for path in made.directory.iterdir()} == names
    again = load_run(str(made.directory))
    assert again.config == made.config == dataclasses.replace(CONFIG, epochs=2)
    for one, other in zip(made.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in ({"by_line": True}, {"tie_embeddings": True, "units": (6,)})
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("level", ["word", "char"])
def test_the_logits_begin_at_the_frequencies_of_words(tmp_path, level, changes):
    text = "the cat sat\nthe mat sat on the cat\n" * 60
    vocabulary = ks.Vocabulary.from_text(text, level=level)
    config = dataclasses.replace(CONFIG, learning_rate=1e-30, **changes)
    made = train(tmp_path / "run", corpus(text), vocabulary, config)
    ids = vocabulary.encode_lines(text) if "by_line" in changes else vocabulary.encode(text)
    counts = np.bincount(ids, minlength=len(vocabulary)) + 1
    expected = np.log(counts / counts.sum()) if level == "word" else np.zeros(len(vocabulary))
    np.testing.assert_allclose(made.model.get_layer("logits").bias, expected, rtol=1e-5, atol=1e-6)


def test_one_seed_one_model(tmp_path, two_epochs):
    again, other = (run(tmp_path / str(seed), seed=seed, epochs=2) for seed in (CONFIG.seed, 4))
    weights = [made.model.get_weights() for made in (two_epochs, again, other)]
    for a, b, _ in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != c).any() for a, c in zip(weights[0], weights[2], strict=True))


def test_by_line_the_history_counts_every_token_once(tmp_path):
    made = run(tmp_path / "run", LINES, by_line=True)
    expected = evaluate(made.model, made.vocabulary, LINES[:1000], by_line=True).nats_per_token
    (epoch,) = history(tmp_path / "run")
    assert epoch["val_nats"] == pytest.approx(expected, abs=2e-5)
    assert epoch["val_loss"] != pytest.approx(expected, abs=1e-3)  # a mean of the batches' means, short lines first


@pytest.mark.parametrize("by_line", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_file_of_a_model_has_no_optimizer(tmp_path, by_line):
    """Keras does not save which weights an optimizer leaves out, so one that was saved would let all of them decay."""
    made = run(tmp_path / "run", LINES, by_line=by_line, ngrams=2, ngram_rows=31, ngram_decay=0.5)
    assert not keras.saving.load_model(made.directory / "model.keras").compiled


def test_the_state_is_carried_from_batch_to_batch(tmp_path):
    # Whether b follows a shows in the token before a, which a batch of one token does not hold.
    run(tmp_path / "run", "aab" * 1500, length=1, units=[24], learning_rate=0.02)
    without_memory = 2 / 3 * math.log(2)
    assert history(tmp_path / "run")[-1]["val_nats"] < without_memory / 2


@pytest.mark.slow
def test_minutes_end_the_run(tmp_path):
    start = time.monotonic()
    run(tmp_path / "run", epochs=None, minutes=0.05)
    assert time.monotonic() - start < 60
    assert history(tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_explodes_leaves_nothing_in_the_way(tmp_path):
    with pytest.raises(
        TrainingError,
        match=r"the gradient's norm became nan at batch 2 of epoch 1 \(.* before\): the steps are too long",
    ):
        run(tmp_path / "run", learning_rate=1e38)
    (left,) = tmp_path.iterdir()
    assert left.name == "run.diverged.csv"
    first, second = read_columns(left)["gradient_norm"]
    assert math.isfinite(first)
    assert math.isnan(second)
    run(tmp_path / "run")


def test_a_diverged_run_in_a_linked_directory_reports_its_cause_and_keeps_the_files_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    written = training_run.History.on_train_begin

    def add_notes(self, logs=None):
        written(self, logs)
        (tmp_path / "elsewhere" / "notes.txt").write_text("mine")

    monkeypatch.setattr(training_run.History, "on_train_begin", add_notes)
    with pytest.raises(
        TrainingError, match=r"became nan at batch 2 .*\. The files of the run are removed from \S+/run; "
    ):
        run(tmp_path / "run", learning_rate=1e38)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["notes.txt"]
    assert (tmp_path / "run.diverged.csv").exists()


def test_a_run_that_another_process_trains_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    with exclusive(tmp_path / "run", "trains this run"), pytest.raises(InUseError, match="run is in use"):
        run(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_run_that_diverges_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match=r"diverged: .* nats per token"):
        run(tmp_path / "run", learning_rate=1e3, clipping=None)
    assert [path.name for path in tmp_path.iterdir()] == ["run.diverged.csv"]


def test_three_lines_leave_the_validation_part_without_one(tmp_path):
    vocabulary = ks.Vocabulary.from_text("abc\n")
    config = dataclasses.replace(CONFIG, by_line=True)
    (tmp_path / "three.txt").write_text("ab\nbc\nca\n")
    three = ks.load_corpus(tmp_path / "three.txt", by_line=True)
    message = (
        "the validation part of the corpus, .* but it has none; use a text with more lines or, in Python, a larger"
    )
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", three, vocabulary, config)
    assert not (tmp_path / "run").exists()
    # The advice helps.
    enough = ks.load_corpus(tmp_path / "three.txt", validation=0.4, by_line=True)
    assert training_run._batches(enough, vocabulary, config)
    (tmp_path / "many.txt").write_text("ab\nbc\nca\n" * 14)
    assert training_run._batches(ks.load_corpus(tmp_path / "many.txt", by_line=True), vocabulary, config)


def test_a_setting_out_of_range_leaves_nothing(tmp_path):
    for change in ({"batch_size": 0}, {"length": 10**6}, {"learning_rate": -1.0}, {"units": (0,)}):
        with pytest.raises(ValueError, match="must"):
            run(tmp_path / "run", **change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tensorboard_has_the_norms_of_each_step_of_a_resumed_run(tmp_path, monkeypatch):
    told = training_run.Progress.on_epoch_begin

    def interrupt(self, epoch, logs=None):
        told(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_run.Progress, "on_epoch_begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", tensorboard=True, epochs=2)
    vocabulary = ks.Vocabulary.from_text(TEXT)
    config = dataclasses.replace(CONFIG, tensorboard=True, epochs=2)
    train(tmp_path / "run", corpus(TEXT), vocabulary, config, resume=True)
    (folder,) = (tmp_path / "run" / "tensorboard").glob("train")
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    assert {"batch_gradient_norm", "batch_learning_rate", "epoch_clipped", "epoch_nats"} <= set(
        events.Tags()["tensors"]
    )
    steps = len(TEXT) // (4 * 16)
    assert sorted(event.step for event in events.Tensors("batch_gradient_norm")) == list(range(1, 2 * steps + 1))


def test_without_tensorboard_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        run(tmp_path / "run", tensorboard=True)
    assert list(tmp_path.iterdir()) == []


def test_each_step_is_logged(two_epochs):
    with (two_epochs.directory / "steps.csv").open() as file:
        steps = list(csv.DictReader(file))
    assert [(int(row["epoch"]), int(row["step"])) for row in steps] == [(e, s) for e in range(2) for s in range(62)]
    epochs = history(two_epochs.directory)
    for epoch, row in enumerate(epochs):
        norms = [float(step["gradient_norm"]) for step in steps if int(step["epoch"]) == epoch]
        assert row["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-4)


def test_a_long_pass_is_several_epochs_of_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(training_run, "LONGEST_EPOCH", 25)
    run(tmp_path / "run", epochs=2)
    assert len(history(tmp_path / "run")) == 6  # 124 batches, in pieces of 21


def test_a_pass_a_little_longer_than_an_epoch_of_fit_is_two_halves(tmp_path, monkeypatch):
    monkeypatch.setattr(training_run, "LONGEST_EPOCH", 61)  # of 62 batches
    run(tmp_path / "run", epochs=1)
    assert len(read_columns(tmp_path / "run" / "steps.csv")["step"]) == 62
