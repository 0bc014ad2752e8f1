"""results.jsonl → docs: the table beside the paper's, a plot, and a check of the paper's conclusions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenes import NEEDS_TIME, NO_TIME, TASKS

# paper, Table 1: MV-Bench, EgoSchema, ActivityNet-QA, and their average
PAPER = {
    1: (46.9, 36.5, 49.8, 44.4), 2: (43.9, 32.6, 48.6, 41.7), 3: (43.7, 38.7, 47.5, 43.3), 4: (44.5, 41.1, 48.1, 44.6),
    5: (44.8, 39.0, 45.6, 43.1), 6: (46.7, 35.3, 46.9, 43.0), 7: (45.3, 33.5, 48.0, 42.3), 8: (44.4, 39.1, 46.0, 43.2),
    9: (45.5, 42.2, 47.6, 45.1),
}  # fmt: skip
ROWS = {
    1: ("no", "2D pool", "1,2,2"), 2: ("no", "2D conv", "1,2,2"), 3: ("no", "3D pool", "8,1,1"),
    4: ("no", "3D pool", "2,2,2"), 5: ("no", "3D conv", "2,2,2"), 6: ("yes", "2D pool", "1,2,2"),
    7: ("yes", "2D conv", "1,2,2"), 8: ("yes", "3D pool", "2,2,2"), 9: ("yes", "3D conv (STC)", "2,2,2"),
}  # fmt: skip
# two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom; the normal one beyond
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
GROUPS: dict[str, tuple[str, ...]] = {"needs time": NEEDS_TIME, "needs no time": NO_TIME, "all": TASKS}


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and half the width of its 95 % interval; NaN for a single seed."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if math.isnan(self.half) else f"{self.mean:.1f} ± {self.half:.1f}"


def estimate(values: Sequence[float]) -> Estimate:
    """Student's interval of the mean."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return Estimate(mean, math.nan)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return Estimate(mean, (T_95[n - 2] if n - 2 < len(T_95) else 1.96) * spread / math.sqrt(n))


def scores(result: dict[str, Any]) -> dict[str, float]:
    """Percent right per task, and the mean of each group of tasks."""
    each = {task: 100 * right / asked for task, (right, asked) in result["right"].items()}
    return each | {name: sum(each[t] for t in tasks) / len(tasks) for name, tasks in GROUPS.items()}


def paired(results: list[dict[str, Any]], left: Sequence[int], right: Sequence[int], group: str) -> Estimate:
    """Mean difference between two sets of rows, paired by seed, which cancels effects of the seed on all rows."""
    by_seed: dict[int, dict[int, float]] = {}
    for r in results:
        by_seed.setdefault(r["seed"], {})[r["row"]] = scores(r)[group]
    whole = [rows for rows in by_seed.values() if {*left, *right} <= set(rows)]
    if not whole:
        return Estimate(math.nan, math.nan)
    return estimate(
        [sum(rows[i] for i in left) / len(left) - sum(rows[i] for i in right) / len(right) for rows in whole]
    )


def better_rate(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row's runs with the learning rate of the lower final training loss; test results are not used.

    Only rates for which every row has all seeds count, so that all rows have the same choice.
    """
    losses: dict[tuple[int, float], list[float]] = {}
    for r in results:
        losses.setdefault((r["row"], r["budget"]["learning_rate"]), []).append(r["loss"])
    most = max(len(values) for values in losses.values())
    rates = {rate for _, rate in losses}
    complete = [rate for rate in rates if all(len(losses.get((row, rate), ())) == most for row in _rows(results))]
    best = {
        row: min(complete or rates, key=lambda rate: sum(losses.get((row, rate), (math.inf,))))
        for row in _rows(results)
    }
    return [r for r in results if r["budget"]["learning_rate"] == best[r["row"]]]


# ── text ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def results_table(results: list[dict[str, Any]]) -> str:
    """The rows of Table 1, with our results and the paper's."""
    head = ["#", "RegStage", "down-sampling", "(T,H,W)", "tokens", "learning rate", *GROUPS, "all, minus row 9",
            "paper: MV / Ego / ANet", "paper: avg"]  # fmt: skip
    lines = []
    for row in _rows(results):
        mine = [r for r in results if r["row"] == row]
        bold = "**" if row == 9 else ""
        gap = "–" if row == 9 else str(paired(results, (row,), (9,), "all"))
        ours = [f"{bold}{estimate([scores(r)[g] for r in mine])}{bold}" for g in GROUPS]
        mv, ego, anet, average = PAPER[row]
        size, rate = str(mine[0]["tokens"]), f"{mine[0]['budget']['learning_rate']:g}"
        lines.append([str(row), *ROWS[row], size, rate, *ours, gap, f"{mv} / {ego} / {anet}", str(average)])
    return _markdown(head, lines)


def tasks_table(results: list[dict[str, Any]]) -> str:
    """Percent right per row and task."""
    lines = []
    for row in _rows(results):
        mine = [scores(r) for r in results if r["row"] == row]
        lines.append([str(row), *(str(estimate([s[t] for s in mine])) for t in TASKS)])
    return _markdown(["#", *TASKS], lines)


def rates_table(results: list[dict[str, Any]]) -> str:
    """Training loss and percent right per row and learning rate."""
    rates = sorted({r["budget"]["learning_rate"] for r in results}, reverse=True)
    lines = []
    for row in _rows(results):
        cells = [str(row)]
        for rate in rates:
            mine = [r for r in results if r["row"] == row and r["budget"]["learning_rate"] == rate]
            if mine:
                groups = [str(estimate([scores(r)[g] for r in mine])) for g in GROUPS]
                cells += [str(len(mine)), f"{estimate([r['loss'] for r in mine]).mean:.2f}", *groups]
            else:
                cells += ["–"] * (2 + len(GROUPS))
        lines.append(cells)
    return _markdown(["#", *(f"{rate:g}: {what}" for rate in rates for what in ("seeds", "loss", *GROUPS))], lines)


def costs_table(results: list[dict[str, Any]]) -> str:
    """The cost of each row within the common budget."""
    lines = []
    for row in _rows(results):
        mine = [r for r in results if r["row"] == row]
        seconds = estimate([r["cpu_seconds"] for r in mine])
        loss = estimate([r["loss"] for r in mine])
        lines.append(
            [
                str(row),
                str(mine[0]["tokens"]),
                f"{mine[0]['parameters'] / 1e3:,.0f}",
                f"{mine[0]['mflop']:.0f}",
                f"{seconds.mean:.0f}",
                f"{loss.mean:.2f}",
            ]
        )
    return _markdown(
        ["#", "tokens", "connector, thousand parameters", "MFLOP a clip, forward", "CPU s a run", "last loss"], lines
    )


# what is compared: (rows, rows, group of tasks)
CLAIMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], str]] = {
    "row 9 (STC) minus the other eight, all tasks": ((9,), (1, 2, 3, 4, 5, 6, 7, 8), "all"),
    "row 9 (STC) minus row 4 (3D pool alone), all tasks": ((9,), (4,), "all"),
    "3D (4, 5, 8, 9) minus 2D (1, 2, 6, 7), needs time": ((4, 5, 8, 9), (1, 2, 6, 7), "needs time"),
    "3D minus 2D convolution without RegStage (5 − 2), needs time": ((5,), (2,), "needs time"),
    "3D minus 2D convolution with RegStage (9 − 7), needs time": ((9,), (7,), "needs time"),
    "3D (4, 5, 8, 9) minus 2D (1, 2, 6, 7), needs no time": ((4, 5, 8, 9), (1, 2, 6, 7), "needs no time"),
    "row 1 (2D pool alone) minus the other eight, needs no time": ((1,), (2, 3, 4, 5, 6, 7, 8, 9), "needs no time"),
    "row 1 (2D pool alone) minus rows 2–5, needs no time": ((1,), (2, 3, 4, 5), "needs no time"),
    "RegStage (6–9) minus none (1, 2, 4, 5), all tasks": ((6, 7, 8, 9), (1, 2, 4, 5), "all"),
    "convolution (2, 5, 7, 9) minus pooling (1, 4, 6, 8), all tasks": ((2, 5, 7, 9), (1, 4, 6, 8), "all"),
    "RegStage under 3D convolution: 9 minus 5, all tasks": ((9,), (5,), "all"),
}


