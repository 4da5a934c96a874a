"""A page of export/web that is open in Chromium."""

import contextlib

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}


@contextlib.contextmanager
def opened(browser, address, **screen):
    """Opens a page; requires that it requests only its own host and raises no error."""
    context = browser.new_context(**(screen or PHONE))
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
