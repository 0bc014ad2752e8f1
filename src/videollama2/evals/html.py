"""A report as one page of HTML that needs nothing but itself: no script, no other file, no network.

Replies of a model, names of files and ids are hostile text; all of it is escaped, and the page's own policy forbids
whatever might have slipped through from loading anything.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import ascii_uppercase
from typing import Any

from .drawing import intervals, stacked, text
from .items import Outcome, Result
from .markdown import OUTCOMES, basis, category_rows, facts, headline, judge_tables, paired_sentence, remarks
from .report import columns_of
from .thumbnails import Thumbnails
from .wording import ABLATED, chance, interval, is_share, named, number, unit

SHOWN = {Outcome.FAILED: 120, Outcome.UNPARSABLE: 60, Outcome.WRONG: 36}
"""Items on the page at most; of more, a sample spread evenly over the benchmark."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_LONG = 300  # characters of a reply that scrolls in its place
_OPEN = 30  # rows of a table that is shown unasked
_PLOTTED = 40  # rows of a plot


def page(summary: Mapping[str, Any], results: Sequence[Result], thumbnails: Thumbnails | None = None) -> str:
    """The whole page.

    Args:
        summary: of report.summary.
        results: of the run; failed and unparsable ones and a sample of the wrong ones are shown.
        thumbnails: of the media; None: no pictures.
    """
    sections = [
        ("figures", "Figures", _figures(summary)),
        ("known", "Known figures", _expected(summary)),
        ("ablations", "With a modality taken away", _paired(summary)),
        ("judges", "Judges", "".join(_table(h, r, n) for h, r, n in judge_tables(summary))),
        ("categories", "By category", _categories(summary)),
        ("items", "Items", _items(results, thumbnails)),
        ("run", "What was run", _facts(summary)),
    ]
    sections = [section for section in sections if section[2]]
    title = f"{summary['title']}: {summary['model']}, {summary['setting']} setting"
    links = "".join(f'<li><a href="#{id}">{name}</a></li>' for id, name, _ in sections)
    body = "\n".join(f'<section id="{id}"><h2>{name}</h2>{content}</section>' for id, name, content in sections)
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{text(title)}</title>",
            f"<style>{style}</style></head><body>",
            '<a class="skip" href="#figures">to the figures</a>',
            f'<header><h1>{text(title)}</h1><p class="quiet">{text(str(summary["source"]))}</p>{_main(summary)}',
            f'<nav aria-label="sections"><ul>{links}</ul></nav></header>',
            f"<main>{body}</main>",
            f"<footer>{_footer(summary)}</footer></body></html>",
            "",
        ]
    )


def _main(summary: Mapping[str, Any]) -> str:
    """The main figure, large; the verdict on known ones; what to know before believing it."""
    metric, column = summary["metric"], next(iter(summary["ablations"].values()), None)
    figure = None if column is None else column["metrics"].get(metric)
    said = f"<p>{text(headline(summary) if figure is None else basis(summary))}</p>"
    big = "" if figure is None else (
        f'<span class="big">{number(metric, figure["value"])}{unit(metric)}</span>'
        f'<span>{text(named(metric))}<br><span class="quiet">95 % interval {interval(metric, figure)}</span></span>'
    )  # fmt: skip
    known = "".join(
        f'<li class="says {entry["says"]}">{text(named(entry["metric"]))} {text(entry["text"])}</li>'
        for entry in summary["expected"]
        if entry["metric"] == metric
    )
    told = "".join(f"<li>{text(line)}</li>" for line in remarks(summary))
    return f'<div class="main">{big}</div>{said}' + (f"<ul>{known}{told}</ul>" if known + told else "")


