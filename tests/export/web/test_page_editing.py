"""The page of export/web as a text that a user and a model write together, in Chromium."""

import pytest
from browser import DESKTOP, PHONE, opened, wait_for
from next_tokens import name_of, next_tokens, percent
from page_actions import begin_to_write, fill_in, show_more, wait_for_suggestions, wait_until_ready, written
from sites import served_page

from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite.page_files import page_folder


def labels(page, selector):
    return page.eval_on_selector_all(selector, "all => all.map((one) => [...one.children].map((it) => it.textContent))")


def type_in(page, text):
    page.focus("#text")
    page.keyboard.type(text)


# ---- the first seconds ----


def test_it_has_written_before_the_user_is_asked_and_a_prompt_begins_another_text(page, model):
    text = page.input_value("#text")
    assert len([line for line in text.split("\n") if line.strip()]) <= 4
    assert text
    prompts = [it.text for it in LiteRTSampler(model).suggest("\n", 3)]
    assert page.eval_on_selector_all("#prompts button", "all => all.map((one) => one.textContent)") == prompts
    page.locator("#prompts button").first.tap()
    assert written(page).startswith(prompts[0])
    page.click("#undo")
    assert page.input_value("#text") == text


def test_who_types_while_it_writes_is_not_disturbed(litert, chromium, model):
    with (
        served_page(model, litert) as address,
        opened(chromium, address, **PHONE, reduced_motion="no-preference") as page,
    ):
        wait_until_ready(page)
        fill_in(page, "To be", seed=3, max_tokens=10**6, top_k=3)
        begin_to_write(page)
        type_in(page, "Q")
        page.wait_for_selector("#write:has-text('Write')")
        text = page.input_value("#text")
        page.wait_for_timeout(300)
        assert page.input_value("#text") == text
        assert text.endswith("Q")
        assert text.startswith("To be")


# ---- suggestions ----


def test_a_suggestion_shows_its_probability_and_a_tap_inserts_it(page, model):
    sampler = LiteRTSampler(model)
    for text in ("To be", "To be,"):
        page.fill("#text", text)
        wait_for_suggestions(page)
        expected = sampler.suggest(text, 3)
        found = [it for it in labels(page, "#suggestions button") if it[0]]
        assert found == [[it.text, percent(it.probability)] for it in expected]
    page.locator("#suggestions button").first.tap()
    assert page.input_value("#text") == "To be," + expected[0].insert + " "
    assert page.evaluate("document.activeElement.id") == "text"  # so that a phone's keyboard stays


def test_what_is_typed_after_a_suggestion_takes_the_place_of_its_space(page):
    for typed, expected in ((",", ","), (" ", " "), ("\n", "\n"), ("a", " a")):
        page.fill("#text", "To b")
        wait_for_suggestions(page)
        page.focus("#text")
        page.locator("#suggestions button").first.tap()
        word = page.input_value("#text").rstrip(" ")
        page.keyboard.type(typed)
        assert page.input_value("#text") == word + expected


def test_suggestions_are_those_at_the_caret_and_inserted_there(page, model):
    page.fill("#text", "To b, or not")
    page.focus("#text")
    page.evaluate("document.getElementById('text').setSelectionRange(4, 4)")
    (first, *_) = LiteRTSampler(model).suggest("To b", 3)
    page.wait_for_selector(f"#suggestions button:has-text('{first.text}')")
    wait_for_suggestions(page)
    page.locator("#suggestions button").first.tap()
    assert page.input_value("#text") == f"To b{first.insert} , or not"
    assert page.evaluate("document.getElementById('text').selectionStart") == 4 + len(first.insert) + 1


def test_write_takes_back_the_space_of_a_suggestion(page, model):
    fill_in(page, "To b", seed=5, max_tokens=30)
    wait_for_suggestions(page)
    page.locator("#suggestions button").first.tap()
    prompt = page.input_value("#text").removesuffix(" ")
    page.click("#write")
    assert written(page) == prompt + LiteRTSampler(model).sample(prompt, seed=5, max_tokens=30)


SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  const name = ({ node }) => node?.id || node?.nodeName;
  for (const { value, sources } of list.getEntries()) shifts.push([value, sources.map(name)]);
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_moves_when_text_and_suggestions_arrive(screen, litert, chromium, model):
    with (
        served_page(model, litert) as address,
        opened(chromium, address, **screen, reduced_motion="no-preference") as page,
    ):
        page.context.add_init_script(SHIFTS)
        page.reload()
        wait_until_ready(page)
        fill_in(page, "", seed=5, max_tokens=300)
        page.click("#open_more")
        page.wait_for_timeout(700)  # What moves at once after a click does so on purpose.
        page.evaluate("shifts.length = 0")
        for one in "To be, or":
            type_in(page, one)
            wait_for_suggestions(page)
        page.keyboard.press("Control+Enter")
        written(page)
        wait_for_suggestions(page)
        page.wait_for_timeout(700)
        assert page.evaluate("shifts") == []


# ---- the text ----

TEXTS = [
    "",
    "a\n",
    "\n\n",
    "word " * 80,
    "Donaudampfschifffahrtsgesellschaft" * 9,
    "tab\tand  two spaces \n" * 5,
    "שלום עולם " * 20,
    "漢字かな" * 40,
    "fi ffi 🙂 é —" * 12,
    "one line\n" * 30 + "and a long one " * 20 + "\n\n",
    "א\nabc\nא ב\n\tc\n",
    "a\u2028b\u2029c\x0bd\x0ce\x85f",
]


@pytest.mark.parametrize("width", [360, 700, 1280])
def test_the_text_and_what_lies_behind_it_break_their_lines_alike(width, litert, chromium, model):
    measures = """() => {
      const [text, backdrop] = ["text", "backdrop"].map((id) => document.getElementById(id));
      return [text.scrollHeight, text.clientHeight, text.clientWidth, backdrop.clientWidth];
    }"""
    with (
        served_page(model, litert) as address,
        opened(chromium, address, viewport={"width": width, "height": 500}) as page,
    ):
        wait_until_ready(page)
        # Without its own height, the field has that of its text.
        page.evaluate("document.getElementById('sheet').style.flex = 'none'")
        for text in TEXTS:
            page.fill("#text", text)
            height, inside, *widths = page.evaluate(measures)
            assert height == inside, text
            assert widths[0] == widths[1]
            page.evaluate("document.getElementById('text').style.height = '0'")
            alone = page.evaluate(measures)[0]
            page.evaluate("document.getElementById('text').style.height = ''")
            assert alone == height, text


def test_a_text_from_right_to_left_begins_at_the_right(page):
    page.fill("#text", "שלום")
    left = page.eval_on_selector("#backdrop span", "one => one.getBoundingClientRect().left")
    assert left > 195
    assert page.evaluate("getComputedStyle(document.getElementById('text')).direction") == "rtl"


def test_undo_and_redo_cover_every_change(page):
    fill_in(page, "", seed=5, max_tokens=30)
    texts = [page.input_value("#text")]

    def then(act):
        act()
        texts.append(page.input_value("#text"))

    then(lambda: type_in(page, "To b"))
    wait_for_suggestions(page)
    then(lambda: page.locator("#suggestions button").first.tap())
    then(lambda: (page.click("#write"), written(page)))
    page.click("#again")
    wait_for(lambda: page.input_value("#text") != texts[-1])
    then(lambda: written(page))
    then(lambda: page.click("#clear"))
    then(lambda: type_in(page, "Ω"))
    page.wait_for_selector("#unknown button")
    then(lambda: page.click("#unknown button"))
    assert len(set(texts)) == len(texts) - 2  # Three of them are empty.
    for text in reversed(texts[:-1]):
        page.click("#undo")
        if page.input_value("#text") != text:
            page.click("#undo")  # “To ” and “b” were typed, two words.
        assert page.input_value("#text") == text
    page.focus("#text")
    for text in texts[1:]:
        page.keyboard.press("Control+Shift+Z")
        if page.input_value("#text") != text:
            page.keyboard.press("Control+y")
        assert page.input_value("#text") == text
    page.keyboard.press("Control+z")
    assert page.input_value("#text") == texts[-2]


