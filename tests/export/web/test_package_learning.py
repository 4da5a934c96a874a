"""Learning with the npm package of export/web, in Node and in a worker in Chromium, compared with Python."""

import base64
import json
import re
import shutil

import numpy as np
import pytest
from browser import DESKTOP, opened
from bundles import rebundled
from hamlet import TEXT
from npm_app import bundled, in_node, run
from sites import served_folder

from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.page_files import page_folder

OTHER = "the mind suffers not: to be noble is to suffer\nthat question is the mind\n" * 12
MODELS = [
    pytest.param({}, id="char"),
    pytest.param({"level": "word", "starting": True}, id="word"),
    pytest.param({"level": "whitespace"}, id="whitespace"),
    pytest.param({"quantization": "int8", "by_line": True}, id="by_line"),
]
OPTIONS = {"max_tokens": 80, "seed": 11}


@pytest.fixture(scope="module")
def learning(small_tflite):
    return small_tflite(learn=True)


def known(path, text=OTHER):
    """The text without the characters that a model does not know."""
    vocabulary = read_bundle(path).vocabulary
    return "".join(one for one in text if vocabulary.level != "char" or one in vocabulary.ids)


def learned_by_python(path, *texts):
    sampler = LiteRTSampler(path)
    reports = [sampler.learn(text, **options) for text, options in texts]
    return sampler, reports


def file_of(sampler, folder):
    sampler.save_learned(folder / "python.learned")
    return (folder / "python.learned").read_bytes()


def numbers(file):
    """The weights and shares in a file."""
    vocabulary, features = np.frombuffer(file[40:48], "<u4")
    return np.frombuffer(file[56 : 56 + 4 * (3 + vocabulary * features)], "<f4")


def with_seed(options):
    return {**options, "seed": str(options["seed"])}


# ---- Node ----


@pytest.mark.parametrize("options", MODELS)
def test_what_is_learned_in_node_is_what_python_learns(app, small_tflite, tmp_path, options):
    path = small_tflite(learn=True, **options)
    text, prompt = known(path), "To be"
    first = {"rate": 1.0} if options.get("starting") else {}  # Its states are larger than those of a trained model.
    texts = [(text, first), (text[:300], {"rate": 0.5, "by_line": True}), (text[:64], {"by_line": False})]
    sampler, reports = learned_by_python(path, *texts)
    asked = [["learned"]]
    for one, given in texts:
        asked.append(["learn", one, given])
    asked += [["learned"], ["write", prompt, with_seed(OPTIONS)], ["score", text[:100]], ["save"]]
    asked += [["suggest", begun, 6] for begun in SUGGESTED]
    (answers,) = in_node(app, path, ["steps", asked])
    assert answers[0] == [True, 0]
    for found, report in zip(answers[1:4], reports, strict=True):
        assert found["tokens"] == report.tokens
        assert found["natsPerToken"] == pytest.approx(report.nats_per_token, abs=1e-4)
        assert found["modelNatsPerToken"] == pytest.approx(report.model_nats_per_token, abs=1e-4)
        assert found["weight"] == pytest.approx(report.weight, abs=1e-3)
        assert found["natsPerToken"] < found["modelNatsPerToken"]
    assert answers[4] == [True, sampler.learned_tokens]
    expected = str(sampler.sample(prompt, **OPTIONS))
    assert answers[5] == expected
    assert answers[6] == pytest.approx(sampler.score(text[:100]).log_probability, abs=1e-2)
    saved = base64.b64decode(answers[7])
    np.testing.assert_allclose(numbers(saved), numbers(file_of(sampler, tmp_path)), rtol=0, atol=1e-3)
    check_suggestions(sampler, answers[8:])
    check_files(app, path, saved, file_of(sampler, tmp_path), tmp_path, prompt)


SUGGESTED = ["", "t", "th", "the ", "the mind ", "to be nob", "mind\nt", "that", "to be: ", "suffer "]


def check_suggestions(sampler, answers):
    """Those of Python, with the words that were learned. Some that are about as likely may be in another order."""
    for text, found in zip(SUGGESTED, answers, strict=True):
        expected = sampler.suggest(text, 6)
        probabilities = [one.probability for one in expected]
        assert [one["probability"] for one in found] == pytest.approx(probabilities, abs=2e-3), text
        inserts = {one.text: one for one in expected}
        for one in found:
            if one["text"] in inserts:
                assert one["insert"] == inserts[one["text"]].insert
                assert one["probability"] == pytest.approx(inserts[one["text"]].probability, abs=2e-3), text
        assert not found or found[0]["text"] in inserts
    assert "nobler" in sampler.own_words.words or "noble" in sampler.own_words.words


