"""Published and reported figures beside ours: "reproduces", or "differs by".

expected.json holds the paper's figures of the released checkpoints, figures that users reported, and figures that other
papers measured; each with its source, its setting, its item set and a tolerance. A model, benchmark, setting or figure
without an entry is not compared, and a figure is compared with ours of the same items only.

A tolerance covers rounding, number format and decoder; for a judge's figures, differences between judges. An interval
covers our sample of items: half a benchmark may neither reproduce nor differ.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Any, Literal

from ...errors import CheckpointNotFound
from ...weights.catalog import find
from .wording import many, number, unit

Says = Literal["reproduces", "differs", "open", "other items"]
Where = Mapping[str, list[str]]
"""Categories with some of their values: the items that have them."""


@dataclass(frozen=True, kw_only=True)
class KnownFigure:
    """A figure from the literature or from users.

    Attributes:
        model: short name of a released checkpoint.
        metric: as in a report; a judge's if `judged`.
        value, tolerance: in the metric's own scale, 0.809 for 80.9 %.
        kind: `published` by the authors, `reported` by users of the checkpoint, or by a `third party`.
        setting: our comparable setting.
        frames: of a video, if stated.
        where: the categories that the figure is of; empty: all items.
        items: their published number, if known; ours are compared if the benchmark has as many.
        note: a remark for readers.
    """

    model: str
    benchmark: str
    metric: str
    value: float
    tolerance: float
    kind: Literal["published", "reported", "third party"]
    setting: str
    source: str
    frames: int | None = None
    judged: bool = False
    where: Where = field(default_factory=dict, hash=False)
    items: int | None = None
    note: str = ""


@cache
def known_figures() -> tuple[KnownFigure, ...]:
    """All of expected.json."""
    text = files(__package__).joinpath("expected.json").read_text(encoding="utf-8")
    return tuple(KnownFigure(**entry) for entry in json.loads(text)["figures"])


FiguresOf = Callable[[Where], tuple[int, Mapping[str, Any]]]
"""The number of items in some categories, and their figures."""


def compared(summary: Mapping[str, Any], figures_of: FiguresOf | None = None) -> list[dict[str, Any]]:
    """The known figures for the model, benchmark and setting of a summary, beside its own.

    Args:
        figures_of: None: only figures of all items are compared.

    Returns:
        A dictionary for each: the KnownFigure's fields, `judge`, `ours`, `difference` (ours - theirs), `says`, `text`,
        `remarks`.
    """
    full = summary["ablations"].get("none")
    model = released(summary.get("model"))
    if full is None or model is None:
        return []
    found = []
    for figure in known_figures():
        here = (figure.model, figure.benchmark, figure.setting) == (
            model, _key(summary["benchmark"]), summary.get("setting"),
        )  # fmt: skip
        if here and (figures_of is not None or not figure.where):
            for judge, count, metrics in _sources(summary, figure, figures_of):
                if figure.metric in metrics:
                    found.append(_beside(figure, judge, metrics[figure.metric], count, summary))
    return found


def released(model: Any) -> str | None:
    """The short name of a released checkpoint, from its name, hub id, or a folder of that name; else None."""
    if not isinstance(model, str):
        return None
    for name in (model, PurePath(model).name):
        try:
            return find(name).short_name
        except CheckpointNotFound:
            continue
    return None


def _sources(
    summary: Mapping[str, Any], figure: KnownFigure, figures_of: FiguresOf | None
) -> list[tuple[str | None, int, Mapping[str, Any]]]:
    """Our figures to compare with, and their number of items: the run's own, or those of each judge."""
    full = summary["ablations"]["none"]
    count, metrics = (sum(full["outcomes"].values()), full["metrics"])
    if figures_of is not None:
        count, metrics = figures_of(figure.where)
    if not figure.judged:
        return [(None, count, metrics)]
    return [(entry["judge"], count, entry["metrics"]) for entry in summary.get("judges", {}).get("verdicts", ())]


def _beside(
    figure: KnownFigure, judge: str | None, ours: Mapping[str, Any], count: int, summary: Mapping[str, Any]
) -> dict[str, Any]:
    apart = ours["value"] - figure.value
    # allow for floating-point rounding
    within = abs(apart) <= figure.tolerance + 1e-9
    inside = ours["low"] is not None and ours["low"] <= figure.value <= ours["high"]
    available = _available(figure, count, summary)
    says: Says = "reproduces" if within else "open" if inside else "differs"
    if figure.items is not None and available is not None and figure.items != available:
        says = "other items"
    m = figure.metric
    theirs = f"{number(m, figure.value)}{unit(m)} ({figure.kind}: {figure.source})"
    by = f"{number(m, apart, signed=True)}{' points' if unit(m) else ''}"
    text = {
        "reproduces": f"reproduces {theirs}",
        "differs": f"differs by {by} from {theirs}",
        "open": f"is {by} from {theirs}; too few items to tell",
        "other items": f"is of {many(available or 0)}, and not compared with {theirs}, of {many(figure.items or 0)}",
    }[says]
    if figure.where:
        text = f"of {_set(figure.where)} {text}"
    return {
        **asdict(figure),
        "judge": judge,
        "ours": ours["value"],
        "difference": apart,
        "says": says,
        "text": text,
        "remarks": _remarks(figure, judge, summary),
    }


def _available(figure: KnownFigure, count: int, summary: Mapping[str, Any]) -> int | None:
    """How many items with public answers the benchmark has in the figure's set; None: unknown, if a part was asked."""
    coverage = summary.get("coverage", {})
    asked, available = coverage.get("asked"), coverage.get("available")
    if asked is None or available is None:
        return None
    if asked == available or coverage.get("scored", asked) + coverage.get("malformed", 0) < asked:
        return count
    return None if figure.where else available


def _set(where: Where) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {', '.join(values)}" for name, values in where.items())


def _remarks(figure: KnownFigure, judge: str | None, summary: Mapping[str, Any]) -> list[str]:
    """Differences between our measurement and theirs."""
    remarks = [figure.note] if figure.note else []
    frames = summary["manifest"].get("run", {}).get("frames")
    if figure.frames is not None and frames is not None and frames != figure.frames:
        remarks.append(f"theirs used {figure.frames} frames, ours {frames}")
    coverage = summary.get("coverage", {})
    asked, available = coverage.get("asked"), coverage.get("available")
    if asked is not None and available is not None and asked < available:
        remarks.append(f"ours covers {asked:,} of {many(available)}")
    failed = summary["ablations"]["none"]["outcomes"]["failed"]
    if failed:
        remarks.append(f"{many(failed)} of ours failed and counted as wrong")
    if judge is not None:
        remarks.append(f"ours is judged by {judge}")
    return remarks


def _key(benchmark: str) -> str:
    return benchmark.lower().replace("_", "-")
