"""The doctor's report: a table for the terminal, JSON, an HTML page, and the lists of good records.

The page is self-contained: no scripts, files or network. All text from records is escaped.
"""

import html
import math
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from ...errors import StorageError
from ...json_lines import dumps_line
from ..records import as_mapping
from .examine import Examination
from .judging import Finding
from .lengths import Length

CLEAN, REPORT, PAGE = "clean.jsonl", "report.json", "report.html"
_LISTED = 20  # findings in the terminal
_ROWS = 2000  # findings on the page; the JSON has all
_BINS = 30
_SORTED = 200_000  # values


def write_report(found: Examination, folder: Path, files: Sequence[Path | str] = ()) -> dict[str, Path]:
    """Write page, JSON and lists of good records into the folder; returns their paths by name.

    The good records of a single file go to clean.jsonl ("clean"). With several files each gets its own list
    ("clean NAME"), so that training and evaluation data are not mixed.

    Args:
        found: the result.
        folder: made if missing.
        files: that were examined; a file without good records gets an empty list.

    Raises:
        StorageError: the folder can't be written.
    """
    paths = {"report": folder / REPORT, "page": folder / PAGE}
    given = dict.fromkeys(map(Path, files))
    names = _clean_names(list(given | dict.fromkeys(record.file for record in found.good)) or [None])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            lists = {
                file: stack.enter_context((folder / f".{name}").open("w", encoding="ascii"))
                for file, name in names.items()
            }
            for record in found.good:
                lists[record.file].write(dumps_line(as_mapping(record, folder)) + "\n")
        for file, name in names.items():
            (folder / f".{name}").replace(folder / name)
            paths["clean" if name == CLEAN else f"clean {file}"] = folder / name
        with paths["report"].open("w", encoding="ascii") as out:
            out.writelines(json_text(found, ",\n "))
        paths["page"].write_text(page(found), encoding="utf-8", errors="replace")
    except OSError as error:
        raise StorageError(f"{folder} can't be written ({error.strerror or error}); give another --output.") from error
    return paths


def _clean_names(files: Sequence[Path | None]) -> dict[Path | None, str]:
    """File → name of its list of good records; files of the same name are numbered."""
    if len(files) == 1:
        return {files[0]: CLEAN}
    names: dict[Path | None, str] = {}
    for file in files:
        stem, number = "records" if file is None else file.stem, 1
        name = f"clean-{stem}.jsonl"
        while name in names.values():
            number += 1
            name = f"clean-{stem}-{number}.jsonl"
        names[file] = name
    return names


def json_text(found: Examination, between: str = ", ") -> Iterator[str]:
    """The result as JSON, in pieces, as it may have millions of findings; a line, by the default between findings."""
    yield dumps_line(_summary(found)).removesuffix("}") + ', "findings": ['
    for number, finding in enumerate(found.findings):
        yield (between if number else "") + dumps_line(_facts(finding))
    yield "]}\n"


def as_json(found: Examination) -> dict[str, Any]:
    """The result as JSON data."""
    return {**_summary(found), "findings": list(map(_facts, found.findings))}


def _summary(found: Examination) -> dict[str, Any]:
    return {
        "records": found.total,
        "good": len(found.good),
        "kinds": found.kinds,
        "problems": found.counted("problem"),
        "remarks": found.counted("remark"),
        "seconds": summary(found.seconds),
        "tokens": summary(_Column(found.lengths, _TOKENS)),
        "supervised_share": summary(_Column(found.lengths, _SHARE)),
        "settings": found.settings,
        "reused": found.reused,
    }


def _facts(finding: Finding) -> dict[str, Any]:
    f = finding
    return {"record": f.origin, "id": f.id, "severity": f.severity, "kind": f.kind, "message": f.message,
            "paths": list(f.paths)}  # fmt: skip


