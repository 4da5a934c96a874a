"""The exported SavedModel: its signatures in TensorFlow's C++ session, its files, and the exports that are refused."""

import hashlib
import json
import re
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import paths
import pytest
import tensorflow as tf
from hamlet import StartingCell
from open_session import OpenSession

import keras_seq as ks
from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export import ExportError
from keras_seq_export.errors import SessionError
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.saved_model import export as saved_model
from keras_seq_export.saved_model.cpp_session import Request, run_in_cpp_session

VOCABULARY = ks.Vocabulary.from_text("the cats were full")
TEXTS = {
    "char": "the cat, “naïve” \\n \\x5c\n\tçà 𝄞 漢字 é\r\nis \ufeff full\0 " * 3,
    "word": "the cat's full, isn't it? “naïve” \\n \\x5c\n\tçà 漢字 is\r\n <eos> the cats 𝄞, were full. \ufeffit \0 "
    * 3,
}
PROMPTS = {
    "char": ["", "the cat", "𝄞\\n\r\n\t", "漢字 \0\ufeff" * 12],
    "word": ["", "the cat's dog isn't, it \\n\r\n", "unheard of: words 𝄞𝄞 漢漢 <eos>", " \ufeff\0 the  " * 12],
}
SETTINGS = [{}, {"temperature": 0.5}, {"top_k": 5, "top_p": 0.9, "min_p": 0.01}, {"temperature": 0.0}]


class Exported(NamedTuple):
    """An export, with a C++ session in which `run` runs requests."""

    model: keras.Model
    vocabulary: ks.Vocabulary
    directory: Path
    report: dict
    run: OpenSession


# For tests that need only one of the two exports.
at_character_level = pytest.mark.parametrize("exported", ["char"], indirect=True)


# At word level the fast suite has the texts of tests/test_writing_systems.py.
@pytest.fixture(scope="module", params=["char", pytest.param("word", marks=pytest.mark.slow)])
def exported(request, tmp_path_factory, tiny_model):
    vocabulary = ks.Vocabulary.from_text(TEXTS[request.param], level=request.param)
    model = tiny_model(vocabulary)
    directory = tmp_path_factory.mktemp("serving") / "model" / "1"
    directory.parent.mkdir()
    report = saved_model.export_saved_model(model, vocabulary, directory)
    session = OpenSession(directory)
    yield Exported(model, vocabulary, directory, report, session)
    session.close()


def request_for(rows):
    """Returns the request for `(prompt, seed, max_tokens, settings)` rows."""
    prompts, seeds, max_tokens, settings = zip(*rows, strict=True)
    complete = [SamplingSettings(**row) for row in settings]
    return Request(
        "serving_default",
        {
            "prompt": np.array(prompts, object),
            "seed": np.array(seeds, np.int64),
            "max_tokens": np.array(max_tokens, np.int32),
            "temperature": np.array([row.temperature for row in complete], np.float32),
            "top_k": np.array([row.top_k for row in complete], np.int32),
            "top_p": np.array([row.top_p for row in complete], np.float32),
            "min_p": np.array([row.min_p for row in complete], np.float32),
        },
    )


def log_probability_by_keras(model, vocabulary, prompt, drawn):
    """Returns the log-probability of the drawn ids, with the model run over the whole sequence at once."""
    prompt_ids = vocabulary.encode(prompt).tolist()
    sequence = np.array([[vocabulary.start_id, *prompt_ids, *drawn]], np.int32)
    logits = np.asarray(model(sequence[:, :-1]), np.float64)[0, len(prompt_ids) :]
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return log_probabilities[np.arange(len(drawn)), drawn].sum()


def test_serving_default_generates_the_text_of_sample(exported):
    model, vocabulary, _, _, run = exported
    prompts = PROMPTS[vocabulary.level]
    rows = [
        *zip(prompts, [0, 7, -1, 2**63 - 1], [30] * 4, SETTINGS, strict=True),
        *zip(prompts, [1, -(2**63), 2**32, 3], [40] * 4, reversed(SETTINGS), strict=True),
    ]
    (answer,) = run([request_for(rows)])
    for index, (prompt, seed, max_tokens, settings) in enumerate(rows):
        expected = ks.sample(model, vocabulary, prompt, max_tokens=max_tokens, seed=seed, **settings)
        length = answer["length"][index]
        ids = answer["token_ids"][index].tolist()
        assert answer["text"][index].decode() == expected
        assert vocabulary.decode(ids[:length]) == expected
        assert set(ids[length:]) <= {vocabulary.pad_id}
        drawn = ids[:length] + ([vocabulary.eos_id] if answer["finish_reason"][index] == b"eos" else [])
        assert len(drawn) == max_tokens or answer["finish_reason"][index] == b"eos"
        np.testing.assert_allclose(
            answer["log_probability"][index],
            log_probability_by_keras(model, vocabulary, prompt, drawn),
            rtol=1e-4,
            atol=1e-4,
        )
    assert set(answer["finish_reason"]) == {b"eos", b"length"}
    assert answer["token_ids"].shape == (len(rows), max(answer["length"]))
    assert {name: value.dtype for name, value in answer.items() if value.dtype != object} == {
        "token_ids": np.int32,
        "length": np.int32,
        "log_probability": np.float32,
    }


