"""What the browser keeps of what the page's model has learned, in Chromium: reloads, Forget, other models, tabs, files."""

import pytest
from browser import wait_for
from page_actions import show_more
from page_learning import (
    KEPT,
    NOTHING,
    SENTENCE,
    learned_file,
    pause,
    sentence,
    suggested,
    teach,
    type_in,
    wait_until_learned,
    wait_until_open,
)

from keras_seq_export import LiteRTSampler


@pytest.fixture(scope="module")
def other(small_tflite):
    """A model of words, which can learn too."""
    return small_tflite(learn=True, level="word")


# ---- what the browser keeps ----


def test_a_reload_keeps_what_was_learned_and_the_switch(page):
    teach(page)
    known = sentence(page)
    page.fill("#text", "To ")
    words = suggested(page)
    wait_for(lambda: page.evaluate(KEPT))
    page.wait_for_timeout(700)
    page.reload()
    wait_until_open(page)
    assert sentence(page) == known
    assert page.is_checked("#learn")
    assert suggested(page) == words
    page.uncheck("#learn")
    assert sentence(page) == f"{known} The model uses it until you forget it."


def test_forget_forgets_all_of_it_unless_it_is_brought_back(page):
    type_in(page, "To ")
    before = suggested(page)
    page.click("#clear")
    teach(page, 4 * SENTENCE)
    known = sentence(page)
    page.fill("#text", "To ")
    after = suggested(page)
    assert after != before
    for _ in range(2):
        page.click("#forget")
        page.wait_for_selector("#unforget:focus")
        assert sentence(page) == "All of it is forgotten."
        assert page.text_content("#status") == "The model has forgotten what it learned from you."
        assert page.evaluate(KEPT) == []
        assert suggested(page) == before
        page.keyboard.press("Enter")
        page.wait_for_selector("#forget:focus")
        assert sentence(page) == known
        assert len(page.evaluate(KEPT)) == 1
        assert suggested(page) == after
    page.keyboard.press("Enter")
    page.wait_for_selector("#unforget:focus")
    page.reload()
    wait_until_open(page)
    assert sentence(page) == NOTHING
    assert page.is_hidden("#unforget")
    assert suggested(page) == before


def test_what_was_typed_before_forgetting_is_not_learned(page):
    teach(page)
    type_in(page, SENTENCE)
    page.click("#forget")
    page.wait_for_selector("#unforget:focus")
    pause(page)
    assert sentence(page) == "All of it is forgotten."


def test_another_model_does_not_have_it(page, model, other):
    teach(page)
    known = sentence(page)
    page.set_input_files("#file", other)
    page.wait_for_selector("#max_unit:has-text('words')", state="attached")
    assert sentence(page) == NOTHING
    page.set_input_files("#file", model)
    page.wait_for_selector("#max_unit:has-text('characters')", state="attached")
    assert sentence(page) == known


REPLACE_KEPT = """async (bytes) => {
  const cache = await caches.open("keras_seq learned");
  const [{ url }] = await cache.keys();
  await cache.put(url, new Response(new Uint8Array(bytes), { headers: { "X-Effect": "{}" } }));
}"""


@pytest.mark.parametrize("damage", ["changed", "another"])
def test_what_is_damaged_is_removed_and_the_page_says_so(page, other, tmp_path, damage):
    teach(page)
    content = bytearray(learned_file(page, tmp_path).read_bytes())
    if damage == "changed":
        content[99] ^= 1
    else:
        sampler = LiteRTSampler(other)
        sampler.learn(SENTENCE)
        sampler.save_learned(tmp_path / "other.learned")
        content = (tmp_path / "other.learned").read_bytes()
    page.evaluate(REPLACE_KEPT, list(content))
    page.reload()
    wait_until_open(page)
    reason = {"changed": "This file is damaged", "another": "This file belongs to another model"}[damage]
    page.wait_for_selector(f"#error:has-text('cannot be read, and was removed: {reason}')")
    assert sentence(page) == NOTHING
    assert page.evaluate(KEPT) == []
    page.click("#clear")
    teach(page)
    assert len(page.evaluate(KEPT)) == 1


def test_without_a_storage_it_learns_for_this_visit(page):
    page.evaluate("() => { Cache.prototype.put = async () => { throw new Error('It is full.'); }; }")
    teach(page)
    assert "This browser cannot keep it" in sentence(page)


def test_another_tab_learns_and_forgets_too(page, address):
    tab = page.context.new_page()
    tab.goto(address)
    wait_until_open(tab)
    show_more(tab)
    teach(page)
    wait_until_learned(tab, len(SENTENCE) - 1)
    tab.click("#forget")
    page.wait_for_selector("#forget", state="hidden")
    assert page.evaluate(KEPT) == []
    type_in(page, SENTENCE)
    wait_until_learned(page, len(SENTENCE) - 1)


# ---- files ----


def test_a_copy_can_be_opened_and_replaces_what_was_learned(page, tmp_path):
    teach(page)
    file = learned_file(page, tmp_path)
    type_in(page, "That is the question. ")
    wait_until_learned(page, len(SENTENCE) - 1 + len("That is the question."))
    page.set_input_files("#file", file)
    wait_until_learned(page, len(SENTENCE) - 1)
    assert page.text_content("#status") == "char.learned is open."
    page.click("#unforget")
    wait_until_learned(page, len(SENTENCE) - 1 + len("That is the question."))


def test_a_copy_for_another_model_changes_nothing(page, other, small_tflite, tmp_path):
    teach(page)
    file = learned_file(page, tmp_path)
    for model, unit, reason in (
        (other, "words", "This file belongs to another model"),
        (small_tflite(), "characters", "char.learned is what another model"),
    ):
        page.set_input_files("#file", model)
        page.wait_for_selector(f"#max_unit:has-text('{unit}')", state="attached")
        page.set_input_files("#file", file)
        page.wait_for_selector(f"#error:has-text('{reason}')")
    assert page.is_hidden("#learning")
