"""The page of export/web in Chromium: it writes the texts of Python, opens files, and is accessible."""

import itertools
import re
import shutil

import pytest
from browser import DESKTOP, PHONE, opened, violations, wait_for
from hamlet import prompts
from page_actions import begin_to_write, fill_in, show_more, wait_for_suggestions, wait_until_ready, written
from sites import served_page

from keras_seq_export import LiteRTSampler


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
    with served_page(model, litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        assert (page.input_value("#temperature"), page.input_value("#top_k")) == ("0.5", "9")
        assert page.input_value("#wildness") == "0.5"
        for prompt, options in list(prompts())[:5]:
            fill_in(page, prompt, **options)
            page.click("#write")
            shown = re.sub(r"(?<=\S) $", "", prompt)  # The words of the model bring their spaces.
            assert written(page) == shown + sampler.sample(shown, **{"temperature": 1.0, "top_k": 0, **options})


def test_the_same_text_appears_with_animations(litert, chromium, model):
    with (
        served_page(model, litert) as address,
        opened(chromium, address, **PHONE, reduced_motion="no-preference") as page,
    ):
        wait_until_ready(page)
        fill_in(page, "To be", seed=5, max_tokens=150)
        page.click("#write")
        assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=5, max_tokens=150)


def test_continue_resumes_a_stopped_text_with_the_same_tokens(page, model):
    wanted = {"seed": 3, "max_tokens": 40_000, "top_k": 3}  # <eos> is not among the three most likely.
    expected = LiteRTSampler(model).sample("To be", **wanted)
    fill_in(page, "To be", **wanted)
    begin_to_write(page)
    page.click("#write")
    page.wait_for_selector("#status:has-text('stopped')")
    assert page.text_content("#write") == "Continue"
    before = page.input_value("#text")
    page.focus("#write")
    page.keyboard.press("Enter")
    assert written(page) == "To be" + expected
    assert len("To be") < len(before) < len(expected)


STOPS = """async () => {
  const button = document.getElementById("write");
  const times = [];
  for (const wait of [0, 60, 200]) {
    button.click();
    await new Promise((resolve) => setTimeout(resolve, wait));
    const before = button.textContent;
    const began = performance.now();
    button.click();
    while (button.textContent === "Stop") await new Promise((resolve) => setTimeout(resolve, 1));
    times.push([before, button.textContent, performance.now() - began]);
  }
  return times;
}"""


def test_stop_takes_effect_at_once_also_while_a_long_text_is_read(page, model):
    prompt = "To be, or not " * 6000
    fill_in(page, prompt, seed=3, max_tokens=20)
    for before, after, milliseconds in page.evaluate(STOPS):
        assert (before, after) == ("Stop", "Continue")
        assert milliseconds < 50
    page.click("#write")
    assert written(page) == prompt + LiteRTSampler(model).sample(prompt, seed=3, max_tokens=20)


def test_a_long_text_does_not_block_the_page(page, model):
    prompt = "To be, or not " * 3000
    fill_in(page, prompt, seed=3, max_tokens=20)
    page.click("#write")
    page.wait_for_selector("#write:has-text('Stop')", timeout=2000)  # while it still reads
    assert written(page) == prompt + LiteRTSampler(model).sample(prompt, seed=3, max_tokens=20)


def test_a_setting_that_changes_while_it_writes_counts_from_the_next_token(page, model):
    """At a temperature of 0, a text depends on what is before it only."""
    sampler = LiteRTSampler(model)
    fill_in(page, "To be", seed=3, max_tokens=20_000, top_k=3)
    begin_to_write(page)
    page.fill("#temperature", "0")
    text = written(page).removeprefix("To be")
    begun = sampler.sample("To be", seed=3, max_tokens=20_000, top_k=3)
    same = next(index for index, (one, other) in enumerate(zip(text, begun, strict=False)) if one != other)
    assert 0 < same < len(text)
    greedy = sampler.sample("To be" + text[:same], temperature=0, max_tokens=len(text) - same)
    assert text[same:] == greedy


def test_changed_settings_start_a_new_text(page):
    fill_in(page, "To be", seed=3, max_tokens=10**6, top_k=3)
    begin_to_write(page)
    page.click("#write")
    page.wait_for_selector("#write:has-text('Continue')")
    page.fill("#temperature", "0.5")
    assert page.text_content("#write") == "Write"


def test_clearing_or_opening_a_file_ends_the_text_being_written(page, model):
    for end in ("#clear", "#file"):
        fill_in(page, "To be", seed=3, max_tokens=10**6, top_k=3)
        begin_to_write(page)
        page.set_input_files("#file", model) if end == "#file" else page.click(end)
        page.wait_for_selector("#write:has-text('Write')")
        wait_for_suggestions(page)
        fill_in(page, "To be", seed=3, max_tokens=50, top_k=3)
        page.click("#write")
        assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=3, max_tokens=50, top_k=3)


def test_escape_closes_the_other_settings(page):
    show_more(page)
    page.focus("#seed")
    page.keyboard.press("Escape")
    assert page.is_hidden("#more")
    assert page.evaluate("() => document.activeElement.id") == "open_more"


