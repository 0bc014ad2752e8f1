"""The tables and sentences of a report as plain text, for Markdown and HTML alike (rendering.py)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .wording import ABLATED, chance, interval, is_share, many, named, number, plain, two, unit

OUTCOMES = ("right", "wrong", "unparsable", "failed")  # of items that are scored
ALL_OUTCOMES = (*OUTCOMES, "malformed")  # the last is counted only if there are any
CHANGED = 40  # most items of `changed_table`
Summary = Mapping[str, Any]  # of summary.py


class Table(NamedTuple):
    """A table whose last `numbers` columns are numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int = 0


# ── tables ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def outcomes_table(summary: Summary) -> Table:
    """Items of each column by outcome."""
    rows = [
        [ABLATED[name], f"{column['items']:,}", f"{column['media']:,}",
         *(f"{column['outcomes'].get(o, 0):,}" for o in ALL_OUTCOMES), f"{column['withheld']['items']:,}"]
        for name, column in summary["ablations"].items()
    ]  # fmt: skip
    return Table(["asked with", "items", "media", *ALL_OUTCOMES, "answers withheld"], rows, 8)


def figures_table(summary: Summary) -> Table:
    """Every figure of each column, with its interval."""
    columns = list(summary["ablations"].values())
    rows = []
    for metric in dict.fromkeys(name for column in columns for name in column["metrics"]):
        row = [f"{named(metric)}{unit(metric)}"]
        for column in columns:
            figure = column["metrics"].get(metric, {"value": None})
            row += [number(metric, figure["value"]), interval(metric, figure)]
        rows.append(row)
    return Table(["figure", *_column_heads(summary)], rows, 2 * len(columns))


def differences_table(pair: Mapping[str, Any], first: str, second: str) -> Table:
    """Paired differences of every figure of two columns or runs."""
    rows = [[f"{named(m)}{unit(m)}", *difference_cells(m, d)] for m, d in pair["metrics"].items()]
    return Table(["figure", first, second, "difference", "95 %", "p"], rows, 5)


def difference_cells(metric: str, difference: Mapping[str, Any]) -> list[str]:
    """Both values, their difference, its interval and p."""
    d = difference
    both = [number(metric, d["first"]), number(metric, d["second"])]
    return [*both, number(metric, d["difference"], signed=True), interval(metric, d, signed=True), chance(d["p"])]


def category_tables(summary: Summary) -> dict[str, Table]:
    """Of each column of categories: the main figure by value, and the first run's other outcomes."""
    names = dict.fromkeys(name for column in summary["ablations"].values() for name in column["categories"])
    heads = ["items", *_column_heads(summary), *OUTCOMES[1:]]
    return {name: Table([name.replace("_", " "), *heads], category_rows(summary, name), len(heads)) for name in names}


def category_rows(summary: Summary, name: str) -> list[list[str]]:
    """Rows of `category_tables`."""
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


def figure_tables(summary: Summary) -> dict[str, Table]:
    """Of benchmarks with several figures for each category: all figures of the first column, by category, and crossed.

    The keys are what the rows are by, for headings.
    """
    column = next(iter(summary["ablations"].values()), None)
    if column is None or not summary.get("tabled"):
        return {}
    found = {}
    for name, values in column["categories"].items():
        rows = [([value], row["items"], row["metrics"]) for value, row in values.items()]
        found[name.replace("_", " ")] = _figures([name], rows)
    if crossed := column.get("crossed"):
        rows = [(cell["values"], cell["items"], cell["metrics"]) for cell in crossed["cells"]]
        found[" and ".join(name.replace("_", " ") for name in crossed["by"])] = _figures(crossed["by"], rows)
    return found


def _figures(by: Sequence[str], rows: Sequence[tuple[Sequence[str], int, Mapping[str, float]]]) -> Table:
    names = list(dict.fromkeys(name for _, _, metrics in rows for name in metrics))
    heads = [*(name.replace("_", " ") for name in by), "items", *(f"{named(name)}{unit(name)}" for name in names)]
    cells = [
        [*values, f"{items:,}", *(number(name, metrics.get(name)) for name in names)] for values, items, metrics in rows
    ]
    return Table(heads, cells, len(names) + 1)


def main_by_column(summary: Summary) -> list[tuple[str, Mapping[str, Any]]]:
    """The main figure of each column, with the column's title, for a plot."""
    none = {"value": None, "low": None, "high": None}
    return [(ABLATED[n], c["metrics"].get(summary["metric"], none)) for n, c in summary["ablations"].items()]