def check_files(app, path, by_node, by_python, folder, prompt):
    """Files of both languages write the same text in both."""
    unlearned = str(LiteRTSampler(path).sample(prompt, **OPTIONS))
    for file in (by_node, by_python):
        (folder / "any.learned").write_bytes(file)
        sampler = LiteRTSampler(path)
        sampler.load_learned(folder / "any.learned")
        expected = str(sampler.sample(prompt, **OPTIONS))
        in_base64, write = base64.b64encode(file).decode(), ["write", prompt, with_seed(OPTIONS)]
        asked = [write, ["load", in_base64], write, ["learned"], ["save"], ["forget"], write, ["learned"]]
        (answers,) = in_node(app, path, ["steps", asked])
        assert answers == [
            unlearned,
            None,
            expected,
            [True, sampler.learned_tokens],
            in_base64,
            None,
            unlearned,
            [True, 0],
        ]
        assert expected != unlearned


def test_a_file_that_has_learned_nothing_writes_and_suggests_as_one_without_learn(app, learning, model):
    asked = [["write", "To be", with_seed(OPTIONS)], ["suggest", "To b", 5], ["nextTokens", "To b", 5], ["score", TEXT]]
    (learns,), (plain,) = in_node(app, learning, ["steps", asked]), in_node(app, model, ["steps", asked])
    assert learns == plain


def test_a_file_without_learn_rejects(app, model):
    asked = [["learned"], ["learn", "To be"], ["save"], ["load", ""], ["forget"], ["write", "To be", {"max_tokens": 3}]]
    (answers,) = in_node(app, model, ["steps", asked])
    assert answers[0] == [False, 0]
    assert answers[1:5] == 4 * ["This file must have a signature learn, which export_tflite(..., learn=True) adds."]
    assert len(answers[5]) > 0


BYTES = "the learned file must be a Uint8Array or an ArrayBuffer. Received: "
LARGE = "rate is too large: learning diverged, and what was learned before is kept. Received: "


def test_what_is_refused_changes_nothing(app, learning):
    saved = ["save"]
    refused = [
        (["learn", ""], 'text must be a text that is not empty. Received: ""'),
        (["learn", "\n", {"by_line": True}], 'text must be a text that is not empty. Received: "\\n"'),
        (["learn", "To Ω"], "The model does not know the character Ω"),
        (["learn", "To", {"rate": 0}], "rate must be a positive number, at most 1,000,000. Received: 0"),
        (["learn", "To", {"rate": 1e7}], "rate must be a positive number, at most 1,000,000. Received: 10000000"),
        (["learn", "To", {"max": 1}], "max is not an option. The options are rate, by_line."),
        (["learn", OTHER, {"rate": 1e6}], f"{LARGE}1000000"),
        (["learn", OTHER, {"rate": 3000}], f"{LARGE}3000"),
        (["load", ""], "This file is not a file of learned weights, which begins with KSLEARN1."),
        (["loadOther", "a.learned"], f'{BYTES}"a.learned"'),
        (["loadPromise"], f"{BYTES}[object Promise]"),
    ]
    asked = [["learn", OTHER], saved]
    for step, _ in refused:
        asked += [step, saved, ["learned"]]
    (answers,) = in_node(app, learning, ["steps", asked])
    for (step, message), found, after, learned in zip(
        refused, answers[2::3], answers[3::3], answers[4::3], strict=True
    ):
        assert found == message, step
        assert after == answers[1], step
        assert learned == [True, len(OTHER)]


def test_a_damaged_file_is_refused_and_what_was_learned_is_kept(app, learning, small_tflite, tmp_path):
    sampler, _ = learned_by_python(learning, (OTHER, {}))
    whole = file_of(sampler, tmp_path)
    other, _ = learned_by_python(small_tflite(level="word", learn=True), (OTHER, {}))
    changed = bytearray(whole)
    changed[60] ^= 1
    files = [whole[:-1], bytes(changed), file_of(other, tmp_path)]
    asked = [["learn", TEXT], ["save"], *(["load", base64.b64encode(file).decode()] for file in files), ["save"]]
    (answers,) = in_node(app, learning, ["steps", asked])
    damaged = "This file is damaged: its SHA-256 differs; delete it and learn again."
    assert answers[2:5] == [
        damaged,
        damaged,
        "This file belongs to another model: use that model, or learn again in another file.",
    ]
    assert answers[5] == answers[1]


