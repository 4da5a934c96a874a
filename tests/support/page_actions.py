"""What a user does on the page of export/web, in Chromium."""


def wait_until_ready(page):
    """Waits until a model is open and has written its first lines."""
    page.wait_for_selector("#again:not(:disabled), #status:has-text('Written on your device')", timeout=60_000)
    page.wait_for_selector("#write:not(.stop)", timeout=60_000)
    wait_for_suggestions(page)


def wait_for_suggestions(page):
    """Waits until the suggestions are those of the current text."""
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve))")
    page.wait_for_selector("#suggestions[aria-busy='false']", state="attached")


def show_more(page):
    """Opens the other settings."""
    if page.get_attribute("#open_more", "aria-expanded") == "false":
        page.click("#open_more")


def fill_in(page, prompt, seed, max_tokens, **chosen):
    """Fills in a prompt and settings, without writing yet."""
    show_more(page)
    page.uncheck("#new_seed")
    page.fill("#text", prompt)
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1, "min_p": 0, **chosen, "seed": seed, "max_tokens": max_tokens}
    for name, value in values.items():
        page.fill(f"#{name}", str(value))


def begin_to_write(page):
    """Lets the model write a long text; returns once it has begun."""
    page.click("#write")
    page.wait_for_selector("#write:has-text('Stop')")


def written(page):
    """Returns the text once the model has written all of it."""
    page.wait_for_selector("#status:has-text('Write goes on'), #status:has-text('ended it')", timeout=60_000)
    return page.input_value("#text")
