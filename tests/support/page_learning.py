"""What a user does on the page of export/web whose model learns, in Chromium."""

from page_actions import show_more, wait_for_suggestions

from keras_seq_export import LiteRTSampler

SENTENCE = "To be nobler in mind. "
NOTHING = "Nothing is learned yet."
KEPT = """async () => {
  const kept = await (await caches.open("keras_seq learned")).matchAll();
  return Promise.all(kept.map(async (one) => (await one.arrayBuffer()).byteLength));
}"""


def wait_until_open(page):
    """Waits until a model is open, on a page that has a text and therefore writes no first lines."""
    page.wait_for_selector("#write:not(:disabled):not(.stop)", timeout=60_000)
    wait_for_suggestions(page)


def turn_on(page):
    """Clears the text and turns the switch on."""
    show_more(page)
    page.fill("#text", "")
    page.check("#learn")
    assert sentence(page) == NOTHING


def sentence(page):
    """Returns what the page says about what was learned."""
    return page.text_content("#learned_sentence")


def type_in(page, text):
    """Types a text at the caret, or at the end of the text."""
    page.focus("#text")
    page.keyboard.insert_text(text)


def wait_until_learned(page, characters):
    """Waits until the model has learned from so many characters."""
    learned = f"#learned_sentence:has-text('Learned from {characters} ')"
    page.wait_for_selector(f"{learned}, #error:not([hidden])", timeout=60_000)
    assert page.text_content("#error") == ""
    wait_for_suggestions(page)


def teach(page, text=SENTENCE):
    """Types a text, and waits until the model has learned from it."""
    type_in(page, text)
    wait_until_learned(page, len(text.strip()))


def pause(page):
    """Waits longer than the page does before it learns."""
    page.wait_for_timeout(1600)


def suggested(page):
    """Returns the suggestions for the current text."""
    wait_for_suggestions(page)
    return page.locator("#suggestions button span").all_text_contents()


def learned_file(page, folder):
    """Saves a copy of what was learned; returns its path."""
    with page.expect_download() as download:
        page.click("#save_learned")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def sampler_of(model, file):
    """Returns the model of a file with what was learned."""
    sampler = LiteRTSampler(model)
    sampler.load_learned(file)
    return sampler