CHANGED = "The model has learned or forgotten something since this text was begun; begin it again."


def test_a_text_ends_when_the_model_learns_loads_or_forgets(app, learning, tmp_path):
    sampler, _ = learned_by_python(learning, (TEXT, {}))
    in_base64 = base64.b64encode(file_of(sampler, tmp_path)).decode()
    options, counts = {"max_tokens": 100, "seed": "3", "top_k": 4}, [0, 1, 31, 32, 33, 50]
    for step in (["learn", OTHER[:99]], ["load", in_base64], ["forget"]):
        (ends,) = in_node(app, learning, ["overtaken", ["To be", options, step, counts]])
        assert [len(text) for text, *_ in ends[1:]] == counts[1:]
        assert [end for _, end, _ in ends] == ["length", *[CHANGED] * 5]
        assert len(ends[0][0]) == 100  # It had not begun.
    # What fails changes nothing, so that the text goes on.
    (ends,) = in_node(app, learning, ["overtaken", ["To be", options, ["learn", OTHER, {"rate": 3000}], [5, 40]]])
    assert [end[1:] for end in ends] == 2 * [["length", f"{LARGE}3000"]]
    assert ends[0][0] == ends[1][0] == str(LiteRTSampler(learning).sample("To be", max_tokens=100, seed=3, top_k=4))


def test_calls_at_the_same_time_are_answered_by_the_model_before_or_after(app, learning):
    ask = [
        ["suggest", "To b", 3],
        ["nextTokens", TEXT[:90], 5],
        ["score", TEXT],
        ["write", "To be", with_seed(OPTIONS)],
    ]
    learn, other = ["learn", OTHER], ["learn", TEXT, {"rate": 3}]
    (one_by_one,) = in_node(app, learning, ["steps", [*ask, learn, *ask, other, *ask, ["forget"], *ask]])
    (at_once,) = in_node(app, learning, ["stepsAtOnce", [*ask[:3], learn, *ask[:3], other, *ask[:3], ["forget"], *ask]])
    texts = [one_by_one[index] for index in (3, 8, 13, 18)]
    expected = [answer for index, answer in enumerate(one_by_one) if index not in (3, 8, 13)]
    assert at_once == expected
    assert len({str(text) for text in texts}) == 3  # Before, after the first text, after both, and forgotten.


def test_a_model_can_be_closed_while_it_learns(app, learning):
    before = ["steps", [["write", "To be", {"max_tokens": 40}]]]
    _, found = in_node(app, learning, before, ["closedWhileLearning", OTHER * 100])
    assert found == 2 * ["The model was closed."]


def changed_file(exported, path, change, **config):
    """Writes a file again with a changed model."""
    model = flatbuffer.parse(read_bundle(exported).model)
    change(model)
    return rebundled(exported, path, model=flatbuffer.pack(model), config=config)


def test_a_file_whose_signatures_do_not_fit_is_refused(app, learning, model, tmp_path):
    def without(name):
        def change(parsed):
            parsed.signatureDefs = [one for one in parsed.signatureDefs if one.signatureKey != name.encode()]

        return change

    def renamed(parsed):
        (learn,) = [one for one in parsed.signatureDefs if one.signatureKey == b"learn"]
        learn.inputs[[one.name for one in learn.inputs].index(b"rate")].name = b"speed"

    names = ("learn", "get_weights", "set_weights", "reset_weights")
    files = {
        changed_file(learning, tmp_path / f"{name}.tflite", without(name)): f"lacks the signature {name}, "
        for name in names
    }
    files[rebundled(model, tmp_path / "plain.tflite", config={"learning": {"rate": 12.0}})] = (
        "lacks the signature learn, "
    )
    files[changed_file(learning, tmp_path / "speed.tflite", renamed)] = (
        "The inputs of learn in this file must be length "
    )
    config = {name: value for name, value in read_bundle(learning).config.items() if name != "learning"}
    files[rebundled(learning, tmp_path / "none.tflite", config=json.dumps(config).encode())] = (
        "has the signature learn, "
    )
    code = """
        import { readFileSync } from "node:fs";
        import { KerasSeq } from "keras_seq";
        const found = [];
        for (const path of process.argv.slice(2)) {
          found.push(await KerasSeq.load(readFileSync(path)).catch(({ message }) => message));
        }
        console.log(JSON.stringify(found));
    """
    (app / "refused.mjs").write_text(code)
    found = json.loads(run("node", "refused.mjs", *files, cwd=app).splitlines()[-1])
    for message, expected in zip(found, files.values(), strict=True):
        assert expected in message, message
        assert len(message) < 310


