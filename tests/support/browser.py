"""Debian's Chromium, driven by Playwright."""

import contextlib
import shutil

import pytest

ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera
    "--use-fake-ui-for-media-stream",  # that is allowed
)


@contextlib.contextmanager
def chromium():
    """A browser; the test is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium isn't installed (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


RECORDER = """
    window.sentForms = [];
    const passOn = window.fetch;
    window.fetch = (...values) => {
        if (values[1]?.body instanceof FormData) window.sentForms.push(values[1].body);
        return passOn(...values);
    };
"""  # for `add_init_script`: browsers' own logs leave files out


def last_form(page):
    """The form that the page sent last, by the fields' names: bytes."""
    form = page.evaluate("""async () => {
        const form = {};
        for (const [name, value] of window.sentForms.at(-1)) {
            form[name] = [...new Uint8Array(await new Response(value).arrayBuffer())];
        }
        return form;
    }""")
    return {name: bytes(values) for name, values in form.items()}


def until(page, expression, timeout=60_000):
    """Wait until an expression holds; the page's policy doesn't let it evaluate one itself."""
    for _ in range(timeout // 50):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"it never came true that {expression}")
