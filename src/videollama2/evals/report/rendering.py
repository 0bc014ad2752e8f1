"""Reports as Markdown and as one page of HTML, by the templates in this folder.

The page needs nothing but itself: no script, no other file, no network. Replies of a model, file names and ids are
hostile text. Every value that a template prints passes `plain` and is then escaped, for HTML or for Markdown; only what
this module marks as Markup is not. The page's policy forbids whatever might have slipped through from loading anything.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import ascii_uppercase
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..items import Outcome, Result, spread
from . import tables, wording
from .compare import left_out
from .summary import columns_of
from .tables import OUTCOMES, Table
from .thumbnails import Thumbnails
from .wording import ABLATED, is_share, plain

SHOWN = {Outcome.FAILED: 120, Outcome.UNPARSABLE: 60, Outcome.WRONG: 36}
"""Most items on the page; of more, a sample spread evenly over the benchmark."""
_CELL = 300  # characters of a table cell
_SAYS = {"reproduces": "reproduces it", "differs": "differs", "open": "can't tell: too few items"}


def markdown(summary: Mapping[str, Any]) -> str:
    """A summary (summary.py) as Markdown."""
    return _rendered(_markdown(), "report.md.j2", s=summary)


def compared_markdown(found: Mapping[str, Any]) -> str:
    """A comparison (compare.py) as Markdown."""
    return _rendered(_markdown(), "comparison.md.j2", found=found)


def page(summary: Mapping[str, Any], results: Sequence[Result], thumbnails: Thumbnails | None = None) -> str:
    """The HTML page.

    Args:
        results: of the run; failed and unparsable ones and a sample of the wrong ones are shown.
        thumbnails: of the media; None: no images.
    """
    columns = columns_of(results)
    column, shown = next(iter(columns.items()), ("none", []))
    style = Markup(files(__package__).joinpath("page.css").read_text(encoding="utf-8"))
    return _rendered(
        _html(), "page.html.j2", s=summary, style=style, column=column, groups=list(_groups(shown, thumbnails))
    )  # fmt: skip


def _rendered(environment: Environment, template: str, **values: Any) -> str:
    # no value contains an empty line, so these come from empty sections of the template
    return re.sub(r"\n\s*\n\s*\n", "\n\n", environment.get_template(template).render(values)).strip() + "\n"


@cache
def _html() -> Environment:
    return _environment(autoescape=True, finalize=lambda v: v if isinstance(v, Markup) else plain(str(v)))


@cache
def _markdown() -> Environment:
    made = _environment(autoescape=False, finalize=lambda v: v if isinstance(v, Markup) else cell_text(str(v)))
    made.globals["table"] = markdown_table
    return made


def _environment(**options: Any) -> Environment:
    loader = PackageLoader("videollama2.evals", "report")
    made = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, **options)
    made.globals |= {name: getattr(wording, name) for name in ("chance", "interval", "named", "number", "unit")}
    made.globals |= {"t": tables, "ABLATED": ABLATED, "OUTCOMES": OUTCOMES, "SAYS": _SAYS}
    made.globals |= {"left_out": left_out, "top": _top, "is_share": is_share}
    made.filters["sum_values"] = lambda counts: sum(counts.values())
    made.filters["cell"] = lambda value: plain(str(value), _CELL)
    return made


def markdown_table(table: Table) -> Markup:
    """A table of Markdown, with its numbers aligned right; empty without rows."""
    if not table.rows:
        return Markup("")
    words = len(table.heads) - table.numbers
    rule = "|" + "".join(" --- |" if i < words else " ---: |" for i in range(len(table.heads)))
    lines = ["| " + " | ".join(map(cell_text, cells)) + " |" for cells in [table.heads, *table.rows]]
    return Markup("\n".join([lines[0], rule, *lines[1:]]))


def cell_text(text: str) -> str:
    """Text that stays on its line and means nothing to Markdown or HTML but itself."""
    safe = plain(text, _CELL).replace("\n", " ").replace("\\", "\\\\")
    for mark in "|`*[]<>":
        safe = safe.replace(mark, {"<": "&lt;", ">": "&gt;"}.get(mark, f"\\{mark}"))
    return safe


def _top(metric: str) -> float:
    """The largest possible value."""
    return 1.0 if is_share(metric) else float(metric.rpartition("_of_")[2])


def _groups(results: Sequence[Result], thumbnails: Thumbnails | None) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    """Title and cards of the items of each outcome that are shown."""
    for outcome, most in SHOWN.items():
        found = [r for r in results if r.outcome is outcome and (r.truth or outcome is not Outcome.WRONG)]
        shown = spread(found, most)
        count = f"{len(found):,}" if len(shown) == len(found) else f"{len(shown):,} of {len(found):,}"
        if found:
            yield f"{outcome.value.capitalize()} ({count})", [_card(result, thumbnails) for result in shown]


def _card(result: Result, thumbnails: Thumbnails | None) -> dict[str, Any]:
    url, seen = (None, "") if thumbnails is None else thumbnails.of(result)
    start, end = result.range_seconds
    rows = {
        "question": result.question,
        "options": _options(result),
        "truth": "\n".join(result.truth),
        "reply": result.reply,
        "read": f"{result.read} ({result.rule})" if result.read is not None and result.rule else result.read,
        "error": result.error,
        "losses": "\n".join(result.losses),
        "media": result.media,
        "range": None if start is None and end is None else f"{_time(start, 'beginning')} to {_time(end, 'end')}",
    }
    shown = {name: plain(value) for name, value in rows.items() if value}
    return {"id": result.id, "url": url, "seen": seen, "media": result.media, "rows": shown}


def _options(result: Result) -> str:
    """The options, unless the question lists them."""
    choices = result.choices
    if all(choice in result.question for choice in choices):
        return ""
    if len(choices) > len(ascii_uppercase):
        return f"one of {len(choices):,} classes"
    return "\n".join(f"({letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))


def _time(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"{seconds:g} s"