def test_the_keys_write_and_stop(page):
    fill_in(page, "To be", seed=3, max_tokens=10**6, top_k=3)
    page.focus("#text")
    for key in ("Escape", "Control+Enter"):
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#write:has-text('Stop')")
        page.keyboard.press(key)
        page.wait_for_selector("#write:has-text('Continue')")


def test_the_slider_is_the_temperature(page):
    fill_in(page, "To be", seed=3, max_tokens=20)
    page.fill("#wildness", "0.35")
    assert page.input_value("#temperature") == page.text_content("#wildness_value") == "0.35"
    assert page.get_attribute("#wildness", "aria-valuetext") == "temperature 0.35"
    page.fill("#temperature", "7")
    assert (page.input_value("#wildness"), page.text_content("#wildness_value")) == ("1.5", "7")


def test_a_typed_seed_is_kept(page):
    fill_in(page, "To be", seed=5, max_tokens=20)
    page.check("#new_seed")
    page.click("#dice")
    assert page.input_value("#seed") != "5"
    page.fill("#seed", "7")
    assert not page.is_checked("#new_seed")


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


def test_a_wrong_setting_is_shown_also_where_it_is_hidden(page):
    fill_in(page, "To", seed=3, max_tokens=20)
    page.fill("#temperature", "-1")
    page.click("#open_more")
    page.click("#write")
    page.wait_for_selector("#temperature:invalid:focus", state="visible")
    assert page.input_value("#text") == "To"


# ---- files ----


def test_an_unusable_file_is_refused_in_one_sentence(page, model, small_tflite):
    whole = model.read_bytes()
    changed = bytearray(whole)
    changed[whole.index(b"PK\3\4") // 2] ^= 1
    chip = page.text_content("#model")
    for name, content, sentence in (
        ("text", b"to be", "This is not a .tflite file."),
        ("cut", whole[:-30], "This file has no complete bundle at its end"),
        ("bare", whole[: whole.index(b"PK\3\4")], "This file has no complete bundle at its end"),
        ("changed", bytes(changed), "The model in this file is damaged: its SHA-256 differs."),
        ("inside", small_tflite(state="internal").read_bytes(), "export it without --state and --batch"),
    ):
        page.set_input_files("#file", {"name": f"{name}.tflite", "mimeType": "", "buffer": content})
        page.wait_for_selector(f"#error:has-text('{name}.tflite'):has-text('{sentence}')")
        assert page.text_content("#model") == chip  # The first model is still open.
        assert page.get_by_role("alert").is_visible()
    page.set_input_files("#file", model)  # The page still works.
    page.wait_for_selector("#error", state="hidden")
    fill_in(page, "To be", seed=3, max_tokens=20)
    page.click("#write")
    assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=3, max_tokens=20)


def test_a_wrong_model_in_the_address_is_refused(litert, chromium, model):
    with served_page(model, litert) as address:
        home = address.partition("?")[0]
        foreign = "http://127.0.0.1:1/a.tflite"
        refused = {"models/none.tflite": "cannot be loaded: 404", foreign: "from its own address only"}
        for asked, opens_own in itertools.product(refused, (False, True)):
            with opened(chromium, f"{home}?model={asked}") as page:
                page.wait_for_selector(f"#error:has-text('{refused[asked]}')")
                assert page.is_disabled("#write")
                if opens_own:
                    page.click("#model")
                    page.click("#own_model")
                else:
                    page.set_input_files("#file", model)
                page.wait_for_selector("#write:not(:disabled)")
                wait_for(lambda: "model=" not in page.url)  # A reload would ask for it again.


def test_a_file_that_was_opened_is_there_after_a_reload(page, small_tflite):
    words = small_tflite(level="word")
    page.set_input_files("#file", words)
    kept = "() => caches.open('keras_seq opened model').then((it) => it.keys()).then((all) => all.length)"
    wait_for(lambda: page.evaluate(kept))
    page.goto(page.url.partition("?")[0])
    page.wait_for_selector("#write:not(:disabled)")
    fill_in(page, "To be", seed=5, max_tokens=30)
    page.click("#write")
    assert written(page) == "To be" + LiteRTSampler(words).sample("To be", seed=5, max_tokens=30)


def test_a_file_that_was_opened_is_there_even_without_the_list_of_models(chromium, model, litert, small_tflite):
    screen = {**PHONE, "service_workers": "block"}  # Its requests cannot be routed.
    with served_page(model, litert) as address, opened(chromium, address, **screen) as page:
        wait_until_ready(page)
        page.set_input_files("#file", small_tflite(level="word"))
        kept = "() => caches.open('keras_seq opened model').then((it) => it.keys()).then((all) => all.length)"
        wait_for(lambda: page.evaluate(kept))
        page.route("**/models.json", lambda route: route.fulfill(status=500))
        page.goto(page.url.partition("?")[0])
        page.wait_for_selector("#write:not(:disabled)")
        assert page.is_hidden("#error")


