"""export/web, the page: its modules in Node, and all of it in Chromium, on a phone's screen and a desktop's."""

import contextlib
import http.client
import importlib.util
import json
import math
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import paths
import pytest
from devices import need, need_program
from hamlet import export_small_tflite, prompts
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq.generation.threefry import uniform
from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite.page_server import litert_folder, page_folder, page_server

VECTORS = json.loads(paths.VECTORS.read_text())
CHROMIUM = "/usr/bin/chromium"
# Without these it looks for hosts of its maker's.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


# ---- the modules by themselves ----


def in_node(task, given):
    need_program("node", "nodejs, version 20 or newer")
    command = ["node", paths.SUPPORT / "web_tokens.mjs"]
    done = subprocess.run(command, input=json.dumps([task, given]), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_vectors_of_the_random_stream():
    found = in_node("random", [[seed, position] for seed, position, _ in VECTORS["random"]])
    for (word, number), (seed, position, expected) in zip(found, VECTORS["random"], strict=True):
        assert word == expected
        assert number == float(uniform(int(seed), position))


def test_the_vectors_of_the_words():
    assert in_node("words", [text for text, _ in VECTORS["words"]]) == [tokens for _, tokens in VECTORS["words"]]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
TRICKY = st.text(
    st.sampled_from("ab '’-_7.\\n\n\r\t\x005c<>\ufeff\u00a0\u2028é\u0301漢字かな한🙂𝄞\U00020000\U0010ffff"), min_size=1
)


@pytest.mark.parametrize("level", ["char", "word"])
@settings(deadline=None, max_examples=12)
@given(texts=st.lists(ANY_TEXT | TRICKY, min_size=8, max_size=40), others=st.lists(TRICKY, max_size=8))
def test_every_text_is_read_and_written_as_in_python(level, texts, others):
    vocabulary = ks.Vocabulary.from_text("".join(texts), level=level)
    asked = texts + (others if level == "word" else [])
    found = in_node("encode", [vocabulary.to_bytes().decode(), asked])
    expected = [vocabulary.encode(text) for text in asked]
    assert found == [[ids.tolist(), vocabulary.decode(ids)] for ids in expected]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export_small_tflite(tmp_path_factory.mktemp("hamlet"))


def test_a_damaged_bundle_ends_in_an_answer_or_a_sentence(model, tmp_path):
    whole = model.read_bytes()
    start = whole.index(b"PK\3\4")
    random = np.random.default_rng(0)
    paths = []
    for number in range(150):
        damaged = bytearray(whole[: random.integers(start, len(whole) + 1)] if number % 3 == 0 else whole)
        for place in random.integers(start, len(whole), 3):
            damaged[min(place, len(damaged) - 1)] = random.integers(256)
        paths.append(str(tmp_path / f"{number}.tflite"))
        Path(paths[-1]).write_bytes(damaged)
    tokens = len(LiteRTSampler(model).vocabulary)
    for answer in in_node("bundles", [str(model), *paths]):
        assert answer == tokens or re.match(
            r"This file (has no whole bundle|holds no voc)|\S+ in this file is larger", str(answer)
        ), answer


# ---- the page ----


@pytest.fixture(scope="module")
def litert(tmp_path_factory):
    """LiteRT.js, and a judge of what is accessible, as the npm registry has them."""
    need_program("npm", "npm")
    folder = tmp_path_factory.mktemp("npm")
    shutil.copy(page_folder() / "package.json", folder)
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "axe-core@4"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"needs LiteRT.js from the npm registry: {done.stderr[-300:]}")
    return folder / "node_modules"


@pytest.fixture(scope="module")
def chromium():
    need(Path(CHROMIUM).is_file(), "needs Chromium: apt-get install chromium")
    need(importlib.util.find_spec("playwright"), "needs Playwright: pip install playwright")
    from playwright import sync_api

    with sync_api.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@contextlib.contextmanager
def served(model, litert):
    server, address = page_server(model, litert)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def opened(chromium, address, **screen):
    """The page, of which every request stays on its own address and no error comes."""
    context = chromium.new_context(**(screen or PHONE))
    page = context.new_page()
    foreign, wrong = [], []
    origin = address.partition("/?")[0].rstrip("/") + "/"
    context.on("request", lambda request: request.url.startswith(origin) or foreign.append(request.url))
    page.on("pageerror", lambda error: wrong.append(error))
    page.goto(address)
    try:
        yield page
    finally:
        context.close()
    assert (foreign, wrong) == ([], [])