def test_try_again_replaces_the_last_text_by_that_of_another_seed(page, model):
    fill_in(page, "To be", seed=5, max_tokens=30)
    page.click("#write")
    written(page)
    page.click("#again")
    wait_for(lambda: page.input_value("#seed") != "5")
    text = written(page)
    seed = int(page.input_value("#seed"))
    assert text == "To be" + LiteRTSampler(model).sample("To be", seed=seed, max_tokens=30)


def test_what_the_model_does_not_know_is_skipped_and_can_be_removed(page, model):
    fill_in(page, "To 🙂be", seed=5, max_tokens=30)
    assert page.text_content("#unknown span") == "This model does not know ‘🙂’, and skips it."
    assert page.eval_on_selector_all(".unknown", "all => all.map((one) => one.textContent)") == ["🙂"]
    wait_for_suggestions(page)
    (first, *_) = LiteRTSampler(model).suggest("To be", 3)
    assert labels(page, "#suggestions button")[0] == [first.text, percent(first.probability)]
    page.click("#write")
    continuation = LiteRTSampler(model).sample("To be", seed=5, max_tokens=30)
    assert written(page) == "To 🙂be" + continuation
    page.click("#unknown button")
    assert page.input_value("#text") == "To be" + continuation
    page.wait_for_selector("#unknown", state="hidden")