def _figures(summary: Mapping[str, Any]) -> str:
    columns = summary["ablations"]
    bars = [(ABLATED[name], column["outcomes"]) for name, column in columns.items()]
    key = "".join(f'<li><i class="{outcome}"></i>{outcome}</li>' for outcome in OUTCOMES)
    rows = [
        [ABLATED[name], f"{column['items']:,}", f"{column['media']:,}",
         *(f"{column['outcomes'][o]:,}" for o in OUTCOMES), f"{column['withheld']['items']:,}"]
        for name, column in columns.items()
    ]  # fmt: skip
    counted = _table(["asked with", "items", "media", *OUTCOMES, "answers withheld"], rows, 7)
    names = dict.fromkeys(metric for column in columns.values() for metric in column["metrics"])
    plots, figures = [], []
    for metric in names:
        row = [f"{named(metric)}{unit(metric)}"]
        drawn = []
        for name, column in columns.items():
            figure = column["metrics"].get(metric, {"value": None, "low": None, "high": None})
            row += [number(metric, figure["value"]), interval(metric, figure)]
            drawn.append((ABLATED[name] if len(columns) > 1 else named(metric), figure))
        figures.append(row)
        if metric == summary["metric"] and len(columns) > 1:
            guess = summary["guessing"] if is_share(metric) else None
            plots.append(intervals(drawn, metric, f"{named(metric)} of each column", most=_most(metric), line=guess))
    heads = ["figure", *(head for name in columns for head in (ABLATED[name], "95 %"))]
    return (
        stacked(bars, "items by outcome") + f'<ul class="key">{key}</ul>' + counted + "".join(plots)
        + _table(heads, figures, 2 * len(columns))
    )  # fmt: skip


