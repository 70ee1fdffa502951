"""A headless Chromium for the tests that look at a page, driven by Playwright."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page, sync_playwright

_SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]


class Browser:
    """One Chromium; every page opens in a window without history. Scripts run under the page's own policy (CSP)."""

    def __init__(self, chromium: str) -> None:
        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(executable_path=chromium, headless=True, args=_SWITCHES)
        self.page: Page
        self.errors: list[str] = []
        """Uncaught exceptions and whatever reached the console since the page was opened."""
        self.requests: set[str] = set()
        """Every address requested since then, without fragments and without `data:` URIs."""

    def close(self) -> None:
        """End the browser and its driver."""
        self._chromium.close()
        self._playwright.stop()

    def open(self, page: Path, hash_: str = "", width: int = 1280, height: int = 860, theme: str = "light") -> None:
        """Show a page in a window of that size, and wait until it is loaded."""
        for context in self._chromium.contexts:
            context.close()
        size: Any = {"width": width, "height": height}
        colours: Any = theme
        context = self._chromium.new_context(viewport=size, color_scheme=colours, is_mobile=width < 600)
        self.page = context.new_page()
        self.errors, self.requests = [], set()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._request(request.url))
        self.page.goto(page.as_uri() + hash_, wait_until="load")

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is awaited."""
        return self.page.evaluate(script)

    def until(self, script: str) -> Any:
        """The first truthy value of the expression; polled from here, since the page's policy forbids eval within."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if value := self.evaluate(script):
                return value
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never came true: {script}")

    def press(self, *keys: str) -> None:
        """Press keys one after another, by name ("Enter") or character."""
        for key in keys:
            self.page.keyboard.press("Space" if key == " " else key)

    def click(self, x: float, y: float) -> None:
        """Click at a point of the window."""
        self.page.mouse.click(x, y)

    def _console(self, message: ConsoleMessage) -> None:
        self.errors.append(message.text)

    def _request(self, url: str) -> None:
        if not url.startswith("data:"):
            self.requests.add(url.split("#")[0])
