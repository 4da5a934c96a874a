import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import paths
import pytest
import tensorflow as tf
from hamlet import tiny_model

import keras_seq as ks
from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export import ExportError
from keras_seq_export.errors import SessionError
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.saved_model import export as saved_model
from keras_seq_export.saved_model.cpp_session import Request, run_in_cpp_session

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


# The vocabulary's level is a parameter of the fixture itself, for the tests that need only one of the two.
at_character_level = pytest.mark.parametrize("exported", ["char"], indirect=True)


@pytest.fixture(scope="module", params=["char", "word"])
def exported(request, tmp_path_factory):
    vocabulary = ks.Vocabulary.from_text(TEXTS[request.param], level=request.param)
    model = tiny_model(vocabulary)
    directory = tmp_path_factory.mktemp("serving") / "model" / "1"
    directory.parent.mkdir()
    return model, vocabulary, directory, saved_model.export_saved_model(model, vocabulary, directory)


def request_for(rows):
    """The request for `(prompt, seed, max_tokens, settings)` rows."""
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
    """Of the drawn ids, from the model run over the whole sequence at once."""
    prompt_ids = vocabulary.encode(prompt).tolist()
    sequence = np.array([[vocabulary.start_id, *prompt_ids, *drawn]], np.int32)
    logits = np.asarray(model(sequence[:, :-1]), np.float64)[0, len(prompt_ids) :]
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return log_probabilities[np.arange(len(drawn)), drawn].sum()


def test_the_server_writes_what_sample_writes(exported):
    model, vocabulary, directory, _ = exported
    prompts = PROMPTS[vocabulary.level]
    rows = [
        *zip(prompts, [0, 7, -1, 2**63 - 1], [30] * 4, SETTINGS, strict=True),
        *zip(prompts, [1, -(2**63), 2**32, 3], [40] * 4, reversed(SETTINGS), strict=True),
    ]
    (answer,) = run_in_cpp_session(directory, [request_for(rows)])
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


def test_a_row_does_not_depend_on_its_batch_mates(exported):
    _, vocabulary, directory, _ = exported
    rows = [
        (prompt, seed, max_tokens, settings)
        for prompt, seed, max_tokens, settings in zip(
            PROMPTS[vocabulary.level] * 2, range(8), [1, 40, 3, 25, 40, 2, 7, 11], SETTINGS * 2, strict=True
        )
    ]
    together, *alone = run_in_cpp_session(directory, [request_for(rows), *(request_for([row]) for row in rows)])
    for index, answer in enumerate(alone):
        length = answer["length"][0]
        for name in ("text", "length", "finish_reason"):
            assert together[name][index] == answer[name][0]
        assert together["token_ids"][index, :length].tolist() == answer["token_ids"][0].tolist()
        np.testing.assert_allclose(together["log_probability"][index], answer["log_probability"][0], rtol=1e-5)


def test_the_settings_have_defaults_and_one_value_serves_a_batch(exported):
    _, vocabulary, directory, _ = exported
    prompts = PROMPTS[vocabulary.level][:2]
    bare, explicit, again = run_in_cpp_session(
        directory,
        [
            ("serving_default", {"prompt": prompts}),
            request_for([(prompt, 0, 200, {}) for prompt in prompts]),
            ("serving_default", {"prompt": prompts, "seed": np.array([0], np.int64)}),
        ],
    )
    assert bare["text"].tolist() == explicit["text"].tolist() == again["text"].tolist()


def test_decode_is_the_model_step_by_step(exported):
    model, vocabulary, directory, _ = exported
    tokens = np.random.default_rng(3).integers(0, len(vocabulary), (40, 3)).astype(np.int32)
    start = np.zeros((3, 16), np.float32)
    (answer,) = run_in_cpp_session(directory, [Request("decode", {"token": tokens, "state_0": start}, scan="token")])
    np.testing.assert_allclose(answer["logits"].swapaxes(0, 1), model(tokens.T), atol=1e-4)
    assert answer["state_0"].shape == start.shape