def claims_table(results: list[dict[str, Any]]) -> str:
    """The paper's claims as differences in points, paired by seed."""
    lines = [[name, str(paired(results, *claim))] for name, claim in CLAIMS.items()]
    return _markdown(["difference, paired by seed", "points"], lines)


def _rows(results: list[dict[str, Any]]) -> list[int]:
    return sorted({r["row"] for r in results})


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


# ── the document and the plot ─────────────────────────────────────────────────────────────────────────────────────

BEGIN, END = "<!-- tables: written by recipes/sweep -->", "<!-- end of tables -->"


def write_report(results: list[dict[str, Any]], path: Path) -> None:
    """Write the tables between the document's two marks, and the plot beside it; a new document has only those."""
    text = path.read_text(encoding="utf-8") if path.is_file() else f"{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{path} lacks the marks {BEGIN!r} and {END!r}; add them where the tables should go")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    seeds, best = len({r["seed"] for r in results}), better_rate(results)
    tables = [
        f"Right answers in per cent: mean of {seeds} seeds ± half the width of Student's 95 % interval over seeds. "
        "Each row is shown at the learning rate that gave it the lower training loss.",
        results_table(best), claims_table(best), tasks_table(best),
        "Each learning rate:", rates_table(results),
        "What differs between rows besides the connector:", costs_table(best),
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text("\n\n".join([before + BEGIN, *tables, END + after]), encoding="utf-8")
    unfinished.replace(path)
    draw(best, path.with_suffix(".png"))


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Per row and group of tasks: each seed a dot, the mean with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(13, 4.4), sharey=True, layout="constrained")
    rows = _rows(results)
    for panel, group in zip(panels, GROUPS, strict=True):
        for place, row in enumerate(rows):
            values = [scores(r)[group] for r in results if r["row"] == row]
            found = estimate(values)
            colour = "tab:orange" if ROWS[row][1].startswith("3D") else "tab:blue"
            filled = colour if ROWS[row][0] == "yes" else "white"
            half = 0.0 if math.isnan(found.half) else found.half
            panel.errorbar(found.mean, place, xerr=half, color=colour, marker="o", markersize=8,
                           markerfacecolor=filled, capsize=3, linewidth=1.5)  # fmt: skip
            panel.plot(values, [place + 0.25] * len(values), ".", color="0.45", markersize=4)
        panel.set_title({"all": "all six tasks"}.get(group, group))
        panel.set_xlabel("right answers, %")
        panel.set_xlim(0, 100)
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
    labels = [f"{row}  {'RegStage + ' if ROWS[row][0] == 'yes' else ''}{ROWS[row][1]} ({ROWS[row][2]})" for row in rows]
    panels[0].set_yticks(range(len(rows)), labels)
    panels[0].invert_yaxis()
    caption = "Table 1 at nano scale. Blue: 2D, orange: 3D; filled: with RegStage. Mean, 95 % interval; dots are seeds"
    figure.suptitle(caption, fontsize=10)
    unfinished = path.with_suffix(".part")
    figure.savefig(unfinished, dpi=120, format="png")
    pyplot.close(figure)
    unfinished.replace(path)