def suggested(page):
    """Waits until the suggestions are those of the text that is there."""
    page.wait_for_selector("#suggestions[aria-busy='false'] button")


@pytest.fixture
def page(model, litert, chromium):
    with served(model, litert) as address, opened(chromium, address) as page:
        page.wait_for_selector("#writing:not([hidden])")
        yield page


def ask(page, prompt, seed, max_tokens, **chosen):
    """Fills in what is asked for, without writing yet."""
    page.click("#clear")
    page.uncheck("#new_seed")
    page.fill("#text", prompt)
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1, "min_p": 0, **chosen, "seed": seed, "max_tokens": max_tokens}
    for name, value in values.items():
        page.fill(f"#{name}", str(value))


def written(page):
    page.wait_for_selector("#status:has-text('all tokens'), #status:has-text('ended')", timeout=60_000)
    return page.input_value("#text")


def test_twenty_texts_are_those_of_python(page, model):
    sampler = LiteRTSampler(model)
    for prompt, options in prompts():
        ask(page, prompt, **options)
        page.click("#write")
        assert written(page) == prompt + sampler.sample(prompt, **options)


def test_texts_by_words(litert, chromium, tmp_path):
    model = export_small_tflite(tmp_path, "word", sampling={"temperature": 0.5, "top_k": 9})
    sampler = LiteRTSampler(model)
    with served(model, litert) as address, opened(chromium, address) as page:
        page.wait_for_selector("#writing:not([hidden])")
        assert (page.input_value("#temperature"), page.input_value("#top_k")) == ("0.5", "9")
        for prompt, options in list(prompts())[:5]:
            ask(page, prompt, **options)
            page.click("#write")
            assert written(page) == prompt + sampler.sample(prompt, **{"temperature": 1.0, "top_k": 0, **options})


def test_what_was_stopped_goes_on_as_if_it_had_not(page, model):
    wanted = {"seed": 3, "max_tokens": 20_000, "top_k": 3}  # <eos> is not among the three likeliest.
    expected = LiteRTSampler(model).sample("To be", **wanted)
    ask(page, "To be", **wanted)
    page.click("#write")
    page.wait_for_selector("#write:has-text('Stop')")
    page.click("#write")
    page.wait_for_selector("#status:has-text('stopped')")
    assert page.text_content("#write") == "Continue"
    before = page.input_value("#text")
    page.focus("#write")
    page.keyboard.press("Enter")
    assert written(page) == "To be" + expected
    assert len("To be") < len(before) < len(expected)


def test_a_suggestion_has_its_probability_and_is_taken_by_a_tap(page, model):
    sampler = LiteRTSampler(model)
    page.fill("#text", "To b")
    for text in ("To be", "To be,"):
        page.fill("#text", text)
        suggested(page)
        tokens = [sampler.vocabulary.start_id, *sampler.vocabulary.encode(text).tolist()]
        logits, _ = sampler.prefill(tokens, sampler.initial_states())
        chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        labels = page.eval_on_selector_all(
            "#suggestions button", "all => all.map((one) => [...one.children].map((it) => it.textContent))"
        )
        order = [token for token in np.argsort(-chances, kind="stable") if token >= 2][: len(labels)]
        names = {" ": "space", "\n": "line break"}
        for (name, percent), token in zip(labels, order, strict=True):
            piece = sampler.vocabulary.pieces[token]
            assert name == (names.get(piece, piece) or "end of text")
            assert percent == ("<1%" if chances[token] < 0.005 else f"{math.floor(chances[token] * 100 + 0.5)}%")
    first = page.locator("#suggestions button:not([aria-disabled='true'])").first
    token = first.locator("span").text_content()
    first.tap()
    assert page.input_value("#text") == "To be," + {"space": " ", "line break": "\n"}.get(token, token)


