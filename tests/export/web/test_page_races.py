"""The page of export/web in Chromium, where one thing happens before another one is done."""

import contextlib
import re

import pytest
from browser import DESKTOP, opened, wait_for
from page_actions import begin_to_write, fill_in, show_more, wait_for_suggestions, wait_until_ready, written
from sites import served_page

from keras_seq_export import LiteRTSampler

# Stops the text as soon as the model is asked for its first tokens, which are on their way then.
STOP_AT_ONCE = """
const post = Worker.prototype.postMessage;
let isDue = true;
Worker.prototype.postMessage = function (message, ...rest) {
  post.call(this, message, ...rest);
  if (!isDue || !["write", "sample"].includes(message.method)) return;
  isDue = false;
  document.getElementById("write").click();
};
"""
NO_DIALOG = "delete Navigator.prototype.share"  # that of the system: a link is copied then
LINK = "#prompt=To+be&seed=5&max=30&model=x.tflite&sha256=12345678"


@contextlib.contextmanager
def before_a_visit(chromium):
    """Yields a page that has not been opened, in a new profile."""
    context = chromium.new_context(**DESKTOP, reduced_motion="reduce")
    try:
        yield context.new_page()
    finally:
        context.close()


@contextlib.contextmanager
def loading(chromium, address):
    """Yields a page whose model is still loading, and a function that lets it arrive."""
    held = []
    with before_a_visit(chromium) as page:
        page.context.route(re.compile(r":\d+/models/"), lambda route: route.continue_() if held else held.append(route))
        page.goto(address)
        wait_for(lambda: page.evaluate("1") and held)
        yield page, lambda: held[0].continue_()


@pytest.fixture(scope="module")
def other(small_tflite):
    """A model of words, which is another one than `model`."""
    return small_tflite(level="word")


@pytest.fixture
def desktop(model, litert, chromium):
    with served_page(model, litert) as address, opened(chromium, address, **DESKTOP) as page:
        wait_until_ready(page)
        yield page


def use_another_model(page, file):
    page.set_input_files("#file", file)
    page.wait_for_selector("#max_unit:has-text('words')", state="attached")


