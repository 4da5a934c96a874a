"""What lies behind the text on the page of export/web, in Chromium: the marks of what a model does not know, and long texts."""

import random
import time

from browser import opened, wait_for
from page_actions import begin_to_write, fill_in, show_more, wait_for_suggestions, wait_until_ready, written
from sites import served_page

MARKED = "() => [...document.querySelectorAll('.unknown')].map((one) => one.textContent)"
BEHIND = """() => [...document.querySelectorAll("#backdrop span")].map((one) => [one.textContent, one.className])"""


def put(page, text, before=False):
    """Puts a text into the field as pasting does, also half of a character; in place of all that is there, or before it."""
    page.evaluate(
        """([text, before]) => {
          const field = document.getElementById("text");
          field.setRangeText(text, 0, before ? 0 : field.value.length, "end");
          field.dispatchEvent(new Event("input"));
        }""",
        [text, before],
    )
    wait_for_suggestions(page)


# ---- marks ----


def test_marks_of_the_old_text_are_gone_while_another_one_is_written(page):
    fill_in(page, "To €€€€ be ¥¥", seed=3, max_tokens=10**6, top_k=3)
    assert page.evaluate(MARKED) == ["€€€€", "¥¥"]
    page.locator("#prompts button").first.tap()
    page.wait_for_selector("#write:has-text('Stop')")
    assert page.evaluate(MARKED) == []
    assert page.is_hidden("#unknown")
    page.click("#write")
    page.wait_for_selector("#write:has-text('Continue')")
    page.click("#undo")
    wait_for(lambda: page.evaluate(MARKED) == ["€€€€", "¥¥"])


def test_what_is_removed_is_what_is_unknown_in_the_text_as_it_is_now(page):
    """Also while the model writes, when nothing is marked anew."""
    fill_in(page, "To €€ be", seed=3, max_tokens=10**6, top_k=3)
    begin_to_write(page)
    page.evaluate(
        """() => {
          const field = document.getElementById("text");
          field.setRangeText("be ", 0, 0);
          field.dispatchEvent(new Event("input"));
          document.querySelector("#unknown button").click();
        }"""
    )
    wait_for_suggestions(page)
    assert page.input_value("#text").startswith("be To  be")


def test_many_unknown_characters_are_removed_at_once_and_the_rest_stays_the_models(page):
    fill_in(page, "To be", seed=5, max_tokens=30, top_k=3)
    page.click("#write")
    text = written(page)
    put(page, "Привет " * 1000, before=True)
    assert len(page.evaluate(MARKED)) == 1000
    began = time.monotonic()
    page.click("#unknown button")
    wait_for(lambda: page.input_value("#text") == " " * 1000 + text)
    assert time.monotonic() - began < 5
    assert "".join(one for one, kind in page.evaluate(BEHIND) if kind == "written") == text.removeprefix("To be")
    page.click("#undo")
    assert page.input_value("#text") == "Привет " * 1000 + text


def test_half_of_a_character_is_removed_in_a_model_of_words(litert, chromium, small_tflite):
    with served_page(small_tflite(level="word"), litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        put(page, "To\ud83d be see")
        assert page.evaluate("document.querySelector('#unknown span').textContent").endswith("‘U+D83D’, and skips it.")
        assert page.is_hidden("#error")
        page.click("#unknown button")
        assert page.input_value("#text") == "To be see"
        assert page.evaluate("document.getElementById('max_unit').textContent") == "Maximum length in words and signs"


def test_a_link_with_carriage_returns_has_its_offsets_where_the_field_has_them(page):
    page.evaluate("location.hash = '#prompt=To%0D%0Abe%0Dor%20&seed=5&max=20&model=x&sha256=12345678'")
    wait_for(lambda: page.input_value("#text").startswith("To\nbe\nor "))
    text = written(page)
    parts = page.evaluate(BEHIND)
    assert "".join(one for one, _ in parts).removesuffix("\u200b") == text
    assert "".join(one for one, kind in parts if kind == "written") == text.removeprefix("To\nbe\nor ")
    assert page.is_hidden("#unknown")


# ---- long texts ----


def test_after_any_edits_the_same_lies_behind_the_text_as_after_a_reload(page):
    draws = random.Random(3)
    fill_in(page, "To be\n", seed=5, max_tokens=200, top_k=3)
    page.check("#colours")
    page.click("#write")
    written(page)
    for _ in range(40):
        length = len(page.input_value("#text"))
        start = draws.randrange(length + 1)
        end = min(length, start + draws.choice([0, 0, 1, 9]))
        page.evaluate("([start, end]) => document.getElementById('text').setSelectionRange(start, end)", [start, end])
        page.focus("#text")
        page.keyboard.insert_text(draws.choice(["a", "Ω", "\n", "x\n\ny", "be"]))
        wait_for_suggestions(page)
    found = page.evaluate(BEHIND)
    assert "".join(one for one, _ in found).removesuffix("\u200b") == page.input_value("#text")
    assert {"unknown", ""} < {kind for _, kind in found}
    page.wait_for_timeout(700)  # It is saved a moment after the last change.
    page.reload()
    page.wait_for_selector("#write:not(:disabled)")
    wait_for_suggestions(page)
    assert page.evaluate(BEHIND) == found


def test_a_key_changes_only_its_line_behind_a_long_text(page):
    """Otherwise a browser lays out all lines again, which takes seconds."""
    changed = """() => {
      const backdrop = document.getElementById("backdrop");
      window.changed = new Set();
      const blockOf = (node) => (node.closest ? node : node.parentElement).closest("div");
      new MutationObserver((all) => all.forEach(({ target }) => changed.add(blockOf(target)))).observe(backdrop, {
        subtree: true, childList: true, characterData: true,
      });
    }"""
    put(page, "To be, or not to be\n" * 3000)
    page.evaluate(changed)
    page.focus("#text")
    page.evaluate("document.getElementById('text').setSelectionRange(30_000, 30_000)")
    page.keyboard.type("to be Ω")
    wait_for_suggestions(page)
    assert page.evaluate("[...changed].map((line) => line.textContent)") == ["to be ΩTo be, or not to be\n"]


# ---- small screens ----


def test_some_lines_stay_in_sight_on_a_small_screen(litert, chromium, model):
    screen = {"viewport": {"width": 360, "height": 640}}
    with served_page(model, litert) as address, opened(chromium, address, **screen) as page:
        wait_until_ready(page)
        show_more(page)
        put(page, "ΩΦΨΞ and much that the model does not know")
        page.wait_for_selector("#unknown")
        assert page.eval_on_selector("#main", "one => one.clientHeight") >= 96
        assert page.eval_on_selector("#dock", "one => one.getBoundingClientRect().bottom") <= 640