def test_a_text_does_not_depend_on_the_other_rows(exported):
    _, vocabulary, _, _, run = exported
    rows = [
        (prompt, seed, max_tokens, settings)
        for prompt, seed, max_tokens, settings in zip(
            PROMPTS[vocabulary.level] * 2, range(8), [1, 40, 3, 25, 40, 2, 7, 11], SETTINGS * 2, strict=True
        )
    ]
    together, *alone = run([request_for(rows), *(request_for([row]) for row in rows)])
    for index, answer in enumerate(alone):
        length = answer["length"][0]
        for name in ("text", "length", "finish_reason"):
            assert together[name][index] == answer[name][0]
        assert together["token_ids"][index, :length].tolist() == answer["token_ids"][0].tolist()
        np.testing.assert_allclose(together["log_probability"][index], answer["log_probability"][0], rtol=1e-5)


def test_settings_have_defaults_and_one_value_serves_a_batch(exported):
    _, vocabulary, _, _, run = exported
    prompts = PROMPTS[vocabulary.level][:2]
    bare, explicit, again = run(
        [
            ("serving_default", {"prompt": prompts}),
            request_for([(prompt, 0, 200, {}) for prompt in prompts]),
            ("serving_default", {"prompt": prompts, "seed": np.array([0], np.int64)}),
        ],
    )
    assert bare["text"].tolist() == explicit["text"].tolist() == again["text"].tolist()


def test_decode_is_the_model_step_by_step(exported):
    model, vocabulary, _, _, run = exported
    tokens = np.random.default_rng(3).integers(0, len(vocabulary), (40, 3)).astype(np.int32)
    start = np.zeros((3, 16), np.float32)
    (answer,) = run([Request("decode", {"token": tokens, "state_0": start}, scan=("token",))])
    np.testing.assert_allclose(answer["logits"].swapaxes(0, 1), model(tokens.T), atol=1e-4)
    assert answer["state_0"].shape == start.shape


def test_score_is_that_of_keras_in_any_batch(exported):
    model, vocabulary, _, _, run = exported
    texts = PROMPTS[vocabulary.level]
    together, *alone = run([("score", {"text": rows}) for rows in (texts, *zip(texts))])
    for row, (text, one) in enumerate(zip(texts, alone, strict=True)):
        expected = ks.score(model, vocabulary, text)
        length = together["length"][row]
        np.testing.assert_array_equal(together["token_ids"][row, :length], expected.token_ids)
        np.testing.assert_allclose(together["log_probabilities"][row, :length], expected.log_probabilities, atol=1e-4)
        assert together["log_probability"][row] == pytest.approx(expected.log_probability, abs=1e-2)
        np.testing.assert_allclose(one["log_probabilities"][0], together["log_probabilities"][row, :length], atol=1e-6)
        assert not together["log_probabilities"][row, length:].any()


def test_the_file_holds_the_vocabulary_the_report_and_the_weights_once(exported):
    model, vocabulary, directory, report, _ = exported
    assert hashlib.sha256((directory / "assets" / "vocab.txt").read_bytes()).hexdigest() == vocabulary.sha256
    assert len(list((directory / "assets").iterdir())) == 1
    assert json.loads((directory / "assets.extra" / "report.json").read_text()) | {"path": str(directory)} == report
    assert report["vocabulary"]["sha256"] == vocabulary.sha256
    assert report["signatures"]["decode"]["tokens_compared"] >= 200
    assert report["signatures"]["decode"]["largest_difference"] < 1e-4
    assert report["signatures"]["serving_default"]["texts_compared"] == 4
    (weights,) = (directory / "variables").glob("*.data*")
    assert report["bytes"][f"variables/{weights.name}"] == weights.stat().st_size
    needed = sum(weight.nbytes for weight in model.get_weights())
    assert needed <= weights.stat().st_size < needed + 3_000
    beside = sorted(path.name for path in directory.parent.iterdir())
    assert beside == ["1", "batching_parameters.txt", "model.config"]


