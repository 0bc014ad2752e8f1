"""A report as Markdown: tables for people, in terminals and in issues."""

from collections.abc import Mapping, Sequence
from typing import Any

from .wording import ABLATED, chance, interval, is_share, many, named, number, plain, unit

OUTCOMES = ("right", "wrong", "unparsable", "failed")
_CATEGORIES = 60  # rows of a table; the JSON has all


def markdown(summary: Mapping[str, Any]) -> str:
    """A summary (report.py) as Markdown."""
    parts = [
        f"# {plain(summary['title'])}: {_model(summary)}",
        headline(summary),
        *(f"- {cell_text(line)}" for line in remarks(summary)),
        "## Outcomes",
        table(["", "items", *OUTCOMES, "answers withheld"], _outcomes(summary), numbers=6),
        "## Figures",
        table(["figure", *_heads(summary)], _metrics(summary), numbers=2 * len(summary["ablations"])),
        *_expected(summary),
        *_paired(summary),
        *_judges(summary),
        *_categories(summary),
        "## What was run",
        table(["", ""], facts(summary)),
    ]
    return "\n\n".join(_joined(parts)) + "\n"


def brief(summary: Mapping[str, Any]) -> str:
    """A summary in a few lines, for a terminal: the main figure, outcomes of each column, known figures."""
    lines = [f"{summary['title']}: {headline(summary).replace('**', '')}"]
    for name, column in summary["ablations"].items():
        counted = ", ".join(f"{column['outcomes'][outcome]:,} {outcome}" for outcome in OUTCOMES)
        figures = ", ".join(
            f"{named(m)} {number(m, figure['value'])}{unit(m)} ({interval(m, figure)})"
            for m, figure in column["metrics"].items()
        )
        lines.append(f"  {ABLATED[name]}: {counted}{f'; {figures}' if figures else ''}")
    lines += [f"  {remark}" for remark in remarks(summary)]
    lines += [f"  {named(entry['metric'])} {entry['text']}" for entry in summary["expected"]]
    return "\n".join(lines)


def _joined(parts: Sequence[str]) -> list[str]:
    """Parts of a document, where lines of one list stay together."""
    joined: list[str] = []
    for part in parts:
        if part.startswith("- ") and joined and joined[-1].startswith("- "):
            joined[-1] += f"\n{part}"
        elif part:
            joined.append(part)
    return joined


def headline(summary: Mapping[str, Any]) -> str:
    """The main figure in a sentence; or why there is none."""
    column, metric = next(iter(summary["ablations"].values()), None), summary["metric"]
    if column is None or metric not in column["metrics"]:
        return f"There is no {named(metric)}: no item with a public answer has a result."
    figure = column["metrics"][metric]
    ends = interval(metric, figure)
    sure = "" if ends == "–" else f", 95 % interval {ends}"
    return f"**{named(metric)} {number(metric, figure['value'])}{unit(metric)}**{sure}. {basis(summary)}"


def basis(summary: Mapping[str, Any]) -> str:
    """What the main figure stands on, and what guessing would give."""
    name, column = next(iter(summary["ablations"].items()))
    guess = summary["guessing"]
    by_chance = f" Guessing has {number('', guess)} %." if guess is not None and is_share(summary["metric"]) else ""
    where = "" if name == "none" else f", asked {ABLATED[name]}"
    scored = column["items"] - column["withheld"]["items"]
    return f"{many(scored)} about {_media(column['media'])}{where}.{by_chance}"


