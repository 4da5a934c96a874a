"""A page of export/web that is open in Chromium, and what a user does there."""

import contextlib
import time

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}


@contextlib.contextmanager
def opened(browser, address, **screen):
    """Opens a page; requires that it requests only its own host and raises no error.

    Args:
        screen: options of the browser. Without the option `reduced_motion`, texts appear at once, which saves time.
    """
    context = browser.new_context(**{"reduced_motion": "reduce", **(screen or PHONE)})
    page = context.new_page()
    foreign, errors = [], []
    origin = "/".join(address.split("/")[:3]) + "/"
    context.on("request", lambda request: request.url.startswith(origin) or foreign.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(address)
    try:
        yield page
    finally:
        context.close()
    assert (foreign, errors) == ([], [])


def violations(page, modules):
    """Returns what axe reports about a page, whose content security policy must be bypassed."""
    if not page.evaluate("() => 'axe' in window"):
        page.add_script_tag(path=modules / "axe-core" / "axe.min.js")
    return page.evaluate("() => axe.run().then(({ violations }) => violations.map(({ id, help }) => `${id}: ${help}`))")


def wait_until_ready(page):
    """Waits until a model is open and has written its first lines."""
    page.wait_for_selector("#again:not(:disabled), #status:has-text('Written on your device')", timeout=60_000)
    page.wait_for_selector("#write:not(.stop)", timeout=60_000)
    wait_for_suggestions(page)


def wait_for_suggestions(page):
    """Waits until the suggestions are those of the current text."""
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve))")
    page.wait_for_selector("#suggestions[aria-busy='false']", state="attached")


def wait_for(condition, seconds=60):
    """Waits until a function returns something true. The page forbids what Playwright's own `wait_for_function` does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


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
    page.wait_for_selector("#status:has-text('maximum length'), #status:has-text('ended it')", timeout=60_000)
    return page.input_value("#text")
