"""The npm package of export/web, installed as its users install it: types, Node, bundlers and a worker in Chromium."""

import re
import shutil

import numpy as np
import pytest
from browser import DESKTOP, opened
from bundles import rebundled
from changed_models import without_write
from hamlet import NGRAMS, TEXT, prompts
from next_tokens import next_tokens
from npm_app import as_json, bundled, in_node, run
from sites import served_folder

from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.page_files import page_folder


@pytest.fixture(scope="module")
def with_gates(small_tflite):
    return small_tflite(gates=True)


# ---- types ----

PROGRAM = """
import { KerasSeq, type LearnReport, type NextToken, type Piece, type Suggestion, type Traced } from "keras_seq";
import { KerasSeqWorker } from "keras_seq/worker";
import { readBundle } from "keras_seq/bundle";
import { addBias, costs, IntegerDraw, logitStep, threefry } from "keras_seq/integer_draw";

async function use(model: KerasSeq | KerasSeqWorker, signal: AbortSignal): Promise<number> {
  const writer = model.write("a", { temperature: 0.5, top_k: 3, max_tokens: 5, stop: ["x"], seed: 7n, signal });
  const pieces: Piece[] = [];
  for await (const piece of writer) {
    pieces.push(piece);
    writer.change({ top_p: 0.9 });
  }
  const words: Suggestion[] = await model.suggest("a", 5, { signal });
  const score: number = (await model.score("a")).logProbability;
  const next: NextToken[] = await model.nextTokens("a", 5, { signal });
  const traced: Traced[] = await model.trace("a");
  const gates: Float32Array[] | null = traced[0].updateGates;
  const unknown: number = model.vocabulary.unknown("a").map(({ start, end }) => end - start).length;
  const report: LearnReport | null = model.hasLearn ? await model.learn("a", { rate: 12, by_line: true }) : null;
  const learned: Uint8Array = await model.saveLearned();
  await model.loadLearned(learned);
  await model.forget();
  const reason: "eos" | "stop" | "length" | "stopped" | null = writer.finishReason;
  const seed: bigint = writer.seed;
  // @ts-expect-error
  model.write("a", { maxTokens: 5 });
  // @ts-expect-error
  await model.learn("a", { byLine: true });
  // @ts-expect-error
  pieces[0].logprob;
  // @ts-expect-error
  new KerasSeq();
  await model.close();
  const counts: number = words.length + next.length + (gates?.length ?? unknown) + (report?.weight ?? model.learnedTokens);
  return model.encode(model.decode([1])).length + counts + score + (reason === "eos" ? Number(seed) : 0);
}
const bytes = new Uint8Array();
const drawn: number = new IntegerDraw(logitStep(0.001), { top_k: 5 }).next(new Int16Array(9), threefry(7n, 0) >>> 8);
const cost: number = costs(addBias([1, 2], [0, -Infinity], 0.001), logitStep(0.001), [0]).each[drawn];
const tokens: readonly string[] = (await readBundle(bytes)).vocabulary.tokens;
use(await KerasSeq.load(bytes), new AbortController().signal);
const progress = (loaded: number, total: number) => console.log(loaded / total);
const worker = new Worker("w.js");
use(await KerasSeqWorker.load(new URL("x:y"), { wasm: "wasm/", worker, progress }), AbortSignal.timeout(tokens.length));
"""


@pytest.mark.parametrize("resolution", ["bundler", "nodenext"])
def test_the_types_fit_a_program(app, resolution):
    (app / "program.ts").write_text(PROGRAM)
    module = "nodenext" if resolution == "nodenext" else "esnext"
    options = ["--strict", "--noEmit", "--target", "es2023", "--lib", "es2023,dom,dom.asynciterable", "--types", ""]
    run("npx", "tsc", "program.ts", *options, "--module", module, "--moduleResolution", resolution, cwd=app)


def test_the_types_need_no_browser(app):
    program = PROGRAM.replace('= new Worker("w.js")', "= {} as WorkerThread")
    (app / "node.ts").write_text(program.replace("{ KerasSeqWorker }", "{ KerasSeqWorker, type WorkerThread }"))
    options = ["--strict", "--noEmit", "--target", "es2022", "--lib", "es2022", "--types", "node"]
    run("npx", "tsc", "node.ts", *options, "--module", "nodenext", cwd=app)


