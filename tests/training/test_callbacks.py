import errno
import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_training import TEXT, VOCABULARY, data, small_config, small_model

from keras_seq.data.streams import Streams
from keras_seq.errors import ConfigError, ModelError, TrainingError
from keras_seq.models.stateful import stateful_copy
from keras_seq.training import callbacks as training
from keras_seq.training.callbacks import CarriedState, CosineSchedule, KeepBest, RollBack, StopWhenNotFinite, save_model
from keras_seq.training.checkpoint import Checkpoint
from keras_seq.training.compile import compile_model
from keras_seq.training.gradient_norms import GradientNorms


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


ONES = np.ones((8, 1), "float32")
FOUR_BATCHES = {"x": ONES, "y": ONES, "batch_size": 2, "verbose": 0}


def summing(learning_rate=0.01, steps_per_execution=1, **options):
    """Returns a model with one weight: the sum of the rates that the optimizer used, as long as it is below 1."""
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    optimizer = keras.optimizers.SGD(learning_rate, **options)
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(optimizer, "mae", steps_per_execution=steps_per_execution, jit_compile=False)
    return model


def sums_of_rates(schedule, **options):
    """Returns the sum of the rates so far after each batch, or each execution, of two epochs."""
    sums = []

    class Sums(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            sums.append(self.model.get_weights()[0].item())

    summing(**options).fit(**FOUR_BATCHES, epochs=2, callbacks=[schedule, Sums()])
    return np.array(sums)


def test_cosine_goes_from_the_peak_to_zero_over_the_epochs():
    rates = np.diff(sums_of_rates(CosineSchedule(epochs=2)), prepend=0)
    # (1 + cos(a)) / 2 = cos(a / 2) ** 2
    assert rates == pytest.approx([0.01 * math.cos(math.pi / 2 * batch / 8) ** 2 for batch in range(8)], rel=1e-4)
    assert rates[0] == pytest.approx(0.01)
    assert rates[4] == pytest.approx(0.005)
    assert rates[-1] < 0.01 * 0.05


@pytest.mark.parametrize(("together", "last_batches"), [(2, [1, 3, 5, 7]), (3, [2, 3, 6, 7])])
def test_an_execution_has_the_mean_of_the_rates_of_its_batches(together, last_batches):
    schedule = CosineSchedule(epochs=2, warmup=0.3)
    expected = sums_of_rates(schedule)[last_batches]
    assert sums_of_rates(schedule, steps_per_execution=together) == pytest.approx(expected, rel=1e-5)


def test_accumulated_gradients_have_the_rate_of_the_batch_that_applies_them():
    schedule = CosineSchedule(epochs=2)
    rates = np.diff(sums_of_rates(schedule), prepend=0)
    expected = np.cumsum(rates * np.tile([0, 1], 4))
    assert sums_of_rates(schedule, gradient_accumulation_steps=2) == pytest.approx(expected, rel=1e-5)


def test_minutes_end_the_run_and_the_rate_reaches_zero(monkeypatch):
    clock = iter(range(10**6))  # a second at every look
    monkeypatch.setattr(training, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    rates = Rates()
    history = summing().fit(**FOUR_BATCHES, epochs=100, callbacks=[CosineSchedule(minutes=0.2), rates]).history
    assert len(rates.seen) == 6  # two looks a batch, 12 seconds
    assert len(history["loss"]) == 2  # It ended in the middle of the second epoch.
    seconds = [1, 3, 5, 7, 9, 11]
    assert rates.seen == pytest.approx([0.01 * math.cos(math.pi / 2 * s / 12) ** 2 for s in seconds], rel=1e-5)


def test_the_warm_up_of_a_run_in_minutes_begins_after_the_first_batch_which_compiles(monkeypatch):
    # The clock is read at the start, and at the begin and the end of each batch.
    seconds = iter([0, 0, 50, 50, 51, 51, 52, 52, 53, 53, 54, 54, 55, 55, 56, 56, 57])
    monkeypatch.setattr(training, "time", types.SimpleNamespace(monotonic=lambda: next(seconds)))
    rates = Rates()
    summing().fit(**FOUR_BATCHES, epochs=2, callbacks=[CosineSchedule(minutes=2, warmup=3 / 120), rates])
    rises = {0: 0, 50: 0, 51: 1 / 3, 52: 2 / 3, 53: 1, 54: 1, 55: 1, 56: 1}
    cosines = [math.cos(math.pi / 2 * max(0, second - 3) / 117) ** 2 for second in rises]
    expected = [0.01 * rise * cosine for rise, cosine in zip(rises.values(), cosines, strict=True)]
    assert rates.seen == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("seconds_of_first", [None, 50.0])
def test_the_state_of_a_schedule_holds_where_its_warm_up_began(monkeypatch, seconds_of_first):
    """A run that is stopped in its first batch has not warmed up; a later one does not warm up again."""
    now = [0.0]
    monkeypatch.setattr(training, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    schedule, other = (CosineSchedule(minutes=2, warmup=3 / 120) for _ in range(2))
    for one in (schedule, other):
        one.set_model(summing())
        one.on_train_begin()
    if seconds_of_first is not None:
        now[0] = seconds_of_first
        schedule.on_train_batch_end(0)
    other.state = schedule.state
    now[0] += 60.0
    other.on_train_batch_end(0)  # It compiles again.
    now[0] += 1.0
    other.on_train_batch_begin(1)
    rise = 1 / 3 if seconds_of_first is None else 1.0
    cosine = math.cos(math.pi / 2 * max(0, now[0] - 3) / 117) ** 2
    assert float(other.model.optimizer.learning_rate) == pytest.approx(0.01 * rise * cosine)


def test_one_schedule_can_run_twice():
    model, rates, schedule = summing(), Rates(), CosineSchedule(epochs=1)
    for _ in range(2):
        model.fit(**FOUR_BATCHES, callbacks=[schedule, rates])
    assert rates.seen[:4] == pytest.approx(rates.seen[4:])


@pytest.mark.parametrize(
    ("callback", "known", "options", "message"),
    [
        (CosineSchedule(epochs=1), False, {}, "`epochs` needs data with a known number of batches"),
        (CarriedState(batches=4), False, {}, "`batches` needs data with a known number of batches"),
        (
            CarriedState(),
            True,
            {"steps_per_execution": 3},
            "`steps_per_execution` must divide the 4 batches of an epoch",
        ),
        (
            CarriedState(batches=9),
            True,
            {"steps_per_execution": 2},
            "must divide the 9 batches of a pass through the text.* Received: steps_per_execution=2",
        ),
        (
            CosineSchedule(epochs=1),
            True,
            {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)},
            "`learning_rate` must be a number",
        ),
    ],
)
def test_what_a_callback_cannot_follow_is_refused_when_fit_begins(callback, known, options, message):
    model = summing(**options)
    pairs = tf.data.Dataset.from_tensor_slices((ONES, ONES)).batch(2)
    with pytest.raises(ConfigError, match=message):
        model.fit(pairs if known else pairs.filter(lambda *_: True), shuffle=False, verbose=0, callbacks=[callback])
    assert model.get_weights()[0] == 0


@pytest.mark.parametrize("arguments", [{}, {"epochs": 2, "minutes": 1.0}])
def test_the_schedule_takes_exactly_one_length(arguments):
    with pytest.raises(ValueError, match="exactly one of `epochs` and `minutes`"):
        CosineSchedule(**arguments)


@pytest.mark.parametrize(
    "arguments", [{"epochs": 0}, {"epochs": -1}, {"minutes": 0.0}, {"minutes": math.nan}, {"minutes": math.inf}]
)
def test_the_length_of_the_run_is_positive(arguments):
    with pytest.raises(ValueError, match="must be a positive, finite number"):
        CosineSchedule(**arguments)


def test_a_loss_that_is_not_finite_ends_the_run():
    model = small_model()
    compile_model(model, small_config())
    model.get_layer("logits").bias.assign(np.full(len(VOCABULARY), np.nan))
    with pytest.raises(
        TrainingError, match="the loss became nan at batch 1 of epoch 1: the gradients exploded and are not clipped"
    ):
        model.fit(data(), epochs=1, verbose=0, callbacks=[StopWhenNotFinite()])


def test_in_half_precision_the_message_names_the_clipping_of_the_inner_optimizer():
    model = small_model()
    inner = keras.optimizers.Adam(0.01, clipnorm=0.5)
    model.compile(keras.optimizers.LossScaleOptimizer(inner), "mse")
    watch = StopWhenNotFinite()
    watch.set_model(model)
    watch.on_epoch_begin(0)
    assert watch.divergence(4, {"gradient_norm": 70.0, "loss": 1.0}) is None
    reason = watch.divergence(5, {"gradient_norm": np.inf, "loss": 1.0})
    assert "became inf at batch 6 of epoch 1 (the gradient's norm was 70 before): the steps are too long" in reason
    assert "clipnorm=0.5" in reason


def test_in_an_execution_the_message_names_its_batches():
    model = small_model()
    model.compile("sgd", "mse", steps_per_execution=3)
    watch = StopWhenNotFinite()
    watch.set_model(model)
    watch.on_epoch_begin(0)
    assert watch.divergence(2, {"gradient_norm": 7.0, "loss": 1.0}) is None
    assert watch.divergence(5, {"loss": 1.0}) is None  # without an update of the weights
    reason = watch.divergence(8, {"loss": np.nan})
    assert "the loss became nan at batches 7 to 9 of epoch 1 (the gradient's norm was 7 before)" in reason


def filled(model, value):
    model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])


