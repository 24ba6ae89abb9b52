"""The page of `serve` in headless Chromium: fixtures, and what stands on it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tellapart as ta
from tests.command import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.serve.conftest import Server


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Opens the page; afterwards looks that it asked nobody else and broke no policy."""
    opened: list[tuple[Page, str, list[str], list[str]]] = []

    def go(url: str = server.url, path: str = "/", **options: Any) -> Page:
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(1000 * PATIENCE)
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url + path)
        opened.append((page, url, asked, said))
        return page

    yield go
    for page, url, asked, said in opened:
        outside = [one for one in asked if not one.startswith((url, f"blob:{url}"))]
        assert not outside
        # A browser says so itself of every answer that is not good.
        assert not [text for text in said if not text.startswith("Failed to load resource")]
        page.context.close()


def rows(page: Page) -> list[dict[str, str]]:
    """What stands in the list."""
    return [
        {"name": row.locator(".name").inner_text(), "label": row.locator(".answer > :first-child").inner_text()}
        for row in page.locator("#list > li").all()
    ]


def heading(said: ta.Prediction) -> str:
    """What heads the card of an image."""
    return "Unlike anything it was taught" if said.verdict == "unlike" else said.label


def done(page: Page, count: int) -> None:
    page.get_by_text(f"{count} done", exact=True).wait_for()


def transfer(page: Page, paths: list[Path]) -> Any:
    """A DataTransfer with these files, as a drop or a paste brings."""
    data = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    return page.evaluate_handle(
        """(data) => {
            const made = new DataTransfer();
            for (const [name, text] of data) {
                const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
                made.items.add(new File([bytes], name, {type: "image/jpeg"}));
            }
            return made;
        }""",
        data,
    )