def test_the_package_has_the_license(app):
    folder = app / "node_modules/keras_seq"
    assert (folder / "LICENSE").read_bytes() == (page_folder().parents[1] / "LICENSE").read_bytes()


# ---- Node ----


def cases_of(asked):
    return [[prompt, as_json(options)] for prompt, options in asked]


STOPPED = [
    ("To be", {"seed": seed, "max_tokens": 100, "stop": stop, "top_k": top_k})
    for seed in range(5)
    for stop, top_k in ((["nn", "e"], 0), (["W", "aa", "aab"], 5), (["zzzz", "o i"], 0))
]


def expected_texts(path, asked):
    sampler = LiteRTSampler(path)
    texts = [sampler.sample(prompt, **options) for prompt, options in asked]
    seeds = [str(options["seed"]) for _, options in asked]
    return [[str(text), text.finish_reason, seed] for text, seed in zip(texts, seeds, strict=True)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"level": "word", "starting": True, "sampling": {"temperature": 0.5, "top_k": 9}},
        {"level": "whitespace"},
        {"quantization": "int8"},
        NGRAMS,
    ],
)
def test_texts_in_node_are_those_of_python(app, small_tflite, options):
    path = small_tflite(**options)
    asked = list(prompts()) if options == {} else list(prompts())[:7]
    asked += STOPPED if options == {} else []
    (found,) = in_node(app, path, ["texts", cases_of(asked)], relaxed="quantization" in options)
    assert found == expected_texts(path, asked)


def test_a_file_without_write_gives_the_same_texts(app, model, tmp_path):
    path = without_write(model, tmp_path / "without.tflite")
    (found,) = in_node(app, path, ["texts", cases_of(STOPPED[:6])])
    assert found == expected_texts(model, STOPPED[:6])


def with_nan_logits(exported, path):
    """Writes a file again in which every logit is NaN: the bias of the last layer is."""
    content = read_bundle(exported)
    model = flatbuffer.parse(content.model)
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) == 4 * len(content.vocabulary):
            values = np.frombuffer(bytes(buffer.data), np.float32)
            if np.ptp(values) > 0:
                buffer.data = np.frombuffer(np.full_like(values, np.nan).tobytes(), np.uint8)
    return rebundled(exported, path, model=flatbuffer.pack(model))


def test_logits_that_are_not_finite_end_a_text_with_an_error(app, small_tflite, tmp_path):
    path = with_nan_logits(small_tflite(), tmp_path / "always.tflite")
    (found,) = in_node(app, path, ["failing", ["To b", {"max_tokens": 90}]])
    assert found == ["", "token 0 cannot be sampled: the model's logits are not finite"]


def test_a_file_name_in_node_is_refused_with_advice(app):
    code = "import('keras_seq').then(({ KerasSeq }) => KerasSeq.load('a.tflite')).catch((e) => console.log(e.message))"
    found = run("node", "-e", code, cwd=app)
    assert found == "a.tflite cannot be loaded: in Node, give the bytes of the file: readFileSync(path)\n"


def test_pieces_scores_and_codes_are_those_of_python(app, model):
    sampler, options = LiteRTSampler(model), {"seed": 3, "max_tokens": 90}
    pieces, score, (ids, text) = in_node(
        app, model, ["pieces", ["To be", as_json(options)]], ["score", TEXT[:80]], ["codes", TEXT[:80]]
    )
    expected = list(sampler.generate("To be", **options, logprobs=True))
    assert [piece[:2] for piece in pieces] == [[str(piece), piece.token_id] for piece in expected]
    np.testing.assert_allclose([piece[2] for piece in pieces], [one.log_probability for one in expected], atol=1e-4)
    assert score["tokens"] == ids == sampler.vocabulary.encode(text).tolist()
    np.testing.assert_allclose(score["logProbabilities"], sampler.score(TEXT[:80]).log_probabilities, atol=1e-4)
    assert score["logProbability"] == pytest.approx(sum(score["logProbabilities"]))


@pytest.mark.parametrize("options", [{}, {"level": "word"}, {"level": "whitespace"}])
def test_suggestions_of_a_growing_text_are_those_of_python(app, small_tflite, options):
    path = small_tflite(**options)
    sampler = LiteRTSampler(path)
    asked = [[TEXT[:length], 3] for length in range(30)] + [["Whether", 5], ["", 1], ["To b", 100]]
    (found,) = in_node(app, path, ["suggest", asked])
    for (text, count), words in zip(asked, found, strict=True):
        expected = sampler.suggest(text, count)
        probabilities = [word["probability"] for word in words]
        assert probabilities == pytest.approx([one.probability for one in expected], rel=1e-4), text
        assert {word["text"]: word["insert"] for word in words} == {one.text: one.insert for one in expected}


