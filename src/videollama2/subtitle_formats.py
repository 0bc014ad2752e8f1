"""Subtitle formats that pysubs2 does not read, or not whole: to (start, end, text) in milliseconds.

.sbv    YouTube: "0:00:01.000,0:00:02.500", lines of text, an empty line
.lrc    lyrics: "[00:12.50]text"
.ttml, .dfxp    broadcasters, Netflix: <p begin="00:00:01.000" end="00:00:02.500">text</p> (W3C TTML2)
.smi    SAMI: <SYNC Start=1000><P Class=ENCC>text, until the next one
.sub    MicroDVD: "{25}{50}text", in frames; the first line must state their rate
"""

import html
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree import ElementTree

logger = logging.getLogger(__name__)

Line = tuple[int, int, str]
EXPECTED = (
    ".srt, .vtt, .ass, .ssa, .sbv, .lrc, .ttml, .smi or MicroDVD, such as blocks of a number, a time range and text"
)
_LAST_SECONDS = 5.0  # of the last line of lyrics, which have no ends
_SBV_TIMES = re.compile(r"^(\d+):(\d\d):(\d\d\.\d+),(\d+):(\d\d):(\d\d\.\d+)[ \t]*$", re.MULTILINE)
_LRC_TIME = re.compile(r"\[(\d+):(\d\d(?:[.:]\d+)?)\]")
_LRC_LINE = re.compile(rf"^[ \t]*((?:{_LRC_TIME.pattern}[ \t]*)+)(.*)$", re.MULTILINE)
_LRC_OFFSET = re.compile(r"^[ \t]*\[offset:\s*([+-]?\d+)\s*\]", re.MULTILINE | re.IGNORECASE)
_LRC_WORD = re.compile(r"<\d+:\d\d(?:\.\d+)?>")
_MICRODVD = re.compile(r"^\{\d+\}\{\d*\}", re.MULTILINE)
_MICRODVD_LINE = re.compile(r"^\{(\d+)\}\{(\d*)\}(.*)$", re.MULTILINE)
_MICRODVD_STYLE = re.compile(r"\{[a-zA-Z]:[^}]*\}|^/", re.MULTILINE)
_SYNC = re.compile(r"<SYNC\b[^>]*\bStart\s*=\s*[\"']?(-?\d+)[^>]*>", re.IGNORECASE)
_CLASS = re.compile(r"<P\b[^>]*\bClass\s*=\s*[\"']?([\w-]+)[^>]*>", re.IGNORECASE)
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,30});")
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)(?::(\d+))?$")
_OFFSET = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|f|t)$")
_PARAMETER = "{http://www.w3.org/ns/ttml#parameter}"


def parse_other(text: str) -> list[Line] | None:
    """The lines of a file in one of these formats, also those without text; None if it is in none of them.

    Raises:
        ValueError: MicroDVD without a frame rate; TTML that is not XML, or with a time that can't be read.
    """
    if re.search(r"<(?:\w+:)?tt\b[^>]*xmlns", text[:4096]):
        return _ttml(text)
    if re.search(r"<SAMI\b", text[:4096], re.IGNORECASE):
        return _sami(text)
    if "-->" in text:
        return None
    if _MICRODVD.search(text):
        return _microdvd(text)
    if _SBV_TIMES.search(text):
        return _sbv(text)
    return _lrc(text) if _LRC_LINE.search(text) else None


def entities_decoded(text: str) -> str:
    """The text with HTML's entities, such as `&amp;` and `&#39;`, as characters; a bare & stays."""
    return _ENTITY.sub(lambda found: html.unescape(found[0]), text)


def plain_words(text: str) -> str:
    """One line of plain text: without tags, entities and line breaks."""
    return " ".join(entities_decoded(_TAG.sub("", _BREAK.sub(" ", text))).split())


def _ttml(text: str) -> list[Line]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it is TTML that defines entities, which is not allowed")
    from xml.etree import ElementTree  # few subtitles are TTML

    try:
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except ElementTree.ParseError as error:
        raise ValueError(f"it is TTML that is not valid XML ({error})") from error
    rate = float(root.get(f"{_PARAMETER}frameRate", 30))
    numerator, denominator = (root.get(f"{_PARAMETER}frameRateMultiplier") or "1 1").split()
    frame = 1 / (rate * float(numerator) / float(denominator))
    tick = 1 / float(root.get(f"{_PARAMETER}tickRate", 1 / frame))
    return [line for element in root for line in _timed(element, 0.0, None, frame, tick)]