def test_the_signatures_have_defaults(exported):
    from tensorflow.core.protobuf import saved_model_pb2

    graph = saved_model_pb2.SavedModel.FromString((exported.directory / "saved_model.pb").read_bytes()).meta_graphs[0]
    defaults = graph.signature_def["serving_default"].defaults
    for name in ("decode", "prefill", "sample"):
        (states,) = [graph.signature_def[name].defaults["state_0"]]
        assert not tf.make_ndarray(states).any()
    assert "uniform" not in graph.signature_def["sample"].defaults
    assert {name: tf.make_ndarray(value).tolist() for name, value in defaults.items()} == {
        "max_tokens": [200],
        "temperature": [1.0],
        "top_k": [0],
        "top_p": [1.0],
        "min_p": [0.0],
        "seed": [0],
    }


def test_unknown_characters_are_an_error_at_the_character_level_only(exported):
    _, vocabulary, _, _, run = exported
    request = ("serving_default", {"prompt": ["the cat", "ZQZ"]})
    if vocabulary.level == "word":
        assert len(run([request])[0]["text"]) == 2
        return
    with pytest.raises(SessionError, match=r"must hold only characters of the vocabulary.*\[Z Q\]"):
        run([request])


@at_character_level
def test_a_text_that_cannot_be_scored_is_an_error(exported):
    with pytest.raises(SessionError, match=r"`text` must hold only characters of the vocabulary.*\[Z Q\]"):
        exported.run([("score", {"text": ["the cat", "ZQZ"]})])
    with pytest.raises(SessionError, match="`text` must be at most 10000 tokens"):
        exported.run([("score", {"text": ["the cat " * 1300]})])


@pytest.mark.slow
def test_words_split_at_white_space_are_those_of_sample(tmp_path, tiny_model):
    vocabulary = ks.Vocabulary.from_tokens(["", "the", "cats", "were", "full.", "[UNK]", "<s>", "\\n", "<eos>"])
    model = tiny_model(vocabulary)
    saved_model.write_signatures(GraphStep(model, vocabulary), vocabulary, tmp_path / "1", max_length=10_000)
    rows = list(zip(["", "the", "the\n", "the dog\u2003", " "], range(5), [9] * 5, [{}] * 5, strict=True))
    (answer,) = run_in_cpp_session(tmp_path / "1", [request_for(rows)])
    expected = [ks.sample(model, vocabulary, prompt, max_tokens=9, seed=seed) for prompt, seed, *_ in rows]
    assert [text.decode() for text in answer["text"]] == expected
    assert [text[:1] == " " for text in expected] == [False, True, False, True, False]
    with pytest.raises(SessionError, match=r"`prompt` must hold only words of the vocabulary.*\[<eos>\]"):
        run_in_cpp_session(tmp_path / "1", [request_for([("the <eos>", 0, 1, {})])])


def test_a_vocabulary_without_the_tokens_of_generation_is_refused(tmp_path, tiny_model):
    vocabulary = ks.Vocabulary.from_tokens(["", "the", "cats"])
    with pytest.raises(ValueError, match=r"`vocabulary` must be one that has <s>, <eos>; `ks.add_reserved_tokens"):
        saved_model.export_saved_model(tiny_model(vocabulary), vocabulary, tmp_path / "1")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_infinite_logits_are_an_error_that_names_the_token(tmp_path, tiny_model):
    model = tiny_model(VOCABULARY)
    # Only one unit counts: sums of several such numbers are infinite or not, by the order in which a CPU adds them.
    kernel = np.zeros(model.layers[-1].kernel.shape)
    kernel[0, ::2], kernel[0, 1::2] = 3e38, -3e38
    model.layers[-1].kernel.assign(kernel)
    model.layers[-1].bias.assign(np.full(len(VOCABULARY), 3.4e38))
    saved_model.write_signatures(GraphStep(model, VOCABULARY), VOCABULARY, tmp_path / "1", max_length=50)
    with pytest.raises(SessionError, match=r"logits must be numbers at every token\. Received:.*\[0\]"):
        run_in_cpp_session(tmp_path / "1", [("serving_default", {"prompt": ["the "]})])


@pytest.mark.slow
def test_states_that_do_not_begin_at_zero_dropout_a_short_limit_and_the_next_version(tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Dropout(0.5)(keras.layers.Embedding(len(VOCABULARY), 8)(tokens))
    cells = [StartingCell(8), keras.layers.GRUCell(4)]
    values = keras.layers.RNN(cells, return_sequences=True)(embedded)
    model = keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(values))
    (tmp_path / "hamlet" / "3").mkdir(parents=True)
    path = saved_model.export_saved_model(model, VOCABULARY, tmp_path / "hamlet", max_length=9)["path"]
    assert path == str(tmp_path / "hamlet" / "4")
    assert (tmp_path / "hamlet" / "model.config").is_file()
    first = np.array([3, 4], np.int32)
    requests = [
        ("serving_default", {"prompt": ["the "], "seed": [3]}),
        ("decode", {"token": first}),
        ("start", {"token": first}),
    ]
    written, decoded, started = run_in_cpp_session(path, requests)
    assert written["text"][0].decode() == ks.sample(model, VOCABULARY, "the ", max_tokens=5, seed=3)
    np.testing.assert_allclose(decoded["logits"], model(first[:, None])[:, 0], atol=1e-5)
    for index, values in enumerate([np.linspace(-1, 1, 8), np.linspace(-1, 1, 8), np.zeros(4)]):
        np.testing.assert_allclose(started[f"state_{index}"], np.tile(values, (2, 1)), atol=1e-6)


