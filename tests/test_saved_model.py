import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seq as ks
from keras_seq.reading import Step
from keras_seq.sampling import SamplingSettings, log_softmax
from keras_seq.threefry import uniform
from keras_seq_export import ExportError, saved_model
from keras_seq_export.cpp_session import Request, SessionError, run_in_cpp_session
from keras_seq_export.graph_step import GraphStep

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


def tiny_model(vocabulary, seed=1, **options):
    keras.utils.set_random_seed(seed)
    model = ks.language_model(len(vocabulary), **{"units": [16], "embedding_dim": 8} | options)
    # As sure of itself as a trained model: fresh weights give nearly the same probability to every token.
    model.set_weights([weight * 4 for weight in model.get_weights()])
    return model


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
        ("max_tokens", np.int32(2**31 - 1), "must be at most 10000 tokens together"),
        ("temperature", np.float32("nan"), "`temperature` must be"),
        ("temperature", np.float32(1e7), "`temperature` must be from 0 to 1e6"),
        ("top_p", np.float32(0), "`top_p` must be"),
        ("min_p", np.float32(1.5), "`min_p` must be"),
        ("prompt", b"\xff", "[Ii]nvalid"),
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


def test_many_states_dropout_and_a_short_limit(tmp_path):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    model = tiny_model(vocabulary, cell="lstm", units=[8, 4], dropout=0.5)
    saved_model.export_saved_model(model, vocabulary, tmp_path / "1", max_length=9)
    (answer,) = run_in_cpp_session(tmp_path / "1", [("serving_default", {"prompt": ["the "], "seed": [3]})])
    assert answer["text"][0].decode() == ks.sample(model, vocabulary, "the ", max_tokens=5, seed=3)