def test_the_server_scores_as_keras_does_whatever_the_batch(exported):
    model, vocabulary, directory, _ = exported
    texts = PROMPTS[vocabulary.level]
    together, *alone = run_in_cpp_session(directory, [("score", {"text": rows}) for rows in (texts, *zip(texts))])
    for row, (text, one) in enumerate(zip(texts, alone, strict=True)):
        expected = ks.score(model, vocabulary, text)
        length = together["length"][row]
        np.testing.assert_array_equal(together["token_ids"][row, :length], expected.token_ids)
        np.testing.assert_allclose(together["log_probabilities"][row, :length], expected.log_probabilities, atol=1e-4)
        assert together["log_probability"][row] == pytest.approx(expected.log_probability, abs=1e-2)
        np.testing.assert_allclose(one["log_probabilities"][0], together["log_probabilities"][row, :length], atol=1e-6)
        assert not together["log_probabilities"][row, length:].any()


def test_the_file_carries_its_vocabulary_its_report_and_its_weights_once(exported):
    model, vocabulary, directory, report = exported
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


def test_the_signature_has_the_defaults(exported):
    from tensorflow.core.protobuf import saved_model_pb2

    graph = saved_model_pb2.SavedModel.FromString((exported[2] / "saved_model.pb").read_bytes()).meta_graphs[0]
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


@at_character_level
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_tokens", np.int32(0), "`max_tokens` must be a positive integer"),
        ("max_tokens", np.int32(2**31 - 1), "`max_tokens` must be a positive integer, at most 10000"),
        ("max_tokens", np.int32(9_998), "must be at most 10000 tokens together"),
        ("temperature", np.float32("nan"), "`temperature` must be"),
        ("temperature", np.float32(1e7), "`temperature` must be from 0 to 1e6"),
        ("top_p", np.float32(0), "`top_p` must be"),
        ("min_p", np.float32(1.5), "`min_p` must be"),
        ("prompt", b"\xff", r"`prompt` must be UTF-8. Rows that are not:\] \[1\]"),
    ],
)
def test_a_bad_request_is_an_error_that_names_the_input(exported, name, value, message):
    inputs = {"prompt": np.array(["the", "the"], object)}
    inputs[name] = np.array([b"the" if name == "prompt" else value, value])
    with pytest.raises(SessionError, match=message):
        run_in_cpp_session(exported[2], [("serving_default", inputs)])


def test_foreign_characters_are_an_error_at_the_character_level_only(exported):
    _, vocabulary, directory, _ = exported
    request = ("serving_default", {"prompt": ["the cat", "ZQZ"]})
    if vocabulary.level == "word":
        assert len(run_in_cpp_session(directory, [request])[0]["text"]) == 2
        return
    with pytest.raises(SessionError, match=r"must hold only characters of the vocabulary.*\[Z Q\]"):
        run_in_cpp_session(directory, [request])


@at_character_level
def test_a_text_that_cannot_be_scored_is_an_error_that_names_it(exported):
    with pytest.raises(SessionError, match=r"`text` must hold only characters of the vocabulary.*\[Z Q\]"):
        run_in_cpp_session(exported[2], [("score", {"text": ["the cat", "ZQZ"]})])
    with pytest.raises(SessionError, match="`text` must be at most 10000 tokens"):
        run_in_cpp_session(exported[2], [("score", {"text": ["the cat " * 1300]})])


def test_logits_that_are_no_numbers_are_an_error_that_names_the_token(tmp_path):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    model = tiny_model(vocabulary)
    model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, 3e38))
    model.layers[-1].bias.assign(np.full(len(vocabulary), 3e38))
    saved_model._write(GraphStep(model, vocabulary), vocabulary, tmp_path / "1", max_length=50)
    with pytest.raises(SessionError, match=r"logits must be numbers at every token\. Received:.*\[0\]"):
        run_in_cpp_session(tmp_path / "1", [("serving_default", {"prompt": ["the "]})])


