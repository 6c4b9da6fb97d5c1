"""The page in a real browser: from a dropped file to a download, by keyboard, and when things go wrong."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.bundle import Bundle
from edge_sr.image import decode_image, encode_png

pytest.importorskip("tests.edge_sr.service.browser")

from playwright.sync_api import Browser, Page, Route, expect

from tests.edge_sr.service.browser import (
    Served,
    Watched,
    await_result,
    choose,
    chromium,
    drop,
    opened_page,
    screen,
    served,
)
from tests.edge_sr.service.rig import DICOM, PATIENCE_S, PNG, eventually, picture
from tests.fakes import write_tiny_bundle

pytestmark = pytest.mark.browser
RECORD_WHAT_IS_SENT = """() => {
    const plain = window.fetch;
    window.sent = [];
    window.fetch = (path, options = {}) => {
        const parts = options.body instanceof FormData ? [...options.body.entries()] : [];
        const files = parts.map(([name, file]) => [name, file.name, file.type]);
        window.sent.push({ path: String(path), headers: { ...options.headers }, files });
        return plain(path, options);
    };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def service(opened: Bundle) -> Iterator[Served]:
    """Two slots wide: one image runs while one waits."""
    with served(opened, queue_size=1) as found:
        yield found


@pytest.fixture
def watched(browser: Browser, service: Served) -> Iterator[Watched]:
    with opened_page(browser, service.url, viewport={"width": 1400, "height": 1000}) as found:
        yield found


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


@pytest.fixture
def others() -> Iterator[ThreadPoolExecutor]:
    """Other clients of the service."""
    with ThreadPoolExecutor(4) as found:
        yield found


def post(service: Served, data: bytes, query: str = "", *, kind: str = PNG, accept: str = "*/*") -> bytes:
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=PATIENCE_S)
    try:
        headers = {"Content-Type": kind, "Accept": accept}
        connection.request("POST", f"/v1/upscale{query}", body=data, headers=headers)
        with connection.getresponse() as response:
            assert response.status == 200
            return response.read()
    finally:
        connection.close()


def hold(service: Served, others: ThreadPoolExecutor) -> Future[bytes]:
    """The device stands still on another client's image."""
    service.upscaler.go.clear()
    answer = others.submit(post, service, picture())
    service.upscaler.await_entered()
    return answer


def open_settings(page: Page, **values: str) -> None:
    page.get_by_text("Settings:").click()
    for label, value in values.items():
        page.get_by_label(label).fill(value)


