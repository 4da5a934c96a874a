"""The page of export/web learns in Chromium from what its user types: when, what it shows, what the browser keeps."""

import contextlib
import re

import pytest
from browser import DESKTOP, PHONE, opened, violations, wait_for
from page_actions import fill_in, show_more, wait_for_suggestions, wait_until_ready, written
from page_learning import (
    KEPT,
    NOTHING,
    SENTENCE,
    learned_file,
    pause,
    sampler_of,
    sentence,
    suggested,
    teach,
    turn_on,
    type_in,
    wait_until_learned,
    wait_until_open,
)
from sites import served_page

from keras_seq_export import LiteRTSampler

# ---- what is learned, and when ----


def test_a_model_that_cannot_learn_has_no_switch(small_tflite, litert, chromium):
    with served_page(small_tflite(), litert) as address, opened(chromium, address, **DESKTOP) as page:
        wait_until_ready(page)
        show_more(page)
        assert page.is_hidden("#learning")


def test_nothing_is_learned_before_the_switch_is_on(address, chromium):
    with opened(chromium, address, **DESKTOP) as page:
        wait_until_ready(page)
        show_more(page)
        assert page.is_visible("#learning")
        assert not page.is_checked("#learn")
        type_in(page, SENTENCE)
        pause(page)
        turn_on(page)
        type_in(page, SENTENCE[:-1])  # The sentence is not finished.
        pause(page)
        assert sentence(page) == NOTHING
        assert page.evaluate(KEPT) == []


def test_suggestions_and_texts_are_those_of_the_model_that_has_learned(page, model, tmp_path):
    type_in(page, "To ")
    before = suggested(page)
    page.click("#clear")
    teach(page, 4 * SENTENCE)
    file = learned_file(page, tmp_path)
    assert file.name == "char.learned"
    sampler = sampler_of(model, file)
    assert sampler.learned_tokens == len(4 * SENTENCE) - 1
    assert (
        re.sub("kept as .*", "", sentence(page)) == f"Learned from {sampler.learned_tokens} characters that you typed, "
    )
    fill_in(page, "To ", seed=5, max_tokens=60)
    assert suggested(page) == [one.text for one in sampler.suggest("To ")] != before
    page.click("#write")
    expected = str(sampler.sample("To ", seed=5, max_tokens=60))
    assert written(page) == "To " + expected != "To " + str(LiteRTSampler(model).sample("To ", seed=5, max_tokens=60))


def test_a_sentence_is_learned_once_as_it_was_finished(page):
    teach(page)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Backspace")
    page.keyboard.insert_text(" that is!")
    page.keyboard.press("End")
    page.keyboard.insert_text("That is the question")
    pause(page)
    wait_until_learned(page, len(SENTENCE) - 1)
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+Shift+z")
    page.keyboard.insert_text(".\n")
    pause(page)
    wait_until_learned(page, len(SENTENCE) - 1)