def main_by_value(summary: Summary, category: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The first column's main figure by value of a category, for a plot."""
    values = next(iter(summary["ablations"].values()))["categories"].get(category, {})
    return [(value, row["main"]) for value, row in values.items() if row["main"]]


def judge_tables(summary: Summary) -> list[Table]:
    """Judges' figures, their agreement with other measures and each other, and their bias; only tables with rows."""
    found = summary["judges"]
    verdicts = [
        [entry["judge"], named(entry["kind"]), "yes %" if metric.endswith("_accuracy") else "score (of 5)",
         number(metric, figure["value"]), interval(metric, figure),
         *(f"{entry[state]:,}" for state in ("judged", "unparsable", "failed"))]
        for entry in found.get("verdicts", ())
        for metric, figure in entry["metrics"].items()
    ]  # fmt: skip
    measures = [
        [entry["judge"], named(entry["kind"]), "the rules" if entry["measure"] == "rules" else named(entry["measure"]),
         f"{entry['items']:,}", two(entry["kappa"]), two(entry["spearman"])]
        for entry in found.get("measures", ())
    ]  # fmt: skip
    between = [
        [" and ".join(entry["judges"]), named(entry["kind"]), f"{entry['questions']:,}", number("", entry["same"]),
         two(entry["kappa"]), two(entry["spearman"])]
        for entry in found.get("between", ())
    ]  # fmt: skip
    bias = [
        [entry["judge"], named(entry["kind"]), entry["probe"], f"{entry['questions']:,}",
         *(number("", entry[share]) for share in ("changed", "to_yes", "to_no")), two(entry["shift"])]
        for entry in found.get("bias", ())
    ]  # fmt: skip
    tables = [
        Table(["judge", "question", "figure", "value", "95 %", "judged", "no verdict", "failed"], verdicts, 5),
        Table(["judge", "question", "agreement with", "items", "kappa", "rank correlation"], measures, 3),
        Table(["judges", "question", "questions", "the same %", "kappa", "rank correlation"], between, 4),
        Table(["judge", "question", "changed only", "questions", "verdict changes %", "no to yes %", "yes to no %",
               "shift of the score"], bias, 5),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def facts_table(summary: Summary) -> Table:
    """The manifest as names and values."""
    rows = [[str(k).replace("_", " "), "" if v is None else str(v)] for k, v in _run(summary).items()]
    for environment in _environments(summary):
        for key, value in environment.items():
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else value
            rows.append([str(key).replace("_", " "), "" if text is None else str(text)])
    spread = summary["intervals"]
    rows.append(["intervals", f"95 %, bootstrap over media, {spread['draws']:,} draws, seed {spread['seed']}"])
    return Table(["setting", "value"], rows)


def settings_table(settings: Mapping[str, Sequence[Any]]) -> Table:
    """What differs between the manifests of two runs."""
    return Table(["differs in", "first", "second"], [[key, str(a), str(b)] for key, (a, b) in settings.items()])


def compared_categories(column: Mapping[str, Any], metric: str) -> list[Table]:
    """Of each column of categories: the main figure's difference by value."""
    return [
        Table(
            [name.replace("_", " "), "items", "first", "second", "difference", "95 %", "p"],
            [[value, f"{d['items']:,}", *difference_cells(metric, d)] for value, d in values.items()],
            6,
        )
        for name, values in column["categories"].items()
    ]


def moves_table(column: Mapping[str, Any]) -> Table:
    """How many items moved from which outcome to which."""
    rows = [
        [before, *(f"{column['outcomes'].get(f'{before} to {after}', 0):,}" for after in OUTCOMES)]
        for before in OUTCOMES
    ]
    return Table(["first, below; second, beside", *OUTCOMES], rows, 4)


def changed_table(column: Mapping[str, Any]) -> Table:
    """The first items that became right or stopped being right."""
    rows = [[entry["id"], entry["first"], entry["second"]] for entry in column["changed"][:CHANGED]]
    return Table(["item that changed", "first", "second"], rows)


def _column_heads(summary: Summary) -> list[str]:
    return [head for name in summary["ablations"] for head in (ABLATED[name], "95 %")]


def _run(summary: Summary) -> Mapping[str, Any]:
    return dict(summary["manifest"].get("run", {}))


def _environments(summary: Summary) -> list[Mapping[str, Any]]:
    """Where the run was made; several if its parts were made in different places."""
    found = summary["manifest"].get("environment", [])
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


# ── sentences ──────────────────────────────────────────────────────────────────────────────────────────────────────


def main_figure(summary: Summary) -> Mapping[str, Any] | None:
    """The main metric of the first column; None without scored items."""
    column = next(iter(summary["ablations"].values()), None)
    return None if column is None else column["metrics"].get(summary["metric"])


def basis(summary: Summary) -> str:
    """What the main figure is based on, and what guessing would give; or why there is no figure."""
    if main_figure(summary) is None:
        return f"There is no {named(summary['metric'])}: no item with a public answer has a result."
    name, column = next(iter(summary["ablations"].items()))
    guess = summary["guessing"]
    by_chance = f" Guessing has {number('', guess)} %." if guess is not None and is_share(summary["metric"]) else ""
    where = "" if name == "none" else f", asked {ABLATED[name]}"
    scored = column["items"] - column["withheld"]["items"]
    return f"{many(scored)} about {_media(column['media'])}{where}.{by_chance}"


def brief(summary: Summary) -> str:
    """A summary in a few lines, for a terminal: the main figure, outcomes of each column, known figures."""
    metric, figure = summary["metric"], main_figure(summary)
    lead = ""
    if figure is not None:
        ends = interval(metric, figure)
        sure = "" if ends == "–" else f", 95 % interval {ends}"
        lead = f"{named(metric)} {number(metric, figure['value'])}{unit(metric)}{sure}. "
    lines = [f"{summary['title']}: {lead}{basis(summary)}"]
    for name, column in summary["ablations"].items():
        shown = [outcome for outcome in ALL_OUTCOMES if outcome in OUTCOMES or column["outcomes"].get(outcome)]
        counted = ", ".join(f"{column['outcomes'][outcome]:,} {outcome}" for outcome in shown)
        figures = ", ".join(
            f"{named(m)} {number(m, figure['value'])}{unit(m)} ({interval(m, figure)})"
            for m, figure in column["metrics"].items()
        )
        lines.append(f"  {ABLATED[name]}: {counted}{f'; {figures}' if figures else ''}")
    lines += [f"  {remark}" for remark in remarks(summary)]
    lines += [f"  {named(entry['metric'])} {entry['text']}" for entry in summary["expected"]]
    return "\n".join(lines)


def remarks(summary: Summary) -> list[str]:
    """What a reader must know before trusting a figure."""
    found, coverage = [], summary["coverage"]
    asked, available = coverage.get("asked"), coverage.get("available")
    if asked is not None and available is not None and asked < available:
        found.append(f"{asked:,} of {many(available)} were asked.")
    if coverage.get("missing"):
        found.append(f"The media of {many(coverage['missing'])} are missing; these items count as failed.")
    if coverage.get("malformed"):
        records = many(coverage["malformed"], "record")
        found.append(f"{records} of the annotation files could not be asked, and are not scored.")
    first = next(iter(summary["ablations"].values()), None)
    if first is not None and first["metrics"] and "accuracy" not in first["metrics"]:
        found.append("Answers are sentences: only a reply equal to a reference is right. The other figures say more.")
    listed: list[str] = []
    for name, column in summary["ablations"].items():
        # what is the same in all columns is listed once
        lines = [line for line in _column_remarks(column, asked) if line not in listed]
        listed += lines
        found += [f"{ABLATED[name].capitalize()}: {line}" if len(listed) > len(lines) else line for line in lines]
    found += [_leak(leak) for leak in summary["leaks"]]
    if len(_environments(summary)) > 1:
        found.append("Parts of the run were made on different machines or with different versions.")
    found += [plain(str(note)) for note in coverage.get("notes", ())]
    return found


def paired_sentence(pair: Mapping[str, Any]) -> str:
    """The items that both columns share, in words."""
    text = f"{many(pair['items'])} about {_media(pair['media'])} are in both"
    text += f" ({pair['unshared']:,} are in one only)." if pair["unshared"] else "."
    right = pair["right"]
    if right is None:
        return text
    return (
        f"{text} {right['both']:,} are right in both, {right['neither']:,} in neither, {right['first_only']:,} only in "
        f"the first and {right['second_only']:,} only in the second; exact McNemar test: p {_equals(right['p'])}."
    )


def _media(count: int) -> str:
    return many(count, "media file")


def _leak(leak: Mapping[str, Any]) -> str:
    where = "" if leak["column"] is None else f" ({leak['column'].replace('_', ' ')}: {leak['value']})"
    return (
        f"Text alone is better than guessing{where}: {leak['right']:,} of {many(leak['items'])} right, where guessing "
        f"has {leak['expected']:.1f}; p {_equals(leak['p'])}. These questions give part of their answers away."
    )


def _column_remarks(column: Mapping[str, Any], asked: int | None) -> list[str]:
    found = []
    if asked is not None and column["items"] < asked:
        found.append(f"The run is not finished: {column['items']:,} of {many(asked)} have a result.")
    hidden = column["withheld"]
    if hidden["items"]:
        found.append(
            f"The answers of {many(hidden['items'])} are withheld and not scored: {hidden['read']:,} read, "
            f"{hidden['unparsable']:,} unparsable, {hidden['failed']:,} failed."
        )
    if column["errors"]:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in column["errors"].items())
        found.append(f"{many(sum(column['errors'].values()))} failed: {plain(kinds)}.")
    if column["unexpected"]:
        found.append(f"{many(column['unexpected'], 'failure')} came from the program, not from a media file.")
    if column["losses"]["items"]:
        found.append(f"For {many(column['losses']['items'])}, something was not used, padded or odd.")
    return found


def _equals(p: float) -> str:
    shown = chance(p)
    return shown if shown.startswith("<") else f"= {shown}"