@pytest.mark.parametrize("by_line", [False, True])
def test_a_file_with_the_name_of_the_pages_own_is_a_model_of_the_user(
    litert, chromium, small_tflite, tmp_path, by_line
):
    file = tmp_path / "shakespeare.tflite"
    shutil.copy(small_tflite(by_line=True) if by_line else small_tflite(), file)
    with served_page(file, litert) as address:
        for home in (address, address.partition("?")[0]):
            with opened(chromium, home) as page:
                wait_until_ready(page)
                assert "ROMEO:" not in page.locator(".prompt").all_text_contents()
                assert not page.input_value("#text").startswith("JULIET")
                assert page.input_value("#seed") != "2"


def test_a_file_name_with_special_characters(litert, chromium, model, tmp_path):
    odd = tmp_path / "a#b ?%20c.tflite"
    shutil.copy(model, odd)
    with served_page(odd, litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        page.click("#model")
        page.wait_for_selector(f"#card dd:text-is('{odd.name}')")


def test_it_opens_off_line_after_one_visit(model, litert, chromium):
    kept = """async () => {
      const requests = await Promise.all((await caches.keys()).map(async (name) => (await caches.open(name)).keys()));
      return requests.flat().map(({ url }) => url);
    }"""
    with served_page(model, litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        for _ in range(200):
            addresses = page.evaluate(kept)
            if any(".wasm?" in url for url in addresses) and any(url.endswith(".tflite") for url in addresses):
                break
            page.wait_for_timeout(100)
        page.context.set_offline(True)
        page.reload()
        page.wait_for_selector("#write:not(:disabled)")
        fill_in(page, "To be", seed=5, max_tokens=30)
        page.click("#write")
        assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=5, max_tokens=30)


def test_an_error_while_writing_stays_visible_and_names_the_file(page):
    fails = (
        "{ seed: 1n, finishReason: null, next: async () => { throw new Error('No draw.'); }, return: async () => {} }"
    )
    page.evaluate(
        f"async () => {{ (await import('./keras_seq/text_model.js')).TextModel.prototype.write = () => ({fails}); }}"
    )
    fill_in(page, "To be", seed=3, max_tokens=5)
    page.click("#write")
    page.wait_for_selector("#error:has-text('char.tflite: No draw.')")
    page.wait_for_timeout(300)
    assert page.text_content("#error") == "char.tflite: No draw."
    assert page.text_content("#write") == "Write"
    page.fill("#text", "To")
    page.wait_for_selector("#error", state="hidden")


# ---- accessibility ----

MIDDLE = """() => {
  const parts = [...document.querySelectorAll("#backdrop .written")].map((one) => one.firstChild);
  const [longest] = parts.sort((one, other) => other.length - one.length);
  const range = document.createRange();
  range.setStart(longest, 0);
  range.setEnd(longest, 1);
  const { left, right, top, bottom } = range.getBoundingClientRect();
  return [(left + right) / 2, (top + bottom) / 2];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_page_is_accessible_according_to_axe_in_every_state(screen, scheme, model, litert, chromium):
    options = {**screen, "color_scheme": scheme, "bypass_csp": True}
    with served_page(model, litert) as address, opened(chromium, address, **options) as page:

        def check(state):
            assert (state, violations(page, litert)) == (state, [])
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), state

        check("loading")
        wait_until_ready(page)
        check("opening")
        page.mouse.click(*page.evaluate(MIDDLE))
        page.wait_for_selector("#alternatives", state="visible")
        check("alternatives")
        page.click("#alternatives .close")
        page.click("#clear")
        check("empty")
        fill_in(page, "To be", seed=1, max_tokens=10**6, top_k=3)
        page.check("#colours")
        page.check("#show_tokens")
        check("more")
        begin_to_write(page)
        check("writing")
        page.click("#write")
        page.wait_for_selector("#write:has-text('Continue')")
        check("stopped")
        page.click("#open_more")
        page.fill("#text", "Ω")
        page.wait_for_selector("#unknown:has-text('does not know')")
        page.set_input_files("#file", {"name": "a.tflite", "mimeType": "", "buffer": b"a"})
        page.wait_for_selector("#error:not([hidden])")
        check("error")
        page.click("#model")
        page.wait_for_selector("#card[open]")
        check("card")


@pytest.mark.parametrize("width", [360, 600, 899, 1600])
def test_the_page_fits_any_width(width, model, litert, chromium):
    with (
        served_page(model, litert) as address,
        opened(chromium, address, viewport={"width": width, "height": 700}) as page,
    ):
        wait_until_ready(page)
        for _ in range(2):
            outside = """() => [...document.querySelectorAll("button, input, textarea, output")]
              .filter((it) => it.checkVisibility() && !it.closest("#prompts, #alternatives"))
              .map((it) => [it.id, it.getBoundingClientRect()])
              .filter(([, { left, right, bottom }]) => left < 0 || right > innerWidth + 0.5)
              .map(([id]) => id)"""
            assert page.evaluate(outside) == []
            page.click("#open_more")