def shared_link(page):
    """Returns the link that the page shares; None if it shares none."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(NO_DIALOG)
    page.evaluate("navigator.clipboard.writeText('nothing')")
    page.click("#share")
    page.wait_for_timeout(300)
    copied = page.evaluate("navigator.clipboard.readText()")
    return None if copied == "nothing" else copied


def fields_of(link):
    return dict(re.findall(r"[#&](\w+)=([^&]*)", link))


def focused(page):
    return page.evaluate("document.activeElement.id")


# ---- writing ----


def test_a_text_that_is_stopped_before_its_first_token_begins_again(page, model):
    fill_in(page, "To be", seed=5, max_tokens=30)
    page.evaluate(f"() => {{ {STOP_AT_ONCE} }}")
    page.click("#write")
    page.wait_for_selector("#write:has-text('Continue')")
    assert page.input_value("#text") == "To be"
    page.click("#write")
    assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=5, max_tokens=30)


def test_the_page_does_not_say_what_is_unknown_while_it_writes(page):
    fill_in(page, "To 🙂be", seed=3, max_tokens=10**6, top_k=3)
    page.wait_for_selector("#unknown", state="visible")
    begin_to_write(page)
    page.wait_for_selector("#unknown", state="hidden")
    assert page.locator("#backdrop .unknown").count() == 0
    page.click("#write")
    page.wait_for_selector("#unknown", state="visible")


def test_two_taps_on_try_again_keep_the_text_before(page):
    fill_in(page, "To be", seed=5, max_tokens=30)
    page.click("#write")
    first = written(page)
    fill_in(page, first, seed=6, max_tokens=30)
    page.click("#write")
    wait_for(lambda: len(page.input_value("#text")) > len(first) and page.text_content("#write") == "Write")
    page.evaluate("() => { const again = document.getElementById('again'); again.click(); again.click(); }")
    page.wait_for_timeout(500)
    page.wait_for_selector("#write:has-text('Write')")
    text = page.input_value("#text")
    assert text.startswith(first)
    assert len(text) == len(first) + 30


def test_of_two_taps_on_prompts_while_it_writes_one_begins_a_text(page):
    fill_in(page, "To be", seed=5, max_tokens=30, top_k=3)  # <eos> is not among the three most likely.
    page.evaluate(
        """() => {
          document.getElementById("write").click();
          for (const prompt of document.querySelectorAll(".prompt")) prompt.click();
        }"""
    )
    prompts = page.locator(".prompt").all_text_contents()
    text = written(page)
    assert any(len(text) == len(prompt) + 30 and text.startswith(prompt) for prompt in prompts)


def test_what_the_model_has_written_so_far_survives_a_reload(page):
    fill_in(page, "To be", seed=3, max_tokens=10**6, top_k=3)
    begin_to_write(page)
    wait_for(lambda: len(page.input_value("#text")) > 100)
    page.reload()
    page.wait_for_selector("#write:not(:disabled)")
    text = page.input_value("#text")
    assert len(text) > 100
    assert text.startswith("To be")
    assert page.is_enabled("#again")


def test_who_stops_the_opening_of_a_model_of_lines_gets_no_other_line(litert, chromium, small_tflite):
    lines = small_tflite(by_line=True, sampling={"bias": {"<eos>": 4.0}})
    with served_page(lines, litert) as address, before_a_visit(chromium) as page:
        page.add_init_script(STOP_AT_ONCE)
        page.goto(address)
        page.wait_for_selector("#status:has-text('Written'), #status:has-text('stopped')", timeout=60_000)
        page.wait_for_timeout(500)
        assert page.input_value("#text") == ""
        assert page.text_content("#write") == "Write"


def test_a_key_that_is_held_or_belongs_to_an_input_method_does_nothing(page):
    fill_in(page, "To be", seed=3, max_tokens=10**6, top_k=3)
    press = "given => dispatchEvent(new KeyboardEvent('keydown', { ctrlKey: true, key: 'Enter', ...given }))"
    for ignored in ({"repeat": True}, {"isComposing": True}):
        page.evaluate(press, ignored)
        assert page.text_content("#write") == "Write"
    page.evaluate(press, {})
    page.wait_for_selector("#write:has-text('Stop')")
    for ignored in ({"repeat": True}, {"isComposing": True}, {"isComposing": True, "key": "Escape"}):
        page.evaluate(press, ignored)
    page.wait_for_timeout(200)
    assert page.text_content("#write") == "Stop"
    page.evaluate(press, {"key": "Escape"})
    page.wait_for_selector("#write:has-text('Continue')")


# ---- suggestions ----


def test_a_space_that_is_typed_after_a_word_is_not_inserted_again(litert, chromium, other):
    with served_page(other, litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        fill_in(page, "To be", seed=5, max_tokens=40, top_k=20)
        page.click("#write")
        text = written(page)
        end = re.match(r"To be.*? \w\w+(?= \w)", text, re.S).end()
        page.focus("#text")
        page.evaluate("(at) => document.getElementById('text').setSelectionRange(at, at)", end)
        (first, *_) = LiteRTSampler(other).suggest(text[:end] + " ", 3)
        page.wait_for_selector(f"#suggestions button:first-child:has-text('{first.text}')")
        wait_for_suggestions(page)
        page.keyboard.type(" ")
        wait_for_suggestions(page)
        page.locator("#suggestions button").first.tap()
        assert page.input_value("#text") == f"{text[:end]} {first.text}{text[end:]}"


def test_a_word_of_the_text_before_the_last_key_is_not_inserted(page):
    page.fill("#text", "To b")
    wait_for_suggestions(page)
    page.evaluate(
        """async () => {
          const field = document.getElementById("text");
          field.value = "To be";
          field.dispatchEvent(new Event("input"));
          await Promise.resolve(); // The search has begun, and its words are not there yet.
          document.querySelector("#suggestions button").click();
        }"""
    )
    wait_for_suggestions(page)
    assert page.input_value("#text") == "To be"


# ---- links ----


def test_a_damaged_link_is_still_named_when_the_model_is_open(model, litert, chromium):
    with served_page(model, litert) as address, opened(chromium, address + "#prompt=Hello&seed=12") as page:
        page.wait_for_selector("#write:not(:disabled)")
        page.wait_for_timeout(500)
        assert page.text_content("#error").startswith("This link is damaged or incomplete")
        assert page.is_visible("#error")
        assert page.input_value("#text") == ""


def test_a_link_that_arrives_while_the_model_loads_is_followed(model, litert, chromium):
    with served_page(model, litert) as address, loading(chromium, address) as (page, arrive):
        page.evaluate("(link) => (location.hash = link)", LINK)
        wait_for(lambda: page.input_value("#text") == "To be")
        arrive()
        assert written(page) == "To be" + LiteRTSampler(model).sample("To be", seed=5, max_tokens=30, temperature=1.0)
        assert page.input_value("#seed") == "5"
        page.wait_for_selector("#error:has-text('This link was made with x.tflite')")
        page.evaluate("(link) => (location.hash = link)", LINK.replace("max=30", "max=0"))  # is shown and not continued
        wait_for(lambda: page.input_value("#text") == "To be")
        page.wait_for_selector("#error:has-text('This link was made with x.tflite')")


def test_a_link_names_no_seed_of_another_model(page, other):
    fill_in(page, "To be", seed=5, max_tokens=30)
    page.click("#write")
    text = written(page)
    use_another_model(page, other)
    fields = fields_of(shared_link(page))
    assert len(fields["prompt"]) >= len(text)
    assert fields["max"] == "0"  # The text is a beginning.


def test_another_tab_does_not_decide_whose_text_it_is(page, other):
    fill_in(page, "To be", seed=5, max_tokens=30, temperature=0.5)
    page.click("#write")
    text = written(page)
    tab = page.context.new_page()
    tab.goto(page.url)
    tab.wait_for_selector("#write:not(:disabled)")
    use_another_model(tab, other)
    show_more(tab)
    tab.fill("#temperature", "1.3")
    tab.wait_for_timeout(800)  # until it is saved
    tab.close()
    use_another_model(page, other)
    assert page.input_value("#temperature") != "1.3"
    assert len(fields_of(shared_link(page))["prompt"]) >= len(text)


def test_a_text_that_is_being_written_is_shared_as_far_as_it_is_there(page, chromium):
    fill_in(page, "To be", seed=3, max_tokens=10**6, top_k=3)
    begin_to_write(page)
    wait_for(lambda: len(page.input_value("#text")) > 100)
    fields = fields_of(shared_link(page))
    assert fields["prompt"] == "To+be"
    assert fields["seed"] == "3"
    assert 95 < int(fields["max"]) <= len(page.input_value("#text")) - len("To be")


@pytest.mark.parametrize(("field", "wrong"), [("temperature", ""), ("seed", "abc")])
def test_a_wrong_setting_is_not_shared(field, wrong, page):
    fill_in(page, "To be", seed=3, max_tokens=30, **({} if field == "seed" else {field: 1}))
    page.fill(f"#{field}", wrong)
    assert shared_link(page) is None
    assert page.is_hidden("#error")
    assert focused(page) == field


# ---- models ----


def test_a_bad_file_does_not_stop_the_model_that_loads(model, litert, chromium):
    with served_page(model, litert) as address, loading(chromium, address) as (page, arrive):
        page.set_input_files("#file", {"name": "bad.tflite", "mimeType": "", "buffer": b"x" * 1000})
        page.wait_for_selector("#error:has-text('bad.tflite')")
        assert page.is_visible("#progress")
        arrive()
        page.wait_for_selector("#write:not(:disabled)")
        assert page.is_hidden("#progress")
        assert "bad.tflite" in page.text_content("#error")


def test_the_card_opens_at_once_with_the_size_of_the_file(page, model):
    page.evaluate("() => { window.fetch = () => new Promise(() => {}); }")
    page.click("#model")
    page.wait_for_selector("#card[open]", timeout=3000)
    size = model.stat().st_size / 1e6
    shown = page.text_content("#card dt:text-is('Size') + dd")
    assert float(shown.split()[0]) == pytest.approx(size, abs=0.06 if size > 0.1 else 0.0006)


# ---- the focus ----


def test_the_text_gets_the_focus_when_what_had_it_is_gone(desktop):
    page = desktop
    fill_in(page, "To be", seed=5, max_tokens=30)
    page.click("#write")
    text = written(page)
    for chosen in (".close", ".list button"):
        page.focus("#text")
        page.keyboard.press("Control+End")
        page.keyboard.press("Alt+ArrowDown")
        page.wait_for_selector("#alternatives", state="visible")
        page.locator(f"#alternatives {chosen}").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#alternatives", state="hidden")
        assert focused(page) == "text"
        if chosen == ".close":
            assert page.input_value("#text") == text  # The key is not typed into it.
    page.wait_for_selector("#write:has-text('Write')")
    page.focus("#clear")
    page.keyboard.press("Enter")
    wait_for(lambda: focused(page) == "text")


def test_clear_does_not_open_the_keyboard_of_a_phone(page):
    page.locator("#clear").tap()
    wait_for(lambda: page.input_value("#text") == "")
    page.wait_for_timeout(200)
    assert focused(page) != "text"