# ---- a worker in Chromium ----

APP = """
    import { KerasSeqWorker } from "keras_seq/worker";
    import { tasks } from "./web_model.mjs";
    const model = await KerasSeqWorker.load("shakespeare.tflite", { wasm: "wasm/" });
    window.run = (task, given) => tasks[task](model, given);
    document.title = "open";
"""


@pytest.fixture(scope="module")
def worker_app(app, chromium, learning, tmp_path_factory):
    """A page with a model that learns in a worker."""
    folder = tmp_path_factory.mktemp("worker")
    shutil.copy(app / "web_model.mjs", folder)
    (lines,) = re.findall(
        r"^    const kept.*?(?=\n\n)", (page_folder() / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    site = bundled(app, "vite", APP.replace("    document.title", README % lines + "document.title"), learning, folder)
    with served_folder(site) as (address, _), opened(chromium, address, **DESKTOP) as page:
        page.wait_for_function("document.title === 'open'", timeout=60_000)
        yield page


README = """
    window.readme = async (text) => {
      await model.forget();
%s
      return [natsPerToken, modelNatsPerToken, weight, model.learnedTokens];
    };
"""


def in_page(page, task, given):
    return page.evaluate("([task, given]) => run(task, given)", [task, given])


def test_a_model_in_a_worker_learns_as_one_in_node(worker_app, app, learning, tmp_path):
    sampler, (report,) = learned_by_python(learning, (OTHER, {}))
    in_base64 = base64.b64encode(file_of(sampler, tmp_path)).decode()
    write, ask = ["write", "To be", with_seed(OPTIONS)], ["suggest", "To b", 3]
    asked = [["learned"], write, ["learn", OTHER], ["learned"], write, ask, ["save"], ["load", in_base64], write, ask]
    asked += [["learn", "", {}], ["learn", OTHER, {"rate": 3000}], ["load", "AAAA"], ["learned"], ["forget"], write]
    asked += [["loadPromise"]]
    found = in_page(worker_app, "steps", asked)
    (expected,) = in_node(app, learning, ["steps", asked], relaxed=True)
    assert found[2]["natsPerToken"] == pytest.approx(report.nats_per_token, abs=1e-4)
    assert found[3] == [True, len(OTHER)]
    assert found[4] == str(sampler.sample("To be", **OPTIONS))
    np.testing.assert_allclose(
        *(numbers(base64.b64decode(answers[6])) for answers in (found, expected)), rtol=0, atol=1e-3
    )
    for index in (0, 1, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16):
        assert found[index] == expected[index], asked[index]
    for index in (5, 9):
        assert [one["text"] for one in found[index]] == [one["text"] for one in expected[index]]


def test_a_text_in_a_worker_ends_when_the_model_learns(worker_app):
    options, counts = {"max_tokens": 100, "seed": "3", "top_k": 4}, [0, 1, 31, 32, 33, 50]
    ends = in_page(worker_app, "overtaken", ["To be", options, ["learn", OTHER[:99]], counts])
    assert [end for _, end, _ in ends] == ["length", *[CHANGED] * 5]
    ends = in_page(worker_app, "overtaken", ["To be", options, ["forget"], counts])
    assert [end for _, end, _ in ends] == ["length", *[CHANGED] * 5]


def test_a_worker_answers_calls_at_the_same_time_in_their_order(worker_app):
    ask = [["suggest", "To b", 3], ["nextTokens", TEXT[:90], 5], ["score", TEXT]]
    asked = [["forget"], *ask, ["learn", OTHER], *ask, ["save"], ["forget"], *ask]
    one_by_one = in_page(worker_app, "steps", asked)
    assert in_page(worker_app, "stepsAtOnce", asked) == one_by_one
    assert one_by_one[1:4] != one_by_one[5:8]


def test_the_page_goes_on_while_the_worker_learns(worker_app):
    assert in_page(worker_app, "blocked", ["learn", OTHER * 20]) < 0.5


def test_the_lines_of_the_readme_keep_what_was_learned(worker_app, learning):
    _, (report,) = learned_by_python(learning, (OTHER, {}))
    expected = [report.nats_per_token, report.model_nats_per_token, report.weight, len(OTHER)]
    assert worker_app.evaluate("text => readme(text)", OTHER) == pytest.approx(expected, abs=1e-3)


def test_a_worker_can_be_closed_while_it_learns(worker_app):
    """The last test of the page: it has no model after this."""
    assert in_page(worker_app, "closedWhileLearning", OTHER * 100) == 2 * ["The model was closed."]