def test_a_file_that_cannot_be_used_is_a_sentence(page, model, tmp_path):
    whole = model.read_bytes()
    changed = bytearray(whole)
    changed[whole.index(b"PK\3\4") // 2] ^= 1
    (tmp_path / "inside").mkdir()
    for name, content, sentence in (
        ("text", b"to be", "This is not a .tflite file."),
        ("cut", whole[:-30], "This file has no whole bundle at its end"),
        ("bare", whole[: whole.index(b"PK\3\4")], "This file has no whole bundle at its end"),
        ("changed", bytes(changed), "The model in this file is damaged: its SHA-256 differs."),
        (
            "inside",
            export_small_tflite(tmp_path / "inside", state="internal").read_bytes(),
            "export it without --state and --batch",
        ),
    ):
        page.set_input_files("#file", {"name": f"{name}.tflite", "mimeType": "", "buffer": content})
        page.wait_for_selector(f"#error:has-text('{sentence}')")
        assert "char.tflite" in page.text_content("#name")  # which is still open
        assert page.get_by_role("alert").is_visible()
    page.set_input_files("#file", model)  # The page is still of use.
    page.wait_for_selector("#error", state="hidden")
    page.fill("#text", "Ω")
    page.wait_for_selector("#error:has-text('The model does not know the character Ω')")
    page.fill("#text", "To")
    page.fill("#temperature", "-1")
    page.click("#write")
    assert page.input_value("#text") == "To"


def test_a_model_by_address(litert, chromium, model):
    with served(model, litert) as address:
        home = address.partition("?")[0]
        foreign = "http://127.0.0.1:1/a.tflite"
        for asked, sentence in (("models/none.tflite", "cannot be had: 404"), (foreign, "of its own address only")):
            with opened(chromium, f"{home}?model={asked}") as page:
                page.wait_for_selector(f"#error:has-text('{sentence}')")


def test_it_opens_without_a_network_after_one_visit(model, litert, chromium):
    kept = "() => caches.open('keras_seq-1').then((it) => it.keys()).then((all) => all.map(({ url }) => url))"
    with served(model, litert) as address, opened(chromium, address) as page:
        page.wait_for_selector("#writing:not([hidden])")
        for _ in range(200):
            addresses = page.evaluate(kept)
            if any(url.endswith(".wasm") for url in addresses) and any(url.endswith(".tflite") for url in addresses):
                break
            page.wait_for_timeout(100)
        page.context.set_offline(True)
        page.reload()
        page.wait_for_selector("#writing:not([hidden])")
        ask(page, "To be", seed=5, max_tokens=30)
        page.click("#write")
        assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=5, max_tokens=30)


def test_what_is_cleared_or_opened_anew_while_it_writes_ends_it(page, model):
    for end in ("#clear", "#file"):
        ask(page, "To be", seed=3, max_tokens=10**6, top_k=3)
        page.click("#write")
        page.wait_for_selector("#write:has-text('Stop')")
        page.set_input_files("#file", model) if end == "#file" else page.click(end)
        page.wait_for_selector("#write:has-text('Write')")
        suggested(page)
        ask(page, "To be", seed=3, max_tokens=50, top_k=3)
        page.click("#write")
        assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=3, max_tokens=50, top_k=3)


def test_other_settings_begin_another_text(page):
    ask(page, "To be", seed=3, max_tokens=10**6, top_k=3)
    page.click("#write")
    page.wait_for_selector("#write:has-text('Stop')")
    page.click("#write")
    page.wait_for_selector("#write:has-text('Continue')")
    page.fill("#temperature", "0.5")
    assert page.text_content("#write") == "Write"


def test_a_seed_that_is_typed_is_kept(page):
    page.check("#new_seed")
    page.fill("#seed", "7")
    assert not page.is_checked("#new_seed")


def test_an_error_of_writing_stays(page):
    draw = "async () => { (await import('./model.js')).Model.prototype.draw = async () => { throw new Error('No draw.'); }; }"
    page.evaluate(draw)
    ask(page, "To be", seed=3, max_tokens=5)
    page.click("#write")
    page.wait_for_selector("#error:has-text('No draw.')")
    page.wait_for_timeout(300)
    assert page.text_content("#error") == "No draw."
    page.fill("#text", "To")
    page.wait_for_selector("#error", state="hidden")


@pytest.mark.parametrize(
    ("seed", "works"), [(2**64 - 1, True), (-(2**63), True), (2**64, False), (-(2**63) - 1, False)]
)
def test_a_seed_has_the_range_that_it_has_in_python(page, model, seed, works):
    ask(page, "To be", seed=seed, max_tokens=20)
    page.click("#write")
    if works:
        assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=seed, max_tokens=20)
    assert page.eval_on_selector("#seed", "field => field.validity.valid") == works
    assert page.input_value("#text").startswith("To be")