def _media(count: int) -> str:
    return f"{count:,} {'medium' if count == 1 else 'media'}"


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing a figure."""
    found, coverage = [], summary["coverage"]
    asked, available = coverage.get("asked"), coverage.get("available")
    if asked is not None and available is not None and asked < available:
        found.append(f"{asked:,} of {many(available)} were asked.")
    if coverage.get("missing"):
        found.append(
            f"The media of {many(coverage['missing'])} are missing; what can't be asked failed and stays counted."
        )
    first = next(iter(summary["ablations"].values()), None)
    if first is not None and first["metrics"] and "accuracy" not in first["metrics"]:
        found.append("Answers are sentences: right is only what equals a reference, so the other figures tell more.")
    told: list[str] = []
    for name, column in summary["ablations"].items():
        # what befalls all columns alike is said once
        lines = [line for line in _of_column(column, asked) if line not in told]
        told += lines
        found += [f"{ABLATED[name].capitalize()}: {line}" if len(told) > len(lines) else line for line in lines]
    found += [_leak(leak) for leak in summary["leaks"]]
    if len(environments(summary)) > 1:
        found.append("Parts of the run were made on different machines or with different versions.")
    found += [plain(str(note)) for note in coverage.get("notes", ())]
    return found


def _leak(leak: Mapping[str, Any]) -> str:
    where = "" if leak["column"] is None else f" ({leak['column'].replace('_', ' ')}: {leak['value']})"
    return (
        f"Text alone is better than guessing{where}: {leak['right']:,} of {many(leak['items'])} right, where guessing "
        f"has {leak['expected']:.1f}; p {_equals(leak['p'])}. These questions give part of their answers away."
    )


def _of_column(column: Mapping[str, Any], asked: int | None) -> list[str]:
    found = []
    if asked is not None and column["items"] < asked:
        found.append(f"the run is not finished, {column['items']:,} of {many(asked)} have a result.")
    hidden = column["withheld"]
    if hidden["items"]:
        found.append(
            f"The answers of {many(hidden['items'])} are withheld, which count nowhere: {hidden['read']:,} read, "
            f"{hidden['unparsable']:,} unparsable, {hidden['failed']:,} failed."
        )
    if column["errors"]:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in column["errors"].items())
        found.append(f"{many(sum(column['errors'].values()))} failed: {plain(kinds)}.")
    if column["unexpected"]:
        found.append(f"{many(column['unexpected'], 'failure')} came from the program and not from a medium.")
    if column["losses"]["items"]:
        found.append(f"With {many(column['losses']['items'])}, something was not used, padded or odd.")
    return found


def facts(summary: Mapping[str, Any]) -> list[list[str]]:
    """The manifest as rows of names and values."""
    run = dict(summary["manifest"].get("run", {}))
    rows = [[str(key).replace("_", " "), "" if value is None else str(value)] for key, value in run.items()]
    for found in environments(summary):
        for key, value in found.items():
            inside = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else value
            rows.append([str(key).replace("_", " "), "" if inside is None else str(inside)])
    spread = summary["intervals"]
    rows.append(["intervals", f"95 %, bootstrap over media, {spread['draws']:,} draws, seed {spread['seed']}"])
    return rows


def environments(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Where the run was made; several, where its parts were made in different places."""
    found = summary["manifest"].get("environment", [])
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> str:
    """A table of Markdown, whose last `numbers` columns are aligned right."""
    if not rows:
        return ""
    words = len(heads) - numbers
    rule = "|" + "".join(" --- |" if i < words else " ---: |" for i in range(len(heads)))
    return "\n".join([_row(heads), rule, *(_row(row) for row in rows)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell_text(cell) for cell in cells) + " |"


def cell_text(text: str) -> str:
    """Text that stays inside its cell and means nothing to Markdown or HTML but itself."""
    safe = plain(text, 300).replace("\n", " ").replace("\\", "\\\\")
    for mark in "|`*[]<>":
        safe = safe.replace(mark, {"<": "&lt;", ">": "&gt;"}.get(mark, f"\\{mark}"))
    return safe


def _model(summary: Mapping[str, Any]) -> str:
    return f"{cell_text(str(summary['model']))}, {cell_text(str(summary['setting']))} setting"


def _heads(summary: Mapping[str, Any]) -> list[str]:
    return [head for name in summary["ablations"] for head in (ABLATED[name], "95 %")]


def _outcomes(summary: Mapping[str, Any]) -> list[list[str]]:
    return [
        [ABLATED[name], f"{column['items']:,}", *(f"{column['outcomes'][o]:,}" for o in OUTCOMES),
         f"{column['withheld']['items']:,}"]
        for name, column in summary["ablations"].items()
    ]  # fmt: skip


def _metrics(summary: Mapping[str, Any]) -> list[list[str]]:
    columns = list(summary["ablations"].values())
    rows = []
    for metric in dict.fromkeys(name for column in columns for name in column["metrics"]):
        row = [f"{named(metric)}{unit(metric)}"]
        for column in columns:
            figure = column["metrics"].get(metric, {"value": None})
            row += [number(metric, figure["value"]), interval(metric, figure)]
        rows.append(row)
    return rows


def _expected(summary: Mapping[str, Any]) -> list[str]:
    if not summary["expected"]:
        return []
    lines = [
        f"- {named(entry['metric'])} {entry['text']}." + "".join(f" {cell_text(r)}." for r in entry["remarks"])
        for entry in summary["expected"]
    ]
    return ["## Known figures", *lines]


def _paired(summary: Mapping[str, Any]) -> list[str]:
    parts: list[str] = []
    for pair in summary["paired"]:
        parts += [f"## {ABLATED[pair['ablation']].capitalize()}, item by item", paired_sentence(pair)]
        parts.append(differences(pair, "with everything", ABLATED[pair["ablation"]]))
    return parts


def differences(pair: Mapping[str, Any], first: str, second: str) -> str:
    """The table of paired differences."""
    rows = [
        [f"{named(m)}{unit(m)}", number(m, d["first"]), number(m, d["second"]), number(m, d["difference"], signed=True),
         interval(m, d, signed=True), chance(d["p"])]
        for m, d in pair["metrics"].items()
    ]  # fmt: skip
    return table(["figure", first, second, "difference", "95 %", "p"], rows, numbers=5)


def paired_sentence(pair: Mapping[str, Any]) -> str:
    """What the items that both columns share say, in words."""
    text = f"{many(pair['items'])} about {_media(pair['media'])} are in both"
    text += f" ({pair['unshared']:,} are in one only)." if pair["unshared"] else "."
    right = pair["right"]
    if right is None:
        return text
    return (
        f"{text} {right['both']:,} are right in both, {right['neither']:,} in neither, {right['first_only']:,} only in "
        f"the first and {right['second_only']:,} only in the second; exact McNemar test: p {_equals(right['p'])}."
    )


def _equals(p: float) -> str:
    shown = chance(p)
    return shown if shown.startswith("<") else f"= {shown}"


def _judges(summary: Mapping[str, Any]) -> list[str]:
    parts = [table(heads, rows, numbers) for heads, rows, numbers in judge_tables(summary)]
    return ["## Judges", *parts] if parts else []


def judge_tables(summary: Mapping[str, Any]) -> list[tuple[list[str], list[list[str]], int]]:
    """Tables about judges, those with rows: heads, rows, and how many columns are numbers."""
    told = summary["judges"]
    verdicts = [
        [entry["judge"], named(entry["kind"]), "yes %" if metric.endswith("_accuracy") else "score (of 5)",
         number(metric, figure["value"]), interval(metric, figure),
         *(f"{entry[state]:,}" for state in ("judged", "unparsable", "failed"))]
        for entry in told.get("verdicts", ())
        for metric, figure in entry["metrics"].items()
    ]  # fmt: skip
    measures = [
        [entry["judge"], named(entry["kind"]), "the rules" if entry["measure"] == "rules" else named(entry["measure"]),
         f"{entry['items']:,}", _two(entry["kappa"]), _two(entry["spearman"])]
        for entry in told.get("measures", ())
    ]  # fmt: skip
    between = [
        [" and ".join(entry["judges"]), named(entry["kind"]), f"{entry['questions']:,}", _percent(entry["same"]),
         _two(entry["kappa"]), _two(entry["spearman"])]
        for entry in told.get("between", ())
    ]  # fmt: skip
    bias = [
        [entry["judge"], named(entry["kind"]), entry["probe"], f"{entry['questions']:,}", _percent(entry["changed"]),
         _percent(entry["to_yes"]), _percent(entry["to_no"]), _two(entry["shift"])]
        for entry in told.get("bias", ())
    ]  # fmt: skip
    tables = [
        (["judge", "asked for", "figure", "value", "95 %", "judged", "no verdict", "failed"], verdicts, 5),
        (["judge", "asked for", "agreement with", "items", "kappa", "rank correlation"], measures, 3),
        (["judges", "asked for", "questions", "the same %", "kappa", "rank correlation"], between, 4),
        (["judge", "asked for", "changed only", "questions", "says other %", "no to yes %", "yes to no %",
          "shift of the score"], bias, 5),
    ]  # fmt: skip
    return [entry for entry in tables if entry[1]]


def _two(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 2) + 0:.2f}".replace("-", "−")