def test_a_file_with_other_weights_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    model, write = tiny_model(vocabulary), saved_model._write
    bias = model.get_layer("logits").bias

    def sabotaged(*arguments):
        honest = bias.numpy()
        bias.assign_add(np.eye(len(honest), dtype=np.float32)[5] * 0.25)
        write(*arguments)
        bias.assign(honest)

    monkeypatch.setattr(saved_model, "_write", sabotaged)
    with pytest.raises(ExportError, match=r"decode.*0\.25"):
        saved_model.export_saved_model(model, vocabulary, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_another_vocabulary_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    turned = ks.Vocabulary([*vocabulary.tokens[:3], *vocabulary.tokens[:2:-1]])
    write = saved_model._write
    monkeypatch.setattr(saved_model, "_write", lambda decoder, _, *arguments: write(decoder, turned, *arguments))
    with pytest.raises(ExportError, match="serving_default must write what the model writes"):
        saved_model.export_saved_model(tiny_model(vocabulary), vocabulary, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["text", "length", "log_probability", "finish_reason"])
def test_a_file_with_one_wrong_output_is_refused_and_nothing_is_left(output, tmp_path, monkeypatch):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    wrong = {
        "text": lambda text: text + "s",
        "length": lambda length: tf.maximum(length - 1, 0),
        "log_probability": lambda nats: nats - 0.1,
        "finish_reason": lambda reason: tf.where(reason == "eos", "length", "eos"),
    }[output]
    endpoint = saved_model._generate_endpoint

    def sabotaged(*arguments):
        function, signature = endpoint(*arguments)

        def serving_default(*inputs, **more):
            outputs = function(*inputs, **more)
            return {**outputs, output: wrong(outputs[output])}

        return serving_default, signature

    monkeypatch.setattr(saved_model, "_generate_endpoint", sabotaged)
    with pytest.raises(ExportError, match="serving_default must write what the model writes"):
        saved_model.export_saved_model(tiny_model(vocabulary), vocabulary, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["log_probability", "log_probabilities", "length", "token_ids"])
def test_a_file_that_scores_wrongly_is_refused_and_nothing_is_left(output, tmp_path, monkeypatch):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    wrong = {"length": lambda length: length - 1, "token_ids": lambda ids: ids + 1}
    endpoint = saved_model._score_endpoint

    def sabotaged(*arguments):
        function, signature = endpoint(*arguments)

        def score(text):
            outputs = function(text)
            return {**outputs, output: wrong.get(output, lambda nats: nats - 0.1)(outputs[output])}

        return score, signature

    monkeypatch.setattr(saved_model, "_score_endpoint", sabotaged)
    with pytest.raises(ExportError, match="score"):
        saved_model.export_saved_model(tiny_model(vocabulary), vocabulary, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_an_operation_that_needs_python_is_refused(tmp_path):
    vocabulary = ks.Vocabulary.from_text("the cats were full")
    tokens = keras.Input((None,), dtype="int32")
    values = ks.GRU(4, return_sequences=True)(keras.layers.Embedding(len(vocabulary), 4)(tokens))
    in_python = keras.layers.Lambda(
        lambda x: tf.ensure_shape(tf.numpy_function(np.tanh, [x], tf.float32), x.shape),
        output_shape=lambda shape: shape,
    )
    model = keras.Model(tokens, keras.layers.Dense(len(vocabulary))(in_python(values)))
    with pytest.raises(ExportError, match=r"does not run in TensorFlow's C\+\+ session: .*PyFunc"):
        saved_model.export_saved_model(model, vocabulary, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


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


def test_only_rounding_excuses_another_text():
    vocabulary = ks.Vocabulary.from_text("abc")
    seed = next(seed for seed in range(100) if 0.4 < uniform(seed, 0) < 0.6)
    edge = float(uniform(seed, 0)) + 5e-6  # of a and b: the number draws a, and hardly a larger one b

    class ThreeTokens(Step):
        vocabulary_size = len(vocabulary)

        def initial_states(self):
            return []

        def __call__(self, token, states):  # <pad> and <s>, which are forbidden, then <eos>, a, b, c
            return np.log(np.array([1, 1, 0.1, edge - 0.1, 0.8 - edge, 0.2], np.float32)), states

    text = saved_model.Wanted("", 1, seed, SamplingSettings())

    def compared(token):
        log_probability = log_softmax(ThreeTokens()(0, [])[0])[vocabulary.encode(token)[0]]
        answer = {"text": token.encode(), "token_ids": vocabulary.encode(token), "length": 1}
        answer |= {"finish_reason": b"length", "log_probability": log_probability}
        return saved_model._compare_text(ThreeTokens(), vocabulary, text, answer)

    assert compared("a") == compared("b") == 1
    with pytest.raises(ExportError, match=r"token 0 must be one of \[3, 4\]"):
        compared("c")


def test_each_export_is_the_next_version(tmp_path):
    vocabulary = ks.Vocabulary.from_text("to be")
    model = tiny_model(vocabulary)
    reports = [saved_model.export_saved_model(model, vocabulary, tmp_path / "hamlet") for _ in range(2)]
    assert [report["path"] for report in reports] == [str(tmp_path / "hamlet" / version) for version in "12"]
    config = tmp_path / "hamlet" / "model.config"
    assert 'base_path: "/models/hamlet"' in config.read_text()
    config.write_text("mine")
    saved_model.export_saved_model(model, vocabulary, tmp_path / "hamlet" / "10")
    assert saved_model.export_saved_model(model, vocabulary, tmp_path / "hamlet")["path"].endswith("11")
    assert config.read_text() == "mine"


def test_the_configuration_is_what_the_server_parses(tmp_path):
    text_format = pytest.importorskip("google.protobuf.text_format")
    model_server_config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    saved_model.write_configuration(tmp_path)
    found = text_format.Parse((tmp_path / "model.config").read_text(), model_server_config.ModelServerConfig())
    (model,) = found.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        tmp_path.name,
        f"/models/{tmp_path.name}",
        "tensorflow",
    )


def test_a_row_of_a_step_does_not_depend_on_its_batch(exported):
    """`prefill` of rows of different lengths, and `sample` with states and settings left to their defaults."""
    _, vocabulary, directory, _ = exported
    random = np.random.default_rng(0)
    tokens = random.integers(vocabulary.reserved, len(vocabulary), (5, 64)).astype(np.int32)
    lengths = np.array([64, 1, 17, 3, 40], np.int32)
    numbers = random.random(5, np.float32)
    requests = [
        Request("prefill", {"tokens": tokens, "length": lengths}),
        Request("sample", {"token": tokens[:, 0], "uniform": numbers}),
    ]
    for row in range(5):
        one = slice(row, row + 1)
        garbage = np.where(np.arange(64) < lengths[row], tokens[one], 0).astype(np.int32)
        requests.append(Request("prefill", {"tokens": garbage, "length": lengths[one]}))
        requests.append(Request("sample", {"token": tokens[one, 0], "uniform": numbers[one]}))
    (prefilled, sampled), alone = (answers := run_in_cpp_session(directory, requests))[:2], answers[2:]
    for row in range(5):
        for together, one in ((prefilled, alone[2 * row]), (sampled, alone[2 * row + 1])):
            for name, value in one.items():
                np.testing.assert_allclose(together[name][row], value[0], atol=1e-5)


def test_build_md_shows_what_saved_model_cli_shows(tmp_path):
    vocabulary = ks.Vocabulary.from_text("to be")
    saved_model.export_saved_model(ks.language_model(len(vocabulary), units=[16]), vocabulary, tmp_path / "1")
    program = Path(sys.executable).with_name("saved_model_cli")
    command = [program, "show", "--dir", tmp_path / "1", "--tag_set", "serve", "--signature_def", "sample"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    entry = r"((?:in|out)puts\['\w+'\]) tensor_info:\s+dtype: (\w+)\s+shape: (\(.*?\))"
    lines = [" ".join(found) for found in re.findall(entry, shown)]
    assert len(lines) == 10
    build = Path(__file__).parents[1].joinpath("BUILD.md").read_text(encoding="utf-8")
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
        ("serving_default", {"seed": [1, 2, 3]}, "`seed` must have as many rows as `prompt`, or one"),
    ],
)
def test_a_bad_input_of_a_step_is_named(signature, change, message, exported):
    usual = {
        "decode": {"token": [3]},
        "prefill": {"tokens": [[3] * 64], "length": [64]},
        "sample": {"token": [3], "uniform": [0.5]},
        "serving_default": {"prompt": np.array([b"the", b"cat"], object)},
    }
    kinds = {
        "token": np.int32,
        "tokens": np.int32,
        "length": np.int32,
        "top_k": np.int32,
        "seed": np.int64,
        "prompt": object,
    }
    inputs = {
        name: np.array(value, kinds.get(name, np.float32)) for name, value in {**usual[signature], **change}.items()
    }
    with pytest.raises(SessionError, match=message):
        run_in_cpp_session(exported[2], [Request(signature, inputs)])