def downloaded(page: Page, link: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.get_by_role("link", name=link).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def test_a_dropped_file_becomes_a_result_a_slider_and_a_download(page: Page, service: Served) -> None:
    drop(page, "scan.png", picture())
    await_result(page)
    expect(page.locator("#status[role=status]")).to_contain_text("96 by 80 pixels")
    slider = page.get_by_role("slider", name="Divider")
    expect(slider).to_have_value("50")
    assert downloaded(page, "Download PNG") == ("scan-x4.png", post(service, picture()))
    expect(page.get_by_role("link", name="Download DICOM")).to_have_count(0)


def test_the_divider_is_moved_by_the_keyboard_and_says_where_it_is(page: Page) -> None:
    choose(page, ("scan.png", picture()))
    await_result(page)
    slider = page.get_by_role("slider", name="Divider")
    slider.focus()
    for key, value in (("ArrowRight", "51"), ("Home", "0"), ("ArrowRight", "1"), ("End", "100")):
        page.keyboard.press(key)
        expect(slider).to_have_value(value)
        text = f"{value} % Input pixels, {100 - int(value)} % edge-sr"
        expect(slider).to_have_attribute("aria-valuetext", text)
    line, stage = page.locator("#line").bounding_box(), page.locator("#stage").bounding_box()
    assert line
    assert stage
    assert line["x"] == pytest.approx(stage["x"] + stage["width"], abs=2), "CSS pixels; the line is 2 wide"


def test_left_of_the_divider_is_one_layer_and_right_of_it_the_other(page: Page) -> None:
    white, black = (np.full((16, 16), value, np.uint8) for value in (255, 0))
    halves = encode_png(np.concatenate([white, black]), text={})
    choose(page, ("halves.png", halves))
    await_result(page)
    page.get_by_label("Left", exact=True).select_option("input")
    page.get_by_label("Right", exact=True).select_option("bicubic")
    page.get_by_label("Pixels as squares").check()
    page.get_by_role("button", name="Fit").click()
    assert screen(page, 0.45, 0.25) == screen(page, 0.55, 0.25) == [255, 255, 255]
    assert screen(page, 0.45, 0.75) == screen(page, 0.55, 0.75) == [0, 0, 0]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_window_tells_neighbouring_levels_apart_at_every_depth(page: Page, kind: Any) -> None:
    top = int(np.iinfo(kind).max)
    level, width = top // 2 + top // 16, top // 256 + 1
    values = np.arange(level - 4, level + 5, dtype=kind)  # nine neighbouring levels
    shown = page.evaluate(
        """async ([depth, level, width, values]) => {
            const { windowTable } = await import("/static/plane.js");
            const table = windowTable(depth, { level, width });
            return values.map((value) => table[value]);
        }""",
        [8 * np.dtype(kind).itemsize, level, width, values.tolist()],
    )
    low = level - width / 2
    wanted = [min(255, max(0, 255 * (int(value) - low) / width)) for value in values]
    assert shown == pytest.approx(wanted, abs=0.51), "rounded to the screen's levels"
    assert len(set(shown)) > 1


def test_the_sliders_change_what_is_on_the_screen(page: Page) -> None:
    choose(page, ("even.png", encode_png(np.full((16, 16), 40_000, np.uint16), text={})))
    await_result(page)
    page.get_by_label("Left", exact=True).select_option("input")
    page.get_by_role("button", name="Full range").click()
    assert screen(page, 0.45, 0.5) == [156] * 3, "40000 of 65535"
    page.get_by_role("slider", name="Level").press("Home")
    assert screen(page, 0.45, 0.5) == [255] * 3, "the window is now 32768 wide on either side of 0"
    page.get_by_role("slider", name="Level").press("End")
    page.get_by_role("slider", name="Width").press("Home")
    assert screen(page, 0.45, 0.5) == [0] * 3


def filtered(colour: int, depth: int) -> bytes:
    """A PNG of noise whose rows use every filter."""
    pictures = pytest.importorskip("tests.edge_sr.image.pictures")
    rng, channels = np.random.default_rng(depth + colour), {0: 1, 2: 3}[colour]
    rows = [bytes([y % 5]) + rng.bytes(13 * channels * depth // 8) for y in range(20)]
    found: bytes = pictures.png(13, 20, depth, colour, b"".join(rows))
    return found


@pytest.mark.parametrize("colour", [0, 2])
@pytest.mark.parametrize("depth", [8, 16])
def test_pictures_are_decoded_to_the_last_bit(page: Page, colour: int, depth: int) -> None:
    data = filtered(colour, depth)
    found = page.evaluate(
        """async (text) => {
            const { decodePng, fromBase64 } = await import("/static/png.js");
            const image = await decodePng(fromBase64(text));
            return { ...image, data: [...image.data] };
        }""",
        base64.b64encode(data).decode(),
    )
    wanted = decode_image(data, name="a").pixels
    assert (found["width"], found["height"], found["depth"]) == (13, 20, depth)
    assert np.array_equal(np.reshape(found["data"], wanted.shape), wanted)


def test_maps_are_offered_with_a_legend_where_there_is_more_than_one_sample(page: Page) -> None:
    choose(page, ("one.png", picture()))
    await_result(page)
    assert page.locator("#right option[value=uncertainty]").is_disabled()
    open_settings(page, Samples="3", Seed="7")
    choose(page, ("three.png", picture()))
    expect(page.locator("#status[role=status]")).to_contain_text("three.png: done")
    page.get_by_label("Left", exact=True).select_option("change")
    page.get_by_label("Right", exact=True).select_option("uncertainty")
    legends = page.locator("#legends figure")
    expect(legends).to_have_count(2)
    expect(legends.first).to_contain_text("Standard deviation over 3 samples, in gray levels of 255")
    expect(legends.last).to_contain_text("Change against bicubic, in gray levels of 255")
    coloured = [screen(page, x, y) for x in (0.3, 0.4, 0.6, 0.7) for y in (0.2, 0.4, 0.6, 0.8)]
    assert any(len(set(rgb)) > 1 for rgb in coloured)


def test_the_panel_says_how_the_result_was_made_and_how_far_to_trust_it(page: Page, service: Served) -> None:
    open_settings(page, Seed="18446744073709551615", Steps="3")
    choose(page, ("scan.png", picture()))
    await_result(page)
    known = json.loads(
        post(service, picture(), "?seed=18446744073709551615&steps=3", accept="application/json")
    )
    facts = page.locator("#facts")
    for text in ("18446744073709551615", "3 steps", "fake", "fp32", known["provenance"]["bundle_sha256"]):
        expect(facts).to_contain_text(text)
    expect(facts).to_contain_text(f"{known['consistency_db']:.1f} dB")
    expect(facts).to_contain_text("Not judged")  # the tiny bundle was not measured
    for stage in ("wait in queue", "encoder", "loop", "decoder", "write files", "together"):
        expect(facts.get_by_role("row", name=stage)).to_be_visible()


def test_zoom_and_place_are_those_of_both_sides_and_change_by_keys_and_buttons(page: Page) -> None:
    choose(page, ("scan.png", picture()))
    await_result(page)
    zoom, fitted = page.locator("#zoom"), page.locator("#zoom").inner_text()
    page.locator("#stage").focus()
    page.keyboard.press("+")
    assert int(zoom.inner_text().split()[0]) == pytest.approx(1.5 * int(fitted.split()[0]), abs=2), "rounded"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("0")
    expect(zoom).to_have_text(fitted)
    page.get_by_role("button", name="One pixel of the result").click()
    expect(zoom).to_have_text("100 %")
    page.get_by_role("button", name="Zoom in").click()
    expect(zoom).to_have_text("150 %")


def test_the_place_in_the_queue_is_told(page: Page, service: Served, others: ThreadPoolExecutor) -> None:
    first = hold(service, others)
    choose(page, ("scan.png", picture()))
    expect(page.locator(".job .state")).to_have_text("place 1 in the queue")
    expect(page.locator("#status[role=status]")).to_have_text("scan.png: place 1 in the queue.")
    service.upscaler.go.set()
    await_result(page)
    assert first.result()


def test_a_request_that_is_stopped_never_reaches_the_device(
    page: Page, service: Served, others: ThreadPoolExecutor
) -> None:
    first = hold(service, others)
    choose(page, ("scan.png", picture()))
    expect(page.locator(".job .state")).to_have_text("place 1 in the queue")
    page.get_by_role("button", name="Stop scan.png").click()
    expect(page.locator(".job .state")).to_have_text("stopped")
    service.upscaler.go.set()
    assert first.result()
    choose(page, ("next.png", picture()))
    await_result(page)
    assert len(service.upscaler.seeds) == 2, "the other client's, and the next one"


def test_several_files_in_a_row_all_come_back(page: Page) -> None:
    choose(page, *[(f"{name}.png", picture(height)) for name, height in (("a", 20), ("b", 24), ("c", 28))])
    for name in "abc":
        expect(page.get_by_role("button", name=f"{name}.png", exact=True)).to_be_enabled()
    page.get_by_role("button", name="c.png", exact=True).press("Enter")
    expect(page.get_by_role("button", name="c.png", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#facts")).to_contain_text("96 × 112")


def test_dicom_gives_a_derived_object_and_no_name_appears_or_is_sent(page: Page, service: Served) -> None:
    objects = pytest.importorskip("tests.edge_sr.dicom.objects")
    data = objects.encoded(objects.dx(PatientName="Grzegorzewska^Elzbieta"))
    page.evaluate(RECORD_WHAT_IS_SENT)
    choose(page, ("in.dcm", data), kind="application/dicom")
    await_result(page)
    (upload, *looks) = page.evaluate("window.sent")
    assert upload["files"] == [["file", "image", ""]], "the field, a name that says nothing, no type"
    assert "in.dcm" not in str([upload, *looks])
    assert downloaded(page, "Download DICOM") == ("in-x4.dcm", post(service, data, kind=DICOM, accept=DICOM))
    assert "Grzegorzewska" not in page.content()
    expect(page.locator("#depth")).to_contain_text("1st to 99th percentile")


def test_what_cannot_be_read_is_said_in_words(watched: Watched) -> None:
    watched.refused.add(422)
    choose(watched.page, ("notes.txt", b"no image at all"), kind="text/plain")
    alert = watched.page.get_by_role("alert").filter(has_text="notes.txt")
    expect(alert).to_contain_text("Unprocessable")
    expect(alert).to_contain_text("is none of image/png, image/jpeg, image/tiff, application/dicom")
    choose(watched.page, ("scan.png", picture()))
    await_result(watched.page)
    expect(alert).to_have_count(0)


def test_a_hint_of_the_service_is_shown(watched: Watched) -> None:
    watched.refused.add(422)
    open_settings(watched.page, Scale="17")
    choose(watched.page, ("scan.png", picture()))
    expect(watched.page.get_by_role("alert").filter(has_text="scan.png")).to_contain_text("17")


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(browser: Browser, opened: Bundle) -> None:
    with served(opened, max_bytes=2048) as service, opened_page(browser, service.url) as watched:
        expect(watched.page.locator("#served")).to_contain_text("ready")
        choose(watched.page, ("scan.png", picture(200, 200)))
        alert = watched.page.get_by_role("alert").filter(has_text="scan.png")
        expect(alert).to_contain_text("at most 2 KiB")
        assert service.upscaler.seeds == []


def test_a_full_service_is_asked_again_when_it_says_so(
    watched: Watched, service: Served, others: ThreadPoolExecutor
) -> None:
    watched.refused.add(429)
    first = hold(service, others)
    second = others.submit(post, service, picture())
    eventually(lambda: service.worker.waiting == 1)
    choose(watched.page, ("scan.png", picture()))
    expect(watched.page.locator("#status[role=status]")).to_contain_text("Trying again in")
    expect(watched.page.locator(".job .state")).to_contain_text("busy; again in")
    service.upscaler.go.set()
    await_result(watched.page)
    assert first.result() == second.result()


@pytest.mark.parametrize(
    ("label", "value", "words"),
    [
        ("Seed", "-1", "Seed: a whole number from 0 to 2⁶⁴ − 1."),
        ("Seed", "18446744073709551616", "Seed: a whole number from 0 to 2⁶⁴ − 1."),
        ("Steps", "0", "Steps: a whole number from 1 to 100."),
        ("Samples", "1.5", "Samples: a whole number from 1 to 16."),
    ],
)
def test_a_setting_that_cannot_be_is_said_before_anything_is_sent(
    page: Page, service: Served, label: str, value: str, words: str
) -> None:
    expect(page.get_by_label("Steps")).not_to_have_value("")
    open_settings(page, **{label: value})
    choose(page, ("scan.png", picture()))
    expect(page.locator("#settings-error")).to_have_text(words)
    assert service.upscaler.seeds == []


def asking_for(token: str) -> Callable[[Route], None]:
    """A service that answers only to those who have the token."""

    def answer(route: Route) -> None:
        if route.request.headers.get("authorization") == f"Bearer {token}":
            route.continue_()
            return
        problem = {
            "title": "Unauthorized",
            "status": 401,
            "detail": "the request has no token, or a wrong one",
        }
        headers = {"WWW-Authenticate": "Bearer", "Content-Type": "application/problem+json"}
        route.fulfill(status=401, headers=headers, body=json.dumps(problem))

    return answer


def test_a_token_is_asked_for_sent_and_kept_nowhere(watched: Watched) -> None:
    watched.refused.add(401)
    page = watched.page
    page.route("**/v1/**", asking_for("open sesame"))
    page.reload()
    choose(page, ("scan.png", picture()))
    page.get_by_label("Token", exact=True).fill("wrong")
    page.get_by_role("button", name="Use the token").click()
    expect(page.get_by_role("alert").filter(has_text="Access token")).to_contain_text("a wrong one")
    page.get_by_label("Token", exact=True).fill("open sesame")
    page.keyboard.press("Enter")
    await_result(page)
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert "sesame" not in kept
    assert "sesame" not in page.content()
    expect(page.locator("#token-section")).to_be_hidden()


def test_of_a_model_without_a_loop_nothing_of_a_loop_can_be_asked(browser: Browser, tmp_path: Path) -> None:
    plain = write_tiny_bundle(tmp_path / "plain", family="regression")
    with served(plain) as service, opened_page(browser, service.url) as watched:
        page = watched.page
        expect(page.locator("#settings-now")).to_have_text("one pass, ×4")
        expect(page.locator("#class")).to_be_hidden()
        for name in ("seed", "steps", "samples"):
            expect(page.locator(f"#{name}")).to_be_disabled()
        choose(page, ("a.png", picture()))
        await_result(page)
        expect(page.get_by_text("none, one pass")).to_be_attached()


def test_a_class_is_told_with_its_danger_beside_it(browser: Browser, tmp_path: Path) -> None:
    guided = write_tiny_bundle(tmp_path / "guided", family="guided")
    with served(guided) as service, opened_page(browser, service.url) as watched:
        page = watched.page
        open_settings(page)
        expect(page.get_by_text("drawn, also where the image shows none of it")).to_be_visible()
        page.locator("#class").select_option("pneumonia")
        page.locator("#guidance").fill("9")
        choose(page, ("a.png", picture()))
        expect(page.locator("#settings-error")).to_have_text("Guidance: from 0 to 8.")
        page.locator("#guidance").fill("3")
        expect(page.locator("#settings-now")).to_contain_text("told pneumonia")
        choose(page, ("a.png", picture()))
        await_result(page)
        expect(page.get_by_text("pneumonia, guidance 3")).to_be_attached()
        page.locator("#class").select_option("nothing")
        choose(page, ("b.png", picture(22)))
        expect(page.get_by_text("none, guidance 1")).to_be_attached()