def test_weights_that_are_nan_are_refused(tmp_path, tiny_model):
    model = tiny_model(VOCABULARY)
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    with pytest.raises(ExportError, match="weights must be finite"):
        saved_model.export_saved_model(model, VOCABULARY, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_version_is_not_changed(tmp_path, tiny_model):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mine").write_text("mine")
    with pytest.raises(ExportError, match="1 exists: choose another name"):
        saved_model.export_saved_model(tiny_model(VOCABULARY), VOCABULARY, tmp_path / "1")
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "mine"]


def test_unsuitable_arguments_are_refused(tmp_path, tiny_model):
    other = ks.Vocabulary.from_text("the cats were all full of fish")
    with pytest.raises(ValueError, match=rf"{len(other)}\. Received: {len(VOCABULARY)}"):
        saved_model.export_saved_model(tiny_model(VOCABULARY), other, tmp_path / "1")
    frames = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4, return_sequences=True)])
    with pytest.raises(ValueError, match="must take token ids"):
        saved_model.export_saved_model(frames, VOCABULARY, tmp_path / "1")
    with pytest.raises(ValueError, match="`max_length` must be"):
        saved_model.export_saved_model(tiny_model(VOCABULARY), VOCABULARY, tmp_path / "1", max_length=0)
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_prefill_and_sample_does_not_depend_on_the_others(exported):
    """The rows of `prefill` differ in length and have invalid padding; `sample` uses its default settings."""
    _, vocabulary, _, _, run = exported
    random = np.random.default_rng(0)
    tokens = random.integers(len(vocabulary.reserved_ids), len(vocabulary), (5, 64)).astype(np.int32)
    lengths = np.array([64, 1, 17, 3, 40], np.int32)
    numbers = random.random(5, np.float32)
    together = np.where(np.arange(64) < lengths[:, None], tokens, [[10**6], [-(10**6)]] * 2 + [[-1]]).astype(np.int32)
    requests = [
        Request("prefill", {"tokens": together, "length": lengths}),
        Request("sample", {"token": tokens[:, 0], "uniform": numbers}),
    ]
    for row in range(5):
        one = slice(row, row + 1)
        requests.append(Request("prefill", {"tokens": tokens[one], "length": lengths[one]}))
        requests.append(Request("sample", {"token": tokens[one, 0], "uniform": numbers[one]}))
    (prefilled, sampled), alone = (answers := run(requests))[:2], answers[2:]
    for row in range(5):
        for together, one in ((prefilled, alone[2 * row]), (sampled, alone[2 * row + 1])):
            assert one.pop("model_id") == together["model_id"][row]
            for name, value in one.items():
                np.testing.assert_allclose(together[name][row], value[0], atol=1e-5)


@at_character_level
def test_the_page_of_formats_shows_what_saved_model_cli_shows(exported, monkeypatch, capsys):
    program = Path(sys.executable).with_name("saved_model_cli")
    options = ["--dir", str(exported.directory), "--tag_set", "serve", "--signature_def", "sample"]
    monkeypatch.setattr(sys, "argv", ["saved_model_cli", "show", *options])
    with pytest.raises(SystemExit) as ended:  # In this process, which has loaded TensorFlow.
        runpy.run_path(str(program), run_name="__main__")
    assert not ended.value.code
    shown = capsys.readouterr().out
    entry = r"((?:in|out)puts\['\w+'\]) tensor_info:\s+dtype: (\w+)\s+shape: (\(.*?\))"
    lines = [" ".join(found) for found in re.findall(entry, shown)]
    assert len(lines) == 11
    page = (paths.REPOSITORY / "docs/formats.md").read_text(encoding="utf-8")
    assert "\n".join(f"    {line}" for line in lines) in page


@at_character_level
def test_the_warm_up_requests_run(exported):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    file = exported.directory / "assets.extra" / "tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(one.numpy()) for one in tf.data.TFRecordDataset(str(file))]
    requests = [log.predict_log.request for log in logs]
    answers = exported.run(
        [
            Request(one.model_spec.signature_name, {name: tf.make_ndarray(value) for name, value in one.inputs.items()})
            for one in requests
        ],
    )
    assert len(answers) == len({one.model_spec.signature_name for one in requests}) == 6