def test_what_the_model_wrote_and_what_was_pasted_is_not_learned(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("text => navigator.clipboard.writeText(text)", SENTENCE)
    page.focus("#text")
    page.keyboard.press("Control+v")
    wait_for(lambda: page.input_value("#text") == SENTENCE)
    fill_in(page, SENTENCE, seed=3, max_tokens=300)
    page.click("#write")
    written(page)
    type_in(page, ".\n")
    pause(page)
    assert sentence(page) == NOTHING


def test_a_suggestion_that_was_tapped_is_the_users(page):
    type_in(page, "To ")
    wait_for_suggestions(page)
    page.click("#suggestions button")
    page.keyboard.insert_text("be.\n")
    wait_for(lambda: page.input_value("#text").endswith("be.\n"))
    wait_until_learned(page, len(page.input_value("#text")))


def test_what_it_learned_helps_and_the_page_says_so(page):
    for _ in range(5):
        text = page.input_value("#text") + 4 * SENTENCE
        type_in(page, 4 * SENTENCE)
        page.wait_for_selector(f"#learned_sentence:has-text('Learned from {len(text) // 88 * 87} ')", timeout=60_000)
    assert re.search(r"Your last sentences surprised the model [1-9]\d?% less, thanks to", sentence(page))


def test_a_model_of_lines_learns_whole_lines(small_tflite, litert, chromium, tmp_path):
    model = small_tflite(learn=True, by_line=True)
    with served_page(model, litert) as address, opened(chromium, address, **DESKTOP) as page:
        wait_until_ready(page)
        turn_on(page)
        type_in(page, "To be. That is not\nThat is the ")
        wait_until_learned(page, len("To be. That is not") + 1)  # and the end of the line
        known = LiteRTSampler(model)
        report = known.learn("To be. That is not\n")
        assert sampler_of(model, learned_file(page, tmp_path)).learned_tokens == report.tokens


def test_the_pages_own_model_can_learn(litert, chromium):
    with served_page(None, litert) as address, opened(chromium, address, **DESKTOP) as page:
        wait_until_ready(page)
        turn_on(page)
        type_in(page, "My lord, I will come to you in the morning. ")
        page.wait_for_selector("#learned_sentence:has-text('Learned from 12 words and signs')")


# ---- writing meanwhile ----


# Both at once: on a busy machine, the pause in which the model learns could lie between them.
TYPE_AND_WRITE = """text => {
  document.getElementById("text").focus();
  document.execCommand("insertText", false, text);
  document.getElementById("write").click();
}"""


def test_the_model_learns_only_when_nothing_is_written(page):
    fill_in(page, "", seed=3, max_tokens=10**6, top_k=3)
    page.evaluate(TYPE_AND_WRITE, SENTENCE)
    page.wait_for_selector("#write:has-text('Stop')")
    pause(page)
    assert sentence(page) == NOTHING
    page.click("#write")
    page.wait_for_selector("#write:has-text('Continue')")
    pause(page)
    assert sentence(page) == NOTHING  # It may go on.
    page.click("#write")
    page.wait_for_selector("#write:has-text('Stop')")
    page.click("#write")
    page.wait_for_selector("#write:has-text('Continue')")
    page.keyboard.press("Tab")
    page.focus("#text")
    page.keyboard.press("Control+End")
    page.keyboard.insert_text("x")
    wait_until_learned(page, len(SENTENCE) - 1)
    page.keyboard.press("Control+z")
    assert page.text_content("#write") == "Write"  # The model that has learned begins another text.
    assert page.is_hidden("#error")


# Writes as soon as the model begins to learn.
WRITE_AT_ONCE = """
const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message, ...rest) {
  post.call(this, message, ...rest);
  if (message.method === "learn") document.getElementById("write").click();
};
"""


def test_a_text_that_begins_while_the_model_learns_is_of_the_model_that_has_learned(page, model, tmp_path):
    fill_in(page, "", seed=5, max_tokens=60)
    page.evaluate(f"() => {{ {WRITE_AT_ONCE} }}")
    type_in(page, SENTENCE)
    text = written(page)
    assert page.is_hidden("#error")
    wait_until_learned(page, len(SENTENCE) - 1)
    sampler = sampler_of(model, learned_file(page, tmp_path))
    assert text == SENTENCE + str(sampler.sample(SENTENCE, seed=5, max_tokens=60))


# ---- links ----


@contextlib.contextmanager
def shared_link(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("() => { delete Navigator.prototype.share; }")  # A link is copied then.
    page.click("#share")
    page.wait_for_selector("#status:has-text('is copied')")
    yield page.evaluate("() => navigator.clipboard.readText()")


def test_a_link_has_the_text_itself_if_a_model_wrote_it_that_has_learned(page):
    fill_in(page, "To be", seed=5, max_tokens=20)
    page.click("#write")
    written(page)
    with shared_link(page) as link:
        assert "prompt=To+be&" in link
        assert "&max=20&" in link
    page.click("#clear")
    teach(page)
    fill_in(page, "To be", seed=5, max_tokens=20)
    page.click("#write")
    text = written(page)
    with shared_link(page) as link:
        assert "others’ models have not learned from you" in page.text_content("#status")
        assert "&max=0&" in link
    page.goto("about:blank")
    page.goto(link)
    wait_until_open(page)
    assert page.input_value("#text") == text
    assert page.is_hidden("#error")


def test_a_link_says_if_the_readers_model_has_learned(page, address):
    fill_in(page, "To be", seed=5, max_tokens=20)
    page.click("#write")
    written(page)
    with shared_link(page) as link:
        page.click("#clear")
        teach(page)
        page.goto("about:blank")
        page.goto(link)
        page.wait_for_selector("#error:has-text('Your model has learned from you')")


# ---- accessibility ----


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "screen", [{**PHONE, "viewport": {"width": 360, "height": 640}}, DESKTOP], ids=["phone", "desktop"]
)
def test_learning_is_accessible_according_to_axe(screen, scheme, address, litert, chromium):
    with opened(chromium, address, **screen, color_scheme=scheme, bypass_csp=True) as page:

        def check(state):
            assert (state, violations(page, litert)) == (state, [])
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), state
            for box in page.locator("#learned button:visible").all():
                assert box.bounding_box()["height"] >= 24

        wait_until_ready(page)
        show_more(page)
        check("off")
        turn_on(page)
        check("on")
        teach(page)
        check("learned")
        page.click("#forget")
        page.wait_for_selector("#unforget:focus")
        check("forgotten")


def test_the_keyboard_reaches_the_switch_and_the_buttons(page):
    teach(page)
    page.focus("#learn")
    page.keyboard.press("Space")
    assert not page.is_checked("#learn")
    found = []
    for _ in range(3):
        page.keyboard.press("Tab")
        found.append(page.evaluate("() => document.activeElement.id"))
    assert found == ["forget", "save_learned", "open_learned"]
    switch = page.get_by_role("switch", name="Learn from what I write")
    assert "stays in this browser" in page.text_content(f"#{switch.get_attribute('aria-describedby')}")
