"""The page in a real Chromium, over the whole demo."""

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.conftest import AYAZ, eventually, free_port

pytestmark = pytest.mark.system
BUSES = 3
# AYAZ_SCREENSHOTS=docs/images makes the README's pictures anew.
PICTURES = os.environ.get("AYAZ_SCREENSHOTS")


@pytest.fixture(scope="module")
def demo_url(request: pytest.FixtureRequest) -> Iterator[str]:
    url = f"http://127.0.0.1:{free_port()}"
    command = [*AYAZ, "demo", "--buses", str(BUSES), "--port", url.rsplit(":", 1)[1]]
    environment = os.environ | {"BROWSER": "true"}  # webbrowser then opens nothing
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: answers(url), 60)
            yield url
        finally:
            process.send_signal(2)
            _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said, said


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def visit(chromium_path: str) -> Iterator[Callable[..., Page]]:
    """Opens a page of a given size; at the end: no error in the console, nothing fetched from outside."""
    troubles: list[str] = []

    def request(one: Any) -> None:
        if not one.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
            troubles.append(f"fetched from outside: {one.url}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])

        def open_page(url: str, width: int = 1280, height: int = 800, scheme: Any = "light") -> Page:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.on("request", request)
            page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda e: troubles.append(str(e)))
            page.goto(url)
            return page

        yield open_page
        browser.close()
    assert troubles == []


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def test_fleet_shows_the_buses_and_their_numbers_change(demo_url: str, visit: Callable[..., Page]) -> None:
    page = visit(demo_url)
    expect(page.locator(".ayaz-card")).to_have_count(BUSES, timeout=30_000)
    expect(page.get_by_text(f"{BUSES} buses, {BUSES} online")).to_be_visible(timeout=30_000)
    for n in range(BUSES):
        card = page.locator(f'[data-bus="bus-{n + 1:03d}"]')
        expect(card.locator(".ayaz-soc")).to_contain_text("%", timeout=30_000)
    driving = page.locator('[data-bus="bus-001"]')
    before = driving.inner_text()
    expect(driving).not_to_have_text(before, timeout=20_000)
    numbers = driving.locator(".ayaz-number").all_inner_texts()
    page.wait_for_timeout(6000)
    assert driving.locator(".ayaz-number").all_inner_texts() != numbers
    picture(page, "fleet")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "light"), (1920, "dark")])
def test_bus_page_draws_its_plots(demo_url: str, visit: Callable[..., Page], width: int, scheme: str) -> None:
    page = visit(demo_url, width, 1240, scheme)
    page.locator('[data-bus="bus-001"]').click(timeout=30_000)
    page.wait_for_url("**/bus/demo/bus-001")
    expect(page.locator("[_echarts_instance_]")).to_have_count(4, timeout=20_000)
    # A plot that draws nothing is one plain colour; these have lines and cells.
    page.wait_for_function(
        """() => [...document.querySelectorAll('[_echarts_instance_]')].every(
            plot => [...plot.querySelectorAll('canvas')].some(c => {
                const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, seen = new Set();
                for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
                return seen.size > 20; }))""",
        timeout=30_000,
    )
    expect(page.locator("[data-opinion]")).to_contain_text("of the cells' range", timeout=20_000)
    expect(page.locator("[data-events]")).to_contain_text("Events")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # no sideways scrolling
    dark = page.evaluate("document.body.classList.contains('body--dark')")
    assert dark == (scheme == "dark")
    if width == 1280:
        picture(page, "bus")


def test_a_bus_that_was_never_heard(demo_url: str, visit: Callable[..., Page]) -> None:
    page = visit(f"{demo_url}/bus/demo/ghost")
    expect(page.get_by_text("No bus demo/ghost has ever been heard.")).to_be_visible()
