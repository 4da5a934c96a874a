"""The page of export/web in Chromium, on the screen of a phone and of a desktop."""

import contextlib
import math
import shutil

import pytest
from hamlet import prompts
from served_page import served

from keras_seq_export import LiteRTSampler

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def model(small_tflite):
    return small_tflite()


@contextlib.contextmanager
def opened(chromium, address, **screen):
    """Opens the page; requires that it requests only its own address and raises no error."""
    context = chromium.new_context(**(screen or PHONE))
    page = context.new_page()
    foreign, errors = [], []
    origin = address.partition("/?")[0].rstrip("/") + "/"
    context.on("request", lambda request: request.url.startswith(origin) or foreign.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(address)
    try:
        yield page
    finally:
        context.close()
    assert (foreign, errors) == ([], [])


def wait_for_suggestions(page):
    """Waits until the suggestions are those of the current text."""
    page.wait_for_selector("#suggestions[aria-busy='false'] button")


@pytest.fixture
def page(model, litert, chromium):
    with served(model, litert) as address, opened(chromium, address) as page:
        page.wait_for_selector("#writing:not([hidden])")
        yield page


def fill_in(page, prompt, seed, max_tokens, **chosen):
    """Fills in a prompt and settings, without writing yet."""
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
        fill_in(page, prompt, **options)
        page.click("#write")
        assert written(page) == prompt + sampler.sample(prompt, **options)


def test_texts_of_words(litert, chromium, small_tflite):
    """The states of this model do not begin at zero."""
    model = small_tflite(level="word", starting=True, sampling={"temperature": 0.5, "top_k": 9})
    sampler = LiteRTSampler(model)
    with served(model, litert) as address, opened(chromium, address) as page:
        page.wait_for_selector("#writing:not([hidden])")
        assert (page.input_value("#temperature"), page.input_value("#top_k")) == ("0.5", "9")
        for prompt, options in list(prompts())[:5]:
            fill_in(page, prompt, **options)
            page.click("#write")
            assert written(page) == prompt + sampler.sample(prompt, **{"temperature": 1.0, "top_k": 0, **options})


def test_continue_resumes_a_stopped_text_with_the_same_tokens(page, model):
    wanted = {"seed": 3, "max_tokens": 40_000, "top_k": 3}  # <eos> is not among the three most likely.
    expected = LiteRTSampler(model).sample("To be", **wanted)
    fill_in(page, "To be", **wanted)
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


def test_a_suggestion_shows_its_probability_and_a_tap_appends_it(page, model):
    sampler = LiteRTSampler(model)
    page.fill("#text", "To b")
    for text in ("To be", "To be,"):
        page.fill("#text", text)
        wait_for_suggestions(page)
        labels = page.eval_on_selector_all(
            "#suggestions button", "all => all.map((one) => [...one.children].map((it) => it.textContent))"
        )
        expected = sampler.suggest(text, 8)
        percents = [
            "<1%" if it.probability < 0.005 else f"{math.floor(it.probability * 100 + 0.5)}%" for it in expected
        ]
        assert labels == [[it.text, percent] for it, percent in zip(expected, percents, strict=True)]
    page.locator("#suggestions button").first.tap()
    assert page.input_value("#text") == "To be," + expected[0].insert


def test_an_unusable_file_is_refused_in_one_sentence(page, model, small_tflite):
    whole = model.read_bytes()
    changed = bytearray(whole)
    changed[whole.index(b"PK\3\4") // 2] ^= 1
    for name, content, sentence in (
        ("text", b"to be", "This is not a .tflite file."),
        ("cut", whole[:-30], "This file has no complete bundle at its end"),
        ("bare", whole[: whole.index(b"PK\3\4")], "This file has no complete bundle at its end"),
        ("changed", bytes(changed), "The model in this file is damaged: its SHA-256 differs."),
        (
            "inside",
            small_tflite(state="internal").read_bytes(),
            "export it without --state and --batch",
        ),
    ):
        page.set_input_files("#file", {"name": f"{name}.tflite", "mimeType": "", "buffer": content})
        page.wait_for_selector(f"#error:has-text('{sentence}')")
        assert "char.tflite" in page.text_content("#name")  # The first model is still open.
        assert page.get_by_role("alert").is_visible()
    page.set_input_files("#file", model)  # The page still works.
    page.wait_for_selector("#error", state="hidden")
    page.fill("#text", "Ω")
    page.wait_for_selector("#error:has-text('The model does not know the character Ω')")
    page.fill("#text", "To")
    page.fill("#temperature", "-1")
    page.click("#write")
    assert page.input_value("#text") == "To"


def test_a_wrong_model_in_the_address_is_refused(litert, chromium, model):
    with served(model, litert) as address:
        home = address.partition("?")[0]
        foreign = "http://127.0.0.1:1/a.tflite"
        for asked, sentence in (
            ("models/none.tflite", "cannot be loaded: 404"),
            (foreign, "from its own address only"),
        ):
            with opened(chromium, f"{home}?model={asked}") as page:
                page.wait_for_selector(f"#error:has-text('{sentence}')")


def test_it_opens_off_line_after_one_visit(model, litert, chromium):
    kept = """async () => {
      const requests = await Promise.all((await caches.keys()).map(async (name) => (await caches.open(name)).keys()));
      return requests.flat().map(({ url }) => url);
    }"""
    with served(model, litert) as address, opened(chromium, address) as page:
        page.wait_for_selector("#writing:not([hidden])")
        for _ in range(200):
            addresses = page.evaluate(kept)
            if any(".wasm?" in url for url in addresses) and any(url.endswith(".tflite") for url in addresses):
                break
            page.wait_for_timeout(100)
        page.context.set_offline(True)
        page.reload()
        page.wait_for_selector("#writing:not([hidden])")
        fill_in(page, "To be", seed=5, max_tokens=30)
        page.click("#write")
        assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=5, max_tokens=30)


def test_clearing_or_opening_a_file_ends_the_text_being_written(page, model):
    for end in ("#clear", "#file"):
        fill_in(page, "To be", seed=3, max_tokens=10**6, top_k=3)
        page.click("#write")
        page.wait_for_selector("#write:has-text('Stop')")
        page.set_input_files("#file", model) if end == "#file" else page.click(end)
        page.wait_for_selector("#write:has-text('Write')")
        wait_for_suggestions(page)
        fill_in(page, "To be", seed=3, max_tokens=50, top_k=3)
        page.click("#write")
        assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=3, max_tokens=50, top_k=3)