def _expected(summary: Mapping[str, Any]) -> str:
    if not summary["expected"]:
        return ""
    rows = "".join(_known(entry) for entry in summary["expected"])
    heads = [("figure", ""), ("theirs", "number"), ("ours", "number"), ("difference", "number"), ("this run", ""),
             ("source", ""), ("to know", "")]  # fmt: skip
    cells = "".join(f'<th scope="col" class="{style}">{head}</th>' for head, style in heads)
    return _scroll("known figures", f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>")


def _known(entry: Mapping[str, Any]) -> str:
    metric, says = entry["metric"], entry["says"]
    numbers = (
        number(metric, entry["value"]),
        number(metric, entry["ours"]),
        number(metric, entry["difference"], signed=True),
    )
    cells = "".join(f'<td class="number">{value}</td>' for value in numbers)
    words = (f"{entry['kind']}: {entry['source']}", "; ".join(entry["remarks"]))
    told = "".join(f'<td class="words">{text(value)}</td>' for value in words)
    verdict = f'<td><span class="says {says}">{_SAYS[says]}</span></td>'
    return f'<tr><th scope="row">{text(named(metric))}</th>{cells}{verdict}{told}</tr>'


_SAYS = {"reproduces": "reproduces it", "differs": "differs", "open": "can't tell: too few items"}


def _paired(summary: Mapping[str, Any]) -> str:
    parts = []
    for pair in summary["paired"]:
        other = ABLATED[pair["ablation"]]
        rows = [
            [f"{named(m)}{unit(m)}", number(m, d["first"]), number(m, d["second"]),
             number(m, d["difference"], signed=True), interval(m, d, signed=True), chance(d["p"])]
            for m, d in pair["metrics"].items()
        ]  # fmt: skip
        heads = ["figure", "everything", other, "difference", "95 %", "p"]
        parts.append(f"<h3>{text(other.capitalize())}</h3><p>{text(paired_sentence(pair))}</p>{_table(heads, rows, 5)}")
    return "".join(parts)


def _categories(summary: Mapping[str, Any]) -> str:
    columns, metric = list(summary["ablations"].values()), summary["metric"]
    parts: list[str] = []
    for name in dict.fromkeys(name for column in columns for name in column["categories"]):
        rows = category_rows(summary, name)
        heads = [name.replace("_", " "), "items"]
        heads += [head for ablation in summary["ablations"] for head in (ABLATED[ablation], "95 %")]
        content = _table([*heads, *OUTCOMES[1:]], rows, len(heads) + 2)
        plotted = [(v, row["main"]) for v, row in columns[0]["categories"].get(name, {}).items() if row["main"]]
        if 1 < len(plotted) <= _PLOTTED:
            label = f"{named(metric)} by {name}"
            guess = summary["guessing"] if is_share(metric) else None
            content = intervals(plotted, metric, label, most=_most(metric), line=guess) + content
        opened = " open" if len(rows) <= _OPEN else ""
        title = f"{text(named(metric))} by {text(name.replace('_', ' '))}"
        parts.append(f"<details{opened}><summary>{title} ({len(rows):,})</summary>{content}</details>")
    return "".join(parts)


def _most(metric: str) -> float:
    return 1.0 if is_share(metric) else float(metric.rpartition("_of_")[2])


def _items(results: Sequence[Result], thumbnails: Thumbnails | None) -> str:
    columns = columns_of(results)
    name, column = next(iter(columns.items()), ("none", []))
    parts: list[str] = []
    for outcome, most in SHOWN.items():
        found = [r for r in column if r.outcome is outcome and (r.truth or outcome is not Outcome.WRONG)]
        if not found:
            continue
        shown = [found[i * len(found) // most] for i in range(most)] if len(found) > most else found
        count = f"{len(found):,}" if len(shown) == len(found) else f"{len(shown):,} of {len(found):,}"
        cards = "".join(_card(result, thumbnails) for result in shown)
        opened = " open" if not parts else ""
        title = f"{outcome.value.capitalize()} ({count})"
        parts.append(f'<details{opened}><summary>{title}</summary><div class="items">{cards}</div></details>')
    where = "" if name == "none" else f"<p>Of the column “{ABLATED[name]}”.</p>"
    return where + "".join(parts) if parts else ""


def _card(result: Result, thumbnails: Thumbnails | None) -> str:
    url, seen = (None, "") if thumbnails is None else thumbnails.of(result)
    alt = text(f"{result.media}: {seen}", 300)
    picture = f'<p class="quiet">{text(seen, 300)}</p>' if seen else ""
    if url is not None:
        picture = f'<img src="{url}" alt="{alt}" loading="lazy">'
    start, end = result.range_seconds
    rows = [
        ("question", result.question),
        ("options", _options(result)),
        ("truth", "\n".join(result.truth)),
        ("reply", result.reply),
        ("read", None if result.read is None else f"{result.read} ({result.rule})" if result.rule else result.read),
        ("error", result.error),
        ("losses", "\n".join(result.losses)),
        ("medium", result.media),
        ("range", None if start is None and end is None else f"{_time(start, 'beginning')} to {_time(end, 'end')}"),
    ]
    cells = "".join(
        f"<dt>{name}</dt>"
        + (f'<dd class="long" tabindex="0">{text(v)}</dd>' if len(v) > _LONG else f"<dd>{text(v)}</dd>")
        for name, v in rows
        if v
    )
    return f"<article><h4>{text(result.id, 200)}</h4>{picture}<dl>{cells}</dl></article>"


def _options(result: Result) -> str:
    """The options, where the question doesn't list them itself."""
    choices = result.choices
    if all(choice in result.question for choice in choices):
        return ""
    if len(choices) > len(ascii_uppercase):
        return f"one of {len(choices):,} classes"
    return "\n".join(f"({letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))


def _time(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"{seconds:g} s"


def _facts(summary: Mapping[str, Any]) -> str:
    rows = "".join(f'<tr><th scope="row">{text(k)}</th><td>{text(v)}</td></tr>' for k, v in facts(summary))
    head = '<thead><tr><th scope="col">setting</th><th scope="col">value</th></tr></thead>'
    return _scroll("what was run", f'<table class="facts">{head}<tbody>{rows}</tbody></table>')


def _footer(summary: Mapping[str, Any]) -> str:
    return (
        "Intervals: bootstrap over media, so that questions about one clip count together; where all or none are "
        f"right, Wilson’s. {summary['intervals']['draws']:,} draws, seed {summary['intervals']['seed']}."
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> str:
    """A table with heads of columns and rows; the last `numbers` columns are numbers."""
    words = len(heads) - numbers
    style = ["" if i < words else ' class="number"' for i in range(len(heads))]
    top = "".join(f'<th scope="col"{s}>{text(head)}</th>' for head, s in zip(heads, style, strict=True))
    body = "".join(
        f'<tr><th scope="row">{text(row[0], 300)}</th>'
        + "".join(f"<td{s}>{text(cell, 300)}</td>" for cell, s in zip(row[1:], style[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return _scroll(f"table of {heads[0]}", f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")


def _scroll(label: str, content: str) -> str:
    """Wide content that scrolls by itself, also with the keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">{content}</div>'