def test_unknown_words_are_reported(litert, chromium, small_tflite):
    with served_page(small_tflite(level="word"), litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        page.fill("#text", "To see, or")
        page.wait_for_selector("#unknown:has-text('does not know ‘see’, and reads it as an unknown word.')")
        assert not page.is_visible("#unknown button")


# ---- alternatives ----


RECTANGLE = """([offset]) => {
  let before = 0;
  for (const { firstChild } of document.querySelectorAll("#backdrop span")) {
    if (offset < before + firstChild.length) {
      const range = document.createRange();
      range.setStart(firstChild, offset - before);
      range.setEnd(firstChild, offset - before + 1);
      const { left, right, top, bottom } = range.getBoundingClientRect();
      return [left, right, (top + bottom) / 2];
    }
    before += firstChild.length;
  }
}"""


def test_a_tap_shows_what_else_it_could_have_been_and_writing_goes_on_from_there(page, model):
    sampler = LiteRTSampler(model)
    fill_in(page, "To be", seed=5, max_tokens=30, top_k=3)
    page.click("#open_more")
    page.click("#write")
    text = written(page)
    left, right, middle = page.evaluate(RECTANGLE, [12])
    for x in (left + 1, right - 1):  # both halves of the character
        page.touchscreen.tap(x, middle)
        page.wait_for_selector("#alternatives", state="visible")
        shown = labels(page, "#alternatives .list button")
        expected = next_tokens(sampler, text[:12], 12)
        assert shown == [[name_of(it), percent(share)] for _, it, share in expected]
        assert page.text_content("[aria-current] span") == name_of(text[12])
        assert page.evaluate("document.activeElement.id") == "text"
        page.click("#alternatives .close")
        page.wait_for_timeout(600)  # otherwise the next tap would be the second one of a double tap
    page.touchscreen.tap(left + 1, middle)
    index, other = next((index, it) for index, (_, it, _) in enumerate(expected) if it not in (text[12], ""))
    page.locator("#alternatives .list button").nth(index).tap()
    prompt = text[:12] + other
    wait_for(lambda: page.input_value("#text").startswith(prompt))
    assert written(page) == prompt + sampler.sample(prompt, seed=5, max_tokens=30, top_k=3)
    page.click("#undo")
    assert page.input_value("#text") == text


def test_alternatives_do_not_disturb_typing_and_have_a_key(page):
    fill_in(page, "To be", seed=5, max_tokens=30, top_k=3)
    page.click("#open_more")
    page.click("#write")
    text = written(page)
    page.focus("#text")
    page.evaluate("document.getElementById('text').setSelectionRange(9, 9)")
    page.keyboard.press("Alt+ArrowDown")
    page.wait_for_selector("#alternatives", state="visible")
    assert page.text_content("[aria-current] span") == name_of(text[8])
    page.keyboard.type("x")
    assert page.input_value("#text") == text[:9] + "x" + text[9:]
    assert not page.is_visible("#alternatives")
    assert page.is_visible("#suggestions")


def test_tokens_and_colours_are_shown_on_request(page):
    fill_in(page, "To be", seed=5, max_tokens=30, top_k=3)
    page.click("#write")
    written(page)
    assert "30 characters" in page.text_content("#status")
    assert page.locator("#backdrop .odd, #backdrop [class*=level]").count() == 0
    page.check("#colours")
    page.check("#show_tokens")
    assert page.locator("#backdrop .odd").count() == 15
    assert page.locator("#backdrop [class*=level]").count() == 30
    assert page.is_visible("#legend")
    page.fill("#text", "To be")
    page.click("#write")
    written(page)
    assert "30 tokens" in page.text_content("#status")


# ---- copies, links, and the next visit ----


def test_copies_are_those_of_the_text_and_of_the_seed(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    fill_in(page, "To be", seed=5, max_tokens=30)
    for button, expected in (("#copy", "To be"), ("#copy_seed", "5")):
        page.click(button)
        page.wait_for_selector("#status:has-text('copied')")
        assert page.evaluate("navigator.clipboard.readText()") == expected


def test_a_link_gives_the_same_text_to_others(page, chromium, model):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("delete Navigator.prototype.share")
    fill_in(page, "To be", seed=5, max_tokens=10**6, top_k=3)
    begin_to_write(page)
    page.click("#write")
    page.wait_for_selector("#write:has-text('Continue')")
    text = page.input_value("#text")
    page.click("#share")
    page.wait_for_selector("#status:has-text('The link is copied. It works on this device only.')")
    link = page.evaluate("navigator.clipboard.readText()")
    with opened(chromium, link) as other:
        wait_until_ready(other)
        assert other.input_value("#text") == text
        assert "#" not in other.url
        other.reload()
        other.wait_for_selector("#write:not(:disabled)")
        assert other.input_value("#text") == text


def test_a_damaged_link_is_an_error(page):
    page.evaluate("location.hash = '#prompt=a&seed=1'")
    page.wait_for_selector("#error:has-text('This link is damaged')")


def test_text_and_settings_survive_a_reload(page, model):
    fill_in(page, "To be", seed=5, max_tokens=30, top_k=3)
    page.check("#colours")
    page.click("#write")
    text = written(page)
    wait_for_suggestions(page)
    levels = page.locator("#backdrop [class*=level]").count()
    page.reload()
    page.wait_for_selector("#write:not(:disabled)")
    wait_for_suggestions(page)
    assert page.input_value("#text") == text
    assert [page.input_value(f"#{name}") for name in ("seed", "max_tokens", "top_k")] == ["5", "30", "3"]
    assert page.locator("#backdrop [class*=level]").count() == levels > 1
    page.click("#again")
    wait_for(lambda: page.input_value("#seed") != "5")
    sampler = LiteRTSampler(model)
    seed = int(page.input_value("#seed"))
    assert written(page) == "To be" + sampler.sample("To be", seed=seed, max_tokens=30, top_k=3)


def test_an_unticked_new_seed_survives_a_reload_and_a_state_that_is_not_whole_begins_anew(page):
    show_more(page)
    page.uncheck("#new_seed")
    page.reload()
    page.wait_for_selector("#write:not(:disabled)")
    assert not page.is_checked("#new_seed")
    page.add_init_script(
        """for (const [key, state] of Object.entries(localStorage)) {
          localStorage.setItem(key, JSON.stringify({ ...JSON.parse(state), view: null }));
        }"""
    )
    page.reload()
    wait_until_ready(page)
    assert page.is_checked("#new_seed")


def test_continue_requires_valid_settings_and_a_wrong_one_is_not_kept(page):
    fill_in(page, "To be", seed=3, max_tokens=10**6, top_k=3)
    begin_to_write(page)
    page.click("#write")
    page.wait_for_selector("#write:has-text('Continue')")
    text = page.input_value("#text")
    page.fill("#temperature", "-1")
    page.click("#write")
    page.wait_for_timeout(200)
    assert page.input_value("#text") == text
    assert page.text_content("#write") == "Continue"
    page.check("#colours")  # is saved
    page.reload()
    wait_until_ready(page)
    assert page.is_checked("#colours")
    assert float(page.input_value("#temperature")) > 0


def test_write_again_writes_another_line(litert, chromium, small_tflite):
    sampling = {"bias": {"<eos>": 4.0}}
    lines = small_tflite(by_line=True, sampling=sampling)
    with served_page(lines, litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        show_more(page)
        page.uncheck("#new_seed")
        page.fill("#temperature", "1")
        page.fill("#text", "To")
        page.fill("#seed", "5")
        page.click("#write")
        text = written(page)
        sampler = LiteRTSampler(lines)
        assert text == "To" + sampler.sample("To", seed=5)
        assert page.text_content("#write") == "Write again"
        page.fill("#seed", "6")
        page.click("#write")
        wait_for(lambda: page.input_value("#text") != text)
        assert written(page) == text + "\n" + sampler.sample("", seed=6)
        page.click("#undo")
        assert page.input_value("#text") == text


def test_the_page_opens_with_its_own_model_and_has_written_three_lines(litert, chromium):
    own = LiteRTSampler(page_folder() / "models/own/shakespeare.tflite")
    with served_page(None, litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        page.wait_for_selector("#status:has-text('Written on your device')")
        prompts = page.eval_on_selector_all("#prompts button", "all => all.map((one) => one.textContent)")
        assert prompts == ["ROMEO:", "To be, or not to be", "My lord,"]
        text = page.input_value("#text")
        assert page.text_content("#model") == "Shakespeare"
        assert page.input_value("#temperature") == "0.6"
        assert ("JULIET:\n" + own.sample("JULIET:\n", seed=2)).startswith(text)
        assert len([line for line in text.splitlines() if line.strip()]) == 4
        # After a whole word of the model the next word is suggested, with the space before it.
        page.evaluate("() => document.getElementById('text').focus()")
        whole = text.index(" ", len("JULIET:\n") + 4)
        page.evaluate("(at) => document.getElementById('text').setSelectionRange(at, at)", whole)
        (first, *_) = own.suggest(text[:whole] + " ", 3)
        wait_for(lambda: labels(page, "#suggestions button")[0] == [first.text, percent(first.probability)])
        page.locator("#suggestions button").first.tap()
        assert page.input_value("#text") == f"{text[:whole]} {first.text}{text[whole:]}"


def test_what_a_phone_types_fits_a_model_of_words(litert, chromium):
    own = LiteRTSampler(page_folder() / "models/own/shakespeare.tflite")
    with served_page(None, litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        text = next(text for text in ("the queen", "I am fine", "And yet") if len(own.suggest(text, 3)) < 3)
        fill_in(page, text, seed=3, max_tokens=20)
        # Few words are longer: the places that are left have the words after it.
        longer = own.suggest(text, 3)
        shown = [*longer, *own.suggest(f"{text} ", 3 - len(longer))]
        wait_for(lambda: [it[0] for it in labels(page, "#suggestions button")] == [it.text for it in shown])
        page.locator("#suggestions button").nth(2).tap()
        assert page.input_value("#text") == f"{text} {shown[2].text} "
        # A tap inside of a word would split it.
        page.evaluate("() => document.getElementById('text').focus()")
        page.evaluate("() => document.getElementById('text').setSelectionRange(2, 2)")
        wait_for(lambda: [it[0] for it in labels(page, "#suggestions button")] == ["", "", ""])
        # The words of the model bring their spaces.
        page.fill("#text", "I will ")
        page.click("#write")
        assert written(page) == "I will" + own.sample("I will", seed=3, max_tokens=20, temperature=1)
        # Phones type a curly apostrophe.
        page.fill("#text", "I’ll ")
        page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 100))")
        assert page.is_hidden("#unknown")


def test_the_link_of_a_text_that_the_user_ended_continues_nothing(litert, chromium):
    with served_page(None, litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        fill_in(page, "My own end.", seed=3, max_tokens=20)
        page.evaluate(
            "() => { navigator.share = undefined; navigator.clipboard.writeText = async (text) => (window.copied = text); }"
        )
        page.click("#share")
        wait_for(lambda: page.evaluate("() => window.copied"))
        link = page.evaluate("() => window.copied")
        assert "&max=0&" in link
        with opened(chromium, link) as other:
            other.wait_for_selector("#write:not(:disabled)")
            other.wait_for_timeout(500)
            assert other.input_value("#text") == "My own end."