def test_changed_settings_start_a_new_text(page):
    fill_in(page, "To be", seed=3, max_tokens=10**6, top_k=3)
    page.click("#write")
    page.wait_for_selector("#write:has-text('Stop')")
    page.click("#write")
    page.wait_for_selector("#write:has-text('Continue')")
    page.fill("#temperature", "0.5")
    assert page.text_content("#write") == "Write"


def test_a_typed_seed_is_kept(page):
    page.check("#new_seed")
    page.fill("#seed", "7")
    assert not page.is_checked("#new_seed")


def test_an_error_while_writing_stays_visible(page):
    draw = "async () => { throw new Error('No draw.'); }"
    page.evaluate(
        f"async () => {{ const {{ prototype }} = (await import('./keras_seq/model.js')).Model; prototype.write = prototype.sample = {draw}; }}"
    )
    fill_in(page, "To be", seed=3, max_tokens=5)
    page.click("#write")
    page.wait_for_selector("#error:has-text('No draw.')")
    page.wait_for_timeout(300)
    assert page.text_content("#error") == "No draw."
    page.fill("#text", "To")
    page.wait_for_selector("#error", state="hidden")


@pytest.mark.parametrize(
    ("seed", "works"), [(2**64 - 1, True), (-(2**63), True), (2**64, False), (-(2**63) - 1, False)]
)
def test_a_seed_has_the_same_range_as_in_python(page, model, seed, works):
    fill_in(page, "To be", seed=seed, max_tokens=20)
    page.click("#write")
    if works:
        assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=seed, max_tokens=20)
    assert page.eval_on_selector("#seed", "field => field.validity.valid") == works
    assert page.input_value("#text").startswith("To be")


def test_a_long_text_does_not_block_the_page(page, model):
    prompt = "To be, or not " * 3000
    fill_in(page, prompt, seed=3, max_tokens=20)
    page.click("#write")
    page.wait_for_selector("#write:has-text('Stop')", timeout=2000)  # while it still reads
    assert written(page) == prompt + LiteRTSampler(model).sample(prompt, seed=3, max_tokens=20)


def test_a_file_name_with_special_characters(litert, chromium, model, tmp_path):
    odd = tmp_path / "a#b ?%20c.tflite"
    shutil.copy(model, odd)
    with served(odd, litert) as address, opened(chromium, address) as page:
        page.wait_for_selector("#writing:not([hidden])")
        assert page.text_content("#name").startswith(odd.name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [PHONE, {"viewport": {"width": 1280, "height": 900}}], ids=["phone", "desktop"])
def test_the_page_is_accessible_according_to_axe(screen, scheme, model, litert, chromium):
    violations = "() => axe.run().then(({ violations }) => violations.map(({ id, help }) => `${id}: ${help}`))"
    options = {**screen, "color_scheme": scheme, "bypass_csp": True}
    with served(model, litert) as address, opened(chromium, address, **options) as page:
        page.wait_for_selector("#writing:not([hidden])")
        page.add_script_tag(path=litert / "axe-core" / "axe.min.js")
        fill_in(page, "To be", seed=1, max_tokens=20)
        page.click("#write")
        written(page)
        wait_for_suggestions(page)
        assert page.evaluate(violations) == []
        page.fill("#text", "Ω")
        page.wait_for_selector("#error:has-text('does not know')")
        assert page.evaluate(violations) == []
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
