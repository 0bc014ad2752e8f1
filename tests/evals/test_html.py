"""The page: whole, harmless whatever a reply says, and with nothing that is not in it."""

import base64
import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videollama2.evals.items import Outcome, Result
from videollama2.evals.report.rendering import SHOWN, page
from videollama2.evals.report.summary import summary
from videollama2.evals.report.thumbnails import HEIGHT, MAX_WIDTH, Thumbnails
from videollama2.media import Clip, open_clip

from .results import Plain, column, manifest, result

HOSTILE = "</dd></script><script>alert('x')</script><img src=x onerror=\"alert(1)\"> & ]]> --> \x00\x1b[2J\u202e\ud800"
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """What a page consists of; fails where tags don't close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, tag: str, name: str) -> list[str | None]:
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]


def made(results: list[Result], thumbnails: Thumbnails | None = None) -> str:
    found = summary(results, Plain(), manifest())
    return page(found, results, thumbnails)


def test_hostile_text_stays_text() -> None:
    bad = {
        "question": HOSTILE, "choices": (HOSTILE, "b"), "media": HOSTILE, "rule": HOSTILE, "losses": (HOSTILE,),
        "categories": {HOSTILE: HOSTILE},
    }  # fmt: skip
    results = [
        result("w" + HOSTILE, "W", **bad, reply=HOSTILE, read=HOSTILE),
        result("f" + HOSTILE, "F", **bad, error=f"{HOSTILE}: {HOSTILE}"),
        result("u" + HOSTILE, "U", **bad, reply=HOSTILE * 100),
    ]
    told = manifest(model=HOSTILE, protocol=HOSTILE)
    text = page(summary(results, Plain(), told), results, Thumbnails())
    read = Reader(text)
    assert read.tags["script"] == read.tags["img"] == 0
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    assert "".join(read.words).count("alert('x')") > 8  # it is there, to be read
    assert "\x00" not in text and "\x1b" not in text and "\u202e" not in text and "\\u202e" in text
    text.encode("utf-8")
    assert "more characters" in text


def test_the_page_loads_nothing() -> None:
    text = made(column("RWUF" * 5))
    read = Reader(text)
    assert read.tags["script"] == read.tags["link"] == read.tags["iframe"] == 0
    assert not re.search(r"@import|url\(", text)
    links = read.values("a", "href")
    assert links and all(link is not None and link.startswith("#") for link in links)
    assert set(links) <= {f"#{id}" for id in read.values("section", "id")}
    policy = read.values("meta", "content")[0] or ""
    assert policy.startswith("default-src 'none'") and "img-src data:" in policy


def test_the_page_can_be_used_by_everyone() -> None:
    mixed = [replace(r, categories={"task": str(i % 3)}) for i, r in enumerate(column("RWUF" * 5))]
    read = Reader(made([*mixed, *column("WWUF" * 5, "audio")]))
    assert read.values("html", "lang") == ["en"]
    assert read.values("meta", "name") == ["viewport"]
    assert all(read.values("svg", "aria-label")) and set(read.values("svg", "role")) == {"img"}
    assert read.tags["table"] == read.tags["thead"] > 4
    assert all(scope in ("col", "row") for scope in read.values("th", "scope"))
    assert len(read.values("th", "scope")) == read.tags["th"]
    # what scrolls can be reached with the keyboard and has a name
    scrolling = sum(value == "scroll" for value in read.values("div", "class"))
    assert scrolling == len(read.values("div", "tabindex")) == len(read.values("div", "aria-label"))
    assert "prefers-color-scheme: dark" in "".join(read.words)


def test_what_the_page_says() -> None:
    words = " ".join(Reader(made([*column("RWUF" * 5), *column("WWUF" * 5, "audio")])).words)
    for said in (
        "Plain: nano, strict setting", "25.0 %", "20 items about 20 media files", "Guessing has 50.0 %",
        "without audio",
        "exact McNemar test: p = 0.062", "Failed (5)", "Unparsable (5)", "Wrong (5)", "MediaNotFound: it is missing",
        "A kite".lower(), "weights sha256",
    ):  # fmt: skip
        assert said in words, said


def test_of_many_items_a_sample_is_shown() -> None:
    read = Reader(made(column("W" * 100 + "F" * 130 + "R")))
    assert read.tags["article"] == SHOWN[Outcome.WRONG] + SHOWN[Outcome.FAILED]
    words = " ".join(read.words)
    assert "Wrong (36 of 100)" in words and "Failed (120 of 130)" in words and "q000" in words


def test_withheld_answers_are_no_wrong_items() -> None:
    hidden = [replace(r, truth=(), outcome=Outcome.WRONG) for r in column("RRR")]
    read = Reader(made(hidden))
    assert read.tags["article"] == 0 and "There is no accuracy" in " ".join(read.words)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of frames that get brighter."""
    folder = tmp_path / "clips" / "frames"
    folder.mkdir(parents=True)
    for i in range(9):
        Image.fromarray(np.full((120, 200, 3), 25 * i, np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def test_thumbnails_are_small_pictures_of_the_medium(pictures: Path) -> None:
    thumbnails = Thumbnails(pictures.parent)
    url, seen = thumbnails.of(result("a", "W", media="frames"))
    assert url is not None and url.startswith("data:image/jpeg;base64,") and seen.startswith("frames at ")
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert picture.width <= MAX_WIDTH and picture.height <= HEIGHT and picture.width > 3 * picture.height
    row = np.asarray(picture.convert("L"))[picture.height // 2]
    assert row[5] < row[picture.width // 2] < row[-5]
    read = Reader(made([result("a", "W", media=str(pictures))], thumbnails))
    assert read.tags["img"] == 1 and (read.values("img", "alt")[0] or "").endswith(seen)


def test_a_medium_is_opened_once_and_failures_are_told(tmp_path: Path, pictures: Path) -> None:
    opened = []

    def opener(path: Path, **wishes: object) -> Clip:
        opened.append((path.name, wishes["start"]))
        return open_clip(path, **wishes)  # type: ignore[arg-type]

    thumbnails = Thumbnails(tmp_path, opener)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for _ in range(2):
        assert thumbnails.of(result("a", media=str(pictures)))[0] is not None
        assert thumbnails.of(result("b", media="broken.mp4"))[1].startswith("no thumbnail: ")
        assert thumbnails.of(result("c", media="gone.mp4"))[1].startswith("no thumbnail: ")
        assert thumbnails.of(result("d", media=None)) == (None, "the question has no media")
    thumbnails.of(result("e", media=str(pictures), range_seconds=(1.0, 3.0)))
    assert opened == [("frames", None), ("broken.mp4", None), ("gone.mp4", None), ("frames", 1.0)]
