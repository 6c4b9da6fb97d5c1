"""The page for those who do not see, do not use a mouse, have a small screen, or want it dark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edge_sr.bundle import Bundle

pytest.importorskip("tests.edge_sr.service.browser")
pytest.importorskip("axe_playwright_python", reason="axe-core is not installed (extra: page-check)")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.edge_sr.service.browser import Served, Watched, await_result, choose, chromium, opened_page, served
from tests.edge_sr.service.rig import picture

pytestmark = pytest.mark.browser

NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1600, "height": 1000}
FOCUS = "document.activeElement.id || document.activeElement.textContent"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def service(opened: Bundle) -> Iterator[Served]:
    with served(opened) as found:
        yield found


def violations(page: Page) -> list[str]:
    """What axe-core finds, with where it finds it."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


def fill(watched: Watched) -> None:
    """Everything that the page can show: settings, a failure, a result with maps, legends, regions."""
    page = watched.page
    watched.refused.add(422)
    page.get_by_text("Settings:").click()
    page.get_by_label("Samples").fill("3")
    choose(page, ("notes.txt", b"no image"))
    page.get_by_role("alert").filter(has_text="notes.txt").wait_for()
    choose(page, ("scan.png", picture()))
    await_result(page)
    page.get_by_label("Left", exact=True).select_option("change")
    page.get_by_label("Right", exact=True).select_option("uncertainty")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_axe_finds_nothing_to_object_to(browser: Browser, service: Served, scheme: Any, size: Any) -> None:
    with opened_page(browser, service.url, color_scheme=scheme, viewport=size) as watched:
        page = watched.page
        expect(page.locator("#served")).to_contain_text("ready")
        assert violations(page) == []
        fill(watched)
        assert violations(page) == []
        page.get_by_role("button", name="notes.txt", exact=True).click()
        page.get_by_role("alert").filter(has_text="notes.txt").wait_for()
        assert violations(page) == []


@pytest.mark.parametrize("width", [320, 360, 768, 1024, 1600])
def test_nothing_lies_beyond_the_side_of_the_screen(browser: Browser, service: Served, width: int) -> None:
    with opened_page(browser, service.url, viewport={"width": width, "height": 740}) as watched:
        fill(watched)
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_banner_stays_in_sight(browser: Browser, service: Served) -> None:
    with opened_page(browser, service.url, viewport=NARROW) as watched:
        fill(watched)
        banner = watched.page.get_by_role("complementary", name="Intended use")
        watched.page.locator("#facts-body > :last-child").scroll_into_view_if_needed()
        expect(banner).to_be_in_viewport(ratio=1)
        expect(banner).to_contain_text("Not for diagnosis")


def test_the_keyboard_goes_through_the_page_in_the_order_in_which_it_is_read(
    browser: Browser, service: Served
) -> None:
    with opened_page(browser, service.url, viewport=WIDE) as watched:
        page = watched.page
        choose(page, ("scan.png", picture()))
        await_result(page)
        seen = []
        for _ in range(40):
            page.keyboard.press("Tab")
            seen.append(page.evaluate(FOCUS))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none" or (
                seen[-1] == "files"  # hidden inside its label, which shows the focus for it
            )
            if seen[-1] == "Download PNG":
                break
        wanted = ["Skip to the image", "theme", "files", "scan.png", "left", "right", "zoom-in"]
        wanted += ["squares", "stage", "divider", "level", "width", "window-auto", "Download PNG"]
        assert [name for name in seen if name in wanted] == wanted


def test_a_result_is_reached_without_a_mouse(browser: Browser, service: Served) -> None:
    with opened_page(browser, service.url, viewport=WIDE) as watched:
        page = watched.page
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#viewer"
        page.get_by_label("Choose images").focus()
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files([{"name": "a.png", "mimeType": "", "buffer": picture()}])
        await_result(page)


def test_what_happens_is_told_to_those_who_listen(browser: Browser, service: Served) -> None:
    with opened_page(browser, service.url, viewport=WIDE) as watched:
        page = watched.page
        choose(page, ("scan.png", picture()))
        await_result(page)
        expect(page.locator("#status[role=status]")).to_have_text("scan.png: done, 96 by 80 pixels.")
        canvas = page.get_by_role("img", name="Left: Input pixels. Right: edge-sr. 96 by 80 pixels.")
        expect(canvas).to_be_visible()


def test_the_theme_follows_the_system_until_it_is_chosen_and_is_then_remembered(
    browser: Browser, service: Served
) -> None:
    def paper(page: Page) -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    with opened_page(browser, service.url, color_scheme="dark") as watched:
        page = watched.page
        dark = paper(page)
        page.emulate_media(color_scheme="light")
        light = paper(page)
        assert dark != light
        page.get_by_role("button", name="Theme: system").click()
        page.get_by_role("button", name="Theme: light").click()
        assert paper(page) == dark
        page.reload()
        expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
        assert paper(page) == dark


def test_nothing_moves_by_itself_for_those_who_do_not_want_it(browser: Browser, service: Served) -> None:
    with opened_page(browser, service.url, reduced_motion="reduce") as watched:
        moving = watched.page.evaluate(
            """() => [...document.querySelectorAll("*")].map((element) => getComputedStyle(element))
                .filter((style) => parseFloat(style.transitionDuration) || style.animationName !== "none")
                .length"""
        )
        assert moving == 0