def test_a_long_text_does_not_hold_the_page_up(page, model):
    prompt = "To be, or not " * 3000
    ask(page, prompt, seed=3, max_tokens=20)
    page.click("#write")
    page.wait_for_selector("#write:has-text('Stop')", timeout=2000)  # while it still reads
    assert written(page) == prompt + LiteRTSampler(model).sample(prompt, seed=3, max_tokens=20)


def test_a_name_with_signs_in_it(litert, chromium, model, tmp_path):
    odd = tmp_path / "a#b ?%20c.tflite"
    shutil.copy(model, odd)
    with served(odd, litert) as address, opened(chromium, address) as page:
        page.wait_for_selector("#writing:not([hidden])")
        assert page.text_content("#name").startswith(odd.name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [PHONE, {"viewport": {"width": 1280, "height": 900}}], ids=["phone", "desktop"])
def test_axe_finds_nothing_that_is_not_accessible(screen, scheme, model, litert, chromium):
    violations = "() => axe.run().then(({ violations }) => violations.map(({ id, help }) => `${id}: ${help}`))"
    options = {**screen, "color_scheme": scheme, "bypass_csp": True}
    with served(model, litert) as address, opened(chromium, address, **options) as page:
        page.wait_for_selector("#writing:not([hidden])")
        page.add_script_tag(path=litert / "axe-core" / "axe.min.js")
        ask(page, "To be", seed=1, max_tokens=20)
        page.click("#write")
        written(page)
        suggested(page)
        assert page.evaluate(violations) == []
        page.fill("#text", "Ω")
        page.wait_for_selector("#error:has-text('does not know')")
        assert page.evaluate(violations) == []
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_the_page_is_small():
    assert sum(file.stat().st_size for file in page_folder().iterdir() if file.is_file()) < 50_000


# ---- what serves it ----


def test_only_the_page_litert_and_the_model_are_served(tmp_path):
    modules = tmp_path / "node_modules"
    (modules / "@litertjs" / "core" / "wasm").mkdir(parents=True)
    (modules / "@litertjs" / "core" / "wasm" / "a.wasm").write_bytes(b"wasm")
    (modules / "secret.js").write_text("secret")
    with served(None, modules) as address:
        with urllib.request.urlopen(f"{address}node_modules/@litertjs/core/wasm/a.wasm") as answer:
            assert (answer.read(), answer.headers["Content-Type"]) == (b"wasm", "application/wasm")
        with urllib.request.urlopen(f"{address}app.js") as answer:
            assert answer.headers["Content-Type"].startswith("text/javascript")
        (tmp_path / "secret.txt").write_text("secret")
        host = address.removeprefix("http://").rstrip("/")
        for name, status in (
            ("/node_modules/secret.js", 404),
            ("/../web.py", 404),
            ("/%2e%2e/keras_seq_export/web.py", 404),
            ("/models/a.tflite", 404),
            ("/node_modules/@litertjs/../../secret.txt", 404),
            ("/node_modules/@litertjs/..%2f..%2fsecret.txt", 404),
            ("/node_modules/@litertjs/", 404),
            ("/app.js", 200),
        ):
            connection = http.client.HTTPConnection(host)
            connection.request("GET", name)
            assert connection.getresponse().status == status, name
        connection = http.client.HTTPConnection(host)
        connection.request("GET", "/app.js", headers={"Host": "evil.example"})
        assert connection.getresponse().status == 403


def test_without_litert_the_program_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"npm install @litertjs/core@2\.5\.3 in this folder"):
        litert_folder()
    version = json.loads((page_folder() / "package.json").read_text())["dependencies"]["@litertjs/core"]
    assert version == "2.5.3"
    command = [sys.executable, "-m", "keras_seq.cli", "web", "--no_open"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("keras-seq: the page needs LiteRT.js: npm install")


def test_a_port_in_use_and_a_file_that_is_no_model(tmp_path):
    (tmp_path / "a.tflite").write_text("to be")
    with pytest.raises(ValueError, match=r"is not a \.tflite file"):
        page_server(tmp_path / "a.tflite", tmp_path)
    with served(None, tmp_path) as address:
        port = int(address.rpartition(":")[2].rstrip("/"))
        for wrong in (port, 99999):
            with pytest.raises(ValueError, match=f"port {wrong} cannot be had"):
                page_server(None, tmp_path, port=wrong)
