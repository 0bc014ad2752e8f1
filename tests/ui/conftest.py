"""A browser, and our server with a tiny model; both start once."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import videollama2
from videollama2.serve.app import create_app
from videollama2.serve.running import in_thread
from videollama2.serve.settings import ServeSettings

from .. import tiny

BROWSER = os.environ.get("VIDEOLLAMA2_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
WORD, TOKENS = "a", 24  # of every answer
SWITCHES = [
    "--no-sandbox",  # in a container there is often none; the pages are our own
    "--disable-gpu",
    "--use-fake-device-for-media-stream",  # a camera and a microphone that are always there
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; if it is not installed, these tests are skipped with a reason."""
    if find_spec("playwright") is None:
        pytest.skip("the page is tested in a browser: pip install playwright")
    if BROWSER is None:
        pytest.skip("the page is tested in Chromium, and there is none: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=SWITCHES)
        yield started
        started.close()


@dataclass
class Server:
    """A running server.

    Attributes:
        pause: seconds that the model waits before every step.
    """

    url: str
    pause: list[float] = field(default_factory=lambda: [0.0])


@pytest.fixture(scope="session")
def server(tiny_folder: Path) -> Iterator[Server]:
    """Our server over real HTTP. Its model is real, but repeats WORD."""
    engine = videollama2.load(tiny_folder, device="cpu", dtype="float32")
    word = engine.processor.tokenizer(WORD)["input_ids"]
    assert len(word) == 1
    pause = [0.0]
    engine.model.model.register_forward_pre_hook(lambda *_: time.sleep(pause[0]))
    engine.model.lm_head.register_forward_hook(lambda *called: called[-1].index_fill(-1, torch.tensor(word), 1e4))
    settings = ServeSettings(shutdown_seconds=5, default_tokens=TOKENS)
    with in_thread(create_app(engine, settings), settings) as (url, _):
        yield Server(url, pause)


@dataclass
class Visit:
    """An open page, and a record of what happened on it.

    Attributes:
        asked: bodies of the questions that were sent. uploads: how many files were. requests: every address.
        complaints: errors and warnings of the browser's console.
    """

    page: Any
    url: str
    asked: list[Any] = field(default_factory=list)
    uploads: int = 0
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Load the page, and clear the record."""
        for kept in (self.asked, self.requests, self.complaints):
            kept.clear()
        self.uploads = 0
        self.page.goto(self.url)
        self.page.wait_for_selector('#server[data-state="well"]')

    def choose(self, *files: Any) -> None:
        """Choose a clip, and wait until it is uploaded."""
        self.page.set_input_files("#file", files)
        self.page.wait_for_selector("#ask:not([disabled])")

    def ask(self, question: str) -> Any:
        """Ask, and wait for the end of the answer; returns its turn."""
        before = self.page.locator(".turn").count()
        self.page.fill("#question", question)
        self.page.press("#question", "Enter")
        turn = self.page.locator(".turn").nth(before)
        turn.locator(".answer:not([aria-busy])").wait_for()
        return turn

    def pictures(self, turn: Any, number: int) -> Any:
        """The frames of a receipt, once `number` of them are painted."""
        turn.locator(f".frames li:nth-child({number}) canvas").wait_for()
        return turn.locator(".frames canvas")


DESK = {"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce"}


@contextlib.contextmanager
def visiting(browser: Any, server: Server, **context: Any) -> Iterator[Visit]:
    """A page in its own window, with a record of what happens on it."""
    opened = browser.new_context(**{**DESK, **context})
    opened.set_default_timeout(30_000)
    visit = Visit(opened.new_page(), server.url)

    def seen(request: Any) -> None:
        visit.requests.append(request.url)
        visit.uploads += request.url.endswith("/v1/files")
        if request.url.endswith("/completions"):
            visit.asked.append(request.post_data_json)

    visit.page.on("request", seen)
    visit.page.on(
        "console", lambda said: visit.complaints.append(said.text) if said.type in ("error", "warning") else 0
    )
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.begin()
    yield visit
    opened.close()


@pytest.fixture(scope="session")
def window(browser: Any, server: Server) -> Iterator[Visit]:
    with visiting(browser, server) as opened:
        yield opened


@pytest.fixture
def visit(window: Visit, server: Server) -> Iterator[Visit]:
    """The page, freshly loaded; a new window per test would be slow."""
    window.begin()
    yield window
    window.page.unroute_all()
    server.pause[0] = 0.0


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds that Chromium plays, with a tone in the last two."""
    sound = np.concatenate([np.zeros(32000, np.float32), tiny.tone(2.0)])
    return tiny.write_clip(tmp_path_factory.mktemp("clips") / "four.mp4", frames=40, sound=sound, codec="libx264")