def test_keep_best_keeps_the_epoch_with_the_lowest_validation_loss(tmp_path):
    path, best = tmp_path / "model.keras", small_model()
    trained = stateful_copy(best, batch_size=4)
    keep = KeepBest(best, path)
    keep.set_model(trained)
    for epoch, loss in enumerate([3.0, 1.0, 2.0, math.nan, 1.0]):
        filled(trained, epoch)
        keep.on_test_end({"loss": 0.0, "nats": loss})
        assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]
    assert keep.best == 1.0
    for model in (best, keras.saving.load_model(path)):
        assert all((weight == 1).all() for weight in model.get_weights())
    assert keras.saving.load_model(path).input_shape == (None, None)


def test_keep_best_in_fit(tmp_path):
    model = small_model()
    compile_model(model, small_config(learning_rate=0.05))
    keep = KeepBest(model, tmp_path / "model.keras")
    history = model.fit(data(), epochs=3, verbose=0, validation_data=data(), callbacks=[keep]).history
    assert keep.best == min(history["val_nats"])
    kept = keras.saving.load_model(tmp_path / "model.keras")
    assert kept.evaluate(data(), verbose=0)[1] == pytest.approx(keep.best, rel=1e-5)


def test_keep_best_refuses_a_model_without_its_metric():
    model = small_model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    with pytest.raises(ModelError, match="`KeepBest` needs a model compiled with weighted_metrics="):
        model.evaluate(data().take(1), verbose=0, callbacks=[KeepBest(model, None)])


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path, model = tmp_path / "model.keras", small_model()
    save_model(model, path)
    whole = path.read_bytes()

    def full_disk(partial):
        partial.write_bytes(whole[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(model, "save", full_disk)
    with pytest.raises(TrainingError, match=r"model.keras cannot be written: No space left on device. Free some space"):
        save_model(model, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]
    assert path.read_bytes() == whole


def test_carried_state_starts_each_epoch_and_each_evaluation_from_zero():
    model = stateful_copy(small_model(), batch_size=4)
    compile_model(model, small_config())

    class States(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.zero = []

        def look(self, batch, logs=None):
            self.zero.append(not np.any(self.model.get_layer("simple_rnn_0").states[0].numpy()))

        on_train_batch_begin = on_test_batch_begin = look

    states = States()
    model.fit(data(), epochs=2, verbose=0, validation_data=data(), callbacks=[CarriedState(), states])
    assert states.zero == [True, False, False, False] * 4  # four batches: training, validation, training, validation


def test_the_state_is_carried_over_epochs_within_a_pass_and_over_validation():
    model = stateful_copy(small_model(), batch_size=4)
    compile_model(model, small_config())
    seen = []

    class States(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(self.model.get_layer("simple_rnn_0").states[0].numpy())

        def on_train_batch_end(self, batch, logs=None):
            self.last = self.model.get_layer("simple_rnn_0").states[0].numpy()

        def on_epoch_end(self, epoch, logs=None):
            np.testing.assert_array_equal(self.model.get_layer("simple_rnn_0").states[0].numpy(), self.last)

    endless = Streams(TEXT, VOCABULARY, 4, 30).from_batch(0)
    options = {"validation_data": data(), "epochs": 3, "steps_per_epoch": 3, "shuffle": False, "verbose": 0}
    model.fit(endless, callbacks=[CarriedState(batches=4), States()], **options)
    assert [not state.any() for state in seen] == [True, False, False, False, True, False, False, False, True]


def test_in_executions_the_states_are_carried_and_reset_as_by_hand():
    """Passes of four batches in epochs of two."""
    layer = keras.layers.SimpleRNN(1, stateful=True, return_sequences=True)
    model, states = keras.Sequential([keras.Input(batch_shape=(1, 2, 1)), layer]), []
    model.compile(keras.optimizers.SGD(0.0), "mse", steps_per_execution=2, jit_compile=False)

    class States(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            states.append(layer.states[0].numpy().item())

    inputs = np.arange(1, 9, dtype="float32").reshape(4, 2, 1)
    data = tf.data.Dataset.from_tensor_slices((inputs, inputs)).batch(1, drop_remainder=True).repeat()
    callbacks = [CarriedState(batches=4), States()]
    model.fit(data, epochs=3, steps_per_epoch=2, shuffle=False, verbose=0, callbacks=callbacks)
    kernel, recurrent_kernel, bias = (weight.item() for weight in layer.get_weights())
    state, expected = 0.0, []
    for number in [*range(1, 9), 0, *range(1, 5)]:  # 0 begins a pass.
        state = number and math.tanh(number * kernel + state * recurrent_kernel + bias)
        expected.append(state)
    assert states == pytest.approx([expected[place] for place in (3, 7, 12)], rel=1e-4)


def test_the_rate_rises_before_it_falls():
    rates = np.diff(sums_of_rates(CosineSchedule(epochs=2, warmup=0.5)), prepend=0)
    assert rates[:5] == pytest.approx([0, 0.0025, 0.005, 0.0075, 0.01], rel=1e-4)
    assert rates[5:] == pytest.approx([0.01 * math.cos(math.pi / 2 * part / 4) ** 2 for part in (1, 2, 3)], rel=1e-4)
    with pytest.raises(ValueError, match="`warmup` must be a number of at least 0 and below 1"):
        CosineSchedule(epochs=2, warmup=1.0)


def test_a_resumed_run_has_the_rate_of_its_position():
    rates = Rates()
    summing().fit(**FOUR_BATCHES, initial_epoch=1, epochs=2, callbacks=[CosineSchedule(epochs=2), rates])
    assert rates.seen[0] == pytest.approx(0.005)


class Poison(keras.callbacks.Callback):
    """Makes weights that are no numbers, so many times, at batch 1 of epoch 1."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def on_train_batch_begin(self, batch, logs=None):
        if self.times and self.model.optimizer.iterations >= 5:
            self.times -= 1
            self.model.get_layer("logits").bias.assign(np.full(len(VOCABULARY), np.nan))


def roll_back(path, times, length=30):
    model, rates = small_model(), Rates()
    compile_model(model, small_config(learning_rate=0.01))
    checkpoint, schedule = Checkpoint(path / "checkpoint.npz"), CosineSchedule(epochs=3)
    callbacks = [schedule, Poison(times), GradientNorms(), RollBack(checkpoint, schedule), rates, checkpoint]
    history = model.fit(data(length=length), epochs=3, verbose=0, callbacks=callbacks).history
    return model, schedule, rates, history


def test_a_run_rolls_back_to_its_last_checkpoint_at_half_the_rate(tmp_path, capsys):
    model, schedule, rates, history = roll_back(tmp_path, times=1)
    assert schedule.scale == 0.5
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert np.isfinite(history["loss"]).all()
    assert model.optimizer.iterations == 12 - 2  # of twelve steps, those since the checkpoint were undone
    full = [0.01 * math.cos(math.pi / 2 * batch / 12) ** 2 for batch in range(12)]
    assert rates.seen[:6] == pytest.approx(full[:6], rel=1e-5)
    assert rates.seen[6:] == pytest.approx([rate / 2 for rate in full[6:]], rel=1e-5)
    assert "the gradient's norm became nan at batch 2 of epoch 2" in capsys.readouterr().out


def test_a_run_that_diverges_after_each_roll_back_ends(tmp_path):
    with pytest.raises(TrainingError, match="halving the learning rate 5 times did not help"):
        roll_back(tmp_path, times=99, length=3)


def test_averaged_weights_are_kept_where_they_were_evaluated(tmp_path):
    model = small_model()
    compile_model(model, small_config(learning_rate=0.05, ema_momentum=0.9))
    best = small_model()
    keep = KeepBest(best, tmp_path / "model.keras")
    callbacks = [keep, keras.callbacks.SwapEMAWeights()]
    history = model.fit(data(), epochs=3, verbose=0, validation_data=data(), callbacks=callbacks).history
    compile_model(best, small_config())
    assert best.evaluate(data(), verbose=0)[1] == pytest.approx(min(history["val_nats"]), rel=1e-5)