def _timed(
    element: "ElementTree.Element[str]", begins: float, ends: float | None, frame: float, tick: float
) -> Iterator[Line]:
    """The paragraphs of an element, whose times count from that of the element around them."""
    start = begins + (_seconds(element.get("begin"), frame, tick) or 0.0)
    stop = _seconds(element.get("end"), frame, tick)
    length = _seconds(element.get("dur"), frame, tick)
    end = begins + stop if stop is not None else start + length if length is not None else ends
    if element.tag.endswith("}p"):
        if end is not None:
            yield round(1000 * start), round(1000 * end), " ".join("".join(_texts(element)).split())
        return
    for inner in element:
        yield from _timed(inner, start, end, frame, tick)


def _texts(element: "ElementTree.Element[str]") -> Iterator[str]:
    yield element.text or ""
    for inner in element:
        if inner.tag.endswith("}br"):
            yield " "
        elif not inner.tag.endswith("}metadata"):
            yield from _texts(inner)
        yield inner.tail or ""


def _seconds(value: str | None, frame: float, tick: float) -> float | None:
    if value is None:
        return None
    if clock := _CLOCK.match(value.strip()):
        hours, minutes, seconds, frames = clock.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) + int(frames or 0) * frame
    if offset := _OFFSET.match(value.strip()):
        return float(offset[1]) * {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "f": frame, "t": tick}[offset[2]]
    raise ValueError(f"the time {value!r:.40} can't be read; expected one such as 00:00:01.500 or 1.5s")


def _sami(text: str) -> list[Line]:
    """Of several languages the first one."""
    found = list(_SYNC.finditer(text))
    blocks = [text[f.end() : g.start() if g else len(text)] for f, g in zip(found, [*found[1:], None], strict=True)]
    classes = list(dict.fromkeys(c.upper() for block in blocks for c in _CLASS.findall(block)))
    if len(classes) > 1:
        logger.warning("the subtitles have %d languages, %s: the first is used", len(classes), ", ".join(classes))
    events: list[tuple[int, str]] = []
    for sync, block in zip(found, blocks, strict=True):
        parts = re.split(r"(?=<P\b)", re.split(r"</BODY", block, flags=re.IGNORECASE)[0], flags=re.IGNORECASE)
        for part in parts:
            named = _CLASS.search(part)
            if (named is None and part.strip()) or (named is not None and named[1].upper() == classes[0]):
                events.append((int(sync[1]), plain_words(part)))
    events.sort(key=lambda event: event[0])
    ends = [start for start, _ in events[1:]] + [events[-1][0] + round(1000 * _LAST_SECONDS)] if events else []
    return [(start, end, said) for (start, said), end in zip(events, ends, strict=True) if said and start < end]


def _microdvd(text: str) -> list[Line]:
    found = [(int(m[1]), int(m[2] or m[1]), m[3]) for m in _MICRODVD_LINE.finditer(text)]
    try:
        rate = float(found[0][2])
    except ValueError:
        rate = 0.0
    if found[0][:2] not in ((0, 0), (1, 1)) or not 1 <= rate <= 1000:
        raise ValueError(
            "it is MicroDVD, which counts frames, without their rate; convert it to .srt, or begin it with a line such "
            "as {1}{1}25"
        )
    return [
        (
            round(1000 * start / rate),
            round(1000 * max(end, start + 1) / rate),
            plain_words(_MICRODVD_STYLE.sub("", said.replace("|", " "))),
        )
        for start, end, said in found[1:]
    ]


def _sbv(text: str) -> list[Line]:
    """YouTube's format: "0:00:01.000,0:00:02.500", lines of text, an empty line."""
    found = list(_SBV_TIMES.finditer(text))
    ends = [each.start() for each in found[1:]] + [len(text)]
    subtitles = []
    for each, end in zip(found, ends, strict=True):
        start, until = (
            round(1000 * (int(h) * 3600 + int(m) * 60 + float(s))) for h, m, s in (each.groups()[:3], each.groups()[3:])
        )
        said = text[each.end() : end].strip().split("\n\n")[0].replace("[br]", " ")
        subtitles.append((start, until, plain_words(said)))
    return subtitles


def _lrc(text: str) -> list[Line]:
    """Lyrics: "[00:12.50]text", also with several times. A line lasts until the next one begins."""
    shift = _LRC_OFFSET.search(text)  # positive: earlier
    early = 0 if shift is None else int(shift[1])
    lines: list[tuple[int, str]] = []
    for line in _LRC_LINE.finditer(text):
        said = plain_words(_LRC_WORD.sub("", line[4]))
        for minutes, seconds in _LRC_TIME.findall(line[1]):
            at = round(1000 * (int(minutes) * 60 + float(seconds.replace(":", "."))))
            lines.append((max(at - early, 0), said))
    lines.sort(key=lambda line: line[0])
    ends = [start for start, _ in lines[1:]] + [lines[-1][0] + round(1000 * _LAST_SECONDS)]
    return [(start, end, said) for (start, said), end in zip(lines, ends, strict=True) if start < end]