def _percent(value: float | None) -> str:
    return number("", value)


def _categories(summary: Mapping[str, Any]) -> list[str]:
    parts, metric = [], summary["metric"]
    names = dict.fromkeys(name for column in summary["ablations"].values() for name in column["categories"])
    for name in names:
        rows = category_rows(summary, name)
        heads = [name.replace("_", " "), "items", *_heads(summary), *OUTCOMES[1:]]
        parts.append(f"## {named(metric).capitalize()} by {cell_text(name.replace('_', ' '))}")
        parts.append(table(heads, rows[:_CATEGORIES], numbers=len(heads) - 1))
        if len(rows) > _CATEGORIES:
            parts.append(f"{len(rows) - _CATEGORIES:,} more are in the JSON.")
    return parts


def category_rows(summary: Mapping[str, Any], name: str) -> list[list[str]]:
    """Of a column of categories: value, items, each run's figure and interval, and the first one's other outcomes."""
    columns, metric = list(summary["ablations"].values()), summary["metric"]
    first = columns[0]["categories"].get(name, {})
    rows = []
    for value in dict.fromkeys(v for column in columns for v in column["categories"].get(name, ())):
        own = first.get(value, {"items": 0, "outcomes": dict.fromkeys(OUTCOMES, 0)})
        row = [value, f"{own['items']:,}"]
        for column in columns:
            main = (column["categories"].get(name, {}).get(value) or {}).get("main") or {"value": None}
            row += [number(metric, main["value"]), interval(metric, main)]
        rows.append([*row, *(f"{own['outcomes'][o]:,}" for o in OUTCOMES[1:])])
    return rows
