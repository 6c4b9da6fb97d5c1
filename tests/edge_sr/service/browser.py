"""A Chromium on the page of a real service whose device can be held; a violation or an error fails."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from edge_sr.bundle import Bundle

pytest.importorskip("tests.edge_sr.service.rig")
pytest.importorskip("playwright", reason="playwright is not installed (extra: page-check)")

import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from edge_sr.service.app import create_app, make_worker
from edge_sr.service.server import Server, listen
from edge_sr.service.settings import ServiceSettings
from edge_sr.service.worker import Worker
from tests.conftest import find_chromium
from tests.edge_sr.service.rig import PATIENCE_S, HeldUpscaler, eventually

PATIENCE_MS = 60_000
"""A browser on a busy machine is slow to start; nothing is measured by it."""
expect.set_options(timeout=PATIENCE_MS)
REFUSED = "Failed to load resource: the server responded with a status of"
"""What Chromium itself writes about an answer of 400 and above."""
REPORT_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
    (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class Served:
    """A service on a socket, and its device in our hands."""

    url: str
    upscaler: HeldUpscaler
    worker: Worker


@contextmanager
def served(bundle: Bundle, **changes: Any) -> Iterator[Served]:
    """A service that is ready, in a thread."""
    settings = ServiceSettings(port=0, **changes)
    upscaler = HeldUpscaler(bundle)
    worker = make_worker(lambda: upscaler, settings)
    config = uvicorn.Config(create_app(worker, settings), log_config=None, ws="none")
    server = Server(config, worker, drain_s=PATIENCE_S)
    with listen(settings) as sock:
        thread = threading.Thread(target=lambda: server.run(sockets=[sock]))
        thread.start()
        try:
            eventually(lambda: worker.state == "ready")
            upscaler.await_entered()
            upscaler.seeds.clear()
            yield Served(f"http://127.0.0.1:{sock.getsockname()[1]}", upscaler, worker)
        finally:
            upscaler.go.set()
            server.handle_exit(signal.SIGTERM, None)
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), timeout=PATIENCE_MS)
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and what it did that it must not.

    Attributes:
        page: Open at the service.
        refused: Statuses that a test provokes, of which Chromium writes to the console.
        wrong: Errors and warnings of the console, and exceptions.
    """

    page: Page
    refused: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def heard(self, message: ConsoleMessage) -> None:
        is_provoked = any(message.text.startswith(f"{REFUSED} {status}") for status in self.refused)
        if message.type in ("error", "warning") and not is_provoked:
            self.wrong.append(f"{message.type}: {message.text}")

    def check(self) -> None:
        assert self.wrong == []
        assert self.page.evaluate("window.violations") == [], "of the content security policy"


@contextmanager
def opened_page(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """The page in a context of its own, watched; it has spoken to the service."""
    context = browser.new_context(base_url=url, accept_downloads=True, **options)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(REPORT_VIOLATIONS)
    try:
        watched = Watched(context.new_page())
        watched.page.on("console", watched.heard)
        watched.page.on("pageerror", lambda error: watched.wrong.append(str(error)))
        watched.page.goto("/")
        yield watched
        watched.check()
    finally:
        context.close()


def choose(page: Page, *files: tuple[str, bytes], kind: str = "") -> None:
    """Chooses files, as a person does; `kind` is what the computer says of them."""
    given: Any = [{"name": name, "mimeType": kind, "buffer": data} for name, data in files]
    page.get_by_label("Choose images").set_input_files(given)


def drop(page: Page, name: str, data: bytes) -> None:
    """Drops a file on the page."""
    transfer = page.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name));
            return transfer;
        }""",
        [name, list(data)],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def await_result(page: Page) -> None:
    """Waits until a result is shown."""
    page.get_by_role("link", name="Download PNG").wait_for()


def screen(page: Page, x: float, y: float) -> list[int]:
    """RGB of the canvas, at a place from 0 to 1 across and down."""
    found: list[int] = page.evaluate(
        """([x, y]) => {
            const canvas = document.getElementById("canvas");
            const at = [Math.floor(x * (canvas.width - 1)), Math.floor(y * (canvas.height - 1))];
            const one = new OffscreenCanvas(1, 1).getContext("2d");  // reading the page's own slows it down
            one.drawImage(canvas, -at[0], -at[1]);
            return [...one.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        [x, y],
    )
    return found