@pytest.mark.parametrize("options", [{}, {"level": "word"}])
def test_next_tokens_are_those_of_python(app, small_tflite, options):
    path = small_tflite(**options)
    # A text that grows, one of many parts, one that loses its end, and another one.
    asked = [["", 5], ["To", 3], ["To be", 10], [TEXT, 5], [TEXT[:-3], 5], [TEXT[:100], 5], ["that is", 100]]
    (found,) = in_node(app, path, ["nextTokens", asked])
    for (text, count), tokens in zip(asked, found, strict=True):
        expected = next_tokens(LiteRTSampler(path), text, count)
        assert [(it["tokenId"], it["text"]) for it in tokens] == [it[:2] for it in expected], text
        assert [it["probability"] for it in tokens] == pytest.approx([it[2] for it in expected], rel=1e-4)


def check_trace(path, text, traced):
    sampler = LiteRTSampler(path)
    ids = [sampler.vocabulary.start_id, *sampler.vocabulary.encode(text).tolist()]
    assert [one["tokenId"] for one in traced] == ids
    assert "".join(one["text"] for one in traced) == text
    states = sampler.initial_states()
    for token, one in zip(ids, traced, strict=True):
        check_gates(sampler.decoder, token, states, one["updateGates"])
        logits, states = sampler(token, states)
        logits = logits.astype(np.float64)
        expected = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        np.testing.assert_allclose(one["logProbabilities"], expected, atol=1e-4)


def check_gates(decoder, token, states, found):
    if not decoder.has_gates:
        assert found is None
        return
    for one, expected in zip(found, decoder.update_gates([token], states), strict=True):
        np.testing.assert_allclose(one, expected[0], atol=1e-5)


def test_a_trace_has_the_logits_and_the_gates_of_each_step(app, model, with_gates):
    for path in (model, with_gates):
        (traced,) = in_node(app, path, ["trace", TEXT[:30]])
        check_trace(path, TEXT[:30], traced)


REFUSED = [
    "count must be an integer from 1 to 100. Received: 0",
    "count must be an integer from 1 to 100. Received: 101",
    "the number of tokens of a text to trace must be at most 1000. Received: 5005",
    "before",
    "before",
    "during",
]


def test_wrong_and_aborted_calls_reject(app, model):
    assert in_node(app, model, ["refused", "To be"]) == [REFUSED]


CHANGES = {1: {"temperature": 0.2}, 5: {"top_k": 3}, 33: {"temperature": 2}, 64: {"min_p": 0.1}, 70: {"top_p": 0.5}}


def changed_in_python(path, options):
    generation, pieces = LiteRTSampler(path).generate("To be", **options), []
    for piece in generation:
        pieces.append(str(piece))
        if len(pieces) in CHANGES:
            generation.change(**CHANGES[len(pieces)])
    return pieces


@pytest.mark.parametrize(
    "options", [{"seed": 4, "max_tokens": 100}, {"seed": 4, "max_tokens": 100, "stop": ["zz", "aW!", "n!"]}]
)
def test_a_change_takes_effect_from_the_next_token(app, model, options):
    (found,) = in_node(app, model, ["changes", ["To be", as_json(options), CHANGES]])
    assert found == changed_in_python(model, options)
    assert len(found) > 70


def test_texts_can_be_written_at_the_same_time(app, model):
    asked = [(prompt, options) for prompt, options in prompts()][:6]
    (found,) = in_node(app, model, ["atOnce", cases_of(asked)])
    assert found == [text for text, *_ in expected_texts(model, asked)]


ENDED = [[0, 40, 40, 0, 0], ["stopped"] * 5]


def test_a_host_can_end_a_text(app, model):
    assert in_node(app, model, ["stopped", "To be"]) == [ENDED]


def test_a_model_can_be_closed_while_it_writes(app, model):
    (found,) = in_node(app, model, ["closed", "To be"])
    assert found == 5 * ["The model was closed."] + [5]


# ---- bundlers, in Chromium ----


PROMPTS = {"ROMEO: but soft": "To be", "ROMEO: but so": "To b", "ROMEO:": "To be", "\\n\\n": "zzzz"}