def summary(values: Collection[float]) -> dict[str, float] | None:
    """Count, sum, extremes, mean, median and 95th percentile; None without values.

    Of more than 200,000 values, median and percentile are those of every second, third … value.
    """
    count = len(values)
    if not count:
        return None
    total, least, most = 0.0, math.inf, -math.inf
    step = math.ceil(count / _SORTED)
    some = []
    for number, value in enumerate(values):
        total, least, most = total + value, min(least, value), max(most, value)
        if number % step == 0:
            some.append(value)
    some.sort()
    return {
        "count": count, "sum": total, "least": least, "median": statistics.median(some), "mean": total / count,
        "p95": some[math.ceil(0.95 * len(some)) - 1], "most": most,
    }  # fmt: skip


@dataclass(frozen=True)
class _Column(Collection[float]):
    """A number of each length, calculated when it is asked for."""

    lengths: Sequence[Length]
    number: Callable[[Length], float]

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[float]:
        return map(self.number, self.lengths)

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)


_TOKENS, _TEXT, _SHARE = attrgetter("tokens"), attrgetter("text"), attrgetter("share")


# ── terminal ───────────────────────────────────────────────────────────────────────────────────────────────────


def table(found: Examination) -> str:
    """The report as text for the terminal."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.kinds.items()))
    lines = [f"{found.total:,} records ({kinds}): {len(found.good):,} good, {found.total - len(found.good):,} not", ""]
    rows: list[tuple[str, ...]] = [("", "least", "median", "mean", "95 %", "most")]
    for name, values, form in _quantities(found):
        stats = summary(values)
        if stats is not None:
            rows.append((name, *(format(stats[key], form) for key in ("least", "median", "mean", "p95", "most"))))
    if len(rows) > 1:
        lines += [f"  {row[0]:<20}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows] + [""]
    for severity in ("problem", "remark"):
        counted = found.counted(severity)
        if counted:
            lines += [f"{severity}s", *(f"  {kind:<20}{count:>10,}" for kind, count in counted.items()), ""]
    shown = _first(found, _LISTED)
    lines += [f"{f.severity}: {f.origin}: {f.kind}: {f.message}" for f in shown]
    if len(found.findings) > len(shown):
        lines.append(f"… and {len(found.findings) - len(shown):,} more; the report lists all")
    return "\n".join(lines).rstrip()


def _first(found: Examination, most: int) -> list[Finding]:
    """The first findings, problems before remarks."""
    return list(islice(chain(found.of("problem"), found.of("remark")), most))


def _quantities(found: Examination) -> list[tuple[str, Collection[float], str]]:
    return [
        ("seconds", found.seconds, ",.2f"),
        ("tokens", _Column(found.lengths, _TOKENS), ",.0f"),
        ("tokens of text", _Column(found.lengths, _TEXT), ",.0f"),
        ("supervised share", _Column(found.lengths, _SHARE), ".1%"),
    ]


# ── page ───────────────────────────────────────────────────────────────────────────────────────────────────────

_STYLE = """
:root { color-scheme: light dark; --bar: #3b6ea5; --bad: #b5482f; --line: #8888; }
@media (prefers-color-scheme: dark) { :root { --bar: #7fb0e6; --bad: #f0907a; } }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem; min-width: 0; }
figcaption { font-weight: 600; } svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11px; fill: currentColor; } svg .axis { stroke: currentColor; opacity: 0.4; }
.bar { fill: var(--bar); } .bad { fill: var(--bad); }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: 0.25rem 0.6rem 0.25rem 0; }
td { border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.findings td:first-child { white-space: nowrap; } .findings td:nth-child(2) { min-width: 9rem; }
.scroll { overflow-x: auto; margin-bottom: 1rem; } .problem { color: var(--bad); } .quiet { opacity: 0.7; }
"""


def page(found: Examination) -> str:
    """The report as an HTML page with inline figures."""
    bad = found.total - len(found.good)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.kinds.items()))
    settings = ", ".join(f"{key} {value}" for key, value in found.settings.items() if value is not None)
    figures = [_histogram(name, values, form) for name, values, form in _quantities(found) if values]
    counted = [(kind, n, "bad") for kind, n in found.counted("problem").items()]
    counted += [(f"{kind} (remark)", n, "bar") for kind, n in found.counted("remark").items()]
    if counted:
        figures.insert(0, _bars("findings by kind, in records", counted))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Training data: {bad:,} of {found.total:,} records have problems</title>",
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{found.total:,} records: {len(found.good):,} good, {bad:,} not</h1>",
            f'<p class="quiet">{_text(kinds)}<br>examined with {_text(settings)}</p>',
            f"<h2>Figures</h2>{_numbers(found)}",
            f'<div class="figures">{"".join(figures)}</div>',
            f"<h2>Findings</h2>{_rows(found)}",
            "</body></html>",
            "",
        ]
    )


def _text(value: str) -> str:
    """Escape text of files and users; unprintable characters are shown as codes."""
    return html.escape("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in value))


def _numbers(found: Examination) -> str:
    rows = []
    for name, values, form in _quantities(found):
        stats = summary(values)
        if stats is not None:
            cells = "".join(
                f'<td class="number">{stats[key]:{form}}</td>' for key in ("least", "median", "mean", "p95", "most")
            )
            rows.append(f"<tr><td>{name}</td>{cells}</tr>")
    if not rows:
        return ""
    heads = "".join(f'<th class="number">{head}</th>' for head in ("least", "median", "mean", "95 %", "most"))
    return f'<div class="scroll"><table><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>'


def _histogram(name: str, values: Collection[float], form: str) -> str:
    """A histogram from the least to the largest value."""
    low, high = min(values), max(values)
    different: set[float] = set()
    for value in values:
        different.add(value)
        if len(different) == _BINS:
            break
    bins = [0] * (1 if high == low else max(len(different), 2))
    for value in values:
        place = 0 if high == low else int((value - low) / (high - low) * len(bins))
        bins[min(place, len(bins) - 1)] += 1
    width, top, most = 400 / len(bins), 150, max(bins)
    bars = [
        f'<rect class="bar" x="{20 + i * width:.1f}" y="{20 + top * (1 - n / most):.1f}" '
        f'width="{max(width - 1, 0.5):.1f}" height="{top * n / most:.1f}"><title>{n:,} records</title></rect>'
        for i, n in enumerate(bins)
    ]
    ends = [(20, "start", format(low, form)), (420, "end", format(high, form))]
    if high > low:
        ends.append((220, "middle", format((low + high) / 2, form)))
    labels = [f'<text x="{x}" y="186" text-anchor="{anchor}">{label}</text>' for x, anchor, label in ends]
    labels.append(f'<text x="20" y="13">{most:,} records in the tallest</text>')
    drawing = "".join([*bars, '<line class="axis" x1="20" y1="170.5" x2="420" y2="170.5"/>', *labels])
    return _figure(name, drawing, 192)


def _bars(name: str, counted: Sequence[tuple[str, int, str]]) -> str:
    """One bar per kind, with its count."""
    most = max(n for _, n, _ in counted)
    rows = []
    for i, (kind, n, style) in enumerate(counted):
        y = 6 + 22 * i
        rows.append(
            f'<text x="150" y="{y + 12}" text-anchor="end">{_text(kind)}</text>'
            f'<rect class="{style}" x="158" y="{y}" width="{max(210 * n / most, 1):.1f}" height="16"/>'
            f'<text x="{164 + 210 * n / most:.1f}" y="{y + 12}">{n:,}</text>'
        )
    return _figure(name, "".join(rows), 22 * len(counted) + 8)


def _figure(name: str, drawing: str, height: int) -> str:
    return (
        f'<figure><figcaption>{_text(name)}</figcaption><svg viewBox="0 0 440 {height}" role="img" '
        f'aria-label="{_text(name)}">{drawing}</svg></figure>'
    )


def _rows(found: Examination) -> str:
    if not found.findings:
        return "<p>No findings.</p>"
    rows = [
        f'<tr><td class="{f.severity}">{_text(f.kind)}</td><td>{_text(f.origin)}</td><td>{_text(f.message)}</td></tr>'
        for f in _first(found, _ROWS)
    ]
    left = len(found.findings) - len(rows)
    more = f"<p>{left:,} more are in {REPORT}.</p>" if left else ""
    head = "<tr><th>kind</th><th>record</th><th>what was found</th></tr>"
    return f'<div class="scroll"><table class="findings">{head}{"".join(rows)}</table></div>{more}'