def test_many_states_dropout_a_short_limit_and_the_next_version(tmp_path):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    model = tiny_model(vocabulary, cell="lstm", units=[8, 4], dropout=0.5)
    (tmp_path / "hamlet" / "3").mkdir(parents=True)
    path = saved_model.export_saved_model(model, vocabulary, tmp_path / "hamlet", max_length=9)["path"]
    assert path == str(tmp_path / "hamlet" / "4")
    assert (tmp_path / "hamlet" / "model.config").is_file()
    (answer,) = run_in_cpp_session(path, [("serving_default", {"prompt": ["the "], "seed": [3]})])
    assert answer["text"][0].decode() == ks.sample(model, vocabulary, "the ", max_tokens=5, seed=3)


def test_a_model_that_answers_nan_is_refused(tmp_path):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    model = tiny_model(vocabulary)
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    with pytest.raises(ExportError, match="weights must be finite"):
        saved_model.export_saved_model(model, vocabulary, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_left_alone(tmp_path):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mine").write_text("mine")
    with pytest.raises(ExportError, match="1 exists: choose another name"):
        saved_model.export_saved_model(tiny_model(vocabulary), vocabulary, tmp_path / "1")
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "mine"]


def test_what_does_not_belong_together_is_refused(tmp_path):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    other = ks.Vocabulary.from_text("the cats were all full of fish")
    with pytest.raises(ValueError, match=rf"{len(other)}\. Received: {len(vocabulary)}"):
        saved_model.export_saved_model(tiny_model(vocabulary), other, tmp_path / "1")
    frames = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4, return_sequences=True)])
    with pytest.raises(ValueError, match="must take token ids"):
        saved_model.export_saved_model(frames, vocabulary, tmp_path / "1")
    with pytest.raises(ValueError, match="`max_length` must be"):
        saved_model.export_saved_model(tiny_model(vocabulary), vocabulary, tmp_path / "1", max_length=0)
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_a_step_does_not_depend_on_its_batch(exported):
    """`prefill` of rows of different lengths, nonsense after them, and `sample` with what it has without being told."""
    _, vocabulary, directory, _ = exported
    random = np.random.default_rng(0)
    tokens = random.integers(vocabulary.reserved, len(vocabulary), (5, 64)).astype(np.int32)
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
    (prefilled, sampled), alone = (answers := run_in_cpp_session(directory, requests))[:2], answers[2:]
    for row in range(5):
        for together, one in ((prefilled, alone[2 * row]), (sampled, alone[2 * row + 1])):
            for name, value in one.items():
                np.testing.assert_allclose(together[name][row], value[0], atol=1e-5)