def example():
    """The app in the README of the package, with a prompt that the model of these tests knows."""
    (code,) = re.findall(r"```js\n(.*?)```", (page_folder() / "README.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 10
    for ours, tested in PROMPTS.items():
        code = code.replace(ours, tested)
    return code + "document.title = writer.finishReason;\n"


def in_worker(code, tool):
    """The same app with the model in a worker; esbuild does not find its script by itself."""
    code = code.replace('import { KerasSeq } from "keras_seq"', 'import { KerasSeqWorker } from "keras_seq/worker"')
    code = code.replace("KerasSeq.load", "KerasSeqWorker.load")
    worker = '{ worker: new Worker("thread.js", { type: "module" }), '
    return code if tool == "vite" else code.replace("{ wasm", f"{worker} wasm")


@pytest.mark.parametrize("tool", ["esbuild", "vite"])
@pytest.mark.parametrize("place", ["page", "worker"])
def test_the_app_of_the_readme_runs_in_chromium(app, chromium, model, tmp_path, tool, place):
    code = example() if place == "page" else in_worker(example(), tool)
    expected = LiteRTSampler(model).sample("To be", max_tokens=500, temperature=0.8, stop="zzzz", seed=7)
    folder = bundled(app, tool, code, model, tmp_path)
    with served_folder(folder) as (address, _), opened(chromium, address) as page:
        page.wait_for_function("document.title !== '-'", timeout=30_000)
        assert page.text_content("#text") == expected
        assert page.title() == expected.finish_reason


WORKER_APP = """
    import { KerasSeq } from "keras_seq";
    import { KerasSeqWorker } from "keras_seq/worker";
    import { tasks } from "./web_model.mjs";
    window.loaded = [];
    const progress = (...bytes) => loaded.push(bytes);
    const model = await KerasSeqWorker.load("shakespeare.tflite", { wasm: "wasm/", progress });
    window.run = (task, given) => tasks[task](model, given);
    // Stops a text while its prompt is read; returns when it has ended, and when the worker is free.
    window.stopping = async (prompt, delay) => {
      const abort = new AbortController();
      const writer = model.write(prompt, { signal: abort.signal });
      const reading = writer.next();
      await new Promise((resolve) => setTimeout(resolve, delay));
      const start = performance.now();
      abort.abort();
      const { done } = await reading;
      const ended = performance.now() - start;
      await model.nextTokens("To", 1);
      return [done, writer.finishReason, ended, performance.now() - start];
    };
    // Returns for how long the page waits when a text begins.
    window.beginning = async (prompt) => {
      const start = performance.now();
      const writer = model.write(prompt);
      writer.next().catch(() => {});
      const waited = performance.now() - start;
      await writer.return();
      return waited;
    };
    window.reading = async (prompt) => {
      const start = performance.now();
      await model.write(prompt).next();
      return performance.now() - start;
    };
    window.refused = (source, wasm) => KerasSeqWorker.load(source, { wasm }).catch(({ message }) => message);
    window.chosen = () => document.querySelector("input").files[0];
    // Returns the traces of a text by another model, in a worker and in the page.
    window.traces = async (address, text) => {
      const found = [];
      for (const Kind of [KerasSeqWorker, KerasSeq]) {
        const other = await Kind.load(address, { wasm: "wasm/" });
        found.push(await tasks.trace(other, text));
        await other.close();
      }
      return found;
    };
    document.title = "open";
"""


@pytest.fixture(scope="module")
def worker_app(app, chromium, model, with_gates, tmp_path_factory):
    """A page with a model in a worker, and another file beside it."""
    folder = tmp_path_factory.mktemp("worker")
    shutil.copy(app / "web_model.mjs", folder)
    site = bundled(app, "vite", WORKER_APP, model, folder)
    shutil.copy(with_gates, site / "gates.tflite")
    with served_folder(site) as (address, _), opened(chromium, address, **DESKTOP) as page:
        page.wait_for_function("document.title === 'open'", timeout=60_000)
        yield page


def test_a_model_in_a_worker_is_one_in_the_page(worker_app, model):
    """All that is asked of a model in Node."""

    def run_task(task, given):
        return worker_app.evaluate("([task, given]) => run(task, given)", [task, given])

    asked = list(prompts())[:4] + STOPPED[:3]
    options = {"seed": 4, "max_tokens": 100}
    assert run_task("texts", cases_of(asked)) == expected_texts(model, asked)
    assert run_task("changes", ["To be", as_json(options), CHANGES]) == changed_in_python(model, options)
    assert run_task("stopped", "To be") == ENDED
    sampler = LiteRTSampler(model)
    for text, words in zip(("To b", "To be, "), run_task("suggest", [["To b", 3], ["To be, ", 3]]), strict=True):
        assert [word["text"] for word in words] == [word.text for word in sampler.suggest(text, 3)]
    (tokens,) = run_task("nextTokens", [["To b", 5]])
    assert [it["tokenId"] for it in tokens] == [it[0] for it in next_tokens(sampler, "To b", 5)]
    check_trace(model, TEXT[:20], run_task("trace", TEXT[:20]))
    assert run_task("refused", "To be") == REFUSED


def test_a_trace_in_a_worker_and_in_the_page_has_the_gates(worker_app, with_gates):
    traces = worker_app.evaluate("text => traces('gates.tflite', text)", TEXT[:30])
    assert len(traces) == 2
    for traced in traces:
        assert [len(gates) for gates in traced[0]["updateGates"]] == [24, 16]
        check_trace(with_gates, TEXT[:30], traced)


def test_the_page_goes_on_while_the_worker_reads(worker_app):
    assert worker_app.evaluate("given => run('blocked', given)", ["score", TEXT * 20]) < 0.5
    # A text of a megabyte is split into tokens in the worker. Once is enough: the machine may be busy.
    assert any(worker_app.evaluate("prompt => beginning(prompt)", "To be, or " * 100_000) < 50 for _ in range(5))


def test_a_text_stops_within_50_ms_while_a_long_prompt_is_read(worker_app):
    prompt = "To be, or " * 20_000
    assert worker_app.evaluate("prompt => reading(prompt)", prompt) > 500
    found = [worker_app.evaluate("given => stopping(...given)", [prompt, delay]) for delay in (0, 20, 60, 100, 200)]
    assert [one[:2] for one in found] == [[True, "stopped"]] * 5
    assert min(one[2] for one in found) < 50
    assert min(one[3] for one in found) < 100  # The worker also stops: it answers the next call.


def test_progress_counts_the_bytes_of_the_wasm(worker_app, app):
    loaded = worker_app.evaluate("() => loaded")
    sizes = {file.stat().st_size for file in (app / "node_modules/@litertjs/core/wasm").glob("*.wasm")}
    assert loaded[-1][0] == loaded[-1][1]
    assert loaded[-1][1] in sizes
    assert loaded == sorted(loaded)
    assert len({total for _, total in loaded}) == 1


def test_a_worker_refuses_what_it_cannot_open(worker_app, model, tmp_path):
    def refused(source, wasm="wasm/"):
        return worker_app.evaluate(f"wasm => refused({source}, wasm)", wasm)

    def chosen(path):
        worker_app.set_input_files("input", path)

    assert refused("new Uint8Array(9)") == "This is not a .tflite file."
    assert refused("'none.tflite'").endswith("none.tflite cannot be loaded: 404 File not found")
    assert "LiteRT.js cannot be loaded from " in refused("'shakespeare.tflite'", "none/")
    larger = LiteRTSampler(model).vocabulary.to_bytes() + "é\n".encode()
    chosen(rebundled(model, tmp_path / "larger.tflite", vocabulary=larger))
    tokens = len(LiteRTSampler(model).vocabulary)
    expected = f"The vocabulary in this file has {tokens + 1} tokens, but its model has {tokens} logits."
    assert refused("chosen()") == expected
    huge = tmp_path / "huge.tflite"
    with huge.open("wb") as file:
        file.truncate(3 << 30)  # has no blocks on the disk
    chosen(huge)
    assert refused("chosen()") == "huge.tflite is too large: a .tflite has at most 2 GiB, and this file has 3.0 GiB."
    changing = tmp_path / "changing.tflite"
    changing.write_bytes(model.read_bytes())
    chosen(changing)
    changing.write_bytes(b"another")
    assert refused("chosen()").startswith("changing.tflite cannot be read: it is a folder, or it was changed")


def test_a_worker_can_be_closed_while_it_writes(worker_app):
    """The last test of the page: it has no model after this."""
    assert worker_app.evaluate("() => run('closed', 'To be')") == 5 * ["The model was closed."] + [5]