@at_character_level
def test_build_md_shows_what_saved_model_cli_shows(exported):
    program = Path(sys.executable).with_name("saved_model_cli")
    command = [program, "show", "--dir", exported[2], "--tag_set", "serve", "--signature_def", "sample"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    entry = r"((?:in|out)puts\['\w+'\]) tensor_info:\s+dtype: (\w+)\s+shape: (\(.*?\))"
    lines = [" ".join(found) for found in re.findall(entry, shown)]
    assert len(lines) == 10
    build = (paths.REPOSITORY / "BUILD.md").read_text(encoding="utf-8")
    assert "\n".join(f"    {line}" for line in lines) in build


@at_character_level
def test_requests_for_no_rows(exported):
    nothing = {"token": np.zeros(0, np.int32)}
    requests = [
        Request("prefill", {"tokens": np.zeros((0, 64), np.int32), "length": np.zeros(0, np.int32)}),
        Request("decode", nothing),
    ]
    prefilled, decoded = run_in_cpp_session(exported[2], requests, timeout=60)
    assert len(prefilled["logits"]) == len(decoded["logits"]) == 0
    with pytest.raises(SessionError, match="`prompt` must have at least one row"):
        run_in_cpp_session(exported[2], [Request("serving_default", {"prompt": np.zeros(0, object)})])


@at_character_level
@pytest.mark.parametrize(
    ("signature", "change", "message"),
    [
        ("decode", {"token": [-1]}, "`token` must be from 0 to"),
        ("decode", {"token": [10**6]}, "`token` must be from 0 to"),
        (
            "decode",
            {"token": [3, 4, 5], "state_0": np.zeros((2, 16))},
            "`state_0` must have as many rows as `token`, or one",
        ),
        ("prefill", {"length": [0]}, "`length` must be from 1 to 64"),
        ("prefill", {"length": [65]}, "`length` must be from 1 to 64"),
        ("prefill", {"length": [1, 1]}, "`length` must have as many rows as `tokens`"),
        ("prefill", {"tokens": [[-7] * 64]}, "`tokens` must be from 0 to"),
        ("sample", {"uniform": [1.0]}, "`uniform` must be at least 0 and below 1"),
        ("sample", {"uniform": [np.nan]}, "`uniform` must be at least 0 and below 1"),
        ("sample", {"temperature": [np.nan]}, "`temperature` must be"),
        ("sample", {"top_k": [-5]}, "`top_k` must be"),
        ("sample", {"top_p": [0.0]}, "`top_p` must be"),
        ("sample", {"min_p": [2.0]}, "`min_p` must be"),
        ("decode", {"token": [[3]]}, r"`token` must have the shape \[rows\]\. Received:\] \[1 1\]"),
        ("decode", {"state_0": np.zeros((1, 15))}, r"`state_0` must have the shape \[rows 16\]"),
        ("prefill", {"tokens": [[3] * 63]}, r"`tokens` must have the shape \[rows 64\]"),
        ("score", {"text": np.array([[b"the"]], object)}, r"`text` must have the shape \[rows\]"),
        ("serving_default", {"prompt": np.array(b"the", object)}, r"`prompt` must have the shape \[rows\]"),
        ("serving_default", {"seed": [[1]]}, r"`seed` must have the shape \[rows\]"),
        ("serving_default", {"seed": [1, 2, 3]}, "`seed` must have as many rows as `prompt`, or one"),
    ],
)
def test_a_bad_input_of_a_step_is_named(signature, change, message, exported):
    usual = {
        "decode": {"token": [3]},
        "prefill": {"tokens": [[3] * 64], "length": [64]},
        "sample": {"token": [3], "uniform": [0.5]},
        "score": {},
        "serving_default": {"prompt": np.array([b"the", b"cat"], object)},
    }
    kinds = {
        "token": np.int32,
        "tokens": np.int32,
        "length": np.int32,
        "top_k": np.int32,
        "seed": np.int64,
        "prompt": object,
        "text": object,
    }
    inputs = {
        name: np.array(value, kinds.get(name, np.float32)) for name, value in {**usual[signature], **change}.items()
    }
    with pytest.raises(SessionError, match=message):
        run_in_cpp_session(exported[2], [Request(signature, inputs)])


@at_character_level
@pytest.mark.parametrize(
    ("signature", "left_out"),
    [
        ("serving_default", "prompt"),
        ("score", "text"),
        ("decode", "token"),
        ("prefill", "length"),
        ("sample", "uniform"),
        ("start", "token"),
    ],
)
def test_an_input_that_is_left_out_is_named(signature, left_out, exported):
    others = {"length": {"tokens": np.zeros((1, 64), np.int32)}, "uniform": {"token": np.zeros(1, np.int32)}}
    with pytest.raises(SessionError, match=f"must feed a value for placeholder tensor '{signature}_{left_out}'"):
        run_in_cpp_session(exported[2], [Request(signature, others.get(left_out, {}))])


@at_character_level
def test_the_warm_up_of_the_file_runs(exported):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    file = exported[2] / "assets.extra" / "tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(one.numpy()) for one in tf.data.TFRecordDataset(str(file))]
    requests = [log.predict_log.request for log in logs]
    answers = run_in_cpp_session(
        exported[2],
        [
            Request(one.model_spec.signature_name, {name: tf.make_ndarray(value) for name, value in one.inputs.items()})
            for one in requests
        ],
    )
    assert len(answers) == len({one.model_spec.signature_name for one in requests}) == 6
